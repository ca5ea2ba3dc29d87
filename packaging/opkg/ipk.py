"""opkg's package format: a compressed tar of ``debian-binary``, ``data.tar.gz`` and ``control.tar.gz``.

The same input makes the same bytes: names are sorted, owners are root, times are the epoch.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

# What the SDK puts into every package: the system's own functions enable, start and stop services and run uci-defaults.
_POSTINST = """\
#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. "${IPKG_INSTROOT}/lib/functions.sh"
default_postinst "$0" "$@"
"""
_PRERM = _POSTINST.replace("default_postinst", "default_prerm").replace('[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0\n', "")


@dataclass(frozen=True, slots=True, eq=False)
class Package:
    """``files``: content by path below ``/``. ``programs``: those of them that may be executed.
    ``settings``: files that belong to the owner, and are kept. ``prerm``: a script before the removal.
    ``user``: to be made, as in ``name:group``."""

    name: str
    version: str
    depends: tuple[str, ...]
    section: str
    title: str
    license: str
    files: dict[str, bytes]
    programs: frozenset[str] = frozenset()
    settings: tuple[str, ...] = ()
    prerm: str = ""
    user: str = ""

    @property
    def file_name(self) -> str:
        return f"{self.name}_{self.version}_all.ipk"

    @property
    def installed_bytes(self) -> int:
        return sum(map(len, self.files.values()))

    def control(self) -> str:
        """The fields of the package, as they stand in the index too."""
        user = f"Require-User: {self.user}\n" if self.user else ""
        return (
            f"Package: {self.name}\nVersion: {self.version}\nDepends: {', '.join(self.depends)}\n{user}"
            f"License: {self.license}\nSection: {self.section}\nMaintainer: The Fallow authors\nArchitecture: all\n"
            f"Installed-Size: {self.installed_bytes}\nDescription: {self.title}\n"
        )


def ipk(package: Package) -> bytes:
    scripts = {"control": package.control().encode(), "postinst": _POSTINST.encode(), "prerm": _PRERM.encode()}
    if package.settings:
        scripts["conffiles"] = "".join(f"{path}\n" for path in package.settings).encode()
    if package.prerm:
        scripts["prerm-pkg"] = package.prerm.encode()  # default_prerm runs it
    members = {
        "debian-binary": b"2.0\n",
        "data.tar.gz": _tar_gz(package.files, package.programs),
        "control.tar.gz": _tar_gz(scripts, frozenset({"postinst", "prerm"})),
    }
    return _tar_gz(members, frozenset(), ordered=True)


def read(path: Path) -> tuple[str, dict[str, bytes]]:
    """The control fields and the files of a package."""
    with tarfile.open(path) as outer:
        inner = {member.name.removeprefix("./"): outer.extractfile(member) for member in outer if member.isfile()}
        opened = {name: file.read() for name, file in inner.items() if file is not None}
    control = _untar(opened["control.tar.gz"])["control"].decode()
    return control, _untar(opened["data.tar.gz"])


def _untar(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {member.name.removeprefix("./"): tar.extractfile(member) for member in tar if member.isfile()}
        return {name: file.read() for name, file in found.items() if file is not None}


def _tar_gz(files: dict[str, bytes], programs: frozenset[str], *, ordered: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        made: set[str] = set()
        for path in files if ordered else sorted(files):
            for folder in reversed(Path(path).parents):
                if str(folder) not in made:
                    made.add(str(folder))
                    tar.addfile(_entry(f"./{folder}" if str(folder) != "." else "./", tarfile.DIRTYPE, 0o755))
            entry = _entry(f"./{path}", tarfile.REGTYPE, 0o755 if path in programs else 0o644)
            entry.size = len(files[path])
            tar.addfile(entry, io.BytesIO(files[path]))
    return gzip.compress(buffer.getvalue(), 9, mtime=0)


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime, entry.uname, entry.gname = kind, mode, 0, "root", "root"
    return entry
