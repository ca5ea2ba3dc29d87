"""The device key: made once, kept in its own file, so that the identity survives the loss of the database."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

from fallow_wire.encoding import base64url, from_base64url
from fallow_wire.errors import LocalError, PeerError
from fallow_wire.keys import PrivateKey

_log = logging.getLogger(__name__)

KEY_FILE = "device.key"
LOCAL_FILE = "local.json"
"""For the device's other programs, which may ask port M as the owner does."""


class IdentityError(LocalError):
    """The key file is there but cannot be used. It is never replaced by itself: points belong to the key."""

    slug = "identity"

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}; restore it from a copy, or move it away to become a new device")


def make_state_dir(state_dir: Path) -> None:
    """Make the directory for keys and settings, for its owner alone. :raises LocalError: it cannot be made."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(f"{state_dir}: {error.strerror}; choose another with --state-dir") from None


def open_private(path: Path) -> int:
    """Open or make a file of mode 0600 in the state directory; gives its descriptor.

    What root makes there on the command line is the directory's owner's: the agent itself must be able to use it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def load_or_create_identity(state_dir: Path) -> PrivateKey:
    """The key in ``state_dir``, made at the first start (mode 0600, complete on the disk before this returns).

    :raises IdentityError: when the file is unreadable or damaged. :raises LocalError: a new one cannot be written.
    """
    path = state_dir / KEY_FILE
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        key = PrivateKey.generate()
        try:
            write_private(path, base64url(key.seed) + "\n")
        except OSError as error:
            raise LocalError(f"{path}: {error.strerror}; make room, or choose another place with --state-dir") from None
        return key
    except (OSError, UnicodeDecodeError) as error:
        raise IdentityError(path, str(error)) from None
    try:
        return PrivateKey(from_base64url(text.strip()))
    except PeerError as error:
        raise IdentityError(path, error.detail) from None


def local_token(key: PrivateKey) -> str:
    """The LAN token of whoever can read the key file: the device's own command line."""
    return base64url(hashlib.sha256(b"fallow-local-token-v1\n" + key.seed).digest())


def write_local(state_dir: Path, key: PrivateKey) -> None:
    """``device_id`` and ``token`` (:func:`local_token`) for the device's other programs, in a file of mode 0600."""
    text = json.dumps({"device_id": key.public.device_id(), "token": local_token(key)}) + "\n"
    path = state_dir / LOCAL_FILE
    try:
        # It never changes; a router's flash is not written at each start.
        if not path.exists() or path.read_text("utf-8") != text:
            write_private(path, text)
    except OSError as error:
        _log.warning("%s: %s; the device's other programs cannot ask the agent", path, error)


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 atomically: after a power cut there is the old one or the whole new one."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
