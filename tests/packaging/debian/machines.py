"""Debian machines: roots booted under systemd-nspawn, each in a network namespace of the test's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import namespaces

RUN_S = 1200
WAIT_S = 600
"""Another architecture's programs are slow, and so is a computer with more to do."""
STOP_S = 60
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
START = """
set -eu
mount -t overlay overlay -o lowerdir="$1",upperdir="$2/changes",workdir="$2/work" "$2/root"
# A guest of a newer systemd needs the unified hierarchy; a host with the older one mounts it for itself alone.
if [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount -l -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
exec systemd-nspawn --quiet --register=no --keep-unit --boot --console=pipe --settings=no --link-journal=no \\
    --resolv-conf=off --timezone=off --network-namespace-path="/run/netns/$3" --machine="$4" --directory="$2/root"
"""


def until(probe: Callable[[], Any]) -> Any:
    """The first truthy answer of ``probe``."""
    return namespaces.until(probe, WAIT_S)


class Machine:
    """One machine. Its changes lie over the kept root, and go with the folder."""

    def __init__(self, root: Path, folder: Path, namespace: str, name: str) -> None:
        self.name = name
        self._root = root
        self._folder = folder
        self._namespace = namespace
        self._host: subprocess.Popen[bytes] | None = None
        for part in ("changes", "work", "root"):
            (folder / part).mkdir(parents=True)
        self.changes = folder / "changes"
        self.console = folder / "console"

    def write(self, path: str, text: str) -> None:
        """Before the boot: a file of the machine's."""
        file = self.changes / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def boot(self) -> None:
        self.write("/etc/hostname", f"{self.name}\n")
        # Its interfaces are set up from outside, before it boots.
        command = ["sh", "-c", START, "start", self._root, self._folder, self._namespace, self._folder.name]
        with self.console.open("ab") as console:
            self._host = subprocess.Popen(
                ["unshare", "--mount", *command], stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        self._wait()

    def _wait(self) -> None:
        until(lambda: self._alive() and self._first() and self._listens())
        self.run("systemctl is-system-running --wait || true")

    def _alive(self) -> bool:
        assert self._host is not None
        if self._host.poll() is not None:
            raise AssertionError(f"{self.name} ended: {self.console.read_text(errors='replace')[-3000:]}")
        return True

    def _first(self) -> int:
        """The machine's process 1, as this computer counts; 0 while there is none."""
        assert self._host is not None
        children = Path(f"/proc/{self._host.pid}/task/{self._host.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self._first()}/root/run/systemd/private").exists()
        return False

    def try_run(self, command: str, given: str = "", user: str = "") -> subprocess.CompletedProcess[str]:
        """What a shell there does with a command, as root or as ``user``."""
        enter = [
            "nsenter",
            f"--target={self._first()}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--root",
            "--wd",
        ]
        variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        shell = ["bash", "-euo", "pipefail", "-c", command]
        if user:
            shell = ["runuser", "-u", user, "--", *shell]
        return subprocess.run(
            [*enter, "env", "-i", *variables, *shell], input=given, capture_output=True, text=True, timeout=RUN_S
        )

    def run(self, command: str, given: str = "", user: str = "") -> str:
        """What a command prints there; it must succeed."""
        done = self.try_run(command, given, user)
        if done.returncode:
            log = self.try_run("journalctl -b --no-pager -n 60 2>&1 || true").stdout
            raise AssertionError(
                f"{self.name}: {command}: {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}\n{log}"
            )
        return done.stdout

    def reboot(self) -> None:
        assert self._host is not None
        self.try_run("systemctl reboot")  # the command may go with the machine
        self._host.wait(STOP_S)  # nspawn leaves it to whoever runs it to start again
        self.boot()

    def stop(self) -> None:
        if self._host is None:
            return
        try:
            if self._host.poll() is None and self._first():
                self.try_run("systemctl poweroff")  # the command may go with the machine
            self._host.wait(STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                if self._first():
                    os.kill(self._first(), signal.SIGKILL)  # and with it all of the machine
            self._host.kill()
            self._host.wait()
        self._host = None


@contextlib.contextmanager
def machine(root: Path, folder: Path, namespace: str, name: str, files: dict[str, str]) -> Iterator[Machine]:
    """A booted machine, gone at the end."""
    made = Machine(root, folder, namespace, name)
    for path, text in files.items():
        made.write(path, text)
    started = time.monotonic()
    try:
        made.boot()
        print(f"{name} booted in {time.monotonic() - started:.1f} s")
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)
