"""LuCI's translations: from gettext's ``.po`` to the ``.lmo`` that LuCI reads.

An ``.lmo`` holds the translated texts, each padded to 4 bytes, then an index sorted by key of (key, plural forms,
offset, length), big-endian, then the offset of the index. The key is Paul Hsieh's SuperFastHash of the English text.
"""

from __future__ import annotations

import ast
import re
import struct

_WORD = 0xFFFFFFFF
_ENTRY = re.compile(r'^msgid ((?:"[^\n]*"\n)+)msgstr ((?:"[^\n]*"\n?)+)', re.MULTILINE)


def read_po(text: str) -> dict[str, str]:
    """The translations in ``text``, without those that are missing. Contexts and plurals are not read."""
    found: dict[str, str] = {}
    for english, other in _ENTRY.findall(text):
        key, value = _joined(english), _joined(other)
        if key and value:
            found[key] = value
    return found


def _joined(lines: str) -> str:
    return "".join(ast.literal_eval(line) for line in lines.splitlines())


def lmo(translations: dict[str, str]) -> bytes:
    """The file of ``translations``, English to another language."""
    texts, index = bytearray(), []
    for english, other in translations.items():
        value = other.encode()
        index.append((key_of(english.encode()), 1, len(texts), len(value)))
        texts += value + b"\0" * (-len(value) % 4)
    entries = b"".join(struct.pack(">4I", *entry) for entry in sorted(index))
    return bytes(texts) + entries + struct.pack(">I", len(texts))


def key_of(text: bytes) -> int:
    """SuperFastHash. :param text: ASCII; the original takes other bytes as signed."""
    value = len(text)
    whole = len(text) // 4 * 4
    for at in range(0, whole, 4):
        low, high = struct.unpack_from("<HH", text, at)
        value = (value + low) & _WORD
        value = ((value << 16) & _WORD) ^ (high << 11) ^ value
        value = (value + (value >> 11)) & _WORD
    rest = text[whole:]
    if len(rest) == 3:
        value = (value + int.from_bytes(rest[:2], "little")) & _WORD
        value ^= (value << 16) & _WORD
        value ^= rest[2] << 18
        value = (value + (value >> 11)) & _WORD
    elif len(rest) == 2:
        value = (value + int.from_bytes(rest, "little")) & _WORD
        value ^= (value << 11) & _WORD
        value = (value + (value >> 17)) & _WORD
    elif len(rest) == 1:
        value = (value + rest[0]) & _WORD
        value ^= (value << 10) & _WORD
        value = (value + (value >> 1)) & _WORD
    for left, right in ((3, 5), (4, 17), (25, 6)):
        value ^= (value << left) & _WORD
        value = (value + (value >> right)) & _WORD
    return value if text else 0
