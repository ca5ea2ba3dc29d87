"""From bare Debian to a served object, by the commands of docs/install.md; then reboot, update and removal."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import guide
import pytest
import roots
from debs import PREVIOUS, ROOT, build
from machines import Machine, until
from namespaces import run
from world import DEVICE, LAN_ADDRESS, World

SETTINGS = """
[policy]
ticket_idle_s = 3  # the end of a download is soon seen
[tasks.filters]
spare_percent_min = 0  # these tests must pass on a busy computer
[delivery.filters]
spare_percent_min = 0
"""


LIBRARIES = ("python3-aiohttp", "python3-psutil", "python3-zeroconf", "python3-fallow")


class Story:
    """What one step printed and a later one needs."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self.device_id = ""
        self.packages: set[str] = set()
        """That the device had before ours."""


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


@pytest.fixture(scope="module", params=[roots.BOOKWORM, roots.TRIXIE], ids=lambda suite: suite.name)
def device(request: pytest.FixtureRequest, network: World) -> Iterator[Machine]:
    """A bare Debian at the edge of the home."""
    with network.machine(request.param, DEVICE, request.param.name) as made:
        yield made


def follow(machine: Machine, heading: str) -> None:
    """Run the commands of a section."""
    for block in guide.blocks(heading):
        machine.run(block)


def token_in(printed: str) -> str:
    return re.findall(r"^\s*Token\s+(\S+)", printed, re.MULTILINE)[-1]


def status_of(device: Machine) -> dict[str, object]:
    found: dict[str, object] = json.loads(device.run("fallow-agent status"))
    return found


def connected(device: Machine) -> bool:
    done = device.try_run("fallow-agent status")
    return done.returncode == 0 and json.loads(done.stdout)["uplink"]["connected"]


def fetched(server: Machine, story: Story) -> None:
    """The file comes whole, and the device is one of its sources."""

    def look() -> bool:
        server.run("rm -f /tmp/fetched")
        printed = server.run(guide.filled(guide.blocks("A first file")[1], address=story.ids["address"]))
        server.run("cmp /tmp/fetched /usr/bin/python3")
        return story.device_id in printed

    until(look)


def points(owner: Machine) -> int:
    """Millionths of a point that the owner has."""
    found = json.loads(owner.run(guide.blocks("A first file")[2].strip() + " --json"))
    return int(found["held"]) + int(found["vested"])


# ------------------------------------------------------------------ the operator


def test_the_server(server: Machine, network: World, story: Story, previous: Path) -> None:
    network.repository.publish(previous)
    follow(server, "Where packages come from")
    install, serve = guide.blocks("The server")
    printed = server.run(install)
    token = re.findall(r"^  (\S+)$", printed, re.MULTILINE)[-1]
    server.run(f"cat >>/var/lib/fallow-server/fallow-server.toml <<'END'\n{SETTINGS}END")
    assert server.run(serve).count('"status":"ok"') == 2
    # As containers have it, too.
    check = "caddy validate --adapter caddyfile --config /etc/caddy/Caddyfile"
    assert "Valid configuration" in server.run(f"FALLOW_SERVER=server FALLOW_TLS= {check} 2>&1")

    accounts, deposit = guide.blocks("Accounts")
    for line in [line for line in accounts.splitlines() if line]:
        printed = server.run(line, token + "\n" if "login" in line else "")
        for role in ("publisher", "owner"):
            if f"create {role}" in line:
                story.tokens[role] = token_in(printed)
                story.ids[role] = re.findall(r"Account\s+(\S+)", printed)[0]
    server.run(guide.filled(deposit, publisher_id=story.ids["publisher"]))
    assert server.run("stat -c %U /proc/$(systemctl show -P MainPID fallow-server)") == "fallow-server\n"


def test_units_are_hardened(server: Machine) -> None:
    for unit in ("fallow-server", "fallow-server-backup"):
        assert exposure(server, unit) <= 2.0


def exposure(machine: Machine, unit: str) -> float:
    """As ``systemd-analyze security`` has it: 0 is best, 10 worst."""
    printed = machine.run(f"systemd-analyze security --no-pager {unit}.service")
    return float(re.findall(r"Overall exposure level for \S+: ([\d.]+)", printed)[0])


# ------------------------------------------------------------------ the owner, with a device of each release


def test_a_fresh_device_is_dormant_and_found(
    device: Machine, owner: Machine, network: World, story: Story, previous: Path
) -> None:
    network.repository.clear()
    network.repository.publish(previous)
    follow(device, "Where packages come from")
    device.run("apt-get install -y avahi-daemon")  # shares the port of mDNS with the agent
    story.packages = packages_of(device)
    installed(device, story)
    ready(owner)
    assert story.device_id in found_by(owner, story)


def ready(owner: Machine) -> None:
    """The owner's computer has the packages' place, once."""
    if "fallow" not in owner.run("ls /usr/bin").split():
        follow(owner, "Where packages come from")


def installed(device: Machine, story: Story) -> None:
    """The agent runs, and is dormant."""
    story.tokens["code"] = device.run(guide.blocks("The device")[0]).splitlines()[-1]
    until(lambda: device.try_run("fallow-agent status").returncode == 0)
    status = status_of(device)
    assert (status["state"], status["version"]) == ("dormant", PREVIOUS)
    assert "update" not in status
    story.device_id = str(status["device_id"])


def found_by(owner: Machine, story: Story) -> str:
    """What a computer of the home hears of the device, which is once: avahi announces nothing beside it."""
    printed = owner.run(guide.blocks("The device")[1], story.tokens["owner"] + "\n")
    (line,) = [line for line in printed.splitlines() if "32556" in line]
    assert "dormant" in line
    return line


def test_the_agents_unit_is_hardened(device: Machine) -> None:
    assert exposure(device, "fallow-agent") <= 2.0


def test_the_kernel_takes_the_setting_for_echoes(device: Machine) -> None:
    # A container may not set it; its network namespace may, from outside.
    (line,) = [line for line in device.run("cat /usr/lib/sysctl.d/50-fallow-agent.conf").splitlines() if "=" in line]
    name, value = line.split(" = ")
    run(DEVICE, "sysctl", "-w", f"{name}={value}")
    assert run(DEVICE, "sysctl", "-n", name).split() == value.split()


def test_it_is_activated_from_the_home(device: Machine, owner: Machine, story: Story) -> None:
    activate, status = guide.blocks("The device")[2:]
    owner.run(activate, f"y\n{story.tokens['code']}\n")
    until(lambda: connected(device))
    assert "active" in owner.run(status)


def test_it_serves_and_earns(device: Machine, owner: Machine, server: Machine, story: Story) -> None:
    published(server, story)
    fetched(server, story)
    until(lambda: points(owner) > 0)


def published(server: Machine, story: Story) -> None:
    """The guide's file is on a device."""
    login, publish, tasks = guide.blocks("A first file")[0].strip().splitlines()
    server.run(login, story.tokens["publisher"] + "\n")
    story.ids["address"] = re.findall(r"Address\s+(\S+)", server.run(publish))[0]
    until(lambda: "done" in server.run(tasks))


def test_a_reboot_keeps_it(device: Machine, owner: Machine, server: Machine, story: Story) -> None:
    before = points(owner)
    device.reboot()
    until(lambda: connected(device))
    assert status_of(device)["state"] == "active"
    fetched(server, story)
    until(lambda: points(owner) > before)


def test_an_advised_update_is_installed_and_keeps_it(
    device: Machine, owner: Machine, server: Machine, network: World, story: Story, packages: Path, version: str
) -> None:
    network.repository.publish(packages)
    device.run("systemctl start fallow-agent-upgrade")
    assert status_of(device)["version"] == PREVIOUS  # nobody advises it
    advise(server, version)
    until(lambda: "update" in status_of(device))
    assert f"Update advised {version}" in " ".join(owner.run("fallow status").split())
    device.run("systemctl start fallow-agent-upgrade")
    assert f"{version} is installed; it was {PREVIOUS}." in device.run("journalctl -u fallow-agent-upgrade")
    status = status_of(device)
    assert (status["version"], status["device_id"], status["state"]) == (version, story.device_id, "active")
    assert connected(device)
    assert "update" not in status
    fetched(server, story)
    advise(server, "")


def advise(server: Machine, version: str) -> None:
    file = "/var/lib/fallow-server/fallow-server.toml"
    server.run(f"sed -i '/^agent_version/d; /ticket_idle_s/a agent_version = \"{version}\"' {file}")
    server.run("systemctl restart fallow-server")


def test_a_version_that_does_not_do_is_taken_back(
    device: Machine, network: World, story: Story, packages: Path, version: str, tmp_path: Path
) -> None:
    """On one release the new package does not install, on the other it does and the agent does not start."""
    until(lambda: connected(device))
    broken = "postinst" if device.name == "bookworm" else "agent"
    network.repository.publish(spoilt(build(tmp_path / "bad", "9.9.9"), broken))
    done = device.try_run(guide.blocks("Updates")[0])
    assert done.returncode == 1
    assert f"{version} is installed again, and all is as before" in done.stderr
    status = status_of(device)
    assert (status["version"], status["device_id"], status["state"]) == (version, story.device_id, "active")
    assert connected(device)
    assert device.run("dpkg --audit") == ""


def spoilt(folder: Path, broken: str) -> Path:
    (package,) = folder.glob("fallow-agent_*.deb")
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    if broken == "postinst":
        (tree / "DEBIAN/postinst").write_text("#!/bin/sh\nexit 1\n")
    else:
        program = tree / "usr/lib/python3/dist-packages/fallow_agent/app.py"
        program.write_text("raise SystemExit('this version is broken')\n" + program.read_text("utf-8"))
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, package], check=True)
    shutil.rmtree(tree)
    return folder


def test_sizes(device: Machine) -> None:
    printed = device.run("/usr/bin/python3 -", (ROOT / "packaging/sizes").read_text("utf-8"))
    print(f"\n{device.name}\n{printed}")
    assert re.search(r"fallow-agent +[\d.]+ MiB +[\d.]+ MiB +[\d.]+ MiB", printed)


def test_a_purge_leaves_nothing(device: Machine, owner: Machine, story: Story) -> None:
    leave, purge = guide.blocks("Removing")
    owner.run(leave)
    until(lambda: status_of(device)["state"] == "dormant")
    device.run(purge)
    # Nor the libraries that came with it; Python itself apt leaves where something else suggests it.
    assert not {name for name in packages_of(device) - story.packages if name.startswith(LIBRARIES)}
    assert left(device) == ""
    assert device.try_run("systemctl cat fallow-agent").returncode != 0
    assert device.try_run("getent passwd fallow-agent").returncode != 0
    assert "32556" not in device.run("ss -tlnu")


def packages_of(machine: Machine) -> set[str]:
    """All that dpkg knows something of, be it settings alone."""
    return set(machine.run("dpkg-query -W -f '${Package}\\n'").split())


def left(machine: Machine) -> str:
    """Files that bear our name, without logs, and what apt keeps of its sources."""
    kept = ("/proc", "/sys", "/srv", "/var/log", "/run/log", "/var/lib/apt", "/var/cache/apt", "/etc/apt")
    prune = " -o ".join(f"-path {path}" for path in kept)
    return machine.run(rf"find / -xdev \( {prune} \) -prune -o -iname '*fallow*' -print")


# ------------------------------------------------------------------ another architecture


EMULATED = {
    # qemu-user cannot send a descriptor of a namespace of System V IPC, which this one setting takes. It is for this
    # machine alone: on the others the unit runs as it is shipped.
    "/etc/systemd/system/fallow-agent.service.d/emulated.conf": "[Service]\nPrivateIPC=no\n",
}


def test_a_device_of_another_architecture(
    owner: Machine, server: Machine, network: World, story: Story, previous: Path
) -> None:
    """All of it in programs for arm64, by qemu-user: started, activated, and a file served once.

    qemu-user knows no multicast, so that the owner says where the device is; and it starts no process as systemd of
    Debian 13 does, so that it is Debian 12.
    """
    network.repository.clear()
    network.repository.publish(previous)
    with network.machine(roots.BOOKWORM_ARM64, DEVICE, "arm64", **EMULATED) as device:
        assert device.run("dpkg --print-architecture") == "arm64\n"
        follow(device, "Where packages come from")
        installed(device, story)
        ready(owner)
        install, login, _ = guide.blocks("The device")[1].strip().splitlines()
        owner.run(f"{install}\n{login}", story.tokens["owner"] + "\n")
        activate = f"{guide.blocks('The device')[2].strip()} --device {LAN_ADDRESS}"
        owner.run(activate, f"y\n{story.tokens['code']}\n")
        until(lambda: connected(device))
        published(server, story)
        fetched(server, story)


# ------------------------------------------------------------------ the operator again


def test_the_servers_update_and_the_way_back(
    server: Machine, network: World, packages: Path, previous: Path, version: str
) -> None:
    network.repository.clear()
    network.repository.publish(previous)
    network.repository.publish(packages)
    update, back = guide.blocks("Updates")[1:]
    assert f'"version":"{version}"' in server.run(update)
    backup = server.run("ls -d /var/backups/fallow-server/*").split()[-1]
    server.run("fallow operator reconcile --profile operator")
    server.run(guide.filled(back, version=PREVIOUS, backup=backup))
    assert f'"version":"{PREVIOUS}"' in server.run("curl -fsS https://fallow.example/v1/health")
    server.run("fallow operator reconcile --profile operator")


def test_only_so_many_backups_are_kept(server: Machine) -> None:
    server.run("for n in $(seq 10 70); do install -d -o fallow-server /var/backups/fallow-server/2020-01-01T00$n; done")
    server.run("systemctl start fallow-server-backup")
    kept = server.run("ls /var/backups/fallow-server").split()
    assert len(kept) == 48
    assert kept[-1] > "2025"


def test_the_servers_sizes(server: Machine) -> None:
    printed = server.run("/usr/bin/python3 -", (ROOT / "packaging/sizes").read_text("utf-8"))
    print(f"\n{printed}")
    assert re.search(r"fallow-server +[\d.]+ MiB +[\d.]+ MiB +[\d.]+ MiB", printed)


def test_the_servers_purge_leaves_nothing(server: Machine) -> None:
    server.run("apt-get purge -y --autoremove fallow-server fallow && rm -rf /root/.config/fallow")
    assert left(server) == ""
    assert server.try_run("getent passwd fallow-server").returncode != 0
