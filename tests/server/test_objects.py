"""Publishing, reading and deleting objects, over HTTP, with real files."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from delivery_harness import ALICE, BOB, Harness, run, running, until
from fallow_server.catalogue.config import Config
from fallow_server.catalogue.names import media_type, name_fault
from fallow_wire.manifest import ManifestBuilder, verify_manifest

MIB = 2**20


def files(harness: Harness) -> list[str]:
    return sorted(path.name for path in (harness.directory / "blobs").rglob("*") if path.is_file())


def test_an_object_goes_in_and_comes_out(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 7)

    async def script(server: Harness) -> None:
        answer = await server.call(
            "POST", "/v1/objects?name=film%20%C3%A9.mp4", data=data, headers={"Content-Type": "Video/MP4"}, status=201
        )
        said = answer.json()
        builder = ManifestBuilder("video/mp4")
        builder.feed(data)
        object_id = builder.finish().object_id()
        assert (said["id"], said["size"], said["chunks"]) == (object_id, len(data), 4)
        assert said["name"] == "film é.mp4"
        assert said["url"] == f"{server.url}/o/{object_id}/film%20%C3%A9.mp4"
        manifest = (await server.call("GET", f"/v1/manifests/{object_id}", who=None, status=200)).body
        signed = verify_manifest(manifest, server.keys.public_keys(), object_id)
        signed.manifest.verify_chunk(3, data[3 * MIB :])
        read = await server.call("GET", said["url"], who=None, status=200)
        assert read.body == data
        assert read.headers["Content-Type"] == "video/mp4"
        assert read.headers["ETag"] == f'"{object_id}"'
        assert files(server) == [object_id]
        again = await server.call(
            "POST", "/v1/objects?name=film%20%C3%A9.mp4", data=data, headers={"Content-Type": "video/mp4"}, status=200
        )
        assert again.json()["id"] == object_id
        assert (await server.call("GET", f"/v1/manifests/{object_id}", who=None)).body == manifest

    run(tmp_path / "state", script)


def test_ranges_validators_and_cors_of_the_origin(tmp_path: Path) -> None:
    data = os.urandom(MIB + 100)

    async def script(server: Harness) -> None:
        object_id = await server.publish(data)
        path = f"/o/{object_id}/file.bin?source=origin"
        part = await server.call("GET", path, who=None, headers={"Range": "bytes=10-19"}, status=206)
        assert part.body == data[10:20]
        assert part.headers["Content-Range"] == f"bytes 10-19/{len(data)}"
        tail = await server.call("GET", path, who=None, headers={"Range": "bytes=-5"}, status=206)
        assert tail.body == data[-5:]
        stale = await server.call(
            "GET", path, who=None, headers={"Range": "bytes=0-1", "If-Range": '"other"'}, status=200
        )
        assert stale.body == data
        bad = await server.call("GET", path, who=None, headers={"Range": f"bytes={len(data)}-"}, status=416)
        assert bad.headers["Content-Range"] == f"bytes */{len(data)}"
        assert bad.problem == "range-not-satisfiable"
        same = await server.call("GET", path, who=None, headers={"If-None-Match": f'"{object_id}"'}, status=304)
        assert same.body == b""
        head = await server.call("HEAD", path, who=None, status=200)
        assert head.headers["Content-Length"] == str(len(data))
        assert head.headers["Accept-Ranges"] == "bytes"
        assert head.headers["Access-Control-Allow-Origin"] == "*"
        assert "sandbox" in head.headers["Content-Security-Policy"]
        digest = hashlib.sha256(data).digest()
        import base64

        assert head.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
        assert (await server.call("GET", f"/o/{'0' * 64}/x", who=None)).status == 404
        assert (await server.call("GET", "/o/nonsense/x", who=None)).status == 404

    run(tmp_path / "state", script)


def test_two_publishers_own_the_same_bytes_each_for_itself(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"shared", "a.bin")
        assert await server.publish(b"shared", "b.bin", who=BOB) == object_id
        assert files(server) == [object_id]
        await server.call("DELETE", f"/v1/objects/{object_id}", status=204)
        await server.call("DELETE", f"/v1/objects/{object_id}", status=404)
        assert [o["id"] for o in (await server.call("GET", "/v1/objects")).json()] == []
        assert (await server.call("GET", f"/o/{object_id}/b.bin", who=None)).body == b"shared"
        await server.call("DELETE", f"/v1/objects/{object_id}", who=BOB, status=204)
        assert files(server) == []
        assert (await server.call("GET", f"/o/{object_id}/b.bin", who=None)).status == 404

    run(tmp_path / "state", script)


def test_one_publisher_does_not_see_another(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"mine")
        assert (await server.call("GET", f"/v1/objects/{object_id}", who=BOB)).status == 404
        assert (await server.call("DELETE", f"/v1/objects/{object_id}", who=BOB)).status == 404
        for who, status in ((None, 401), ("owner-1", 403), ("operator-1", 403), ("device-1", 403), ("nonsense", 401)):
            answer = await server.call("POST", "/v1/objects?name=x", who=who, data=b"x")
            assert answer.status == status, who

    run(tmp_path / "state", script)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\x00b", "a\nb", "\x7f", "x" * 256, "é" * 128])
def test_bad_names(name: str) -> None:
    assert name_fault(name) is not None


def test_good_names_and_types() -> None:
    for name in ("a", "x" * 255, "é" * 127, "..a", "file.meta4", "名前.txt", "a b"):
        assert name_fault(name) is None
    assert media_type("Text/HTML; Charset=UTF-8; x=y") == "text/html; charset=utf-8"
    assert media_type("nonsense") == media_type(None) == "application/octet-stream"


def test_bad_names_are_refused_at_the_door(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        for name in ("", "..", "a%2Fb", "a%00", "%0A", "x" * 256):
            answer = await server.call("POST", f"/v1/objects?name={name}", data=b"x", status=400)
            assert answer.problem == "bad-name"
        assert (await server.call("POST", "/v1/objects", data=b"x", status=400)).problem == "name-missing"
        assert (
            await server.call("POST", "/v1/objects?name=x&replicas=-1", data=b"x", status=400)
        ).problem == "malformed"
        assert files(server) == []

    run(tmp_path / "state", script)


async def dribble(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def test_an_upload_without_a_length(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        answer = await server.call("POST", "/v1/objects?name=x", data=dribble([b"ab", b"c" * MIB, b"d"]), status=201)
        assert answer.json()["size"] == MIB + 3
        empty = await server.call("POST", "/v1/objects?name=empty", data=b"", status=201)
        assert empty.json()["chunks"] == 0
        assert (await server.call("GET", empty.json()["url"], who=None, status=200)).body == b""

    run(tmp_path / "state", script)


def test_limits_are_named_and_leave_nothing(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        answer = await server.call("POST", "/v1/objects?name=x", data=b"x" * (3 * MIB + 1))
        assert (answer.status, answer.problem) == (413, "too-large")
        answer = await server.call("POST", "/v1/objects?name=x", data=dribble([b"x" * MIB] * 4))
        assert (answer.status, answer.problem) == (413, "too-large")
        await server.publish(os.urandom(3 * MIB))
        answer = await server.call("POST", "/v1/objects?name=x", data=dribble([os.urandom(MIB)] * 3))
        assert (answer.status, answer.problem) == (413, "quota-exceeded")
        await server.publish(os.urandom(3 * MIB), who=BOB)
        assert len(files(server)) == 2

    run(
        tmp_path / "state",
        script,
        catalogue=Config(disk_free_bytes_min=0, object_bytes_max=3 * MIB, publisher_bytes_max=5 * MIB),
    )


def test_two_uploads_at_once_do_not_share_one_quota(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        calls = [server.call("POST", f"/v1/objects?name={n}", data=os.urandom(2 * MIB)) for n in range(4)]
        states = sorted([answer.status for answer in await asyncio.gather(*calls)])
        assert states.count(201) <= 2
        total = sum(o["size"] for o in (await server.call("GET", "/v1/objects")).json())
        assert total <= 5 * MIB
        assert len(files(server)) == states.count(201)

    run(tmp_path / "state", script, catalogue=Config(disk_free_bytes_min=0, publisher_bytes_max=5 * MIB))


def test_a_full_disk_is_said_before_it_is_full(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        answer = await server.call("POST", "/v1/objects?name=x", data=b"x")
        assert (answer.status, answer.problem) == (507, "disk-full")
        assert files(server) == []

    run(tmp_path / "state", script, catalogue=Config(disk_free_bytes_min=2**60))


def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/objects?name=x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALICE}\r\n"
        head += "Content-Length: 9999999\r\n\r\n"
        writer.write(head.encode() + b"x" * (2 * MIB))
        await writer.drain()
        incoming = server.directory / "blobs" / "incoming"
        await until(lambda: any(incoming.iterdir()))
        writer.transport.abort()
        await until(lambda: not any(incoming.iterdir()))
        assert files(server) == []
        assert (await server.call("GET", "/v1/objects")).json() == []

    run(tmp_path / "state", script)


def test_an_upload_that_stalls_is_given_up(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        never = asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            yield b"x"
            await never.wait()

        answer = await server.call("POST", "/v1/objects?name=x", data=stuck())
        assert (answer.status, answer.problem) == (408, "too-slow")
        assert files(server) == []

    run(tmp_path / "state", script, catalogue=Config(disk_free_bytes_min=0, stall_s_max=0.05))


def test_start_sweeps_what_a_crash_left(tmp_path: Path) -> None:
    async def script() -> None:
        async with running(tmp_path / "state") as server:
            kept = await server.publish(b"kept")
        blobs = tmp_path / "state" / "blobs"
        (blobs / "incoming" / "17").write_bytes(b"half")
        orphan = "ab" + "0" * 62
        (blobs / "ab").mkdir(exist_ok=True)
        (blobs / "ab" / orphan).write_bytes(b"no row")
        async with running(tmp_path / "state") as server:
            assert files(server) == [kept]
            assert (await server.call("GET", f"/o/{kept}/x", who=None)).body == b"kept"

    asyncio.run(script())


def test_lost_bytes_are_told_and_healed_by_publishing_again(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"bytes")
        server.catalogue.blobs.path(object_id).unlink()
        assert (await server.call("GET", f"/o/{object_id}/x", who=None)).status == 404
        await server.publish(b"bytes")
        assert (await server.call("GET", f"/o/{object_id}/x", who=None)).body == b"bytes"

    run(tmp_path / "state", script)


def test_listing_in_pages(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        ids = sorted([await server.publish(bytes([n])) for n in range(5)])
        first = (await server.call("GET", "/v1/objects?limit=3")).json()
        rest = (await server.call("GET", f"/v1/objects?after={first[-1]['id']}")).json()
        assert [o["id"] for o in first + rest] == ids
        assert (await server.call("GET", "/v1/objects?after=x")).status == 400

    run(tmp_path / "state", script)


def test_a_consumer_that_stops_reading_is_cut(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(os.urandom(16 * MIB))
        host, port = server.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(f"GET /o/{object_id}/x?source=origin HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await writer.drain()
        await until(lambda: server.delivery._transfer.running == 1)
        await until(lambda: server.delivery._transfer.running == 0)
        writer.transport.abort()

    from fallow_server.delivery.config import Config as DeliveryConfig

    run(tmp_path / "state", script, delivery=DeliveryConfig(stall_s_max=0.2))
