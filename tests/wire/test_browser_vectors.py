"""What fallow.js must read and write exactly as we do: the vectors that its own tests take from a file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from fallow_wire.encoding import base64url
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import JwkSet
from fallow_wire.limits import CHUNK_BYTES
from fallow_wire.manifest import ManifestBuilder
from fallow_wire.plans import first_chunk
from fallow_wire.tickets import Confirmation, Receipt, Ticket, unacknowledged_bytes_max
from support import NOW, key

FILE = Path(__file__).parents[2] / "web" / "delivery" / "src" / "vectors.json"
JTI = "01939a2e-5e1a-7c3f-8000-0123456789ab"


def vectors() -> dict[str, Any]:
    scheduler, consumer, device = key(31), key(32), key(33).public.device_id()
    builder = ManifestBuilder("video/mp4")
    first, last = b"\x01" * CHUNK_BYTES, b"the rest"
    builder.feed(first + last)
    manifest = builder.finish()
    object_id = manifest.object_id()
    ticket = Ticket(
        iss="https://scheduler.example",
        aud=device,
        jti=JTI,
        sub="pseudonym.region",
        iat=NOW,
        nbf=NOW,
        exp=NOW + 900,
        obj=object_id,
        svc="object",
        tier="countersigned",
        max_bytes=manifest.size,
        publisher="publisher-1",
        tariff="ab" * 32,
        ledger="https://ledger.example",
        cnf=Confirmation(consumer.public.jwk()),
    )
    receipts = [
        Receipt(JTI, 1, CHUNK_BYTES, 120, manifest.chunks[0]),
        Receipt(JTI, 2, manifest.size, 123, manifest.chunks[1]),
    ]
    return {
        "made_by": "tests/wire/test_browser_vectors.py",
        "jwks": encode(JwkSet((scheduler.public.jwk(with_kid=True),))),
        "consumer": {
            "seed": base64url(consumer.seed),
            "public": base64url(consumer.public.raw),
            "kid": consumer.public.thumbprint(),
        },
        "object": object_id,
        "manifest": sign(Kind.MANIFEST, manifest, scheduler),
        "manifest_of_a_stranger": sign(Kind.MANIFEST, manifest, key(34)),
        "chunks": [{"byte": 1, "length": CHUNK_BYTES}, {"text": last.decode()}],
        "device": device,
        "ticket": sign(Kind.TICKET, ticket, scheduler),
        "receipts": [sign(Kind.RECEIPT, receipt, consumer) for receipt in receipts],
        "first_chunks": {
            name: first_chunk(hashlib.sha256(name.encode()).hexdigest(), device, 2**20 + 7) for name in ("a", "b", "c")
        },
        "windows": {str(n): unacknowledged_bytes_max(n) for n in (0, 1, 8 * 2**20 + 7, 20 * 2**20, 2**30)},
    }


def test_the_vectors_of_the_browser_are_ours() -> None:
    text = json.dumps(vectors(), indent=2) + "\n"
    if os.environ.get("FALLOW_WRITE_VECTORS"):
        FILE.write_text(text)
    assert FILE.read_text() == text, "the wire has changed: run this again with FALLOW_WRITE_VECTORS=1"
