"""The package managers that can install another version of the agent. A further platform is a further class here."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fallow_wire.errors import LocalError

COMMAND_S_MAX = 900
"""An update on a slow card with a slow line; a package manager that takes longer hangs."""
SAID_CHARACTERS_MAX = 2000
AGENT = "fallow-agent"


class PackageError(LocalError):
    """The package manager refused; the text has what it said."""

    slug = "package-manager"


class PackageManager(Protocol):
    """Versions are the packages', whole. Every method :raises PackageError: with what the program said.

    ``folder``: for what is put aside and remembered; it outlives a restart.
    """

    folder: Path

    def installed(self) -> str:
        """The version of the agent's package."""

    def newest(self) -> str:
        """The newest version that the owner's package sources offer; asks them."""

    def fetch(self, version: str) -> None:
        """Bring the packages of that version here: a source that fails, or a package manager at other work, fails
        before anything is changed."""

    def keep(self, version: str) -> None:
        """Put the installed packages aside, so that the way back needs no network."""

    def install(self, version: str) -> None:
        """Install that version, settings and state left as they are, and start it."""

    def restore(self, version: str) -> None:
        """Install again what :meth:`keep` put aside."""

    def forget(self) -> None:
        """The update has come to its end, good or bad: what was put aside may go."""


def package_manager() -> PackageManager:
    """This system's. :raises PackageError: the agent is no package here."""
    if shutil.which("opkg"):
        return Opkg()
    if shutil.which("apk"):
        # It cannot make a package of what is installed, and a feed has the newest only: what could not be taken back
        # is not begun.
        raise PackageError(
            "this system's package manager knows no way back; to update without one: "
            "apk update && apk upgrade fallow-agent fallow-python fallow-wire luci-app-fallow"
        )
    if shutil.which("apt-get") and shutil.which("dpkg-query"):
        return Apt()
    raise PackageError(
        "the agent did not come by a package manager that is known here (apt, opkg); update it the way you installed it"
    )


class Apt:
    OURS = (AGENT, "python3-fallow-wire", "fallow", "fallow-server")
    """Packages of one release: they need each other in the same version."""
    KEEP_SETTINGS = ("-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Options::=--force-confdef")
    PATIENT = ("-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3")
    """Debian's own updates run by themselves, too, and only one apt at a time."""

    def __init__(self) -> None:
        self.folder = Path("/var/cache/fallow-agent")

    def installed(self) -> str:
        return version_of_agent(self._versions())

    def newest(self) -> str:
        self._run("apt-get", "-q", "update")
        for line in self._run("apt-cache", "policy", AGENT).splitlines():
            name, _, value = line.strip().partition(": ")
            if name == "Candidate" and value != "(none)":
                return value
        raise PackageError("no package source offers fallow-agent")

    def fetch(self, version: str) -> None:
        self._install("--download-only", *self._of(version))

    def keep(self, version: str) -> None:
        kept = self._kept(version)
        if len(list(kept.glob("*.deb"))) == len(self._versions()):
            return
        if self.folder.exists():
            shutil.rmtree(self.folder)  # of earlier updates
        kept.mkdir(parents=True)
        names = [f"{name}={found}" for name, found in self._versions().items()]
        self._run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *names, folder=kept)

    def install(self, version: str) -> None:
        self._install(*self._of(version))

    def restore(self, version: str) -> None:
        files = [str(path) for path in sorted(self._kept(version).glob("*.deb"))]
        self._install("--allow-downgrades", *files)

    def _install(self, *words: str) -> None:
        """What apt is asked for by name it takes for the owner's wish; what came as a need of another stays one."""
        automatic = [name for name in self._run("apt-mark", "showauto").split() if name in self.OURS]
        try:
            self._run("apt-get", "-q", "-y", "--no-remove", *self.PATIENT, *self.KEEP_SETTINGS, "install", *words)
        finally:
            if automatic:
                self._run("apt-mark", "auto", *automatic)

    def _of(self, version: str) -> list[str]:
        """What is installed of ours, in another version."""
        return [f"{name}={version}" for name in self._versions()]

    def forget(self) -> None:
        """A disk has room for them: they stay until the next update, for the owner's own way back."""

    def _kept(self, version: str) -> Path:
        return self.folder / version.replace("/", "_")

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


class Opkg:
    """OpenWrt up to 24.10.

    Its feeds have the newest version only. So the way back is made of what is installed: each package is put together
    again from its files, which opkg lists. It replaces files by deleting them first; power that is cut meanwhile leaves
    a router without its agent. So the packages are put aside on the flash and not in memory, and a script among those
    that the system runs at its next start (and deletes once they succeed) installs them.
    """

    OURS = re.compile(r"fallow-(agent|wire|python)|luci-(app|i18n)-fallow(-.+)?")
    INFO = Path("/usr/lib/opkg/info")
    AT_BOOT = Path("/etc/uci-defaults/99-fallow-upgrade")
    BACK = ("opkg", "--force-downgrade", "--force-reinstall", "install")
    """Also where opkg takes a package for installed whose files are gone."""
    LIBRARY = Path("/usr/lib/fallow")
    """Ours alone. What could not be unpacked whole lies there, takes the room, and is no package's."""
    SCRIPT = """\
[ -f {folder}/fallow-agent.ipk ] || exit 0
# An update of fallow-agent was cut off: the version from before is installed again. Removed when that is done.
logger -t fallow-agent 'an update was cut off; the version from before is installed again'
rm -rf {library}
{back} {folder}/*.ipk && rm -f {folder}/*.ipk
"""

    def __init__(self) -> None:
        self.folder = Path("/etc/fallow/upgrade")

    def installed(self) -> str:
        return version_of_agent(self._versions())

    def newest(self) -> str:
        self._run("opkg", "update")
        for line in self._run("opkg", "list-upgradable").splitlines():
            name, _, versions = line.partition(" - ")
            if name == AGENT:
                return versions.partition(" - ")[2]
        return self.installed()

    def fetch(self, version: str) -> None:
        """A router has no room for them twice: opkg fetches as it installs."""

    def keep(self, version: str) -> None:
        if self.AT_BOOT.exists():
            self.restore(version)
            self.forget()
            raise PackageError("an update had been cut off before; the version from before it is installed again")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in self._versions():
                _write(self.folder / f"{name}.ipk", self._repacked(name))
            self._arm()
        except OSError as error:
            self.forget()
            raise PackageError(f"the installed packages cannot be put aside in {self.folder}: {error}") from None

    def install(self, version: str) -> None:
        # The agent first: its service stops before the modules that it may still have to read are replaced.
        self._run("opkg", "upgrade", *sorted(self._versions()))

    def restore(self, version: str) -> None:
        shutil.rmtree(self.LIBRARY, ignore_errors=True)
        self._run(*self.BACK, *(str(path) for path in sorted(self.folder.glob("*.ipk"))))

    def forget(self) -> None:
        self.AT_BOOT.unlink(missing_ok=True)
        for path in self.folder.glob("*.ipk"):
            path.unlink()

    def _arm(self) -> None:
        """From now on the next start goes back. The script is never there in part: half of it would do harm."""
        written = self.folder / "at-boot"
        _write(written, self.SCRIPT.format(library=self.LIBRARY, back=" ".join(self.BACK), folder=self.folder).encode())
        written.replace(self.AT_BOOT)
        _to_disk(self.AT_BOOT.parent)

    def _versions(self) -> dict[str, str]:
        """Of our packages, those that are installed."""
        lines = [line.split(" - ") for line in self._run("opkg", "list-installed").splitlines()]
        return {line[0]: line[1] for line in lines if self.OURS.fullmatch(line[0])}

    def _repacked(self, name: str) -> bytes:
        """An installed package, as opkg takes it; without files that have gone since, as scripts that run once."""
        control = {path.name.removeprefix(f"{name}."): path for path in self.INFO.glob(f"{name}.*")}
        listed = control.pop("list", None)
        if listed is None:
            raise PackageError(f"{self.INFO} does not tell the files of {name}; update the way you installed it")
        # The owner's settings are among the files now. Were they called so, opkg would take them for the maker's, and
        # replace them at the next update.
        control.pop("conffiles", None)
        files = {line.lstrip("/"): Path(line) for line in listed.read_text("utf-8").splitlines()}
        data = _tar_gz({name: path for name, path in files.items() if path.is_file()})
        members = {"debian-binary": b"2.0\n", "data.tar.gz": data, "control.tar.gz": _tar_gz(control)}
        return _tar_gz(members)

    def _run(self, *command: str) -> str:
        return run(command, dict(os.environ))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    _to_disk(path)


def _to_disk(path: Path) -> None:
    """A power cut from now on leaves this file, or the entries of this folder, as they are."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tar_gz(members: Mapping[str, Path | bytes]) -> bytes:
    """Of files by their names in it, with the folders that they lie in."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6, format=tarfile.GNU_FORMAT, dereference=True) as tar:
        made: set[Path] = set()
        for name, content in members.items():
            if isinstance(content, bytes):
                entry = tarfile.TarInfo(f"./{name}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
                continue
            for folder in [folder for folder in reversed(Path(name).parents) if folder.name and folder not in made]:
                made.add(folder)
                tar.add(Path("/", folder), f"./{folder}", recursive=False)
            tar.add(content, f"./{name}", recursive=False)
    return buffer.getvalue()


def version_of_agent(versions: Mapping[str, str]) -> str:
    """:param versions: of the packages that are installed."""
    if AGENT not in versions:
        raise PackageError("the package fallow-agent is not installed; update the agent the way you installed it")
    return versions[AGENT]


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
