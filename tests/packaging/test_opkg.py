"""An OpenWrt router from a feed: installed by the guide, updated, and what is left when an update goes wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import namespaces
import pytest
from fallow_agent.store import DATABASE_FILE
from openwrt_root import MARKS, ROOT, declared, inside, memory, put, root_needed, router_root
from opkg.contents import packages
from opkg.feed import fingerprint, index_of, write_feed
from opkg.ipk import ipk

pytestmark = [*MARKS, root_needed, pytest.mark.processes]
VERSION = (ROOT / "VERSION").read_text().strip()
OTHERS = ("libc", "ca-bundle", "luci-base", "luci-lib-uqr")
"""Of OpenWrt's own feed, besides Python's."""
GUIDE = (ROOT / "docs/openwrt.md").read_text()
AGENT = "usr/lib/fallow/fallow_agent"
TERMS = "usr/lib/fallow/fallow_wire/lan.py"


@pytest.fixture
def router(tmp_path: Path, feed: Path) -> Iterator[Router]:
    with router_root(tmp_path, {}) as root:
        name = namespaces.names("router")[0]
        namespaces.ip("netns", "add", name)
        try:
            namespaces.ip("-n", name, "link", "set", "lo", "up")
            yield Router(root, name, feed)
        finally:
            for pid in subprocess.check_output(["ip", "netns", "pids", name], text=True).split():
                os.kill(int(pid), signal.SIGKILL)
            namespaces.ip("netns", "del", name)


class Router:
    """``root``: its files. Feeds are looked for in its folder ``/srv/feed``."""

    def __init__(self, root: Path, netns: str, feed: Path) -> None:
        self.root = root
        self._netns = netns
        self._key = feed.parent / "key.sec"
        public = self._key.with_suffix(".pub").read_text()
        put(root / "etc/opkg/keys" / fingerprint(public), public.encode())
        put(root / "etc/opkg/customfeeds.conf", b"# here\nsrc/gz fallow file:///srv/feed\n")
        put(root / "usr/lib/opkg/status.json", json.dumps(dict.fromkeys((*OTHERS, *declared()), "1")).encode())
        shutil.copytree(feed, root / "srv/feed")
        self.on()

    def on(self) -> None:
        (self.root / "tmp/procd-runs").write_text("")

    def do(self, command: str, status: int = 0) -> str:
        """What a command prints, errors first."""
        done = inside(self.root, "setsid", "sh", "-c", command, netns=self._netns)
        log = self.root / "tmp/agent.log"
        said = done.stdout + done.stderr
        assert done.returncode == status, said + (log.read_text()[-3000:] if log.exists() else "")
        return done.stderr + done.stdout

    def status(self) -> dict[str, Any]:
        """As soon as the agent answers."""

        def answer() -> dict[str, Any] | None:
            address = "http://127.0.0.1:32556/v1/device"
            done = inside(self.root, "uclient-fetch", "-q", "-O", "-", address, netns=self._netns)
            return json.loads(done.stdout) if done.returncode == 0 else None

        return namespaces.until(answer)

    def release(self, version: str, contents: dict[str, dict[str, bytes]], **more: bytes) -> None:
        """Put another version into the feed, with other terms in a module of the same size.

        :param more: further files of the agent's modules.
        """
        made = {}
        for package in packages(ROOT, Path("/nonexistent")):
            files = dict(contents[package.name])
            if package.name == "fallow-wire":
                files[TERMS] = files[TERMS].replace(b'TERMS_VERSION = "1"', b'TERMS_VERSION = "2"')
            if package.name == "fallow-agent":
                files |= {f"{AGENT}/VERSION": version.encode()} | {
                    f"{AGENT}/{name}": data for name, data in more.items()
                }
            changed = dataclasses.replace(package, version=version, files=files)
            made[changed] = ipk(changed)
        shutil.rmtree(self.root / "srv/feed")
        for package, data in made.items():
            put(self.root / "srv/feed" / package.file_name, data)
        write_feed(self.root / "srv/feed", index_of(made), self._key)

    def lose_power(self, moment: str, command: str) -> None:
        """Run ``command`` until the package manager comes to ``moment``; then all ends, and memory is empty."""
        (self.root / "tmp/cut-the-power").write_text(moment)
        self.do(command, -signal.SIGKILL)
        inside(self.root, "/sbin/procd", "stop")
        memory(self.root)
        self.on()

    def files(self) -> set[str]:
        """What differs from the system below; without memory."""
        upper = self.root.parent / "upper"
        found = {str(path.relative_to(upper)) for path in upper.rglob("*") if path.is_file()}
        return {path for path in found if not path.startswith("srv/") and not path.endswith(".pyc")}

    def left(self) -> list[str]:
        """What an update has put aside."""
        found = [
            *(self.root / "etc/uci-defaults").glob("99-fallow*"),
            *(self.root / "etc/fallow/upgrade").glob("*.ipk"),
        ]
        return [path.name for path in found]


def test_a_router_is_installed_by_the_guide_updated_and_cleaned(router: Router, contents: Any) -> None:
    before = router.files()
    for package in router.root.glob("srv/feed/*.ipk"):
        shutil.copy(package, router.root / "tmp")
    for command in GUIDE.partition("On the router:\n```sh\n")[2].partition("```")[0].splitlines():
        said = router.do(command)
    assert re.fullmatch(r"[A-Z0-9]{4}-[A-Z0-9]{4}\n", said)
    assert not (router.root / "var/lib/fallow-agent").exists(), "the command line is another agent than the service"
    found = router.status()
    assert json.loads(router.do("fallow-agent status"))["device_id"] == found["device_id"]
    assert (found["version"], found["state"]) == (VERSION, "dormant")
    crontab = (router.root / "etc/crontabs/root").read_text()
    assert re.fullmatch(r"\d+ \d+ \* \* \* /bin/sh /usr/lib/fallow/daily.sh\n", crontab)

    assert f"{VERSION} is installed, and the newest." in router.do("fallow-agent upgrade")
    router.do("/bin/sh /usr/lib/fallow/daily.sh")
    assert "fallow-agent: No update is advised." in (router.root / "tmp/log").read_text()

    router.release("9.9", contents)
    index = router.root / "srv/feed/Packages.gz"
    signed = index.read_bytes()
    index.write_bytes(gzip.compress(gzip.decompress(signed).replace(b"9.9", b"9.8")))
    assert "Signature check failed" in router.do("fallow-agent upgrade", 1)
    assert router.status()["version"] == VERSION

    index.write_bytes(signed)
    settings = router.root / "etc/config/fallow"
    settings.write_text(settings.read_text().replace("up_mbps '0'", "up_mbps '7'"))
    assert f"9.9 is installed; it was {VERSION}." in router.do("fallow-agent upgrade")
    after = router.status()
    assert (after["version"], after["device_id"]) == ("9.9", found["device_id"])
    assert (found["terms_version"], after["terms_version"]) == ("1", "2"), "bytecode of the version before"
    assert "up_mbps '7'" in settings.read_text()
    assert not router.left()
    assert (router.root / "etc/crontabs/root").read_text() == crontab

    router.do(re.findall(r"`(opkg remove [^`]*)`", GUIDE.replace("\n", " "))[0])
    router.do(re.findall(r"`(rm -r /etc/fallow[^`]*)`", GUIDE)[0])
    assert (router.root / "etc/crontabs/root").read_text() == ""
    assert router.files() - before == {"etc/crontabs/root", "etc/passwd", "etc/group", "usr/lib/opkg/settings.json"}


def test_a_first_start_bears_a_full_flash_and_power_cuts(router: Router) -> None:
    (router.root / "tmp/procd-runs").unlink()
    router.do("opkg update && opkg install fallow-agent")
    flash, state = router.root / "etc/fallow", router.root / "etc/fallow/agent"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", flash], check=True)
    with contextlib.suppress(OSError), (flash / "film").open("wb", buffering=0) as film:
        while film.write(bytes(4096)):
            pass
    router.on()
    router.do("/etc/init.d/fallow-agent start")
    log = router.root / "tmp/agent.log"
    namespaces.until(lambda: "No space left on device" in log.read_text())
    assert not (state / "device.key").exists()
    (flash / "film").unlink()

    for moment in ("device.key", DATABASE_FILE, "local.json"):
        router.do("/etc/init.d/fallow-agent stop && rm -rf /etc/fallow/agent && /etc/init.d/fallow-agent start")
        while not (state / moment).exists():  # the test's own limit ends it
            time.sleep(0.001)
        os.kill(json.loads((router.root / "tmp/procd-runs").read_text())["pid"], signal.SIGKILL)
        key = state / "device.key"
        before = key.read_bytes() if key.exists() else None
        router.do("/etc/init.d/fallow-agent stop && /etc/init.d/fallow-agent start")
        assert router.status()["state"] == "dormant"
        assert before in (None, key.read_bytes())


def test_an_update_that_fails_leaves_the_version_from_before(router: Router, contents: Any) -> None:
    room = router.root / AGENT
    room.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", room], check=True)
    router.do("opkg update && opkg install luci-app-fallow")
    router.status()

    router.release("9.9", contents, film=bytes(2**24))
    said = router.do("fallow-agent upgrade", 1)
    assert "No space left on device" in said
    assert f"{VERSION} is installed again, and all is as before" in said
    assert router.status()["version"] == VERSION
    assert not router.left()
    assert (router.root / "etc/fallow/upgrade/failed").read_text() == "9.9\n"


def test_an_update_that_is_cut_off_leaves_the_version_from_before(router: Router, contents: Any) -> None:
    router.do("opkg update && opkg install luci-app-fallow")
    device = router.status()["device_id"]
    settings = router.root / "etc/config/fallow"
    settings.write_text(settings.read_text().replace("up_mbps '0'", "up_mbps '7'"))

    router.release("9.10", contents)
    router.lose_power("deleted fallow-agent", "fallow-agent upgrade")
    assert len(router.left()) == 5
    # Once more while the router helps itself.
    router.lose_power("unpacked fallow-python", "/sbin/boot")
    router.do("/sbin/boot")
    now = router.status()
    assert (now["version"], now["device_id"]) == (VERSION, device)
    assert not router.left()

    # What came back is not taken for the maker's settings.
    assert f"9.10 is installed; it was {VERSION}." in router.do("fallow-agent upgrade")
    assert "up_mbps '7'" in settings.read_text()
