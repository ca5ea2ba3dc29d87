"""The index of an opkg feed (``Packages``, ``Packages.gz``), and its signature by signify, which usign reads."""

from __future__ import annotations

import base64
import gzip
import hashlib
import subprocess
from pathlib import Path

from .ipk import Package


def index_of(packages: dict[Package, bytes]) -> str:
    """What ``opkg update`` reads: every package's fields with its file's name, size and digest."""
    return "\n".join(
        f"{package.control()}Filename: {package.file_name}\nSize: {len(data)}\n"
        f"SHA256sum: {hashlib.sha256(data).hexdigest()}\n"
        for package, data in packages.items()
    )


def write_feed(folder: Path, index: str, key: Path | None) -> None:
    """Write the index into ``folder``; signed, with the public key beside it, where ``key`` is given.

    :param key: a secret key without a password, as ``signify -G -n`` makes it; ``<key>.pub`` lies beside it.
    :raises subprocess.CalledProcessError: signify refused; it has said why.
    """
    (folder / "Packages").write_text(index)
    (folder / "Packages.gz").write_bytes(gzip.compress(index.encode(), 9, mtime=0))
    if key is not None:
        command = ("signify-openbsd", "-S", "-s", key, "-m", folder / "Packages", "-x", folder / "Packages.sig")
        subprocess.run(command, check=True)
        public = key.with_suffix(".pub").read_text()
        (folder / fingerprint(public)).write_text(public)


def fingerprint(public: str) -> str:
    """The name of a public key in ``/etc/opkg/keys``: its number, as ``usign -F`` prints it."""
    return base64.b64decode(public.splitlines()[1])[2:10].hex()
