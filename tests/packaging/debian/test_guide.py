"""From bare Debian to a served object, by the commands of docs/install.md; then reboot, update and removal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import guide
import pytest
import roots
from debs import PREVIOUS
from machines import Machine
from namespaces import until
from world import DEVICE, World

TICKET_IDLE = "\n[policy]\nticket_idle_s = 3\n"
"""The end of a download is soon seen; the guide leaves it at 30 s."""


class Story:
    """What one step printed and a later one needs."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self.device_id = ""


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


@pytest.fixture(scope="module", params=[roots.BOOKWORM, roots.TRIXIE], ids=lambda suite: suite.name)
def device(request: pytest.FixtureRequest, network: World) -> Iterator[Machine]:
    """A bare Debian at the edge of the home."""
    with network.machine(request.param, DEVICE, "pi") as made:
        yield made


def follow(machine: Machine, heading: str, *given: str, **values: str) -> str:
    """Run the blocks of a section, one after the other, each with what its user types; gives all that they printed."""
    blocks = guide.blocks(heading)
    printed = ""
    for number, block in enumerate(blocks):
        printed += machine.run(guide.filled(block, **values), given[number] if number < len(given) else "")
    return printed


def token_in(printed: str) -> str:
    return re.findall(r"^\s*Token\s+(\S+)", printed, re.MULTILINE)[-1]


def status_of(device: Machine) -> dict[str, object]:
    found: dict[str, object] = json.loads(device.run("fallow-agent status"))
    return found


def connected(device: Machine) -> bool:
    done = device.try_run("fallow-agent status")
    return done.returncode == 0 and json.loads(done.stdout)["uplink"]["connected"]


def fetched(server: Machine, story: Story) -> str:
    """What ``fallow fetch`` says, once the device is a source."""

    def look() -> str:
        server.run("rm -f /tmp/fetched")
        printed = server.run(guide.filled(guide.blocks("A first file")[1], address=story.ids["address"]))
        server.run("cmp /tmp/fetched /usr/bin/python3")
        return printed if story.device_id in printed else ""

    found: str = until(look)
    return found


def points(owner: Machine) -> float:
    printed = json.loads(owner.run(guide.blocks("A first file")[2].strip() + " --json"))
    return float(sum(int(value) for name, value in printed.items() if name.endswith("_micro_points")))


# ------------------------------------------------------------------ the operator


def test_the_server(server: Machine, network: World, story: Story, previous: Path) -> None:
    network.repository.publish(previous)
    follow(server, "Where packages come from")
    install, serve = guide.blocks("The server")
    printed = server.run(install)
    token = re.findall(r"^  (\S+)$", printed, re.MULTILINE)[-1]
    server.run(f"cat >>/var/lib/fallow-server/fallow-server.toml <<'END'\n{TICKET_IDLE}END")
    assert server.run(serve).count('"status":"ok"') == 2

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
    code = device.run(guide.blocks("The device")[0]).splitlines()[-1]
    until(lambda: device.try_run("fallow-agent status").returncode == 0)
    found = status_of(device)
    assert (found["state"], found["version"]) == ("dormant", PREVIOUS)
    story.device_id, story.tokens["code"] = str(found["device_id"]), code

    if not owner.run("ls /usr/bin").count("fallow"):
        follow(owner, "Where packages come from")
    printed = owner.run(guide.blocks("The device")[1], story.tokens["owner"] + "\n")
    assert story.device_id in printed
    assert "dormant" in printed


def test_the_agents_unit_is_hardened(device: Machine) -> None:
    assert exposure(device, "fallow-agent") <= 2.0


def test_it_is_activated_from_the_home(device: Machine, owner: Machine, story: Story) -> None:
    activate, status = guide.blocks("The device")[2:]
    owner.run(activate, f"y\n{story.tokens['code']}\n")
    until(lambda: connected(device))
    assert story.device_id in owner.run(status)


def test_it_serves_and_earns(device: Machine, owner: Machine, server: Machine, story: Story) -> None:
    login, publish, tasks = guide.blocks("A first file")[0].strip().splitlines()
    server.run(login, story.tokens["publisher"] + "\n")
    story.ids["address"] = re.findall(r"Address\s+(\S+)", server.run(publish))[0]
    until(lambda: "done" in server.run(tasks))
    fetched(server, story)
    until(lambda: points(owner) > 0)


def test_a_reboot_keeps_it(device: Machine, owner: Machine, server: Machine, story: Story) -> None:
    before = points(owner)
    device.reboot()
    until(lambda: connected(device))
    assert status_of(device)["state"] == "active"
    fetched(server, story)
    until(lambda: points(owner) > before)


def test_an_update_keeps_it(
    device: Machine, server: Machine, network: World, story: Story, packages: Path, version: str
) -> None:
    network.repository.publish(packages)
    device.run("apt-get update && apt-get upgrade -y")
    until(lambda: connected(device))
    found = status_of(device)
    assert (found["version"], found["device_id"], found["state"]) == (version, story.device_id, "active")
    fetched(server, story)


def test_a_purge_leaves_nothing(device: Machine, owner: Machine) -> None:
    leave, purge = guide.blocks("Removing")
    owner.run(leave)
    until(lambda: status_of(device)["state"] == "dormant")
    device.run(purge)
    kept = ("/proc", "/sys", "/srv", "/var/log", "/run/log", "/var/lib/apt", "/var/cache/apt", "/etc/apt")
    prune = " -o ".join(f"-path {path}" for path in kept)
    look = rf"find / -xdev \( {prune} \) -prune -o -iname '*fallow*' -print"
    assert device.run(look) == ""
    assert device.try_run("systemctl cat fallow-agent").returncode != 0
    assert "32556" not in device.run("ss -tlnu")
    assert device.run("dpkg -l | grep -i fallow || true") == ""
