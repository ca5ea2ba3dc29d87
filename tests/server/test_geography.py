"""Where addresses are, by offline tables; and what becomes of bad ones."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
from pathlib import Path

import pytest
from delivery_harness import Harness, run
from fallow_server.delivery.address_table import AddressTable, AddressTables
from fallow_server.delivery.config import Config
from fallow_server.delivery.geography import Geography
from fallow_server.scheduling.distances import Distances
from fallow_server.scheduling.places import NOWHERE, Place
from fallow_wire.errors import LocalError
from fallow_wire.fields import encode
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PATIENCE_S, key

COUNTRIES = """127.0.0.0,127.0.0.255,DE
203.0.113.0,203.0.113.127,DE
203.0.113.128,203.0.113.255,FR
2001:db8::,2001:db8:ff::,US
"""
NETWORKS = """127.0.0.0,127.0.0.255,64500,"An ISP, Inc."
203.0.113.0,203.0.113.255,64500,An ISP
2001:db8::,2001:db8:1::,64501,B
"""


def table(text: str) -> AddressTable:
    return AddressTable.of_rows(text.splitlines(), "t.csv")


def test_an_address_has_a_network_and_a_country() -> None:
    tables = AddressTables([table(NETWORKS), table(COUNTRIES)])
    assert tables.place_of("203.0.113.127") == Place(64500, "DE")
    assert tables.place_of("::ffff:203.0.113.128") == Place(64500, "FR")
    assert tables.place_of("2001:db8:0:1::5") == Place(64501, "US")
    assert tables.place_of("2001:db8:2::%eth0") == Place(None, "US")
    for nowhere in ("203.0.112.255", "203.0.114.0", "0.0.0.0", "::", "255.255.255.255", "2001:db8:100::"):
        assert tables.place_of(nowhere) == NOWHERE
    assert AddressTables().place_of("203.0.113.5") == NOWHERE
    with pytest.raises(ValueError, match="not an address"):
        tables.place_of("unknown")
    # Of two of a kind the first that knows counts; of two ranges that overlap the later one.
    assert (
        AddressTables([table("1.0.0.0,1.0.0.9,AU"), table("1.0.0.0,1.0.0.255,NZ")]).place_of("1.0.0.10").country == "NZ"
    )
    assert AddressTables([table("1.0.0.0,1.0.0.255,1,x\n1.0.0.128,1.0.1.255,2,y")]).place_of("1.0.0.200").asn == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no rows"),
        ("1.0.0.0,1.0.0.255", "line 1: start,end,country or"),
        ("1.0.0.0,1.0.0.255,DE\n1.0.1.0,1.0.1.255,Germany", "line 2: 'Germany' is neither"),
        ("1.0.0.0,1.0.0.255,DE\n1.0.1.0,1.0.1.255,1", "line 2: countries and AS numbers"),
        ("1.0.0.0,1.0.0.256,DE", "line 1: '1.0.0.256' is not an address"),
        ("1.0.0.9,1.0.0.0,DE", "line 1: the range ends before it starts"),
        ("1.0.0.0,1::,DE", "line 1: '1::' is not an address"),
        ("1.0.1.0,1.0.1.9,DE\n1.0.0.0,1.0.0.9,DE", "line 2: the ranges of a family must rise"),
        ("1.0.0.0,1.0.0.9,99999999999,x", "line 1: '99999999999' is not an AS number"),
    ],
)
def test_a_bad_table_says_where(text: str, why: str) -> None:
    with pytest.raises(LocalError, match=rf"t\.csv[:,] {why}"):
        table(text)


def test_files_plain_packed_and_broken(tmp_path: Path) -> None:
    plain, packed, cut, other = (tmp_path / name for name in ("a.csv", "b.csv.gz", "cut.csv.gz", "other.csv.gz"))
    plain.write_text(COUNTRIES)
    packed.write_bytes(gzip.compress(COUNTRIES.encode()))
    cut.write_bytes(gzip.compress(COUNTRIES.encode() * 100)[:60])
    other.write_bytes(b"\x1f\x8b no zip")
    assert len(AddressTable.read(plain)) == len(AddressTable.read(packed)) == 4
    assert AddressTable.read(plain).size_bytes == 3 * 12 + 20
    for bad in (cut, other, tmp_path / "absent.csv", tmp_path):
        with pytest.raises(LocalError, match=str(bad)):
            AddressTable.read(bad)
    plain.write_bytes(b"\xff\xfe")
    with pytest.raises(LocalError, match=r"a\.csv"):
        AddressTable.read(plain)


RANGES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), st.integers(0, 3)), max_size=30)


@settings(max_examples=150, deadline=None)
@given(RANGES, st.booleans())
def test_every_address_against_a_naive_table(found: list[tuple[int, int, int]], six: bool) -> None:
    """By /64 for IPv6. Ranges that rise and do not overlap."""
    model: dict[int, int] = {}
    rows, free = [], 0
    for start, length, value in sorted(found):
        first = max(start, free)
        free = first + length + 1
        model |= dict.fromkeys(range(first, free), value)
        if six:
            ends = ipaddress.IPv6Address(first << 64), ipaddress.IPv6Address((free << 64) - 1)
        else:
            ends = ipaddress.IPv4Address(first), ipaddress.IPv4Address(free - 1)
        rows.append(f"{ends[0]},{ends[1]},{value},name")
    if not rows:
        return
    tables = AddressTables([table("\n".join(rows))])
    for number in range(free + 3):
        address = ipaddress.IPv6Address((number << 64) + 77) if six else ipaddress.IPv4Address(number)
        assert tables.place_of(str(address)).asn == model.get(number)


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    async def script() -> None:
        file = tmp_path / "countries.csv"
        geography = Geography((str(file),))
        assert not await geography.load()
        assert geography.place_of("203.0.113.5") == NOWHERE
        file.write_text(COUNTRIES)
        assert await geography.load()
        assert geography.place_of("203.0.113.5").country == "DE"
        assert not await geography.load()
        file.write_text("nonsense")
        assert not await geography.load()
        assert geography.place_of("203.0.113.5").country == "DE"  # what was known goes on to count
        file.write_text("203.0.113.0,203.0.113.255,NL\n")
        changed = asyncio.Event()

        async def note() -> None:
            changed.set()

        following = asyncio.create_task(geography.run(note))
        async with asyncio.timeout(PATIENCE_S):
            await changed.wait()
            assert geography.place_of("203.0.113.5").country == "NL"
            changed.clear()
            geography.reload()
            await changed.wait()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(script())


def test_distances_are_learnt_and_say_who_is_near() -> None:
    distances, here = Distances(), Place(1, "DE")
    assert (distances.near(here), distances.round_trip_ms(here, here)) == ((), None)
    for country, ms in (("FR", 25), ("US", 100), ("NL", 12), ("JP", 250), ("AT", 0), ("PL", 5000)):
        distances.note(here, Place(None, country), ms)
    assert distances.near(here) == ("NL", "FR")
    assert distances.round_trip_ms(Place(7, "DE"), Place(9, "US")) == 100
    distances.note(here, Place(None, "US"), 20)
    assert distances.round_trip_ms(here, Place(None, "US")) == 90
    for _ in range(10):
        distances.note(here, Place(None, "US"), 20)
    assert distances.near(here) == ("NL", "FR", "US")
    assert distances.near(Place(1, "US")) == distances.near(NOWHERE) == ()
    distances.note(NOWHERE, here, 5)
    assert distances.round_trip_ms(NOWHERE, here) is None


def test_consumers_are_sent_to_devices_near_them(tmp_path: Path) -> None:
    file = tmp_path / "networks.csv"

    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * 1000)
        far = [await server.device(n, object_id, remote="198.51.100.7") for n in (1, 2, 3)]
        near = [await server.device(n, object_id, remote="203.0.113.5") for n in (4, 5, 6, 7)]
        for one in near[2:]:
            await one.beat(state="paused")
        body = {"object": object_id, "jwk": encode(key(77).public.jwk())}

        async def sources(**more: object) -> list[dict[str, object]]:
            answer = await server.call("POST", "/v1/plans", who=None, json={**body, **more}, status=200)
            return list(answer.json()["sources"])

        assert not any("country" in one for one in await sources())
        file.write_text("127.0.0.0,127.0.0.255,DE\n198.51.100.0,198.51.100.255,US\n203.0.113.0,203.0.113.255,DE\n")
        assert await server.delivery.router.geography.load()
        await server.delivery.devices.place_anew()
        for _ in range(5):
            found = await sources()
            assert {one["device_id"] for one in found[:2]} == {one.id for one in near[:2]}
            assert [one["country"] for one in found] == ["DE", "DE", "US", "US"]
            assert "rtt_ms" not in found[0]
        waits = ((near[0].id, 12), (far[0].id, 90), (key(9).public.device_id(), 3))
        told = [{"device_id": device_id, "ms": ms} for device_id, ms in waits]
        assert [one["rtt_ms"] for one in await sources(waited=told)] == [12, 12, 90, 90]

    run(tmp_path / "state", script, delivery=Config(address_tables=(str(file),), crowd_sources_max=4))
