"""Fallow in the laboratory: the server on the internet, devices in homes, published objects. The real programs."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .network import SERVER_HOST, Home, Network
from .processes import BIN, Processes, until

SCHEDULER, LEDGER = f"http://{SERVER_HOST}:32550", f"http://{SERVER_HOST}:32551"
LAN_PORT = 32556
FILL_S_MAX = 120
SERVER_SETTINGS = """
[policy]
ticket_idle_s = {ticket_idle_s}

[canaries]
interval_s = 0  # what devices carry is what the bench asks of them

[delivery]
rest_s = {rest_s}

# All programs share this computer: that it is busy says nothing of the device.
[tasks.filters]
spare_percent_min = 0

[delivery.filters]
spare_percent_min = 0
"""
AGENT_SETTINGS = """
# As on a device of its own; what the shared computer would disturb is switched off here.
[lan]
mdns = false

# As above: the others' use of the processor is not the household's.
[process]
spare_percent_min = 0
"""


class Server:
    """Scheduler and ledger in ``core``, with one owner and one publisher who has paid."""

    def __init__(
        self, network: Network, processes: Processes, work: Path, ticket_idle_s: int = 3, rest_s: int = 1800
    ) -> None:
        """:param ticket_idle_s: after so long a device hands over the proof of a ticket, which is spent then.
        :param rest_s: how long nobody is sent to a device whose household took back what was promised."""
        self._network = network
        settings, program = work / "server.toml", str(BIN / "fallow-server")
        settings.write_text(SERVER_SETTINGS.format(ticket_idle_s=ticket_idle_s, rest_s=rest_s))
        flags = ("--config", str(settings), "--state-dir", str(work / "server"), "--scheduler-url", SCHEDULER,
                 "--ledger-url", LEDGER, "--allow-private-addresses")  # fmt: skip
        shown = network.run("core", program, "init", *flags).split()
        self._operator = next(word for word in shown if word.startswith("fa_"))
        processes.start("core", program, "run", *flags)
        until("the server", lambda: self.call("GET", f"{SCHEDULER}/v1/health") is not None)
        self.owner, self.publisher = (self._account(role) for role in ("owner", "publisher"))
        deposit = {"publisher": self.publisher["id"], "micro_points": 10**12}
        until("the deposit", lambda: self.call("POST", f"{LEDGER}/v1/deposits", deposit, self._operator, "1"))

    def call(self, method: str, url: str, body: Any = None, token: str = "", key: str = "") -> Any:
        return call(self._network, "core", method, url, body, token, key)

    def claim_token(self) -> str:
        claim = self.call("POST", f"{SCHEDULER}/v1/claims", {}, self.owner["token"])
        token: str = claim["claim_token"]
        return token

    def publish(self, content: Path, replicas: int) -> str:
        """:returns: the address that consumers ask for."""
        flags = ("-H", f"Authorization: Bearer {self.publisher['token']}", "--data-binary", f"@{content}")
        url = f"{SCHEDULER}/v1/objects?name={content.name}&replicas={replicas}"
        found: str = json.loads(self._network.run("core", "curl", "-sS", "--fail", *flags, url))["url"]
        return found

    def _account(self, role: str) -> dict[str, str]:
        url, body = f"{SCHEDULER}/v1/accounts", {"role": role, "name": role}
        found: dict[str, str] = self.call("POST", url, body, self._operator)
        return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device is: namespace, its address in the LAN, that of its LAN interface."""

    namespace: str
    address: str
    interface: str


class Device:
    """An agent, activated by its owner from a host in the house, connected."""

    def __init__(
        self, network: Network, processes: Processes, work: Path, home: Home, place: Place, server: Server,
        process_settings: str = "",
    ) -> None:  # fmt: skip
        """:param process_settings: further lines of the agent's section ``process``."""
        self._network, self._house = network, home.name("house")
        self._url = f"http://{place.address}:{LAN_PORT}"
        settings, state = work / f"agent{home.number}.toml", work / f"agent{home.number}"
        settings.write_text(AGENT_SETTINGS + process_settings)
        program, flags = str(BIN / "fallow-agent"), ("--config", str(settings), "--state-dir", str(state))
        self.pid = processes.start(
            place.namespace, program, "run", *flags, "--lan-interface", place.interface,
            "--up-mbps", str(home.line.up_mbps), "--down-mbps", str(home.line.down_mbps),
            "--advertise-address", home.wan,
        ).pid  # fmt: skip
        until("the agent", lambda: self._call("GET", "device"))
        activation = {
            "scheduler": SCHEDULER,
            "claim_token": server.claim_token(),
            "setup_code": network.run(place.namespace, program, "setup-code", *flags).strip().splitlines()[-1],
            "consent": {"terms_version": "1", "accepted": True},
            "limits": {"upload_percent_max": 100},
        }
        answer = until("the activation", lambda: self._call("POST", "activation", activation))
        self._token = answer["lan_token"]
        until("the session", lambda: self.status()["uplink"]["connected"])

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self._call("GET", "status", token=self._token)
        return found

    def wait_filled(self, objects: int) -> None:
        until("the fill", lambda: self.status()["content"]["objects"] >= objects, FILL_S_MAX)

    def cpu_s(self) -> float:
        """Processor time of the agent since it started."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _call(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        return call(self._network, self._house, method, f"{self._url}/v1/{path}", body, token)


def call(
    network: Network, namespace: str, method: str, url: str, body: Any = None, token: str = "", key: str = ""
) -> Any:
    """The JSON answer, by curl from inside of a namespace; None when there is none, or a refusal."""
    command = ["curl", "-sS", "--fail", "--max-time", "10", "-X", method, url]
    for header in (f"Authorization: Bearer {token}" * bool(token), f"Idempotency-Key: {key}" * bool(key)):
        command += ["-H", header] if header else []
    if body is not None:
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    done = subprocess.run(network.inside(namespace, *command), capture_output=True, text=True, check=False)
    return json.loads(done.stdout or "{}") if done.returncode == 0 else None
