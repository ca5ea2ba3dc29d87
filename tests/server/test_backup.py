"""Backups: whole, checked, closed to others; restores that touch nothing unless all is well."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fallow_server import cli
from fallow_server.backup import MANIFEST, Missing, back_up, read_manifest, restore, standing_of
from fallow_server.config import ServerConfig
from fallow_server.state import StateDirectory
from fallow_wire.errors import LocalError
from ledger_world import DEVICE, MIB, OPERATOR, OWNER, World, world
from server_world import running_server
from support import key

POINT = 1_000_000
NOW = 1_800_000_000


def state_of(path: Path, role: str = "ledger") -> StateDirectory:
    return StateDirectory(ServerConfig(state_dir=path, role=role) if role != "all" else ServerConfig(state_dir=path))


def with_ledger(directory: Path, script: Callable[[World, StateDirectory], Awaitable[None]]) -> None:
    """A ledger whose state directory is complete."""

    directory.chmod(0o700)
    (directory / "link.token").write_text("fl_" + "x" * 43)

    async def run() -> None:
        async with world(directory) as made:
            await script(made, state_of(directory))

    asyncio.run(run())


@pytest.fixture(autouse=True)
def _on_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FALLOW_TEST_DATABASE_URL", raising=False)  # these are about SQLite's files


def test_a_backup_is_one_state_however_busy_the_ledger(tmp_path: Path) -> None:
    async def script(made: World, state: StateDirectory) -> None:
        stop = asyncio.Event()

        async def busy() -> None:
            while not stop.is_set():
                await made.prove(*(made.item() for _ in range(5)))

        writing = asyncio.create_task(busy())
        for number in range(5):
            target = tmp_path / f"backup-{number}"
            manifest = await asyncio.to_thread(back_up, state, target, "1", NOW)
            assert manifest.ledger == standing_of(target / "ledger.sqlite")
            with contextlib.closing(sqlite3.connect(target / "ledger.sqlite")) as copy:
                entries, booked, batches = (
                    copy.execute(query).fetchone()[0]
                    for query in (
                        "SELECT count(*) FROM entries",
                        "SELECT count(*) FROM settlements",
                        "SELECT coalesce(max(seq), 0) FROM batches",
                    )
                )
                assert (entries, booked) == (manifest.ledger.entries, 5 * batches)
                assert copy.execute("SELECT sum(micro_points) FROM entries").fetchone()[0] == 0
        stop.set()
        await writing
        assert {path.name for path in target.iterdir()} == {"ledger.sqlite", "ledger.keys", "link.token", MANIFEST}
        for path in (target, *target.iterdir()):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0

    with_ledger(tmp_path, script)


def test_keys_stay_out_when_asked_and_are_wanted_at_the_restore(tmp_path: Path) -> None:
    async def script(made: World, state: StateDirectory) -> None:
        target = tmp_path / "backup"
        await asyncio.to_thread(lambda: back_up(state, target, "1", NOW, with_keys=False))
        assert {path.name for path in target.iterdir()} == {"ledger.sqlite", MANIFEST}
        fresh = tmp_path / "fresh"
        fresh.mkdir(mode=0o700)
        with pytest.raises(LocalError, match=r"the backup holds no ledger\.keys"):
            await restore(state_of(fresh), target, NOW)
        assert list(fresh.iterdir()) == []
        for name in ("ledger.keys", "link.token"):
            shutil.copy(tmp_path / name, fresh)
        await restore(state_of(fresh), target, NOW)
        assert (fresh / "ledger.sqlite").exists()

    with_ledger(tmp_path, script)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    async def script(made: World, state: StateDirectory) -> None:
        target = tmp_path / "backup"
        await asyncio.to_thread(back_up, state, target, "1", NOW)
        with pytest.raises(LocalError, match="is there already"):
            back_up(state, target, "1", NOW)
        held = {path: path.read_bytes() for path in target.iterdir()}
        with pytest.raises(LocalError, match="--replace moves it aside"):
            await restore(state, target, NOW)
        assert held == {path: path.read_bytes() for path in target.iterdir()}

    with_ledger(tmp_path, script)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda backup: (backup / MANIFEST).unlink(), "is no backup"),
        (lambda backup: (backup / MANIFEST).write_text("{"), MANIFEST),
        (lambda backup: (backup / MANIFEST).write_text("[]"), MANIFEST),
        (lambda backup: (backup / "ledger.keys").unlink(), "has no ledger.keys"),
        (lambda backup: flip(backup / "ledger.sqlite"), "its digest is another"),
        (lambda backup: edit(backup, form=2), "another form"),
        (lambda backup: edit(backup, files={"../x": "0"}), "not whole"),
        (lambda backup: edit(backup, files={}), "holds nothing"),
    ],
)
def test_a_damaged_backup_changes_nothing(tmp_path: Path, damage: Callable[[Path], Any], said: str) -> None:
    async def script(made: World, state: StateDirectory) -> None:
        target = tmp_path / "backup"
        await asyncio.to_thread(back_up, state, target, "1", NOW)
        damage(target)
        fresh = tmp_path / "fresh"
        fresh.mkdir(mode=0o700)
        with pytest.raises(LocalError, match=said):
            await restore(state_of(fresh), target, NOW)
        assert list(fresh.iterdir()) == []

    with_ledger(tmp_path, script)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def edit(backup: Path, **changes: Any) -> None:
    value = json.loads((backup / MANIFEST).read_text())
    (backup / MANIFEST).write_text(json.dumps({**value, **changes}))


async def restored(made: World, state: StateDirectory, backup: Path) -> Missing | None:
    """Stop the ledger, restore, start it again."""
    await made.close()
    _, missing = await restore(state, backup, made.clock.now(), replace=True)
    await made.open()
    return missing


def test_what_came_after_the_backup_is_told_and_comes_again_from_devices(tmp_path: Path) -> None:
    async def script(made: World, state: StateDirectory) -> None:
        await made.prove(made.item())
        await asyncio.to_thread(back_up, state, tmp_path / "backup", "1", made.clock.now())
        made.clock.time += 3 * 3600  # hours whose reservations are not in the backup
        assert await made.reserve(10 * POINT) == 10 * POINT
        forgotten = [made.item(confirmed=10 * MIB, claimed=10 * MIB), made.item()]
        first = await made.prove(*forgotten)
        second = await made.prove(made.item())
        assert {one.result for one in (*first.items, *second.items)} == {"booked"}
        missing = await restored(made, state, tmp_path / "backup")
        assert missing is not None
        assert (missing.devices, missing.batches) == (1, 2)
        assert missing.postings["settlement"][0] == 3
        assert missing.postings["reservation"] == (1, 10 * POINT)
        assert (tmp_path / f"replaced-{made.clock.now()}" / "ledger.sqlite").exists()

        # The device is told where the ledger stands, and its word is noted.
        refused = await made.post(made.device.batch(made.item()))
        assert (refused.status, refused.type) == (409, "sequence-gap")
        expected = refused.json()["expected"]
        assert expected["seq"] == 2
        found = await made.good("GET", "/v1/restores", OPERATOR)
        assert [(gap["device"], gap["expected"], gap["seen"]) for gap in found["gaps"]] == [(made.device.id, 2, 4)]
        assert found["restores"][0].keys() == {"at", "backup_at", "entries", "hash"}

        # What it hands over again is paid as before, out of the escrow; once more is not paid twice.
        made.device.seq, made.device.prev = 1, expected["prev"]
        again = await made.prove(*forgotten, made.item())
        assert [one.micro_points for one in again.items[:2]] == [one.micro_points for one in first.items]
        assert {one.result for one in again.items} == {"booked"}
        before = await made.account(OWNER)
        twice = await made.prove(*forgotten)
        assert [one.micro_points for one in twice.items] == [one.micro_points for one in first.items]
        assert await made.account(OWNER) == before
        await made.reconciled()

        # After that time the escrow lends nothing by itself.
        made.clock.time += 2 * 3600
        later = await made.prove(made.item())
        assert later.items[0].reason == "escrow-exhausted"
        await made.reconciled()

    with_ledger(tmp_path, script)


def test_a_restored_ledger_lends_no_more_than_there_is(tmp_path: Path) -> None:
    async def script(made: World, state: StateDirectory) -> None:
        await asyncio.to_thread(back_up, state, tmp_path / "backup", "1", made.clock.now())
        made.clock.time += 3600
        size = 2**30 * 1000
        await restored(made, state, tmp_path / "backup")
        ack = await made.prove(made.item(made.ticket(max_bytes=size), confirmed=size, claimed=size))
        assert ack.items[0].reason == "escrow-exhausted"
        await made.reconciled()

    with_ledger(tmp_path, script)


def test_gaps_are_bounded_and_only_grow(tmp_path: Path) -> None:
    async def script(made: World, state: StateDirectory) -> None:
        for seq, passed_s, noted in ((5, 0, 5), (3, 60, 5), (9, 60, 9), (12, 59, 9), (12, 1, 12)):
            made.clock.time += passed_s
            made.device.seq = seq - 1
            assert (await made.post(made.device.batch(made.item()))).status == 409
            found = await made.good("GET", "/v1/restores", OPERATOR)
            assert [(gap["expected"], gap["seen"]) for gap in found["gaps"]] == [(1, noted)]
        assert found["restores"] == []

    with_ledger(tmp_path, script)


def test_redemptions_rest_until_the_operator_has_looked(tmp_path: Path) -> None:
    async def script(made: World, state: StateDirectory) -> None:
        size = 2**30
        await made.prove(made.item(made.ticket(max_bytes=size), confirmed=size, claimed=size))
        reward = await made.good("POST", "/v1/rewards", OPERATOR, {"title": "x", "micro_points": 1, "stock": 9})
        body = {"reward": reward["id"]}
        kept = await made.good("POST", "/v1/redemptions", OWNER, body, once="before")
        await asyncio.to_thread(back_up, state, tmp_path / "backup", "1", made.clock.now())
        await restored(made, state, tmp_path / "backup")
        for token in (OWNER, DEVICE):
            answer = await made.call("POST", "/v1/redemptions", token, body, once="after")
            assert (answer.status, answer.type) == (409, "under-review")
        assert await made.good("POST", "/v1/redemptions", OWNER, body, once="before") == kept
        at = (await made.good("GET", "/v1/restores", OPERATOR))["restores"][0]["at"]
        assert (await made.call("POST", f"/v1/restores/{at + 1}/review", OPERATOR)).status == 404
        assert (await made.call("POST", "/v1/restores/x/review", OPERATOR)).status == 400
        reviewed = await made.good("POST", f"/v1/restores/{at}/review", OPERATOR)
        made.clock.time += 1
        assert await made.good("POST", f"/v1/restores/{at}/review", OPERATOR) == reviewed
        await made.good("POST", "/v1/redemptions", OWNER, body, once="after")
        await made.reconciled()

    with_ledger(tmp_path, script)


def test_a_ledger_that_is_another_tells_nothing_of_this_one(tmp_path: Path) -> None:
    async def script(made: World, state: StateDirectory) -> None:
        await made.prove(made.item())
        await asyncio.to_thread(back_up, state, tmp_path / "backup", "1", made.clock.now())
        await made.close()
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection, connection:
            for name in ("entries_no_update", "entries_no_delete"):
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute(
                "UPDATE entries SET hash = substr(hash, 2) || 'x' WHERE seq = (SELECT max(seq) FROM entries)"
            )
        _, missing = await restore(state, tmp_path / "backup", NOW, replace=True)
        assert missing is None
        (tmp_path / "ledger.sqlite").write_bytes(b"torn to pieces" * 1000)
        _, missing = await restore(state, tmp_path / "backup", NOW + 1, replace=True)
        assert missing is None
        await made.open()
        await made.reconciled()

    with_ledger(tmp_path, script)


def test_the_scheduler_tells_a_restored_ledger_everything_again(tmp_path: Path) -> None:
    backup = tmp_path / "backup"

    async def first() -> tuple[str, dict[str, str]]:
        async with running_server(tmp_path / "state") as made:
            owner = await made.account("owner")
            assert (await made.enrol(key(1), await made.claim(owner["token"]))).status == 201
            await made.told()
            state = state_of(tmp_path / "state", "all")
            await asyncio.to_thread(back_up, state, backup, "1", NOW)
            with pytest.raises(LocalError, match="in use by another fallow-server"):
                state.lock()
            return made.operator_token, owner

    async def is_known(operator_token: str, owner: dict[str, str]) -> bool:
        async with running_server(tmp_path / "state", operator_token=operator_token) as made:
            await made.told()
            status = (await made.call("GET", f"/v1/accounts/{owner['id']}", owner["token"], ledger=True)).status
            return status == 200

    token, owner = asyncio.run(first())
    assert set(read_manifest(backup).files) == {
        *("scheduler.sqlite", "ledger.sqlite", "scheduler.keys", "ledger.keys", "link.token")
    }
    # As if the ledger's copy were older than all of this.
    (tmp_path / "state" / "ledger.sqlite").unlink()
    assert not asyncio.run(is_known(token, owner))
    assert cli.main(["tell-ledger", "--state-dir", str(tmp_path / "state")]) == 0
    assert asyncio.run(is_known(token, owner))


def test_the_commands_say_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, backup, other = tmp_path / "state", tmp_path / "backup", tmp_path / "other"
    assert cli.main(["init", "--state-dir", str(state)]) == 0
    assert cli.main(["backup", str(backup), "--state-dir", str(state)]) == 1  # no server ever ran here
    assert "ledger.sqlite is not there" in capsys.readouterr().err
    assert not backup.exists()

    async def start_once() -> None:
        async with running_server(state, operator_token="x"):
            pass

    asyncio.run(start_once())
    assert cli.main(["backup", str(backup), "--state-dir", str(state)]) == 0
    assert "signing keys" in capsys.readouterr().out
    assert cli.main(["restore", str(backup), "--state-dir", str(other)]) == 0
    said = capsys.readouterr().out
    assert "fallow operator restores reviewed" in said
    assert stat.S_IMODE(other.stat().st_mode) == 0o700
    assert cli.main(["restore", str(backup), "--state-dir", str(other)]) == 1
    assert "--replace" in capsys.readouterr().err
    held = state_of(other, "all").lock()
    assert cli.main(["restore", str(backup), "--state-dir", str(other), "--replace"]) == 1
    assert "in use by another fallow-server" in capsys.readouterr().err
    assert held
    assert cli.main(["backup", "/proc/nowhere/x", "--state-dir", str(state)]) == 1
    assert "Traceback" not in capsys.readouterr().err
