"""The keys that a service signs with, in one file of mode 0600.

The newest key signs. Rotation keeps the public halves of older keys, so that what they signed still verifies; their
seeds are gone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fallow_wire.encoding import base64url, from_base64url
from fallow_wire.errors import LocalError, PeerError
from fallow_wire.keys import JwkSet, PrivateKey, PublicKey

RETIRED_KEYS_MAX = 15
"""A JWK set holds 16."""


class SigningKeys:
    """:param path: the key file, ``scheduler.keys`` or ``ledger.keys`` of the state directory."""

    def __init__(self, path: Path, current: PrivateKey, retired: tuple[PublicKey, ...] = ()) -> None:
        self._path = path
        self._current = current
        self._retired = retired

    @classmethod
    def create(cls, path: Path) -> SigningKeys:
        """:raises LocalError: when the file is there already: a key that is lost cannot be made again."""
        if path.exists():
            raise LocalError(f"{path} exists; keys are never overwritten")
        keys = cls(path, PrivateKey.generate())
        keys._save()
        return keys

    @classmethod
    def load(cls, path: Path) -> SigningKeys:
        """:raises LocalError: when the file is missing or is not a key file."""
        try:
            value = json.loads(path.read_text(encoding="ascii"))
            current = PrivateKey(from_base64url(value["seed"]))
            retired = tuple(PublicKey(from_base64url(x)) for x in value["retired"])
        except FileNotFoundError:
            raise LocalError(f"{path} is missing; run fallow-server init") from None
        except (OSError, ValueError, KeyError, TypeError, PeerError) as error:
            raise LocalError(f"{path} is not a key file: {error}") from None
        return cls(path, current, retired)

    @property
    def current(self) -> PrivateKey:
        """The key that signs now."""
        return self._current

    def jwks(self) -> JwkSet:
        """All public keys, the one in use first."""
        return JwkSet(tuple(key.jwk(with_kid=True) for key in (self._current.public, *self._retired)))

    def public_keys(self) -> dict[str, PublicKey]:
        """All public keys by ``kid``."""
        return {key.thumbprint(): key for key in (self._current.public, *self._retired)}

    def rotate(self) -> None:
        """Sign with a new key from now on; the old one goes on verifying."""
        self._retired = (self._current.public, *self._retired)[:RETIRED_KEYS_MAX]
        self._current = PrivateKey.generate()
        self._save()

    def _save(self) -> None:
        value = {"seed": base64url(self._current.seed), "retired": [base64url(key.raw) for key in self._retired]}
        write_secret(self._path, json.dumps(value))


def write_secret(path: Path, text: str) -> None:
    """Write a file that only this user reads, whole or not at all, and on the disk when this returns."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def key_set(jwks: JwkSet) -> dict[str, PublicKey]:
    """The keys of a JWK set by thumbprint.

    :raises PeerError: for a key that is malformed or weak.
    """
    keys: Any = (PublicKey.from_jwk(jwk) for jwk in jwks.keys)
    return {key.thumbprint(): key for key in keys}
