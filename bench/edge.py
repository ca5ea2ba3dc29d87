"""Processor time of the service port per GB sent, next to nginx (sendfile, one worker) in the same run.

Both are real processes on the loopback; clients keep four connections busy with random ranges of one object. The
service port checks tickets, keeps accounts in its outbox and paces. In the first two cases the budget is above what
the loopback carries, so that pacing is there but does not limit; in the ``paced`` one both sides hold each connection
to 100 Mbit/s (nginx by ``limit_rate``). Rounds alternate; a figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fallow_agent.clock import Clock
from fallow_agent.edge.content import ContentConfig, ContentStore
from fallow_agent.edge.dial_back import DialBackNonces
from fallow_agent.edge.server import EdgeConfig
from fallow_agent.edge.service import EdgeService
from fallow_agent.line.pacer import WIRE_PERMILLE, Pacer
from fallow_agent.proofs.outbox import Outbox
from fallow_agent.store import open_database
from fallow_wire.ids import uuid7
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import PrivateKey
from fallow_wire.lan import Limits
from fallow_wire.limits import INTEGER_MAX
from fallow_wire.manifest import ManifestBuilder, verify_manifest
from fallow_wire.tickets import Ticket
from harness import Figure, arguments, publish, ratios

MIB = 2**20
OBJECT_BYTES = 64 * MIB
CONNECTIONS = 4
BUDGET_BPS = 30 * 10**9
PACED_BYTES_PER_S = 12_500_000


@dataclass(frozen=True, slots=True)
class Case:
    """Ranges of ``range_bytes`` each, ``total_mib`` of them a round (``quick_mib`` with ``--quick``)."""

    name: str
    range_bytes: int
    total_mib: int
    quick_mib: int
    budget_bps: int = BUDGET_BPS
    goal_max: float | None = None


CASES = (
    Case("1mib", MIB, 1536, 512, goal_max=1.3),
    Case("64kib", 64 * 1024, 768, 256, goal_max=3.0),
    Case("paced", MIB, 256, 64, PACED_BYTES_PER_S * CONNECTIONS * 8 * WIRE_PERMILLE // 1000),
)

NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/nginx.err;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
  types {{ video/mp4 mp4; }}
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
  server {{ listen 127.0.0.1:{port}; root {dir}; location /paced/ {{ alias {dir}/; limit_rate {paced}; }} }}
}}
"""


async def serve(directory: Path, budget_bps: int) -> None:
    """The service port as the agent runs it; prints the path to ask for, then serves until its input ends."""
    device, scheduler = PrivateKey.generate(), PrivateKey.generate()
    keys = {scheduler.public.thumbprint(): scheduler.public}
    data = (directory / "film.mp4").read_bytes()
    builder = ManifestBuilder("video/mp4")
    builder.feed(data)
    signed = verify_manifest(sign(Kind.MANIFEST, builder.finish(), scheduler), keys)
    content = ContentStore(directory / "content", ContentConfig(free_floor_bytes=0), lambda: INTEGER_MAX)
    fill = content.begin(signed)
    for index in range(len(signed.manifest.chunks)):
        start, length = signed.manifest.chunk_span(index)
        fill.write(index, data[start : start + length])
    fill.publish(fill.finish())
    del data
    now = int(time.time())
    ticket = Ticket(
        iss="https://scheduler.example",
        aud=device.public.device_id(),
        jti=uuid7(now * 1000, os.urandom(10)),
        sub="consumer",
        iat=now,
        nbf=now,
        exp=now + 900,
        obj=signed.object_id,
        svc="object",
        tier="legacy",
        max_bytes=INTEGER_MAX,
        publisher="publisher-1",
        tariff="0" * 64,
        ledger="https://ledger.example",
    )
    token = sign(Kind.TICKET, ticket, scheduler)
    pacer = Pacer()
    pacer.set_rate(budget_bps)
    service = EdgeService(
        EdgeConfig(host="127.0.0.1", port=0),
        key=device,
        clock=Clock(),
        content=content,
        outbox=Outbox(open_database(directory / "agent.sqlite")),
        pacer=pacer,
        scheduler_key=keys.get,
        limits=Limits,
        refusal=lambda: None,
        ticket_idle_s=lambda: 30,
        nonces=DialBackNonces(),
        connections_max=lambda: 1000,
    )
    port = await service.start()
    print(port, f"/o/{signed.object_id}/film.mp4?ticket={token}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await service.close()


def load(port: int, path: str, size: int, count: int, seed: int) -> None:
    """One connection: ``count`` random aligned ranges, one after the other."""
    draw = random.Random(seed)
    view = memoryview(bytearray(MIB))
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for _ in range(count):
            start = draw.randrange(OBJECT_BYTES // size) * size
            sock.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench\r\nAccept: */*\r\n"
                f"Range: bytes={start}-{start + size - 1}\r\n\r\n".encode()
            )
            got = sock.recv_into(view)
            head = bytes(view[:got]).partition(b"\r\n\r\n")[0]
            assert head.startswith(b"HTTP/1.1 206"), head
            got -= len(head) + 4
            while got < size:
                more = sock.recv_into(view)
                assert more, "the connection was cut"
                got += more


def load_all(port: int, path: str, size: int, total: int) -> None:
    """All connections of one round, in this process."""
    count = total // size // CONNECTIONS
    threads = [threading.Thread(target=load, args=(port, path, size, count, seed)) for seed in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def processor_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(quick: bool, directory: Path) -> list[Figure]:
    (directory / "film.mp4").write_bytes(os.urandom(OBJECT_BYTES))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nginx_port = probe.getsockname()[1]
    configuration = NGINX.format(dir=directory, port=nginx_port, paced=PACED_BYTES_PER_S)
    (directory / "nginx.conf").write_text(configuration)
    nginx = subprocess.Popen(["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf")])
    try:
        worker = worker_of(nginx.pid)
        figures = []
        for case in CASES:
            path = "/paced/film.mp4" if case.budget_bps < BUDGET_BPS else "/film.mp4"
            figures += measure_case(case, quick, directory, ("nginx", worker, str(nginx_port), path))
        return figures
    finally:
        nginx.terminate()
        nginx.wait()


def measure_case(case: Case, quick: bool, directory: Path, nginx: tuple[str, int, str, str]) -> list[Figure]:
    me = [sys.executable, __file__]
    state = directory / case.name
    state.mkdir()
    os.link(directory / "film.mp4", state / "film.mp4")
    arguments_ = ["--serve", str(state), "--budget", str(case.budget_bps)]
    edge = subprocess.Popen([*me, *arguments_], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    spent: dict[str, list[float]] = {"edge": [], "nginx": []}
    total = (case.quick_mib if quick else case.total_mib) * MIB
    try:
        output: IO[str] | None = edge.stdout
        assert output is not None
        port, path = output.readline().split()
        for round_number in range(-1, 4 if quick else 9):
            for name, pid, peer_port, peer_path in (("edge", edge.pid, port, path), nginx):
                before = processor_s(pid)
                subprocess.run([*me, "--load", peer_port, peer_path, str(case.range_bytes), str(total)], check=True)
                if round_number >= 0:  # the first warms caches and ticket
                    spent[name].append((processor_s(pid) - before) / (total / 1e9))
    finally:
        edge.terminate()
        edge.wait()
    against = "nginx 1 worker, sendfile" + (", limit_rate" if case.goal_max is None else "")
    figures = [ratios(f"cpu_over_nginx_{case.name}", spent["edge"], spent["nginx"], case.goal_max, against)]
    for name, values in spent.items():
        ordered = sorted(values)
        figures.append(
            Figure(f"cpu_s_per_gb_{case.name}.{name}", statistics.median(ordered), "s/GB", ordered[0], ordered[-1])
        )
    return figures


def worker_of(master: int) -> int:
    """The one worker of an nginx master, as soon as it is there."""
    children = Path(f"/proc/{master}/task/{master}/children")
    until = time.monotonic() + 10
    while time.monotonic() < until:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.02)
    raise SystemExit("nginx did not start")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--serve", type=Path, help="internal")
    parser.add_argument("--budget", type=int, default=BUDGET_BPS, help="internal")
    parser.add_argument("--load", nargs=4, help="internal")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.budget))
    elif options.load:
        port, path, size, total = options.load
        load_all(int(port), path, int(size), int(total))
    else:
        with tempfile.TemporaryDirectory(prefix="fallow-bench-") as name:
            Path(name).chmod(0o755)  # nginx's worker runs as another user
            figures = measure(options.quick, Path(name))
        publish("edge", figures, quick=options.quick)


if __name__ == "__main__":
    main()
