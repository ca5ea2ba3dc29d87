"""Metalink documents, read back by a strict parser."""

from __future__ import annotations

import hashlib
import os
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import urlsplit

from delivery_harness import Harness, run
from fallow_server.catalogue.names import name_fault
from fallow_server.delivery.metalink import MetalinkFile, metalink
from fallow_wire.manifest import ManifestBuilder
from hypothesis import assume, given, settings
from hypothesis import strategies as st

MIB = 2**20
NS = "{urn:ietf:params:xml:ns:metalink}"


def test_the_document_lists_pieces_devices_and_the_origin_last(tmp_path: Path) -> None:
    data = os.urandom(2 * MIB + 5)

    async def script(server: Harness) -> None:
        object_id = await server.publish(data, "a%26b%20%3C.iso")
        for number in range(1, 7):
            await server.device(number, object_id)
        answer = await server.call("GET", f"/o/{object_id}/a%26b%20%3C.iso.meta4", who=None, status=200)
        assert answer.headers["Content-Type"] == "application/metalink4+xml"
        assert answer.headers["Cache-Control"] == "no-store"
        file = ET.fromstring(answer.body).find(f"{NS}file")
        assert file is not None
        assert file.get("name") == "a&b <.iso"
        assert file.findtext(f"{NS}size") == str(len(data))
        assert file.findtext(f"{NS}hash") == hashlib.sha256(data).hexdigest()
        pieces = file.find(f"{NS}pieces")
        assert pieces is not None
        assert (pieces.get("length"), pieces.get("type")) == (str(MIB), "sha-256")
        assert [piece.text for piece in pieces] == [
            hashlib.sha256(data[start : start + MIB]).hexdigest() for start in range(0, len(data), MIB)
        ]
        urls = sorted((int(url.get("priority", "0")), url.text or "") for url in file.findall(f"{NS}url"))
        assert len(urls) == 5
        assert len({urlsplit(url).netloc for _, url in urls}) == 5
        assert all("?ticket=" in url for _, url in urls[:4])
        assert urls[4] == (999_999, f"{server.url}/o/{object_id}/a%26b%20%3C.iso?source=origin")

    run(tmp_path / "state", script)


def test_an_object_that_is_called_meta4_is_an_object(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"own document", "x.meta4")
        assert (await server.call("GET", f"/o/{object_id}/x.meta4", who=None)).body == b"own document"
        nested = await server.call("GET", f"/o/{object_id}/x.meta4.meta4", who=None, status=200)
        assert ET.fromstring(nested.body).find(f"{NS}file") is not None
        empty = await server.publish(b"", "empty")
        document = ET.fromstring((await server.call("GET", f"/o/{empty}/empty.meta4", who=None)).body)
        assert document.find(f"{NS}file/{NS}pieces") is None

    run(tmp_path / "state", script)


@settings(max_examples=100)
@given(st.text(min_size=1, max_size=40))
def test_any_allowed_name_survives_xml(name: str) -> None:
    assume(name_fault(name) is None)
    builder = ManifestBuilder()
    builder.feed(b"x")
    text = metalink(MetalinkFile(name, builder.finish(), "0" * 64, ["http://a/?a=1&b=2"], "http://o/'\"<"))
    root = ET.fromstring(text.encode("utf-8"))
    file = root.find(f"{NS}file")
    assert file is not None
    assert file.get("name") == name
    assert [url.text for url in file.findall(f"{NS}url")] == ["http://a/?a=1&b=2", "http://o/'\"<"]
