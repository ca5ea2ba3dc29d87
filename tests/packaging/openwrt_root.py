"""OpenWrt's packages, and a router to put them on: a Debian root with the stand-ins of ``openwrt/`` over it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_INS = Path(__file__).parent / "openwrt"
PROGRAMS = {
    "busybox": "busybox",
    "shellcheck": "shellcheck",
    "signify-openbsd": "signify-openbsd",
    "jq": "jq",
    "ip": "iproute2",
}
SYSTEM_PYTHON = Path("/usr/bin/python3")
EXECUTABLE = ("usr/bin/", "etc/init.d/", "usr/libexec/", "etc/uci-defaults/")
ADD_USER = """
. /lib/functions.sh
mkdir -p /usr/lib/opkg/info
echo 'Require-User: fallow:fallow' >/usr/lib/opkg/info/fallow-agent.control
add_group_and_user fallow-agent
"""
MARKS = [
    pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program} ({package})")
    for program, package in PROGRAMS.items()
] + [
    pytest.mark.skipif(
        not (ROOT / "agent/fallow_agent/lan/app/index.html").is_file(), reason="needs the pages: make web, with Node 20"
    )
]
root_needed = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to lay packages over this system's files")


def build(target: Path, *arguments: str) -> None:
    command = [sys.executable, str(ROOT / "packaging/build-ipk"), str(target), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr


def fields(control: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in control.splitlines() if not line.startswith(" "))


def put(path: Path, data: bytes, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o755 if executable else 0o644)


@contextlib.contextmanager
def router_root(scratch: Path, contents: dict[str, dict[str, bytes]]) -> Iterator[Path]:
    """A Debian root with the stand-ins and ``contents``, files by package, over it; its changes vanish."""
    upper, work, merged = scratch / "upper", scratch / "work", scratch / "root"
    for folder in (work, merged):
        folder.mkdir()
    for path in STAND_INS.rglob("*"):
        if path.is_file():
            put(laid(upper, str(path.relative_to(STAND_INS))), path.read_bytes(), executable=os.access(path, os.X_OK))
    for files in contents.values():
        for name, data in files.items():
            put(laid(upper, name), data, executable=name.startswith(EXECUTABLE))
    (upper / "usr/bin/sh").symlink_to("busybox")
    lay_feed(upper)
    options = f"lowerdir=/,upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
    try:
        for kind in ("proc", "sys", "dev"):
            subprocess.run(["mount", "--rbind", f"/{kind}", merged / kind], check=True)
            subprocess.run(["mount", "--make-rslave", merged / kind], check=True)
        memory(merged)
        (merged / "tmp/ubus").touch()
        (merged / "tmp/ubus").chmod(0o666)
        if contents:  # else the package manager does it
            done = inside(merged, "busybox", "ash", "-c", ADD_USER)
            assert done.returncode == 0, done.stderr
        yield merged
    finally:
        subprocess.run(["umount", "-R", "-l", merged], check=True)


def memory(root: Path) -> None:
    """What a router has at ``/tmp``: empty after each start."""
    subprocess.run(["umount", "-q", "-l", root / "tmp"])  # is there one?
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", root / "tmp"], check=True)


def laid(upper: Path, path: str) -> Path:
    """Where a file of a router lies on a Debian, whose /bin, /lib and /sbin are links into /usr."""
    top = path.partition("/")[0]
    return upper / ("usr" if Path("/", top).is_symlink() else "") / path


def declared() -> list[str]:
    """Packages of Python that ours depend on."""
    found = set()
    for path in (ROOT / "openwrt/fallow/Makefile", ROOT / "openwrt/fallow-python/Makefile"):
        found |= set(re.findall(r"\+(python3-\w+)", path.read_text()))
    return sorted(found)


def lay_feed(upper: Path) -> None:
    """The compiled packages of OpenWrt's feed, from this environment; and nothing of Python that is not declared."""
    site = next(Path(entry) for entry in sys.path if (Path(entry) / "nacl").is_dir())
    target = upper / "usr/lib/feed"
    target.mkdir(parents=True)
    for name in ("psutil", "zeroconf", "ifaddr", "nacl"):
        shutil.copytree(site / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for compiled in site.glob("_cffi_backend*.so"):
        shutil.copyfile(compiled, target / compiled.name)
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    if SYSTEM_PYTHON.resolve().name != f"python{sys.version_info[0]}.{sys.version_info[1]}":
        (upper / "usr/bin").mkdir(parents=True, exist_ok=True)
        (upper / "usr/bin/python3").symlink_to(python)
    else:
        python = SYSTEM_PYTHON
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]
    modules = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    put(upper / modules.lstrip("/") / "sitecustomize.py", (STAND_INS / "usr/sitecustomize.py").read_bytes())
    (target / "declared.json").write_text(json.dumps(declared()))


def inside(root: Path, *command: str, netns: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    # Commands of this computer must not find what the router does not have.
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "IPKG_INSTROOT": "", "PROCD_SAID": "/tmp/procd"}
    within = ("ip", "netns", "exec", netns) if netns else ()
    command = (*within, "chroot", str(root), *command)
    return subprocess.run(command, env=path | environment, capture_output=True, text=True, timeout=170)


def service(root: Path, action: str = "start") -> list[list[str]]:
    """What the script has told procd. A line a call."""
    (root / "tmp/procd").unlink(missing_ok=True)
    done = inside(root, "busybox", "ash", "/etc/rc.common", "/etc/init.d/fallow-agent", action)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in (root / "tmp/procd").read_text().splitlines()]


def configure(root: Path, *lines: str) -> None:
    text = "config agent 'agent'\n" + "".join(f"\t{line}\n" for line in lines)
    (root / "etc/config/fallow").write_text(text)


def params(said: list[list[str]], name: str) -> list[str]:
    return [word for call in said if call[:2] == ["param", name] for word in call[2:]]


def environment_of(said: list[list[str]]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in params(said, "env"))
