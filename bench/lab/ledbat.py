"""A peer to compare with: LEDBAT as libtorrent does it. A seeder on the device, a leecher among the consumers.

Only uTP between the two, who are told of each other; no DHT, no local discovery, no port mapping, no other peers.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .processes import answer, told

SEEDER_PORT, LEECHER_PORT = 32600, 32601
CONTENT_BYTES = 2**30
PIECE_BYTES = 2**20
PUMP_S = 0.5
SETTINGS = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_tcp": False,
    "enable_outgoing_tcp": False,
    "allow_multiple_connections_per_ip": True,
    # Encryption costs processor time and changes nothing on the wire.
    "in_enc_policy": 2,
    "out_enc_policy": 2,
    "alert_mask": 0,
}


def _session(port: int) -> Any:
    import libtorrent

    return libtorrent.session({**SETTINGS, "listen_interfaces": f"0.0.0.0:{port}"})


def make_torrent(path: str, folder: str) -> None:
    """Content of zeros, which take no room on the disk, and the torrent of it; answers when it is written."""
    import libtorrent

    content = Path(folder) / "content"
    with content.open("wb") as file:
        file.truncate(CONTENT_BYTES)
    files = libtorrent.file_storage()
    libtorrent.add_files(files, str(content))
    made = libtorrent.create_torrent(files, PIECE_BYTES)
    libtorrent.set_piece_hashes(made, folder)
    Path(path).write_bytes(libtorrent.bencode(made.generate()))
    answer(True)


def _torrent(path: str, folder: str, flags: int = 0) -> Any:
    import libtorrent

    wanted = libtorrent.add_torrent_params()
    wanted.ti, wanted.save_path = libtorrent.torrent_info(path), folder
    wanted.flags = (wanted.flags | flags) & ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
    return wanted


def seed(path: str, folder: str) -> None:
    import libtorrent

    session = _session(SEEDER_PORT)
    session.add_torrent(_torrent(path, folder, libtorrent.torrent_flags.seed_mode))
    answer(True)
    sys.stdin.read()


def leech(path: str, folder: str, device: str) -> None:
    """Told ``true`` it takes the content from the device, beginning again at the end; told ``false`` it leaves."""
    import libtorrent

    session = _session(LEECHER_PORT)
    lock = threading.Lock()
    joined: list[Any] = [None]

    def join() -> None:
        joined[0] = session.add_torrent(_torrent(path, folder))

    def leave() -> None:
        if joined[0] is not None:
            session.remove_torrent(joined[0], libtorrent.session.delete_files)
            joined[0] = None

    def pump() -> None:
        while True:
            with lock:
                torrent = joined[0]
                if torrent is not None:
                    status = torrent.status()
                    if status.is_finished:
                        leave()
                        join()
                    elif status.num_peers == 0:
                        torrent.connect_peer((device, SEEDER_PORT))
            time.sleep(PUMP_S)

    threading.Thread(target=pump, daemon=True).start()
    while (value := told(sys.stdin)) is not None:
        with lock:
            leave()
            if value:
                join()
                joined[0].connect_peer((device, SEEDER_PORT))
        answer(time.monotonic())


PARTS: dict[str, Callable[..., Any]] = {"make-torrent": make_torrent, "seed": seed, "leech": leech}
