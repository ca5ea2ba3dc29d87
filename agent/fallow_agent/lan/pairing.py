"""The setup code that proves that somebody holds the device, and the tokens of the phones that showed it."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from fallow_wire.lan import SETUP_CODE_ATTEMPTS_MAX

from ..store import Settings

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base32: no I, L, O or U."""
CODE_LENGTH = 8
"""40 bits; five tries a start."""
PHONES_MAX = 16
"""A home's phones; the oldest token goes when one more comes."""

_CODE = "setup_code"
PHONES = "lan_tokens"
_LOOKALIKES = str.maketrans({"I": "1", "L": "1", "O": "0", "-": None, " ": None})


def normal(code: str) -> str:
    """The code as it is compared: upper case, without dashes and spaces, look-alike letters as digits."""
    return code.upper().translate(_LOOKALIKES)


def shown(code: str) -> str:
    """The code as people read it: in groups of four."""
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))


class WrongCode(Exception):
    def __init__(self, attempts_left: int) -> None:
        super().__init__(f"{attempts_left} tries left")
        self.attempts_left = attempts_left


class CodeLocked(Exception):
    """Too many wrong codes; only a restart or the device's button unlocks."""


class Pairing:
    """Setup code and phones. The tries are counted in memory: a restart needs somebody at the device."""

    def __init__(self, settings: Settings, code: str | None = None, local_token: str | None = None) -> None:
        """:param code: from the configuration, in place of one made at the first start.
        :param local_token: of the device's own command line; it is no phone and is never forgotten."""
        self._settings = settings
        self._local = None if local_token is None else _hash(local_token)
        self._code = normal(code) if code else setup_code(settings)
        self._attempts_left = SETUP_CODE_ATTEMPTS_MAX

    @property
    def code(self) -> str:
        return shown(self._code)

    def check(self, code: str) -> None:
        """:raises WrongCode: with the tries left. :raises CodeLocked: after the last."""
        if self._attempts_left == 0:
            raise CodeLocked
        # Counted before the comparison, so that parallel calls cannot try more often.
        self._attempts_left -= 1
        if not hmac.compare_digest(normal(code).encode(), self._code.encode()):
            raise WrongCode(self._attempts_left)
        self._attempts_left = SETUP_CODE_ATTEMPTS_MAX

    def unlock(self) -> None:
        """Allow all tries again: somebody pressed the device's button."""
        self._attempts_left = SETUP_CODE_ATTEMPTS_MAX

    def add_phone(self) -> str:
        """A new LAN token. Only its hash is kept."""
        token = secrets.token_urlsafe(32)
        phones = [*self._phones(), _hash(token)][-PHONES_MAX:]
        self._settings.set(PHONES, phones, durable=True)
        return token

    def knows(self, token: str) -> bool:
        return _hash(token) == self._local or _hash(token) in self._phones()

    def forget_phones(self) -> None:
        self._settings.delete(PHONES)

    def _phones(self) -> list[str]:
        return self._settings.get(PHONES) or []


def setup_code(settings: Settings) -> str:
    """The stored code, made at the first call."""
    code: str | None = settings.get(_CODE)
    if code is None:
        code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
        settings.set(_CODE, code, durable=True)
    return code


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
