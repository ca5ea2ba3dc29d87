"""The ledger as a service: escrow, the link, roles on every route, start and stop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fallow_server.http import Role
from fallow_server.ledger import app
from fallow_server.tokens import hash_token
from fallow_wire.fields import encode
from ledger_world import DEVICE, LINK, OPERATOR, OTHER, OWNER, PUBLISHER, Chain, World, in_world
from support import PATIENCE_S, key

HOUR_S = 3600
POINT = 1_000_000


def test_deposits_are_minted_once(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        body = {"publisher": "publisher-1", "micro_points": 500}
        calls = [world.call("POST", "/v1/deposits", OPERATOR, body, once="d") for _ in range(10)]
        answers = await asyncio.gather(*calls)
        assert {(answer.status, answer.body) for answer in answers} == {(201, answers[0].body)}
        assert (await world.account("publisher-1"))["escrow"] == 500
        other = await world.call("POST", "/v1/deposits", OPERATOR, {**body, "micro_points": 501}, once="d")
        assert other.type == "idempotency-key-reused"
        for wrong, status in [
            ({**body, "publisher": "nobody"}, 404),
            ({**body, "publisher": OWNER}, 404),
            ({**body, "micro_points": 0}, 400),
            ({**body, "micro_points": -5}, 400),
            ({**body, "micro_points": 2**53 - 1}, 409),
            ({**body, "micro_points": 2**53}, 400),
        ]:
            assert (await world.call("POST", "/v1/deposits", OPERATOR, wrong, once="e")).status == status
        assert (await world.call("POST", "/v1/deposits", OPERATOR, body)).type == "idempotency-key-needed"
        await world.good("POST", "/v1/deposits", OPERATOR, {**body, "micro_points": 2**53 - 1 - 500}, once="f")
        await world.reconciled()

    in_world(tmp_path, script, deposit=0, reserved=0)


def test_a_reservation_grants_what_is_there(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        assert await world.reserve(600, once="a") == 600
        assert await world.reserve(600, once="b") == 400
        assert await world.reserve(600, once="c") == 0
        assert await world.reserve(600, once="a") == 600  # the answer that was lost
        assert (await world.account("publisher-1"))["reserved"] == 1000
        hour = world.clock.now() // HOUR_S
        assert await world.reserve(10, hour=hour - 60) == 0  # nobody can prove such tickets any more
        for body, status in [
            ({"publisher": "nobody", "hour": hour, "micro_points": 1}, 404),
            ({"publisher": "publisher-1", "hour": hour + 49, "micro_points": 1}, 400),
            ({"publisher": "publisher-1", "hour": world.clock.now(), "micro_points": 1}, 400),
            ({"publisher": "publisher-1", "hour": hour, "micro_points": 0}, 400),
        ]:
            assert (await world.call("POST", "/v1/link/reservations", LINK, body, once="z")).status == status
        await world.reconciled()

    in_world(tmp_path, script, deposit=1000, reserved=0)


@pytest.mark.both_databases
def test_reservations_at_once_never_lend_more_than_there_is(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        granted = await asyncio.gather(*(world.reserve(300) for _ in range(20)))
        assert sum(granted) == 1000
        assert (await world.account("publisher-1"))["escrow"] == 0
        await world.reconciled()

    in_world(tmp_path, script, deposit=1000, reserved=0)


def test_what_an_hour_did_not_use_comes_back_when_its_proofs_are_too_old(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        hour = world.clock.now() // HOUR_S
        late = world.ticket(iat=(hour + 1) * HOUR_S - 1, nbf=(hour + 1) * HOUR_S - 1, exp=(hour + 1) * HOUR_S)
        world.clock.time = late.iat + 48 * HOUR_S  # the last second at which it can be proven
        await world.service.sweep()
        assert (await world.prove(world.item(late))).items[0].result == "booked"
        spent = (await world.account("publisher-1"))["spent"]
        world.clock.time = (hour + 1) * HOUR_S + 49 * HOUR_S - 1
        await world.service.sweep()
        assert (await world.account("publisher-1"))["reserved"] == 10**8 - spent
        world.clock.time += 1
        await asyncio.gather(*(world.service.sweep() for _ in range(3)))
        found = await world.account("publisher-1")
        assert (found["reserved"], found["escrow"], found["spent"]) == (0, 10**9 - spent, spent)
        await world.reconciled()

    in_world(tmp_path, script)


def test_the_sweep_runs_on_its_own(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.prove(world.item())
        world.clock.time += 60
        await world.restart()  # the first round of the sweep runs at the start

        async def vested() -> None:
            while (await world.account(OWNER))["vested"] == 0:  # noqa: ASYNC110 - another task of the service moves it
                await asyncio.sleep(0)

        await asyncio.wait_for(vested(), PATIENCE_S)

    in_world(tmp_path, script, hold_s=60)


def test_a_sweep_that_fails_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(world: World) -> None:
        async def away(*_: object) -> int:
            raise OSError("the disk is away")

        async def until(status: str) -> None:
            while (await world.good("GET", "/v1/health"))["status"] != status:  # noqa: ASYNC110
                await asyncio.sleep(0)

        world.config = replace(world.config, sweep_interval_s=0)
        with monkeypatch.context() as patch:
            patch.setattr(app, "vest", away)
            await world.restart()
            await asyncio.wait_for(until("degraded"), PATIENCE_S)
        await asyncio.wait_for(until("ok"), PATIENCE_S)

    in_world(tmp_path, script, populate=False)


def test_tokens_follow_what_the_scheduler_says(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        path = f"/v1/accounts/{OWNER}"
        for hashes, works in (([], ()), (["a", "b"], ("a", "b")), (["b", "b"], ("b",))):
            body = {"role": "owner", "name": "x", "token_hashes": [hash_token(token) for token in hashes]}
            for _ in range(2):
                await world.good("PUT", "/v1/link/accounts/owner", LINK, body)
            for token in (OWNER, "a", "b"):
                assert (await world.call("GET", path, token)).status == (200 if token in works else 401)
        second = hash_token("second")
        body = {"jwk": encode(world.device.key.public.jwk()), "owner": OWNER, "token_hash": second}
        await world.good("PUT", f"/v1/link/devices/{world.device.id}", LINK, body)
        assert (await world.call("GET", path, DEVICE)).status == 401
        assert (await world.call("GET", path, "second")).status == 200

    in_world(tmp_path, script)


def test_a_device_keeps_its_chain_when_it_is_told_again(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.prove(world.item())
        await world.bind(world.device, OWNER, DEVICE)
        await world.prove(world.item())
        wrong = {"jwk": encode(key(90).public.jwk()), "owner": OWNER}
        answer = await world.call("PUT", f"/v1/link/devices/{world.device.id}", LINK, wrong)
        assert (answer.status, answer.type) == (400, "bad-key")
        assert (await world.call("PUT", "/v1/link/devices/fd-x", LINK, wrong)).status == 400
        bad = {"role": "king", "name": "x", "token_hashes": []}
        assert (await world.call("PUT", "/v1/link/accounts/x", LINK, bad)).status == 400
        assert (await world.call("PUT", "/v1/link/accounts/%20", LINK, {**bad, "role": "owner"})).status == 400

    in_world(tmp_path, script)


EXPECTED_ROLES = {
    ("GET", "/.well-known/jwks.json"): "anyone",
    ("OPTIONS", "/.well-known/jwks.json"): "anyone",
    ("GET", "/v1/health"): "anyone",
    ("POST", "/v1/proofs"): "anyone",
    ("GET", "/v1/accounts/{id}"): "device operator owner publisher",
    ("GET", "/v1/accounts/{id}/days"): "device operator owner",
    ("GET", "/v1/accounts/{id}/days/{day}"): "device operator owner",
    ("GET", "/v1/accounts/{id}/entries"): "device operator owner publisher",
    ("GET", "/v1/accounts/{id}/statements"): "device operator owner publisher",
    ("GET", "/v1/accounts/{id}/statements/{month}"): "device operator owner publisher",
    ("GET", "/v1/settlements/{jti}"): "device operator owner publisher",
    ("POST", "/v1/settlements/{jti}/clawback"): OPERATOR,
    ("GET", "/v1/tariffs"): "anyone",
    ("POST", "/v1/tariffs/diff"): "operator",
    ("GET", "/v1/tariffs/current"): "anyone",
    ("GET", "/v1/tariffs/{id}"): "anyone",
    ("POST", "/v1/tariffs"): "operator",
    ("GET", "/v1/head"): "anyone",
    ("GET", "/v1/roots"): "anyone",
    ("GET", "/v1/roots/{day}"): "anyone",
    ("GET", "/v1/export"): "operator",
    ("GET", "/v1/audits"): "device operator owner",
    ("POST", "/v1/audits"): "link operator",
    ("GET", "/v1/reviews"): "device operator owner",
    ("GET", "/v1/reviews/{id}"): "device operator owner",
    ("POST", "/v1/reviews/{id}/resolution"): "operator",
    ("POST", "/v1/deposits"): "operator",
    ("GET", "/v1/rewards"): "anyone",
    ("POST", "/v1/rewards"): "operator",
    ("DELETE", "/v1/rewards/{id}"): "operator",
    ("POST", "/v1/rewards/{id}/stock"): "operator",
    ("POST", "/v1/redemptions"): "device owner",
    ("GET", "/v1/redemptions"): "device operator owner",
    ("GET", "/v1/redemptions/{id}"): "device operator owner",
    ("POST", "/v1/redemptions/{id}/resolution"): "operator",
    ("GET", "/v1/reconciliation"): "operator",
    ("GET", "/v1/restores"): "operator",
    ("GET", "/v1/reports"): "operator",
    ("POST", "/v1/restores/{id}/review"): "operator",
    ("PUT", "/v1/link/scheduler"): "link",
    ("PUT", "/v1/link/accounts/{id}"): "link",
    ("PUT", "/v1/link/devices/{id}"): "link",
    ("POST", "/v1/link/reservations"): "link",
}


def test_every_route_is_open_to_its_roles_and_no_others(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        found = {(rule.method, rule.path): " ".join(sorted(rule.roles)) for rule in world.service.api.rules}
        assert found == EXPECTED_ROLES
        tokens = {
            Role.OWNER: OTHER,
            Role.DEVICE: DEVICE,
            Role.PUBLISHER: PUBLISHER,
            Role.OPERATOR: OPERATOR,
            Role.LINK: LINK,
        }
        for rule in world.service.api.rules:
            if Role.ANYONE in rule.roles:
                continue
            path = rule.path.format(id="x", month="x", jti="x", day="x")
            assert (await world.call(rule.method, path)).status == 401
            for role, token in tokens.items():
                answer = await world.call(rule.method, path, token)
                if role not in rule.roles:
                    assert (answer.status, answer.type) == (403, "forbidden"), (rule, role)
                else:
                    assert answer.status not in (401, 500), (rule, role)
        assert (await world.call("GET", "/v1/nothing", OPERATOR)).status == 404

    in_world(tmp_path, script)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"a":1,"a":2}', b"[" * 10_000, b'{"publisher":NaN}', b"\xff"])
def test_json_bodies_are_read_strictly(tmp_path: Path, body: bytes) -> None:
    async def script(world: World) -> None:
        for path in ("/v1/deposits", "/v1/tariffs", "/v1/rewards"):
            headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
            answer = await world.call("POST", path, OPERATOR, data=body, headers=headers)
            assert (answer.status, answer.type) == (400, "malformed")
            plain = await world.call("POST", path, OPERATOR, data=b"{}", headers={"Content-Type": "text/plain"})
            assert plain.status == 415
        huge = await world.call("POST", "/v1/deposits", OPERATOR, data=b" " * 65_537, headers=headers)
        assert huge.status == 413

    in_world(tmp_path, script)


def test_the_ledger_publishes_its_keys(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        shown = await world.good("GET", "/.well-known/jwks.json")
        assert [one["kid"] for one in shown["keys"]] == list(world.keys.public_keys())
        health = await world.good("GET", "/v1/health")
        assert (health["status"], health["role"]) == ("ok", "ledger")

    in_world(tmp_path, script, populate=False)


SERVE = """
import asyncio, sys
from pathlib import Path
from ledger_world import World

async def main():
    world = World(Path(sys.argv[1]))
    await world.open()
    print(world.address, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.processes
@pytest.mark.skipif("FALLOW_TEST_DATABASE_URL" in os.environ, reason="each world has a database of its own there")
def test_a_killed_ledger_lost_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """kill -9 while batches of several devices are on their way; then everyone sends again what has no ack."""

    async def script(world: World) -> None:
        chains = [Chain(number) for number in range(60, 64)]
        for chain in chains:
            await world.bind(chain, OWNER)
        made = {chain.id: [] for chain in chains}  # type: dict[str, list[str]]
        for chain in chains:
            for _ in range(6):
                token = chain.batch(*(world.item(world.ticket(chain=chain)) for _ in range(5)))
                chain.sent(token)
                made[chain.id].append(token)
        await world.close()
        acks: dict[str, bytes] = {}

        async def send(tokens: list[str]) -> None:
            for token in tokens:
                answer = await world.post(token)
                assert answer.status == 200
                assert acks.setdefault(token, answer.body) == answer.body

        for kill_after in (3, 9, 15, 10**6):
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
            process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-c", SERVE, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
            )
            try:
                assert process.stdout is not None
                world.address = (await asyncio.to_thread(process.stdout.readline)).strip()
                await world.reopen_client()
                sending = [asyncio.create_task(send(tokens)) for tokens in made.values()]
                while len(acks) < kill_after and not all(task.done() for task in sending):  # noqa: ASYNC110
                    await asyncio.sleep(0)
                process.send_signal(signal.SIGKILL)
                await asyncio.gather(*sending, return_exceptions=True)
            finally:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
                await world.http.close()
        await world.open()
        assert len(acks) == 24
        assert (await world.reconciled())["settlements"] == 24 * 5
        assert (await world.account(OWNER))["vested"] == 24 * 5 * (POINT // 1024)

    in_world(tmp_path, script)
