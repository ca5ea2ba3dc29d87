"""Whatever is sent to a call that reads JSON: a refusal that names it, and memory that stays small."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

from fallow_server.http import Role
from ledger_world import LINK, OPERATOR, OWNER, World, in_world

MEMORY_BYTES_MAX = 32 * 2**20
"""Above what was there before, in the process that is both sides here. The bomb unpacks to 200 MB."""
NUMBERS = [
    *["-1", "0", "1.0", "1e3", "NaN", "Infinity", "true", "null", "[1]", "-0"],
    *(str(2**n) for n in (53, 63, 64, 70)),
]
BODIES: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{",
    "an array": b"[]",
    "not UTF-8": b'{"publisher": "\xff"}',
    "a lone surrogate": b'{"publisher": "\\ud800", "micro_points": 1}',
    "a NUL": b'{"publisher": "a\\u0000b", "micro_points": 1}',
    "duplicate keys": b'{"publisher": "publisher-1", "publisher": "publisher-1", "micro_points": 1}',
    "depth of 10,000": b'{"publisher": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "5,000 digits": b'{"publisher": "publisher-1", "micro_points": ' + b"9" * 5000 + b"}",
    **{
        f"the number {number}": b'{"publisher": "publisher-1", "micro_points": ' + number.encode() + b"}"
        for number in NUMBERS
    },
}
TOKENS = {Role.OPERATOR: OPERATOR, Role.OWNER: OWNER, Role.LINK: LINK, Role.ANYONE: None}


def json_calls(world: World) -> list[tuple[str, str, str | None]]:
    """Every call with a body, and a token of somebody who may make it."""
    found = []
    for rule in world.service.api.rules:
        if rule.method in ("POST", "PUT") and rule.path != "/v1/proofs":
            role = next(role for role in TOKENS if role in rule.roles)
            path = rule.path.replace("{id}", world.device.id).replace("{jti}", world.ticket().jti)
            found.append((rule.method, path, TOKENS[role]))
    return found


def test_bodies_that_are_not_the_form_are_refused_by_every_call(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        calls = json_calls(world)
        assert len(calls) >= 8
        before = await world.account("publisher-1")
        headers = {"Content-Type": "application/json"}
        for name, body in BODIES.items():
            for method, path, token in calls:
                answer = await world.call(method, path, token, data=body, headers=headers, once="bad")
                assert 400 <= answer.status < 500, (name, method, path, answer.body)
                assert answer.json()["title"]
        assert await world.account("publisher-1") == before
        await world.reconciled()

    in_world(tmp_path, script)


def test_bombs_are_not_unpacked_and_dense_bodies_stay_small(tmp_path: Path) -> None:
    bomb = gzip.compress(b'{"a": "' + b"\0" * 200_000_000 + b'"}', 1)
    dense = b'{"publisher": [' + b"[]," * 20_000 + b"[]]}"
    long = b'{"publisher": "' + b"a" * 3_000_000 + b'"}'

    async def script(world: World) -> None:
        tracemalloc.start()
        try:
            for method, path, token in json_calls(world):
                headers: dict[str, Any] = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
                packed = await world.call(method, path, token, data=bomb, headers=headers, once="bomb")
                assert packed.status in (413, 415), (method, path, packed.body)
                del headers["Content-Encoding"]
                answer = await world.call(method, path, token, data=dense, headers=headers, once="dense")
                assert 400 <= answer.status < 500, (method, path, answer.body)
                answer = await world.call(method, path, token, data=long, headers=headers, once="long")
                assert answer.status == 413, (method, path, answer.body)
            assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES_MAX
        finally:
            tracemalloc.stop()

    in_world(tmp_path, script)
