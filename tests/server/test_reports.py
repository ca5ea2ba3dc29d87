"""The daily report: every point is somewhere, and what is not in order makes noise."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from fallow_server.metrics import LedgerCollector, Metrics
from ledger_world import OPERATOR, OWNER, World, in_world
from prometheus_client.exposition import generate_latest

on_sqlite = pytest.mark.skipif("FALLOW_TEST_DATABASE_URL" in os.environ, reason="alters the SQLite file itself")
POINT = 1_000_000
DAY_S = 86_400
GIB = 2**30


async def a_day_of_everything(world: World) -> None:
    """And then it is over."""
    await world.prove(world.item(world.ticket(max_bytes=3 * GIB), confirmed=3 * GIB, claimed=3 * GIB))
    plain = await world.good("POST", "/v1/rewards", OPERATOR, {"title": "x", "micro_points": POINT})
    coded = await world.good("POST", "/v1/rewards", OPERATOR, {"title": "x", "micro_points": POINT, "codes": ["a"]})
    await world.good("POST", "/v1/redemptions", OWNER, {"reward": coded["id"]}, once="a")
    for key in ("b", "c"):
        last = await world.good("POST", "/v1/redemptions", OWNER, {"reward": plain["id"]}, once=key)
    await world.good("POST", f"/v1/redemptions/{last['id']}/resolution", OPERATOR, {"outcome": "unknown"})
    world.clock.time += DAY_S


def figures(world: World) -> dict[str, float]:
    metrics = Metrics()
    metrics.registry.register(LedgerCollector(world.service))
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if line.startswith("fallow_"))}


def test_the_report_accounts_for_every_point(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await a_day_of_everything(world)
        made = await world.service.reports.make_due()
        assert made["sound"]
        assert made["day"] == world.clock.time // DAY_S - 1
        assert made["supply"] == 10**9 == sum(made["places"].values())
        assert made["places"] == {
            "escrow": 9 * 10**8,
            "reserved": 10**8 - 3 * POINT,
            "held": 0,
            "vested": 0,
            "redeeming": 2 * POINT,
            "redeemed": POINT,
        }
        assert made["moved"] == {
            "deposit": 10**9,
            "reservation": 10**8,
            "settlement": 3 * POINT,
            "vesting": 3 * POINT,
            "redemption": 3 * POINT,
            "fulfilment": POINT,
        }
        assert made["redemptions"] == {"reserved": 1, "unknown": 1, "for_operator": 2}
        assert (made["unaccounted"], made["difference_count"], made["differences"]) == (0, 0, [])
        shown = figures(world)
        assert (shown["fallow_books_sound"], shown["fallow_redemptions_unknown"]) == (1, 1)
        assert (await world.good("GET", "/v1/health"))["status"] == "ok"

    in_world(tmp_path, script)


def test_the_report_tells_of_reversals(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        ticket = world.ticket(max_bytes=GIB)
        await world.prove(world.item(ticket, confirmed=GIB, claimed=GIB))
        path = f"/v1/settlements/{ticket.jti}/clawback"
        await world.good("POST", path, OPERATOR, {"reason": "made up"}, once="c")
        world.clock.time += DAY_S
        made = await world.service.reports.make_due()
        assert made["sound"]
        assert made["moved"] == {"deposit": 10**9, "reservation": 10**8, "settlement": POINT, "clawback": POINT}
        assert (made["places"]["held"], made["places"]["escrow"]) == (0, 9 * 10**8 + POINT)

    in_world(tmp_path, script, hold_s=14 * DAY_S)


def test_a_day_is_reported_once_and_as_it_was(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await a_day_of_everything(world)
        first = await world.service.reports.make_due()
        world.clock.time += 60
        await world.good("POST", "/v1/deposits", OPERATOR, {"publisher": "publisher-1", "micro_points": 5}, once="d")
        await asyncio.gather(*(world.service.reports.make_due() for _ in range(5)))
        await world.restart()
        assert await world.service.reports.make_due() == first
        world.clock.time += DAY_S
        second = await world.service.reports.make_due()
        assert second["moved"] == {"deposit": 5}
        newest = await world.good("GET", "/v1/reports", OPERATOR)
        assert newest[:2] == [second, first]
        assert await world.good("GET", "/v1/reports?limit=1", OPERATOR) == [second]

    in_world(tmp_path, script)


@on_sqlite
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE balances SET micro_points = micro_points + 1 WHERE account = 'escrow:publisher-1'",
        "UPDATE entries SET micro_points = micro_points + 1 WHERE seq = 2",
        "UPDATE settlements SET paid_bytes = paid_bytes - 1",
        "UPDATE redemptions SET state = 'voided' WHERE state = 'fulfilled'",
        "DELETE FROM redemptions WHERE state = 'reserved'",
        "UPDATE redemptions SET micro_points = micro_points + 1 WHERE state = 'unknown'",
        "UPDATE reward_codes SET redemption = NULL WHERE redemption IS NOT NULL",
    ],
)
def test_what_does_not_reconcile_is_an_alarm(tmp_path: Path, statement: str, caplog: pytest.LogCaptureFixture) -> None:
    async def script(world: World) -> None:
        await a_day_of_everything(world)

        def tamper() -> None:
            with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
                for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                    connection.execute(f"DROP TRIGGER {name}")
                assert connection.execute(statement).rowcount > 0
            connection.close()

        await asyncio.to_thread(tamper)
        with caplog.at_level(logging.ERROR):
            made = await world.service.reports.make_due()
        assert not made["sound"]
        assert made["difference_count"] > 0
        assert "THE BOOKS DO NOT RECONCILE" in caplog.text
        assert figures(world)["fallow_books_sound"] == 0
        assert (await world.good("GET", "/v1/health"))["status"] == "degraded"
        newest = (await world.good("GET", "/v1/reports", OPERATOR))[0]
        assert newest == made

    in_world(tmp_path, script)


def test_a_report_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(world: World) -> None:
        reports = world.service.reports
        waiting = asyncio.Event()

        async def fail() -> dict[str, Any]:
            raise OSError("the disk is gone")

        async def wait(_seconds: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(reports, "make_due", fail)
        with monkeypatch.context() as patched:
            patched.setattr("fallow_server.ledger.reports.asyncio.sleep", wait)
            running = asyncio.create_task(reports.run())
            await waiting.wait()
        assert reports.trouble == "the daily report fails: the disk is gone"
        assert (await world.good("GET", "/v1/health"))["status"] == "degraded"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_world(tmp_path, script)
