"""The package managers that can install another version of the agent. A further platform is a further class here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from fallow_wire.errors import LocalError

COMMAND_S_MAX = 900
"""An update on a slow card with a slow line; a package manager that takes longer hangs."""
SAID_CHARACTERS_MAX = 2000


class PackageError(LocalError):
    """The package manager refused; the text has what it said."""

    slug = "package-manager"


class PackageManager(Protocol):
    """Versions are the packages', whole. Every method :raises PackageError: with what the program said."""

    def installed(self) -> str:
        """The version of the agent's package."""

    def newest(self) -> str:
        """The newest version that the owner's package sources offer; asks them."""

    def keep(self, version: str) -> None:
        """Put the installed packages aside, so that the way back needs no network."""

    def install(self, version: str) -> None:
        """Install that version, settings and state left as they are, and start it."""

    def restore(self, version: str) -> None:
        """Install again what :meth:`keep` put aside."""


def package_manager(folder: Path) -> PackageManager:
    """This system's. :param folder: for what is put aside. :raises PackageError: the agent is no package here."""
    if shutil.which("apt-get") and shutil.which("dpkg-query"):
        return Apt(folder)
    if shutil.which("opkg"):
        # Its feeds keep the newest only: what could not be taken back is not begun.
        raise PackageError("on OpenWrt: opkg update && opkg upgrade fallow-wire fallow-python fallow-agent")
    raise PackageError(
        "the agent did not come by a package manager that is known here (apt); update it the way you installed it"
    )


class Apt:
    AGENT = "fallow-agent"
    OURS = (AGENT, "python3-fallow-wire", "fallow", "fallow-server")
    """Packages of one release: they need each other in the same version."""
    KEEP_SETTINGS = ("-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Options::=--force-confdef")

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def installed(self) -> str:
        version = self._versions().get(self.AGENT)
        if version is None:
            raise PackageError("the package fallow-agent is not installed; update the agent the way you installed it")
        return version

    def newest(self) -> str:
        self._run("apt-get", "-q", "update")
        for line in self._run("apt-cache", "policy", self.AGENT).splitlines():
            name, _, value = line.strip().partition(": ")
            if name == "Candidate" and value != "(none)":
                return value
        raise PackageError("no package source offers fallow-agent")

    def keep(self, version: str) -> None:
        kept = self._kept(version)
        if len(list(kept.glob("*.deb"))) == len(self._versions()):
            return
        if self._folder.exists():
            shutil.rmtree(self._folder)  # of earlier updates
        kept.mkdir(parents=True)
        names = [f"{name}={found}" for name, found in self._versions().items()]
        self._run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *names, folder=kept)

    def install(self, version: str) -> None:
        self._install(*(f"{name}={version}" for name in self._versions()))

    def restore(self, version: str) -> None:
        files = [str(path) for path in sorted(self._kept(version).glob("*.deb"))]
        self._install("--allow-downgrades", *files)

    def _install(self, *words: str) -> None:
        """What apt is asked for by name it takes for the owner's wish; what came as a need of another stays one."""
        automatic = [name for name in self._run("apt-mark", "showauto").split() if name in self.OURS]
        try:
            self._run("apt-get", "-q", "-y", "--no-remove", *self.KEEP_SETTINGS, "install", *words)
        finally:
            if automatic:
                self._run("apt-mark", "auto", *automatic)

    def _kept(self, version: str) -> Path:
        return self._folder / version.replace("/", "_")

    def _versions(self) -> dict[str, str]:
        """Of our packages, those that are installed."""
        form = "${db:Status-Abbrev}\t${Package}\t${Version}\n"
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", form, *self.OURS], capture_output=True, text=True, timeout=COMMAND_S_MAX
        )  # fails where one of them is unknown, and tells of the others
        lines = [line.split("\t") for line in done.stdout.splitlines()]
        return {name: version for status, name, version in lines if status.strip() == "ii"}

    def _run(self, *command: str, folder: Path | None = None) -> str:
        return run(command, os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}, folder)


def run(command: Sequence[str], environment: dict[str, str], folder: Path | None = None) -> str:
    """What a program prints. :raises PackageError: it failed."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackageError(f"{command[0]}: {error}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-SAID_CHARACTERS_MAX:]
        raise PackageError(f"{' '.join(command[:2])}: {said}")
    return done.stdout
