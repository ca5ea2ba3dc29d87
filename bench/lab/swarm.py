"""BitTorrent to compare with: a torrent with a web seed, the tracker that tells the peers of each other, and peers.

Peers are transmission's, by TCP (its uTP would give way to all others), found by the tracker and by each other.
"""

from __future__ import annotations

import hashlib
import json
import random
import socket
import struct
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

TRACKER_PORT, PEER_PORT = 6969, 6881
PIECE_BYTES = 256 * 1024
PEERS_TOLD = 50
"""At once, as trackers do."""
ANNOUNCE_S = 30


def bencode(value: Any) -> bytes:
    """BEP 3."""
    match value:
        case int():
            return b"i%de" % value
        case bytes():
            return b"%d:%s" % (len(value), value)
        case str():
            return bencode(value.encode())
        case list():
            return b"l" + b"".join(map(bencode, value)) + b"e"
        case dict():
            pairs = sorted((key.encode(), item) for key, item in value.items())
            return b"d" + b"".join(bencode(key) + bencode(item) for key, item in pairs) + b"e"
        case _:
            raise TypeError(type(value).__name__)


def torrent(content: Path, tracker: str, web_seed: str) -> bytes:
    """Of one file. :param tracker, web_seed: addresses, the latter of the file itself (BEP 19)."""
    pieces = b""
    with content.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            pieces += hashlib.sha1(piece).digest()  # BEP 3 names it
    info = {"length": content.stat().st_size, "name": content.name, "piece length": PIECE_BYTES, "pieces": pieces}
    return bencode({"announce": tracker, "info": info, "url-list": web_seed})


def track() -> None:
    """A tracker, for peers who are where their announcement comes from."""
    peers: dict[tuple[str, int], float] = {}

    class Announce(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = dict(parse_qsl(urlsplit(self.path).query, encoding="latin-1"))
            peer = (self.client_address[0], int(asked["port"]))
            if asked.get("event") == "stopped":
                peers.pop(peer, None)
            else:
                peers[peer] = time.monotonic()
            others = [one for one in tuple(peers) if one != peer]
            told = random.sample(others, min(PEERS_TOLD, len(others)))
            packed = b"".join(socket.inet_aton(host) + struct.pack("!H", port) for host, port in told)
            body = bencode({"interval": ANNOUNCE_S, "min interval": ANNOUNCE_S // 2, "peers": packed})
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    class Tracker(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    Tracker(("", TRACKER_PORT), Announce).serve_forever()


PEER_SETTINGS = {
    "cache-size-mb": 1,
    "dht-enabled": False,
    "lpd-enabled": False,
    "peer-limit-per-torrent": 80,
    "pex-enabled": True,
    "port-forwarding-enabled": False,
    "preallocation": 0,
    "utp-enabled": False,
}
LEAVE = """#!/bin/sh
touch "{folder}/.complete"
"""
PEER = """#!/bin/sh
transmission-cli -g {settings} -p {port} -M -D -U -et -w {folder} {finish} {torrent} >/dev/null 2>&1 &
peer=$!
trap "kill -9 $peer" TERM
if [ -n "{finish}" ]; then
    until [ -e {folder}/.complete ]; do sleep 0.1; kill -0 $peer || exit 1; done
    kill -9 $peer
fi
wait $peer
exit 0
"""


def peer_command(work: Path, name: str, folder: Path, described: Path, *, stay: bool = False) -> list[str]:
    """A peer that has what is in ``folder``, and leaves when it has all, unless it shall ``stay``."""
    settings = work / f"peer-{name}-{described.stem}"
    settings.mkdir()
    (settings / "settings.json").write_text(json.dumps(PEER_SETTINGS))
    leave, script = settings / "leave", settings / "run"
    leave.write_text(LEAVE.format(folder=folder))
    script.write_text(
        PEER.format(settings=settings, port=PEER_PORT, folder=folder, torrent=described,
                    finish="" if stay else f"-f {leave}")
    )  # fmt: skip
    for path in (leave, script):
        path.chmod(0o755)
    return [str(script)]


PARTS: dict[str, Callable[..., Any]] = {"track": track}
