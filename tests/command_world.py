"""A server that answers as a test wants, and what a command knows of it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any

from fallow_client.settings import KnownDevice, Profile, load_settings, save_settings, settings_path

DEVICE_ID = "fd-" + "a" * 24

Answer = tuple[int, str, bytes]


class FakeServer:
    """Answers by method and path; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                call = f"{self.command} {self.path.partition('?')[0]}"
                outer.asked.append((call, dict(self.headers), body))
                missing = b'{"type":"not-found","title":"Not found"}'
                status, kind, data = outer.answers.get(call, (404, "application/problem+json", missing))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_PATCH = answer

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def json(self, call: str, value: Any, status: int = 200) -> None:
        self.answers[call] = (status, "application/json", json.dumps(value).encode())

    def problem(self, call: str, status: int, **members: Any) -> None:
        self.answers[call] = (status, "application/problem+json", json.dumps(members).encode())

    def calls(self) -> list[str]:
        return [call for call, _, _ in self.asked]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


Fallow = Callable[..., tuple[int, str, str]]


def logged_in(environ: dict[str, str], server: FakeServer, profile: str = "default") -> None:
    path = settings_path(environ)
    known = Profile(server.url, server.url, "secret-token")
    save_settings(path, load_settings(path).with_profile(profile, known))


def known_device(environ: dict[str, str], server: FakeServer) -> None:
    server.json("GET /v1/device", {"device_id": DEVICE_ID, "name": "n", "model": "m", "version": "1", "state": "active",
                                   "setup_code_required": True, "terms_version": "1"})  # fmt: skip
    path = settings_path(environ)
    save_settings(path, load_settings(path).with_device(DEVICE_ID, KnownDevice(server.url, "lan-token")))
