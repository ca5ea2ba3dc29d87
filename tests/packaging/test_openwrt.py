"""OpenWrt's packages: made, signed, laid over a root, started by their service script, used by their LuCI page."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import browsing
import pytest
from aiohttp import web
from fallow_client.lan_device import LanDevice
from fallow_client.ledger import Ledger
from fallow_client.scheduler import Scheduler
from network import Device, Line, Network, free_port, until
from openwrt_root import (
    EXECUTABLE,
    MARKS,
    ROOT,
    STAND_INS,
    build,
    configure,
    environment_of,
    fields,
    inside,
    params,
    root_needed,
    router_root,
    service,
)
from opkg.feed import fingerprint
from opkg.translations import key_of, lmo, read_po
from playwright.async_api import Page, expect

NAMES = ("fallow-wire", "fallow-agent", "fallow-python", "luci-app-fallow", "luci-i18n-fallow-zh-cn")
UQR = ROOT / "web/node_modules/uqr/dist/index.mjs"
"""The library that LuCI carries for pictures of codes."""
pytestmark = MARKS


@pytest.fixture
def router(tmp_path: Path, contents: dict[str, dict[str, bytes]]) -> Iterator[Path]:
    with router_root(tmp_path, contents) as root:
        yield root


# ------------------------------------------------------------------ the packages


def test_the_same_sources_make_the_same_bytes(feed: Path, tmp_path: Path) -> None:
    build(tmp_path / "again")
    for path in feed.glob("*.ipk"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
    assert (feed / "Packages").read_bytes() == (tmp_path / "again" / "Packages").read_bytes()


def test_every_file_is_owned_by_one_package(contents: dict[str, dict[str, bytes]]) -> None:
    assert set(contents) == set(NAMES)
    owners: dict[str, str] = {}
    for package, files in contents.items():
        for path in files:
            assert path not in owners, f"{path}: {package} and {owners.get(path)}"
            owners[path] = package
    assert not [path for path in owners if path.endswith((".so", ".pyc", ".pyx", ".c"))], "made for one processor"
    licensed = {path.split("/")[4] for path in owners if path.startswith("usr/lib/fallow/licenses/")}
    assert len(licensed) == 15, licensed


def test_modules_are_complete(contents: dict[str, dict[str, bytes]]) -> None:
    """What the repository has is in a package, byte for byte."""
    for package, source in (("fallow-wire", "wire/fallow_wire"), ("fallow-agent", "agent/fallow_agent")):
        modules = {path.relative_to(ROOT / source): path for path in (ROOT / source).rglob("*.py")}
        assert len(modules) > 10
        for relative, path in modules.items():
            assert contents[package][f"usr/lib/fallow/{Path(source).name}/{relative}"] == path.read_bytes()
    assert "usr/lib/fallow/fallow_agent/lan/app/index.html" in contents["fallow-agent"]


def test_the_recipe_for_the_sdk_installs_the_same_files(contents: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    sdk = Path(__file__).parent / "openwrt-sdk"
    command = ["make", "-C", ROOT / "openwrt/fallow", f"TOPDIR={sdk}", f"OUT={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "undefined" not in done.stderr
    for package in ("fallow-wire", "fallow-agent"):
        made = {
            str(path.relative_to(tmp_path / package)): path
            for path in (tmp_path / package).rglob("*")
            if path.is_file()
        }
        wanted = contents[package]
        assert {name for name in made if not name.endswith("py.typed")} == set(wanted)
        assert all(path.read_bytes() == wanted[name] for name, path in made.items() if name in wanted)
        executable = {name for name, path in made.items() if os.access(path, os.X_OK)}
        assert executable == {name for name in wanted if name.startswith(EXECUTABLE)}


def test_opkg_reads_the_members_it_wants(feed: Path) -> None:
    for path in feed.glob("*.ipk"):
        listed = subprocess.run(["tar", "-tzf", path], capture_output=True, text=True, check=True).stdout.split()
        assert [name.removeprefix("./") for name in listed if name != "./"] == [
            "debian-binary",
            "data.tar.gz",
            "control.tar.gz",
        ]
    inner = subprocess.run(
        f"tar -xzOf {next(iter(feed.glob('fallow-agent*.ipk')))} ./data.tar.gz | tar -tvz --numeric-owner",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    modes = {line.split()[-1]: line.split()[0] for line in inner}
    assert modes["./etc/init.d/fallow-agent"] == modes["./usr/bin/fallow-agent"] == "-rwxr-xr-x"
    assert modes["./etc/config/fallow"] == "-rw-r--r--"
    assert all(line.split()[1] == "0/0" for line in inner)


def test_the_index_is_signed_and_names_what_is_there(feed: Path) -> None:
    public = feed.parent / "key.pub"
    verify = ["signify-openbsd", "-V", "-p", public, "-m", feed / "Packages", "-x", feed / "Packages.sig"]
    assert subprocess.run(verify, capture_output=True).returncode == 0
    assert (feed / fingerprint(public.read_text())).read_text() == public.read_text()
    index = (feed / "Packages").read_text()
    assert gzip.decompress((feed / "Packages.gz").read_bytes()).decode() == index
    listed = [fields(entry) for entry in index.split("\n\n")]
    assert {entry["Package"] for entry in listed} == set(NAMES)
    for entry in listed:
        data = (feed / entry["Filename"]).read_bytes()
        assert (int(entry["Size"]), entry["SHA256sum"]) == (len(data), hashlib.sha256(data).hexdigest())
    (feed.parent / "Packages").write_text(index.replace("0.1", "0.2"))
    forged = [*verify[:5], feed.parent / "Packages", *verify[6:]]
    assert subprocess.run(forged, capture_output=True).returncode != 0


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "packaging", copy / "packaging")
    shutil.copytree(ROOT / "openwrt", copy / "openwrt")
    (copy / "VERSION").write_text("0.0.1\n")
    (copy / "openwrt/fallow-python/requirements.txt").write_text("# none\n")
    done = subprocess.run(
        [sys.executable, copy / "packaging/build-ipk", tmp_path / "out"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert 'run "make web" first' in done.stderr


# ------------------------------------------------------------------ translations


def test_every_text_of_the_page_is_translated() -> None:
    app = ROOT / "openwrt/luci-app-fallow"
    wanted = set()
    for page in app.glob("htdocs/**/*.js"):
        text = page.read_text()
        wanted |= {part.split("')", 1)[0] for part in text.split("_('")[1:]}
    translated = read_po((app / "po/zh_Hans/fallow.po").read_text())
    template = (app / "po/templates/fallow.pot").read_text()
    assert len(wanted) > 30
    assert wanted <= set(translated)
    assert all(f'msgid "{text}"\n' in template for text in translated)


def test_the_compiled_translations_are_found_by_their_keys() -> None:
    # Values of the original hash, by its author's test of "abc" and by LuCI's own compiled files.
    assert key_of(b"") == 0
    data = lmo({"Pause": "暂停", "Resume": "恢复"})
    offset = int.from_bytes(data[-4:])
    entries = [data[at : at + 16] for at in range(offset, len(data) - 4, 16)]
    keys = [int.from_bytes(entry[:4]) for entry in entries]
    assert keys == sorted(keys)
    found = {
        int.from_bytes(entry[:4]): data[int.from_bytes(entry[8:12]) :][: int.from_bytes(entry[12:])].decode()
        for entry in entries
    }
    assert found == {key_of(b"Pause"): "暂停", key_of(b"Resume"): "恢复"}


def test_settings_are_the_same_everywhere() -> None:
    """In the file, in what the service's script takes, in LuCI and in the guide."""
    openwrt = ROOT / "openwrt"
    script = (openwrt / "fallow/files/fallow-agent.init").read_text()
    taken = re.findall(r"^\t\t'(\w+):(\w+)(?:\(.*\))?(?::(\w+))?'", script, re.MULTILINE)
    defaults = {name: default for name, _, default in taken}
    file = (openwrt / "fallow/files/fallow.config").read_text()
    assert dict(re.findall(r"^\toption (\w+) '(.*)'", file, re.MULTILINE)) == {
        name: default for name, kind, default in taken if kind != "list"
    }
    page = (openwrt / "luci-app-fallow/htdocs/luci-static/resources/view/fallow/settings.js").read_text()
    parts = page.split("option = section.option(")[1:]
    shown = {re.findall(r"'(\w+)'", part)[0]: re.findall(r"\.default = '(.*)'", part) for part in parts}
    assert shown == {name: [default] if default else [] for name, default in defaults.items()} | {"lan": ["lan"]}
    guide = (ROOT / "docs/openwrt.md").read_text().partition("| option |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", re.sub(r"\|[^|]*\|[^|]*\|$", "|", guide, flags=re.MULTILINE))) == set(defaults)


# ------------------------------------------------------------------ the service's script


def test_the_scripts_are_clean(feed: Path, tmp_path: Path) -> None:
    files = ROOT / "openwrt/fallow/files"
    scripts = [*files.glob("*.sh"), *files.glob("*.init"), *files.glob("*.defaults"), *files.glob("*.hotplug")]
    scripts.append(ROOT / "openwrt/luci-app-fallow/root/usr/libexec/rpcd/fallow")
    agent = next(feed.glob("fallow-agent_*.ipk"))
    tar = f"tar -xzOf {agent} ./control.tar.gz | tar -xzO ./prerm-pkg"
    scripts.append(tmp_path / "prerm")
    scripts[-1].write_bytes(subprocess.run(tar, shell=True, capture_output=True, check=True).stdout)
    # Ash has local; what is sourced lies on the router; a library's variables are used by others.
    left = "--exclude=SC3043,SC1091,SC2034,SC2148"
    for script in scripts:
        done = subprocess.run(["shellcheck", "--shell=dash", left, script], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@root_needed
def test_procd_is_told_how_to_run_the_agent(router: Path) -> None:
    said = service(router)
    assert params(said, "command") == ["/usr/bin/fallow-agent", "run"]
    assert params(said, "respawn") == ["3600", "30", "5"]
    found = environment_of(said)
    assert found["FALLOW_STATE_DIR"] == "/etc/fallow/agent"
    assert found["FALLOW_LAN_INTERFACES"] == "br-lan"
    assert found["FALLOW_LINE_UP_MBPS"] == "0"
    assert "FALLOW_LAN_MDNS" not in found
    assert params(said, "user") == ["fallow"]
    rule = {call[2]: call[3] for call in said if call[:2] == ["data", "string"]}
    assert rule == {"type": "rule", "src": "wan", "proto": "tcp", "dest_port": "32557", "target": "ACCEPT"}
    assert ["data", "array", "firewall"] in said
    assert ["changed", "firewall"] in said
    assert ["reload-trigger", "fallow", "sqm"] in said
    assert ["validation", "validate_agent", "agent"] in said
    assert not [call for call in said if call[0].startswith("jail")]
    # Every setting is one that the agent knows.
    done = inside(router, "/usr/bin/fallow-agent", "config", **found)
    assert done.returncode == 0, done.stderr
    assert 'interfaces = ["br-lan"]' in done.stdout


@root_needed
def test_settings_reach_the_agent_and_wrong_ones_stop_it(router: Path) -> None:
    configure(router, "list lan 'lan'", "list lan 'guest'", "option up_mbps '12.5'", "option open_ports 'no'",
              "option log_level 'debug'", "option service_port '4000'")  # fmt: skip
    said = service(router)
    found = environment_of(said)
    assert found["FALLOW_LAN_INTERFACES"] == "br-lan,br-guest"
    assert (found["FALLOW_LINE_UP_MBPS"], found["FALLOW_SERVICE_PORT"]) == ("12.5", "4000")
    done = inside(router, "/usr/bin/fallow-agent", "config", **found)
    assert "open_ports = false" in done.stdout
    assert "firewall_open = false" in done.stdout
    assert not [call for call in said if call[0] == "data"]
    assert "up_mbps = 12.5" in done.stdout

    configure(router, "option enabled '0'")
    assert not [call for call in service(router) if call[0] == "instance"]

    configure(router, "option service_port '70000'")
    done = inside(router, "busybox", "ash", "/etc/rc.common", "/etc/init.d/fallow-agent", "start")
    assert done.returncode != 0
    assert "the configuration is wrong" in done.stderr


@root_needed
def test_a_folder_that_cannot_be_the_agents_is_not_used(router: Path) -> None:
    configure(router, "option content_dir '/proc'", "option content_mb '3'")
    said = service(router)
    assert environment_of(said)["FALLOW_CONTENT_DIR"] == "/var/run/fallow"
    assert environment_of(said)["FALLOW_CONTENT_QUOTA_BYTES"] == str(3 * MIB)
    assert "files in /proc can belong to root only" in (router / "tmp/log").read_text()
    content = router / "run/fallow/fallow-content"
    assert content.stat().st_uid == 32768

    # Nor one that somebody has turned into a way to another.
    content.rmdir()
    content.symlink_to("/etc")
    service(router)
    assert (router / "etc").stat().st_uid == 0


@root_needed
def test_a_jail_gets_what_the_agent_needs(router: Path) -> None:
    configure(router, "option jail '1'")
    assert not [call for call in service(router) if call[0] == "jail"], "this build has no ujail"
    (router / "sbin/ujail").write_text("")
    (router / "sbin/ujail").chmod(0o755)
    said = service(router)
    assert ["jail", "fallow-agent", "procfs", "sysfs", "ubus"] in said
    assert params(said, "no_new_privs") == ["1"]
    writable = [word for call in said if call[0] == "jail-mount-rw" for word in call[1:]]
    assert writable == ["/etc/fallow/agent", "/var/run/fallow/agent", "/var/run/fallow/fallow-content"]


@root_needed
def test_where_umdns_runs_it_announces_the_device(router: Path) -> None:
    (router / "usr/sbin/umdns").write_text("")
    (router / "usr/sbin/umdns").chmod(0o755)
    assert "FALLOW_LAN_MDNS" not in environment_of(service(router)), "nothing is known of the device yet"
    state = router / "etc/fallow/agent"
    (state / "local.json").write_text('{"device_id": "fd-abcd", "token": "t"}')
    said = service(router)
    assert ["mdns", "fallow", "tcp", "32556", "v=1", "id=fd-abcd"] in said
    assert environment_of(said)["FALLOW_LAN_MDNS"] == "0"


STORAGE = """
. /usr/lib/fallow/storage.sh
df() {
	printf 'Filesystem 1024-blocks Used Available Capacity Mounted\\n'
	case "$2" in
	/mnt/small) echo 'd 1 1 1000 1% /' ;;
	/mnt/*) echo 'd 1 1 50000000 1% /' ;;
	/overlay) echo "d 1 1 $OVERLAY_KB 1% /" ;;
	esac
}
FALLOW_MEMINFO=/tmp/meminfo
storage_choose "$WANTED" "$MB" /tmp/mounts
echo "$STORAGE_DIR|$STORAGE_BYTES|$STORAGE_FLOOR"
"""
ROOTFS = "/dev/root /rom squashfs ro 0 0\n/dev/ubi0_1 /overlay ubifs rw 0 0\noverlayfs:/overlay / overlay rw 0 0\n"
USB = "/dev/sda1 /mnt/usb ext4 rw,noatime 0 0\n"
MIB = 2**20


@root_needed
@pytest.mark.parametrize(
    ("mounts", "wanted", "mb", "overlay_kb", "chosen"),
    [
        ("", "", 0, 20_000, ("/var/run/fallow", str(15 * MIB), str(16 * MIB))),
        ("", "", 4, 20_000, ("/var/run/fallow", str(4 * MIB), str(16 * MIB))),
        ("", "", 500, 20_000, ("/var/run/fallow", str(15 * MIB), str(16 * MIB))),
        (USB, "", 0, 20_000, ("/mnt/usb", "", "")),
        (USB, "", 500, 20_000, ("/mnt/usb", str(500 * MIB), "")),
        (USB.replace("rw", "ro"), "", 0, 20_000, ("/var/run/fallow", str(15 * MIB), str(16 * MIB))),
        (USB.replace("usb", "small"), "", 0, 20_000, ("/var/run/fallow", str(15 * MIB), str(16 * MIB))),
        (USB.replace("ext4", "vfat") + USB.replace("usb", "disk"), "", 0, 20_000, ("/mnt/disk", "", "")),
        (USB.replace("ext4", "nfs"), "", 0, 20_000, ("/var/run/fallow", str(15 * MIB), str(16 * MIB))),
        ("/dev/sda1 /overlay ext4 rw 0 0\n", "", 0, 30_000_000, ("", "", "")),
        (USB, "/opt", 0, 20_000, ("/opt", "", "")),
        (USB, "/mnt/pulled-out", 0, 30_000_000, ("/var/run/fallow", str(15 * MIB), str(16 * MIB))),
    ],
)
def test_content_never_fills_the_flash(
    router: Path, mounts: str, wanted: str, mb: int, overlay_kb: int, chosen: tuple[str, str, str]
) -> None:
    (router / "tmp/mounts").write_text(ROOTFS + mounts)
    (router / "tmp/meminfo").write_text("MemTotal: 250000 kB\nMemAvailable: 130000 kB\n")
    done = inside(router, "busybox", "ash", "-c", STORAGE, WANTED=wanted, MB=str(mb), OVERLAY_KB=str(overlay_kb))
    assert done.returncode == 0, done.stderr
    assert tuple(done.stdout.strip().split("|")) == chosen


@root_needed
def test_the_internet_that_is_back_is_told(router: Path) -> None:
    hotplug = "/etc/hotplug.d/iface/60-fallow"
    for action, interface in (("ifdown", "wan"), ("ifup", "lan"), ("ifup", "wan")):
        done = inside(router, "busybox", "ash", hotplug, ACTION=action, INTERFACE=interface)
        assert done.returncode == 0, done.stderr
    assert (router / "tmp/ubus").read_text() == 'service\tsignal\t{"name":"fallow-agent","signal":1}\n'


# ------------------------------------------------------------------ the whole


@contextlib.asynccontextmanager
async def running(router: Path, network: Network) -> AsyncIterator[Device]:
    """The agent, started from the installed files as procd would."""
    configure(router, "option up_mbps '50'", "option down_mbps '100'", f"option service_port '{free_port()}'")
    found = environment_of(service(router))
    lan_port = free_port()
    found |= {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "FALLOW_LAN_PORT": str(lan_port),
        "FALLOW_PROCESS_SPARE_PERCENT_MIN": "0",
        "FALLOW_LINE_ASK_ROUTER": "false",
        "FALLOW_CONTENT_DIR": "/tmp",
    }
    agent = await network.start(
        "router", "chroot", "--userspec=fallow:fallow", str(router), "/usr/bin/fallow-agent", "run", environment=found
    )
    device = Device(Line("router", up_mbps=50, down_mbps=100), f"http://127.0.0.1:{lan_port}", "")
    async with LanDevice(device.lan_url) as lan:

        async def answers() -> str:
            assert agent.process.returncode is None, agent.log.read_text()
            return (await lan.info()).device_id

        device.device_id = await until("the router answers on port M", answers, 60)
    network.devices.append(device)
    yield device


def rpc(router: Path, device: Device, method: str, **arguments: Any) -> dict[str, Any]:
    """What LuCI gets of rpcd's object ``fallow``."""
    done = subprocess.run(
        ["chroot", str(router), "busybox", "ash", "/usr/libexec/rpcd/fallow", "call", method],
        input=json.dumps(arguments),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "FALLOW_URL": device.lan_url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# ------------------------------------------------------------------ LuCI


def luci_application(router: Path, device: Device, translated: dict[str, str]) -> web.Application:
    """A page that runs our view as LuCI does, with rpcd's script behind its calls."""
    page = "<!doctype html><html><body></body><script type=module src=/luci.js></script></html>"

    async def call(request: web.Request) -> web.Response:
        assert request.match_info["object"] == "fallow"
        arguments = json.loads(await request.text())
        answer = await asyncio.to_thread(rpc, router, device, request.match_info["method"], **arguments)
        return web.json_response(answer)

    async def texts(request: web.Request) -> web.Response:
        return web.json_response(translated)

    async def index(request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    def file(path: Path) -> Any:
        async def serve(request: web.Request) -> web.FileResponse:
            return web.FileResponse(path, headers={"Content-Type": "text/javascript; charset=utf-8"})

        return serve

    application = web.Application()
    application.router.add_get("/", index)
    application.router.add_get("/translations", texts)
    application.router.add_get("/luci.js", file(STAND_INS / "luci.js"))
    application.router.add_get("/view.js", file(router / "www/luci-static/resources/view/fallow/status.js"))
    application.router.add_get("/uqr.mjs", file(UQR))
    application.router.add_post("/ubus/{object}/{method}", call)
    return application


@root_needed
@pytest.mark.processes
@pytest.mark.skipif(browsing.CHROMIUM is None, reason="needs chromium (chromium)")
def test_the_installed_agent_is_activated_by_its_page_in_luci_serves_and_is_paused(
    router: Path, tmp_path: Path
) -> None:
    content = os.urandom(3 * MIB + 5)
    chinese = read_po((ROOT / "openwrt/luci-app-fallow/po/zh_Hans/fallow.po").read_text())
    # A router without a battery starts in 1970, and this one is not told better.
    (router / "etc/clock-shift").write_text(str(-int(time.time())))
    assert float(inside(router, "/usr/bin/python3", "-c", "import time; print(time.time())").stdout) < 24 * 3600

    async def play() -> None:
        async with Network() as network, browsing.chromium() as browser:
            await network.start_server()
            async with (
                running(router, network) as device,
                Scheduler(network.scheduler_url, network.operator_token) as operator,
                Ledger(network.ledger_url, network.operator_token) as ledger,
                served(luci_application(router, device, {})) as url,
                browsing.page(browser) as page,
            ):
                await page.goto(url)
                await expect(page.locator("#fallow-status")).to_contain_text("not activated")
                await expect(page.locator("#fallow-pause")).to_be_hidden()
                await page.click("#fallow-show-code")
                device.setup_code = await page.inner_text("#fallow-code")
                assert device.setup_code == rpc(router, device, "setup_code")["setup_code"]
                await expect(page.locator("svg")).to_be_visible()
                owner = await operator.add_account("owner", "Ada")
                publisher = await operator.add_account("publisher", "Files")
                await network.activate(device, "Ada", owner.token or "")
                await network.until_reachable()
                # It has asked the network's daemon where the internet is.
                assert "network.interface.wan\tstatus" in (router / "tmp/ubus").read_text()

                async def known() -> dict[str, Any]:
                    return await ledger.account(publisher.id)

                await until("the ledger knows the publisher", known, 30)
                await ledger.deposit(publisher.id, 100_000_000)
                await fetch(network, publisher.token or "", device, content, tmp_path)
                look(router, device)
                await watch(page, router)
                async with served(luci_application(router, device, chinese)) as url, browsing.page(browser) as page:
                    await page.goto(url)
                    await expect(page.locator("#fallow-status")).to_contain_text("运行中")
                await paused(router, device)

    asyncio.run(play())


async def watch(page: Page, router: Path) -> None:
    """The page shows what the agent says, and pauses it."""
    await page.evaluate("pollNow()")
    await expect(page.locator("#fallow-status")).to_contain_text("active")
    await page.click("#fallow-pause")
    await expect(page.locator("#fallow-status")).to_contain_text("paused")
    await browsing.keep(page, "luci")
    await page.click("#fallow-resume")
    await expect(page.locator("#fallow-pause")).to_be_visible()
    (router / "tmp/log").write_text("fallow-agent: <b>a line</b>\n")
    await page.click("#fallow-show-log")
    await expect(page.locator("#fallow-log")).to_have_text("fallow-agent: <b>a line</b>\n")


@contextlib.asynccontextmanager
async def served(application: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def fetch(network: Network, token: str, device: Device, content: bytes, scratch: Path) -> None:
    """The object goes to the router, and from there to a consumer."""
    (scratch / "film.bin").write_bytes(content)
    async with Scheduler(network.scheduler_url, token) as scheduler:
        published = await scheduler.publish(scratch / "film.bin")

        async def held() -> bool | None:
            return True if (await scheduler.object(published.id))["replicas"] else None

        await until("the router holds the object", held, 60)
    code, output, errors = await network.run(
        "fetch", str(Path(sys.executable).parent / "fallow"), "fetch", published.url, "--output", str(scratch / "got")
    )
    assert code == 0, output + errors
    assert (scratch / "got").read_bytes() == content
    async with LanDevice(device.lan_url, device.lan_token) as lan:

        async def served() -> bool | None:
            status = await lan.status()
            return True if status["today"]["bytes_up"] >= len(content) else None

        await until("the router has served the object", served, 30)


def look(router: Path, device: Device) -> None:
    status = rpc(router, device, "status")
    assert status["state"] == "active"
    assert status["content"]["bytes"] == 3 * MIB + 5
    (router / "tmp/log").write_text('fallow-agent: "quoted"\nother: line\n')
    assert rpc(router, device, "log") == {"log": 'fallow-agent: "quoted"'}
    assert rpc(router, device, "pause", seconds="1; reboot") == {"error": "bad-request"}
    assert rpc(router, device, "pause", seconds=99_999_999) == {"error": "bad-request"}
    assert rpc(router, device, "format") == {"error": "no-such-method"}


async def paused(router: Path, device: Device) -> None:
    assert rpc(router, device, "pause", seconds=3600)["state"] == "paused"
    assert "paused_until" in rpc(router, device, "status")
    assert rpc(router, device, "resume")["state"] == "active"
    (router / "etc/fallow/agent/local.json").unlink()
    assert rpc(router, device, "status") == {"error": "not-running"}
