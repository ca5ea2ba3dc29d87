"""What the kernel says that a connection has carried (``TCP_INFO``; Linux 4.19 and newer), as bytes on the wire."""

from __future__ import annotations

import asyncio.trsock
import socket
import struct
from dataclasses import dataclass

BYTES = 208
_RTT_AT, _ACKED_AT, _RECEIVED_AT, _SEGMENTS_OUT_AT, _SEGMENTS_IN_AT = 68, 120, 128, 136, 140
_NOT_SENT_AT, _RTT_MIN_AT, _SENT_AT = 144, 148, 200
"""Into ``struct tcp_info``: tcpi_rtt, tcpi_bytes_acked, tcpi_bytes_received, tcpi_segs_out, tcpi_segs_in;
tcpi_notsent_bytes, tcpi_min_rtt, tcpi_bytes_sent."""
HEADER_BYTES = 66
"""Of a segment: Ethernet 14, IPv4 20, TCP with timestamps 32."""

Socket = socket.socket | asyncio.trsock.TransportSocket


@dataclass(frozen=True, slots=True)
class Sent:
    """By one socket since it opened, with what was sent twice; what still waits in it.

    ``queueing_ms``: its smoothed round trip above the lowest of the last five minutes.
    """

    wire_bytes: int
    waiting_bytes: int
    queueing_ms: float = 0.0


def sent_by(sock: Socket) -> Sent | None:
    """None where the kernel does not say."""
    if (info := _info(sock)) is None:
        return None
    (segments,) = struct.unpack_from("=I", info, _SEGMENTS_OUT_AT)
    (waiting,) = struct.unpack_from("=I", info, _NOT_SENT_AT)
    (sent,) = struct.unpack_from("=Q", info, _SENT_AT)
    (rtt_us,) = struct.unpack_from("=I", info, _RTT_AT)
    (rtt_min_us,) = struct.unpack_from("=I", info, _RTT_MIN_AT)
    return Sent(sent + segments * HEADER_BYTES, waiting, max(0, rtt_us - rtt_min_us) / 1000)


@dataclass(frozen=True, slots=True)
class Carried:
    """Payload of one connection that has arrived: at the other end, and here. Whether it was read does not matter."""

    up_bytes: int = 0
    down_bytes: int = 0


def carried_by(sock: Socket) -> Carried | None:
    """Since it opened; None where the kernel does not say."""
    if (info := _info(sock)) is None:
        return None
    return Carried(*struct.unpack_from("=QQ", info, _ACKED_AT))


def received_by(sock: Socket) -> int | None:
    """Since it opened, whether anybody has read it or not; None where the kernel does not say."""
    if (info := _info(sock)) is None:
        return None
    (segments,) = struct.unpack_from("=I", info, _SEGMENTS_IN_AT)
    (received,) = struct.unpack_from("=Q", info, _RECEIVED_AT)
    return int(received + segments * HEADER_BYTES)


def _info(sock: Socket) -> bytes | None:
    if not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES)
    except OSError:
        return None
    return info if len(info) == BYTES else None
