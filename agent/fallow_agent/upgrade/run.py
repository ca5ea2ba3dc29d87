"""One update: keep what is there, install what is newer, look whether the device is as well as before, else go back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fallow_wire.errors import LocalError

from .advice import Health, fault, parsed
from .packages import PackageError, PackageManager

_log = logging.getLogger(__name__)

FAILED_FILE = "failed"
"""Holds the version that was taken back, so that nobody tries it every day."""
HEALTHY_S_MAX = 120.0
"""A Raspberry Pi of the first kind starts the agent in ten seconds, and a session that was refused is tried again
within a minute."""
LOOK_S = 1.0


class UpgradeFailed(LocalError):
    """The new version did not do. The text says what runs now."""

    slug = "upgrade-failed"


Ask = Callable[[], Mapping[str, Any] | None]
"""Gives the status of the running agent; None where none answers."""


class Upgrade:
    def __init__(
        self,
        packages: PackageManager,
        ask: Ask,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._packages = packages
        self._ask = ask
        self._sleep = sleep
        self._monotonic = monotonic

    def by_hand(self) -> str:
        """Update to the newest version there is; gives what was done, as a sentence.

        :raises PackageError: nothing was changed. :raises UpgradeFailed: it was, and the new version did not do.
        """
        return self._to(self._packages.newest())

    def as_advised(self) -> str:
        """Update if the running agent's server advises it and that version was not taken back before."""
        status = self._ask()
        wanted = None if status is None else (status.get("update") or {}).get("version")
        if not wanted:
            return "No update is advised."
        newest = self._packages.newest()
        if parsed(newest) < parsed(str(wanted)):
            return f"Version {wanted} is advised; your package sources have {newest}."
        if newest == self._taken_back():
            return f"Version {newest} was taken back before; fallow-agent upgrade tries it again."
        return self._to(newest)

    def _to(self, newest: str) -> str:
        installed = self._packages.installed()
        if newest == installed:
            return f"{installed} is installed, and the newest."
        before = self._health()
        self._packages.fetch(newest)
        self._packages.keep(installed)
        _log.info("installing %s; %s is kept", newest, installed)
        try:
            self._packages.install(newest)
            why = self._settled(before, newest)
        except PackageError as error:
            why = error.detail
        if why is None:
            self._failed_file.unlink(missing_ok=True)
            self._packages.forget()
            return f"{newest} is installed; it was {installed}."
        _log.error("%s does not do: %s; going back to %s", newest, why, installed)
        self._failed_file.parent.mkdir(parents=True, exist_ok=True)
        self._failed_file.write_text(newest + "\n", "utf-8")
        try:
            self._packages.restore(installed)
        except PackageError as error:
            raise UpgradeFailed(
                f"{newest} did not do ({why}), and {installed} could not be installed again: {error.detail}"
            ) from None
        self._packages.forget()
        still = self._settled(before, installed)
        if still is not None:
            raise UpgradeFailed(f"{newest} did not do ({why}), and with {installed} again: {still}")
        raise UpgradeFailed(f"{newest} did not do ({why}); {installed} is installed again, and all is as before")

    def _settled(self, before: Health | None, version: str) -> str | None:
        """Wait until all is well; what is not, once that took too long."""
        until = self._monotonic() + HEALTHY_S_MAX
        while True:
            why = fault(before, self._health(), version)
            if why is None or self._monotonic() >= until:
                return why
            self._sleep(LOOK_S)

    def _health(self) -> Health | None:
        status = self._ask()
        return None if status is None else Health.of(status)

    @property
    def _failed_file(self) -> Path:
        return self._packages.folder / FAILED_FILE

    def _taken_back(self) -> str | None:
        try:
            return self._failed_file.read_text("utf-8").strip()
        except FileNotFoundError:
            return None
