"""Debian roots that machines of these tests start from, made once and kept outside of the repository.

A root is what debootstrap makes of Debian's own packages, and holds all packages of Debian that ours want as a local
repository, since no machine of these tests has a way out. Where Debian's packages come from is what this computer's own
apt is set to (``FALLOW_DEBIAN_MIRROR`` overrides it); ``FALLOW_ROOTS`` is where roots are kept. Run as a program, it
makes all that are missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
CONTROL = ROOT / "packaging/debian/control"
CACHE = Path(os.environ.get("FALLOW_ROOTS") or "/var/cache/fallow-roots")
BASE = ("systemd", "systemd-sysv", "dbus", "iproute2", "ca-certificates")
"""What a Debian that boots has, and a certificate store to put the tests' own authority in."""
ASKED = ("avahi-daemon", "caddy", "curl", "linux-sysctl-defaults")
"""What the guide installs besides, and what a usual device has."""
NAMES = "srv/names"
"""In a root: the names of all packages that its Debian has."""
FORM = "2"
"""Goes up when roots are made in another way, so that kept ones are made anew."""
MADE_MAX = 4
"""Roots that are kept of one suite; the oldest go."""
ATTEMPTS_MAX = 3
"""A mirror may fail once."""
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
QEMU = {"arm64": "qemu-aarch64"}


@dataclass(frozen=True, slots=True)
class Suite:
    name: str
    arch: str
    packages: tuple[str, ...]
    """Of ours, that must be installable there."""


BOOKWORM = Suite("bookworm", NATIVE, ("fallow-agent", "fallow"))
TRIXIE = Suite("trixie", NATIVE, ("fallow-agent", "fallow-server", "fallow"))
BOOKWORM_ARM64 = Suite("bookworm", "arm64", ("fallow-agent",))
ALL = (BOOKWORM_ARM64, TRIXIE, BOOKWORM)
"""What takes longest first."""


def mirror() -> str:
    """The address that this computer's apt has Debian's packages from; empty where it has none."""
    given = os.environ.get("FALLOW_DEBIAN_MIRROR")
    if given:
        return given
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]
    found = subprocess.run(command, capture_output=True, text=True).stdout.split()
    return found[0] if found else ""


def root(suite: Suite) -> Path:
    """The kept root of a suite, made where it is missing (a minute; five for a foreign architecture)."""
    if suite.arch != NATIVE:
        _letrun(QEMU[suite.arch])
    wanted = wanted_of(suite)
    version = hashlib.sha256("\n".join((FORM, *BASE, "", *wanted)).encode()).hexdigest()[:12]
    made = CACHE / f"{suite.name}-{suite.arch}-{version}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once, one download
        for left in reversed(range(ATTEMPTS_MAX)):
            if made.exists():
                break
            try:
                _make(suite, wanted, made)
            except RuntimeError as error:
                if not left:
                    raise
                print(f"{made.name}: {error}; trying again", file=sys.stderr)
    os.utime(made)
    return made


def wanted_of(suite: Suite) -> list[str]:
    """Debian's packages that ours name in their Depends and Recommends, by the control file."""
    found = set(ASKED)
    for stanza in CONTROL.read_text("utf-8").split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+):((?:.*\n?(?:[ \t].*\n?)*))", stanza, re.MULTILINE))
        if fields.get("Package", "").strip() in (*suite.packages, "python3-fallow-wire"):
            for name in re.split(r"[,|]", fields["Depends"] + "," + fields.get("Recommends", "")):
                word = name.split("(")[0].strip()
                if word and not word.startswith(("$", "fallow", "python3-fallow")):
                    found.add(word)
    return sorted(found | {"python3", "python3-nacl"})


def _make(suite: Suite, wanted: list[str], made: Path) -> None:
    source = mirror()
    if not source:
        raise RuntimeError("this computer's apt has no packages of Debian's; set FALLOW_DEBIAN_MIRROR")
    form = re.compile(rf"{suite.name}-{suite.arch}-[0-9a-f]+")
    kept = [path for path in CACHE.iterdir() if form.fullmatch(path.name)]
    for old in sorted(kept, key=lambda path: path.stat().st_mtime)[:-MADE_MAX]:
        shutil.rmtree(old)
    half = CACHE / f"{made.name}.partial"
    if half.exists():
        shutil.rmtree(half)
    command = ["debootstrap", f"--arch={suite.arch}", "--variant=minbase", f"--include={','.join(BASE)}"]
    run([*command, suite.name, str(half), source])
    try:
        run(["chroot", str(half), "apt-get", "update"])
        known = set(run(["chroot", str(half), "apt-cache", "pkgnames"]).split())
        (half / NAMES).write_text("\n".join(sorted(known)))
        there = [name for name in wanted if name in known]  # a recommended one may be missing in an older Debian
        run(["chroot", str(half), "apt-get", "install", "-y", "--download-only", "--no-install-recommends", *there])
        local = half / "srv/debian"
        local.mkdir(parents=True)
        for package in (half / "var/cache/apt/archives").glob("*.deb"):
            package.rename(local / package.name)
        packages = subprocess.run(["dpkg-scanpackages", "-m", "."], cwd=local, capture_output=True, check=True).stdout
        (local / "Packages").write_bytes(packages)
        (half / "etc/apt/apt.conf.d/90tests").write_text('Acquire::Languages "none";\n')
        (half / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/debian ./\n")
        shutil.rmtree(half / "var/lib/apt/lists")
        run(["chroot", str(half), "apt-get", "update"])
        # As every machine's own: a machine id is made at its first boot.
        (half / "etc/machine-id").write_text("")
        (half / "etc/resolv.conf").unlink(missing_ok=True)
        half.rename(made)
    except BaseException:
        shutil.rmtree(half)
        raise


def _letrun(program: str) -> None:
    """Have the kernel run that architecture's programs by qemu-user, as its package does where systemd runs."""
    if not (BINFMT / "register").exists():
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)])
    if not (BINFMT / program).exists():
        line = Path(f"/usr/lib/binfmt.d/{program}.conf").read_text().strip()
        (BINFMT / "register").write_text(line)


def run(command: list[str]) -> str:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def main() -> int:
    def make(suite: Suite) -> None:
        started = time.monotonic()
        print(f"{root(suite)} after {time.monotonic() - started:.0f} s", flush=True)

    with ThreadPoolExecutor(len(ALL)) as pool:
        list(pool.map(make, ALL))
    return 0


if __name__ == "__main__":
    sys.exit(main())
