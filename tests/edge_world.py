"""A device's service port on a real socket, with what it needs, for tests."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fallow_agent.clock import Clock
from fallow_agent.edge.admission import Refusal
from fallow_agent.edge.content import ContentConfig, ContentStore
from fallow_agent.edge.dial_back import DialBackNonces
from fallow_agent.edge.server import EdgeConfig
from fallow_agent.edge.service import EdgeService
from fallow_agent.line.pacer import Pacer
from fallow_agent.proofs.outbox import Outbox
from fallow_agent.store import open_database
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import PrivateKey
from fallow_wire.lan import Limits
from fallow_wire.manifest import Manifest, ManifestBuilder, SignedManifest, verify_manifest
from fallow_wire.tickets import Receipt, Ticket
from support import NOW, key, make_receipt, make_ticket, signed_ticket

MIB = 2**20
DEVICE, SCHEDULER, CONSUMER = key(1), key(2), key(3)
PLENTY = 10**10


class FixedClock(Clock):
    """Unix time that the test sets; monotonic time is real."""

    def __init__(self) -> None:
        super().__init__()
        self.unix_s = NOW

    def now_ms(self) -> int:
        return self.unix_s * 1000


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def sign_manifest(manifest: Manifest) -> SignedManifest:
    token = sign(Kind.MANIFEST, manifest, SCHEDULER)
    return verify_manifest(token, {SCHEDULER.public.thumbprint(): SCHEDULER.public})


def manifest_of(data: bytes, media_type: str = "video/mp4") -> SignedManifest:
    builder = ManifestBuilder(media_type)
    builder.feed(data)
    return sign_manifest(builder.finish())


def put(content: ContentStore, data: bytes, media_type: str = "video/mp4", *, cached: bool = False) -> str:
    """Store ``data`` as an object; gives its id."""
    signed = manifest_of(data, media_type)
    fill = content.begin(signed, cached=cached)
    fill.recover()
    for index in range(len(signed.manifest.chunks)):
        start, length = signed.manifest.chunk_span(index)
        fill.write(index, data[start : start + length])
    fill.publish(fill.finish())
    return signed.object_id


def new_store(directory: Path, free: int = PLENTY, **config: Any) -> ContentStore:
    return ContentStore(directory, ContentConfig(**config), lambda: free)


def receipt(ticket: Ticket, n: int, size: int, consumer: PrivateKey = CONSUMER, **changes: Any) -> str:
    made: Receipt = make_receipt(ticket, n, size, digest=hashlib.sha256(b"").hexdigest(), **changes)
    return sign(Kind.RECEIPT, made, consumer)


@dataclass
class World:
    service: EdgeService
    content: ContentStore
    outbox: Outbox
    clock: FixedClock
    pacer: Pacer
    nonces: DialBackNonces
    port: int = 0
    limits: Limits = field(default_factory=Limits)
    refusal: Refusal | None = None
    table_max: int = 1000
    """Open connections that the host allows."""

    def ticket(self, object_id: str, *, countersigned: bool = False, **changes: Any) -> Ticket:
        return make_ticket(DEVICE, CONSUMER if countersigned else None, obj=object_id, **changes)

    def url(self, ticket: Ticket, name: str = "film.mp4", object_id: str | None = None) -> str:
        token = signed_ticket(ticket, SCHEDULER)
        return f"http://127.0.0.1:{self.port}/o/{object_id or ticket.obj}/{name}?ticket={token}"


@asynccontextmanager
async def world(tmp_path: Path, *, by_kernel: bool | None = None, **config: Any) -> AsyncIterator[World]:
    """A running service port over ``tmp_path``; opened again on the same path, it is the device after a restart."""
    connection = open_database(tmp_path / "agent.sqlite")
    clock, nonces, pacer = FixedClock(), DialBackNonces(), Pacer(by_kernel=by_kernel)
    pacer.set_rate(10**10)
    content = new_store(tmp_path / "content")
    outbox = Outbox(connection)
    keys = {SCHEDULER.public.thumbprint(): SCHEDULER.public}
    service = EdgeService(
        EdgeConfig(host="127.0.0.1", port=0, **config),
        key=DEVICE,
        clock=clock,
        content=content,
        outbox=outbox,
        pacer=pacer,
        scheduler_key=keys.get,
        limits=lambda: found.limits,
        refusal=lambda: found.refusal,
        ticket_idle_s=lambda: 30,
        nonces=nonces,
        connections_max=lambda: found.table_max,
    )
    found = World(service, content, outbox, clock, pacer, nonces)
    found.port = await service.start()
    try:
        yield found
    finally:
        await service.close()
        content.close()
        connection.close()


@dataclass
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes


class Caller:
    """A raw HTTP/1.1 client on one connection, which sees exactly what is on the wire."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Caller:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def ask(self, url: str, method: str = "GET", body: bytes = b"", **fields: str) -> None:
        target = "/" + url.split("/", 3)[3]
        lines = [f"{method} {target} HTTP/1.1", "Host: device"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self) -> Answer:
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in raw[1:-2])}
        return Answer(int(raw[0].split(" ")[1]), fields, b"")

    async def answer(self, method: str = "GET") -> Answer:
        found = await self.head()
        if method != "HEAD" and found.status not in (204, 304):
            found.body = await self.reader.readexactly(int(found.fields["content-length"]))
        return found

    async def call(self, url: str, method: str = "GET", body: bytes = b"", **fields: str) -> Answer:
        self.ask(url, method, body, **fields)
        return await self.answer(method)

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass  # reset by the device, which some tests want
