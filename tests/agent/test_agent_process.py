"""The real program, killed at the worst moments, against a scheduler and a ledger that the test controls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from agent_world import SCHEDULER_KEY, Network
from fallow_agent.identity import load_or_create_identity, local_token
from fallow_agent.proofs.outbox import Outbox, ServedTicket
from fallow_agent.store import DATABASE_FILE, open_database
from support import NOW, PATIENCE_S, make_ticket, new_jti, signed_ticket

pytestmark = pytest.mark.processes

CODE = "AB01CD11"
CLAIM = "claim-token-1"


class Program:
    """A ``fallow-agent`` process with its own state directory."""

    def __init__(self, state_dir: Path, http: aiohttp.ClientSession) -> None:
        self.state_dir = state_dir
        self._http = http
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def start(self) -> None:
        flags = [
            "--state-dir",
            str(self.state_dir),
            "--lan-bind",
            "127.0.0.1",
            "--lan-port",
            "0",
            "--service-port",
            "0",
        ]
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fallow_agent", "run", "--no-mdns", "--config", os.devnull, *flags),
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "FALLOW_SETUP_CODE": CODE, "FALLOW_PROCESS_SPARE_PERCENT_MIN": "0"},
        )
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            if b"port M is" in line:
                self.url = f"http://127.0.0.1:{int(line.split()[-1])}"
                return
        raise AssertionError("the agent ended before it listened")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def end(self, number: signal.Signals) -> int:
        """Send the signal and wait for the end; gives the exit status."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        await self._process.communicate()
        return self._process.returncode or 0

    async def ended(self) -> int:
        """The exit status of a program that ends by itself."""
        assert self._process is not None
        await self._process.communicate()
        return await self._process.wait()

    async def kill(self) -> None:
        await self.end(signal.SIGKILL)

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        token = local_token(load_or_create_identity(self.state_dir))
        headers = {"Authorization": f"Bearer {token}"}
        async with self._http.request(method, self.url + path, json=body, headers=headers) as response:
            return response.status, json.loads(await response.text())

    async def activate(self, network: Network) -> None:
        body = {
            "scheduler": network.url,
            "claim_token": CLAIM,
            "setup_code": CODE,
            "consent": {"terms_version": "1", "accepted": True},
            "limits": {"upload_percent_max": 33},
        }
        status, answer = await self.call("POST", "/v1/activation", body)
        assert (status, answer["state"]) == (202, "activating")

    async def state(self) -> str:
        found: str = (await self.call("GET", "/v1/device"))[1]["state"]
        return found

    async def reaches(self, wanted: str) -> None:
        """Look until the state is ``wanted``; another process cannot wake us."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.state() != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[tuple[Network, Program]]:
    network = Network()
    await network.start()
    async with aiohttp.ClientSession() as http:
        program = Program(tmp_path / "state", http)
        await program.start()
        try:
            yield network, program
        finally:
            await program.kill()
            await network.close()


def script(tmp_path: Path, act: Callable[[Network, Program], Awaitable[None]]) -> None:
    async def run() -> None:
        async with world(tmp_path) as (network, program):
            await act(network, program)

    asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE_S))


def sockets(pid: int) -> list[tuple[str, str]]:
    """Local addresses and states of all internet sockets of a process."""
    return [(c.laddr.ip, c.status) for c in psutil.Process(pid).net_connections("inet")]


def test_dormant_it_has_one_socket_and_asks_nobody(tmp_path: Path) -> None:
    async def act(network: Network, program: Program) -> None:
        await program.call("GET", "/v1/device")
        listening = [found for found in sockets(program.pid) if found[1] != psutil.CONN_ESTABLISHED]
        assert listening == [("127.0.0.1", psutil.CONN_LISTEN)]
        assert network.claims.empty()

    script(tmp_path, act)


def test_killed_while_the_scheduler_thinks_it_enrols_again_with_the_same_claim(tmp_path: Path) -> None:
    async def act(network: Network, program: Program) -> None:
        network.gate.clear()
        await program.activate(network)
        assert await network.claims.get() == CLAIM
        await program.kill()
        await program.start()
        assert await program.state() == "activating"
        assert await network.claims.get() == CLAIM
        network.gate.set()
        await program.reaches("active")
        assert len(network.devices) == 1
        assert (await program.call("GET", "/v1/limits"))[1]["upload_percent_max"] == 33
        await network.sessions.get()

    script(tmp_path, act)


def test_killed_at_any_time_after_the_consent_it_ends_active(tmp_path: Path) -> None:
    async def act(network: Network, program: Program) -> None:
        await program.activate(network)
        for delay_s in (0.0, 0.02, 0.05):
            # Not a wait for anything: another moment of the start each time.
            await asyncio.sleep(delay_s)
            await program.kill()
            await program.start()
            assert await program.state() in ("activating", "active")
        await program.reaches("active")

    script(tmp_path, act)


def test_a_refused_claim_ends_dormant_with_the_reason_and_stays_so(tmp_path: Path) -> None:
    async def act(network: Network, program: Program) -> None:
        network.refuse = True
        await program.activate(network)
        await program.reaches("dormant")
        await program.kill()
        await program.start()
        status, body = await program.call("GET", "/v1/activation")
        assert (status, body["state"], body["error"]["type"]) == (200, "dormant", "claim-used")
        assert body["error"]["remedy"] == "ask"

    script(tmp_path, act)


def test_a_pause_holds_offline_and_through_a_kill(tmp_path: Path) -> None:
    async def act(network: Network, program: Program) -> None:
        await program.activate(network)
        await program.reaches("active")
        status, body = await program.call("POST", "/v1/pause", {"for_s": 3600})
        assert (status, body["state"]) == (200, "paused")
        await program.kill()
        await program.start()
        status, body = await program.call("GET", "/v1/status")
        assert body["state"] == "paused"
        assert body["paused_until"] > NOW
        assert (await program.call("POST", "/v1/resume"))[1] == {"state": "active"}
        assert await program.end(signal.SIGTERM) == 0
        await program.start()
        assert await program.state() == "active"

    script(tmp_path, act)


def put_proof(state_dir: Path) -> None:
    """A ticket that was served and not handed over."""
    device = load_or_create_identity(state_dir)
    ticket = make_ticket(device, jti=new_jti())
    connection = open_database(state_dir / DATABASE_FILE)
    outbox = Outbox(connection)
    token, spans = signed_ticket(ticket, SCHEDULER_KEY), ((0, 100),)
    outbox.save(ServedTicket(ticket.jti, token, False, 1000, ticket.exp, 100, 1, NOW, NOW, spans=spans))
    connection.close()


def test_leaving_waits_for_the_ledger_and_costs_no_proof(tmp_path: Path) -> None:
    async def act(network: Network, program: Program) -> None:
        await program.activate(network)
        await program.reaches("active")
        await program.kill()
        put_proof(program.state_dir)
        network.ledger_is_away = True
        await program.start()
        assert (await program.call("DELETE", "/v1/activation"))[0] == 202
        first = await network.batches.get()
        assert await program.state() == "leaving"
        await program.kill()
        await program.start()
        assert await program.state() == "leaving"
        assert await network.batches.get() == first
        network.ledger_is_away = False
        await program.reaches("dormant")
        assert len(first.items) == 1
        assert not (program.state_dir / "content").exists()
        assert (await program.call("GET", "/v1/limits"))[1]["upload_percent_max"] == 80
        assert sockets_out(program.pid) == []
        # The device may come back; its chain of batches goes on.
        await program.activate(network)
        await program.reaches("active")

    script(tmp_path, act)


def sockets_out(pid: int) -> list[tuple[str, int]]:
    """Remote ends of connections that the process made itself."""
    found = psutil.Process(pid).net_connections("inet")
    listening = {c.laddr.port for c in found if c.status == psutil.CONN_LISTEN}
    return [tuple(c.raddr) for c in found if c.raddr and c.laddr.port not in listening]


def test_a_second_agent_on_the_same_state_is_refused(tmp_path: Path) -> None:
    async def act(network: Network, program: Program) -> None:
        second = Program(program.state_dir, program._http)
        with pytest.raises(AssertionError, match="ended before"):
            await second.start()
        assert await second.ended() == 1

    script(tmp_path, act)


def test_it_stops_within_seconds_also_with_a_phone_looking(tmp_path: Path) -> None:
    async def act(network: Network, program: Program) -> None:
        await program.activate(network)
        await program.reaches("active")
        token = local_token(load_or_create_identity(program.state_dir))
        async with program._http.get(f"{program.url}/v1/events?token={token}") as events:
            await events.content.readuntil(b"\n\n")
            async with asyncio.timeout(PATIENCE_S / 2):  # aiohttp by itself waits a minute for who still reads
                assert await program.end(signal.SIGTERM) == 0

    script(tmp_path, act)
