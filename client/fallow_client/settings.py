"""What this user's ``fallow`` remembers: profiles with tokens, and the LAN tokens of activated devices.

One JSON file, ``config.json``, in ``$FALLOW_HOME``, else ``$XDG_CONFIG_HOME/fallow``, else ``~/.config/fallow``. It
holds secrets: the file has mode 0600, its directory 0700, and each change replaces the file as a whole.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from fallow_wire.errors import PeerError
from fallow_wire.fields import decode, encode, mapping, record, text

from .errors import SettingsError

PROFILES_MAX = 100
DEVICES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Profile:
    """Where an account is known, and its token."""

    scheduler: Annotated[str | None, text(256, 1)] = None
    ledger: Annotated[str | None, text(256, 1)] = None
    token: Annotated[str | None, text(256, 1)] = None


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device that this user activated: its last address and the token for it."""

    url: Annotated[str, text(256, 1)]
    lan_token: Annotated[str, text(128, 8)]


@dataclass(frozen=True, slots=True)
class Settings:
    profiles: Annotated[dict[str, Profile], mapping(text(64, 1), record(Profile), PROFILES_MAX)] = field(
        default_factory=dict
    )
    devices: Annotated[dict[str, KnownDevice], mapping(text(64, 1), record(KnownDevice), DEVICES_MAX)] = field(
        default_factory=dict
    )

    def with_profile(self, name: str, profile: Profile | None) -> Settings:
        """None forgets it."""
        others = {key: value for key, value in self.profiles.items() if key != name}
        return replace(self, profiles=others if profile is None else others | {name: profile})

    def with_device(self, device_id: str, device: KnownDevice | None) -> Settings:
        """None forgets it."""
        others = {key: value for key, value in self.devices.items() if key != device_id}
        return replace(self, devices=others if device is None else others | {device_id: device})


def settings_path(environ: Mapping[str, str]) -> Path:
    if environ.get("FALLOW_HOME"):
        return Path(environ["FALLOW_HOME"]) / "config.json"
    base = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".config"
    return Path(base) / "fallow" / "config.json"


def load_settings(path: Path) -> Settings:
    """:raises SettingsError: the file cannot be read, or is not ours."""
    try:
        return decode(Settings, json.loads(path.read_bytes()), strict=False)
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}", "check who owns it") from error
    except (ValueError, PeerError) as error:
        raise SettingsError(f"{path} is damaged: {error}", "correct it or move it away, then log in again") from error


def save_settings(path: Path, settings: Settings) -> None:
    """:raises SettingsError: it cannot be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes it 0600 from the start; a later chmod would leave a moment in which others can read.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".config-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(encode(settings), file, indent=2, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space" if full else "check who owns its directory, or set FALLOW_HOME"
        raise SettingsError(f"{path}: {error.strerror}", remedy) from error
