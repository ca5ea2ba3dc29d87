"""Messages of the session between device and scheduler: JSON objects with a ``type``, one a WebSocket text frame.

These are not signed (the device proves its key once, in ``hello``), so unknown fields are ignored and unknown types
are reported as :class:`~.errors.Malformed` with slug ``unknown-type``, for the receiver to log and pass over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from .encoding import base64url, from_base64url
from .errors import BadSignature, Malformed
from .fields import (
    base64url_bytes,
    boolean,
    decode,
    decode_like,
    device_id,
    encode,
    hexadecimal,
    integer,
    integers,
    items,
    mapping,
    matching,
    one_of,
    record,
    text,
    word,
)
from .keys import JwkSet, PrivateKey, PublicKey
from .limits import (
    CONTENT_IDS_MAX,
    MANIFEST_BYTES_MAX,
    SESSION_DOWN_BYTES_MAX,
    SESSION_UP_BYTES_MAX,
    TICKET_BYTES_MAX,
)
from .probes import ProbeResult
from .strict import dumps, loads_object
from .tickets import SERVICES

SUBPROTOCOL = "fallow.v1"
HEARTBEAT_S = 15
TICKET_IDLE_S = 120
TASK_KINDS = ("fill", "drop", "probe", "live", "pull")

_NONCE = matching(re.compile(r"[A-Za-z0-9_-]{16,64}\Z"), "16 to 64 characters of base64url", 64)


# ------------------------------------------------------------------ what a heartbeat reports

CAPACITY_SOURCES = ("configured", "sqm", "modem", "upnp", "passive", "train", "speedtest", "unknown")
"""``down_capacity_source`` is None where download is known by the same means as upload."""


@dataclass(frozen=True, slots=True)
class Line:
    """Rates in bit/s, round-trip times in ms."""

    up_capacity_bps: Annotated[int, integer()]
    down_capacity_bps: Annotated[int, integer()]
    capacity_source: Annotated[str, one_of(*CAPACITY_SOURCES)]
    household_up_bps: Annotated[int, integer()]
    household_down_bps: Annotated[int, integer()]
    own_up_bps: Annotated[int, integer()]
    own_down_bps: Annotated[int, integer()]
    idle_up_bps: Annotated[int, integer()]
    idle_down_bps: Annotated[int, integer()]
    rtt_ms: Annotated[int | None, integer()] = None
    rtt_base_ms: Annotated[int | None, integer()] = None
    down_capacity_source: Annotated[str | None, one_of(*CAPACITY_SOURCES)] = None


@dataclass(frozen=True, slots=True)
class Disk:
    quota_bytes: Annotated[int, integer()]
    used_bytes: Annotated[int, integer()]
    free_bytes: Annotated[int, integer()]
    medium: Annotated[str, one_of("ssd", "hdd", "sd", "flash", "ram", "unknown")]


@dataclass(frozen=True, slots=True)
class Processor:
    cores: Annotated[int, integer(1)]
    arch: Annotated[str, text(32, 1)]
    spare_percent: Annotated[int, integer(0, 100)]
    memory_free_bytes: Annotated[int, integer()]
    temperature_c: Annotated[int | None, integer(0, 200)] = None


@dataclass(frozen=True, slots=True)
class ServicePort:
    protocol: Annotated[str, one_of("tcp", "udp")]
    port: Annotated[int, integer(1, 65535)]
    family: Annotated[str, one_of("ipv4", "ipv6")]
    address: Annotated[str, text(64, 2)]
    mapped_by: Annotated[str, one_of("none", "manual", "upnp", "pcp", "natpmp", "firewall")]


@dataclass(frozen=True, slots=True)
class Environment:
    service_ports: Annotated[tuple[ServicePort, ...], items(record(ServicePort), 16)]
    nat: Annotated[str, one_of("none", "private", "carrier", "unknown")]
    os: Annotated[str, text(128)]
    model: Annotated[str, text(128)]
    version: Annotated[str, text(64, 1)]


# ------------------------------------------------------------------ up


@dataclass(frozen=True, slots=True)
class Hello:
    """Answer to the challenge: a signature over :func:`hello_input`."""

    TYPE: ClassVar[str] = "hello"
    device_id: Annotated[str, device_id()]
    signature: Annotated[str, base64url_bytes(64)]
    version: Annotated[str, text(64, 1)]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Every ``Policy.heartbeat_s``, and at once on a large change.

    ``forecast_idle_up_bps``: the 10th percentile of idle upload for each of the coming 24 hours. ``services``: what
    the owner's limits allow now. ``connections``: consumers served now.
    """

    TYPE: ClassVar[str] = "heartbeat"
    state: Annotated[str, one_of("active", "paused")]
    line: Annotated[Line, record(Line)]
    forecast_idle_up_bps: Annotated[Sequence[int], integers(24)]
    disk: Annotated[Disk, record(Disk)]
    processor: Annotated[Processor, record(Processor)]
    environment: Annotated[Environment, record(Environment)]
    services: Annotated[tuple[str, ...], items(one_of(*SERVICES), 16)]
    connections: Annotated[int, integer()] = 0
    connections_max: Annotated[int, integer()] = 0


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """``result``: of a probe that is done."""

    TYPE: ClassVar[str] = "task_status"
    id: Annotated[str, word()]
    status: Annotated[str, one_of("accepted", "running", "done", "failed")]
    bytes_done: Annotated[int, integer()] = 0
    reason: Annotated[str | None, text(256)] = None
    result: Annotated[ProbeResult | None, record(ProbeResult)] = None


@dataclass(frozen=True, slots=True)
class Content:
    """What the device holds: complete objects, and in ``partial`` those of which it fetches what is asked of it. One
    that is complete now is in ``added``, one that is held no longer, in part neither, in ``dropped``.

    After ``hello`` the first has ``snapshot`` true: the scheduler forgets what it knew before. More than 1000 ids go
    in several messages.
    """

    TYPE: ClassVar[str] = "content"
    added: Annotated[tuple[str, ...], items(hexadecimal(64), CONTENT_IDS_MAX)]
    dropped: Annotated[tuple[str, ...], items(hexadecimal(64), CONTENT_IDS_MAX)]
    snapshot: Annotated[bool, boolean()] = False
    partial: Annotated[tuple[str, ...], items(hexadecimal(64), CONTENT_IDS_MAX)] = ()


# ------------------------------------------------------------------ down


@dataclass(frozen=True, slots=True)
class Challenge:
    """``now`` is the scheduler's Unix time: a device without a clock reads ticket times by it."""

    TYPE: ClassVar[str] = "challenge"
    nonce: Annotated[str, _NONCE]
    now: Annotated[int, integer()]


@dataclass(frozen=True, slots=True)
class Source:
    """Where to fill from: another device with a ticket, or the origin without one."""

    url: Annotated[str, text(6 * 1024, 8)]
    ticket: Annotated[str | None, text(TICKET_BYTES_MAX, 1)] = None


@dataclass(frozen=True, slots=True)
class Task:
    """``fill``: hold ``object``, from ``sources`` in order. ``pull``: hold what is asked of it. ``drop``: forget it.
    ``probe``: measure what ``parameters`` say (:mod:`.probes`)."""

    TYPE: ClassVar[str] = "task"
    id: Annotated[str, word()]
    kind: Annotated[str, one_of(*TASK_KINDS)]
    object: Annotated[str | None, hexadecimal(64)] = None
    manifest: Annotated[str | None, text(MANIFEST_BYTES_MAX, 1)] = None
    sources: Annotated[tuple[Source, ...], items(record(Source), 16)] = ()
    deadline: Annotated[int | None, integer()] = None
    parameters: Annotated[dict[str, str], mapping(word(), text(2048), 32)] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cancel:
    TYPE: ClassVar[str] = "cancel"
    id: Annotated[str, word()]
    reason: Annotated[str | None, text(256)] = None


VERSION = matching(re.compile(r"\d{1,6}(\.\d{1,6}){0,3}\Z"), "a version, such as 0.2.1", 32)


@dataclass(frozen=True, slots=True)
class AgentAdvice:
    """The version of the agent that devices should have at least: ``percent`` of them, for now."""

    version: Annotated[str, VERSION]
    percent: Annotated[int, integer(0, 100)] = 100


@dataclass(frozen=True, slots=True)
class Policy:
    """First message after a good ``hello``, and again when something in it changes.

    ``ticket_idle_s``: a countersigned ticket without traffic for so long is closed and goes to the ledger.
    """

    TYPE: ClassVar[str] = "policy"
    jwks: Annotated[JwkSet, record(JwkSet)]
    ledger: Annotated[str, text(256, 1)]
    heartbeat_s: Annotated[int, integer(1, 3600)] = HEARTBEAT_S
    ticket_idle_s: Annotated[int, integer(1, 900)] = TICKET_IDLE_S
    now: Annotated[int | None, integer()] = None
    agent: Annotated[AgentAdvice | None, record(AgentAdvice)] = None


@dataclass(frozen=True, slots=True)
class DialBack:
    """The scheduler is about to call ``GET /v1/dial-back/{nonce}`` on the claimed service address."""

    TYPE: ClassVar[str] = "dial_back"
    nonce: Annotated[str, _NONCE]


REACH = ("open", "mapped", "carrier", "blocked", "unknown")
"""``open``: an address of the device's own answered. ``mapped``: one of its router's did. ``carrier``: none did, for
the provider shares one address among homes, or there is a second router. ``blocked``: none did. ``unknown``: none was
tried."""


@dataclass(frozen=True, slots=True)
class Reachability:
    """What the scheduler has found by dialling back; sent after the first dial-backs, and when it changes.

    ``addresses``: from which the scheduler sees the device come: the session's, then one of the other family where it
    knows one. ``urls``: that answered.
    """

    TYPE: ClassVar[str] = "reachability"
    addresses: Annotated[tuple[str, ...], items(text(64), 2, 1)]
    ipv4: Annotated[str, one_of(*REACH)]
    ipv6: Annotated[str, one_of(*REACH)]
    urls: Annotated[tuple[str, ...], items(text(128), 16)] = ()


Upward = Hello | Heartbeat | TaskStatus | Content
Downward = Challenge | Task | Cancel | Policy | DialBack | Reachability

_UP: dict[str, type[Any]] = {c.TYPE: c for c in (Hello, Heartbeat, TaskStatus, Content)}
_DOWN: dict[str, type[Any]] = {c.TYPE: c for c in (Challenge, Task, Cancel, Policy, DialBack, Reachability)}


def _read(data: str | bytes, size_max: int, types: dict[str, type[Any]], before: Heartbeat | None = None) -> Any:
    value = loads_object(data, size_max)
    kind = value.pop("type", None)
    if not isinstance(kind, str):
        raise Malformed("type: is missing")
    if kind not in types:
        raise Malformed(f"message type {kind[:32]!r} is not known here", slug="unknown-type")
    if before is not None and types[kind] is Heartbeat:
        return decode_like(Heartbeat, value, before)
    return decode(types[kind], value, strict=False)


def read_upward(data: str | bytes, before: Heartbeat | None = None) -> Upward:
    """What a device sent.

    :param before: its last heartbeat. Most of a heartbeat is as in the one before, and is taken from there.
    :raises PeerError: naming what is wrong.
    """
    message: Upward = _read(data, SESSION_UP_BYTES_MAX, _UP, before)
    return message


def read_downward(data: str | bytes) -> Downward:
    """What the scheduler sent. :raises PeerError: naming what is wrong."""
    message: Downward = _read(data, SESSION_DOWN_BYTES_MAX, _DOWN)
    return message


def write(message: Upward | Downward) -> str:
    """The text frame of a message."""
    return dumps({"type": message.TYPE, **encode(message)}).decode("utf-8")


def hello_input(nonce: str, host: str) -> bytes:
    """What a device signs: it names the host it dialled, so that no other server can pass the challenge on."""
    return f"fallow-session-v1\n{host}\n{nonce}".encode()


def dial_back_input(nonce: str) -> bytes:
    """What a device signs to show that a claimed service address is its own."""
    return f"fallow-dial-back-v1\n{nonce}".encode()


@dataclass(frozen=True, slots=True)
class SeenAddress:
    """Answer to ``POST /v1/session/address``: the caller's IP address, which counts as the device's for an hour."""

    address: Annotated[str, text(64)]


@dataclass(frozen=True, slots=True)
class DialBackAnswer:
    """Body of ``GET /v1/dial-back/{nonce}`` on the service port."""

    device_id: Annotated[str, device_id()]
    signature: Annotated[str, base64url_bytes(64)]


def sign_dial_back(nonce: str, key: PrivateKey) -> DialBackAnswer:
    signature = base64url(key.sign(dial_back_input(nonce)))
    return DialBackAnswer(key.public.device_id(), signature)


def sign_hello(challenge: Challenge, host: str, key: PrivateKey, version: str) -> Hello:
    signature = base64url(key.sign(hello_input(challenge.nonce, host)))
    return Hello(key.public.device_id(), signature, version)


def verify_hello(hello: Hello, nonce: str, hosts: tuple[str, ...], key: PublicKey) -> bool:
    """True when the device signed this nonce for one of the names that this scheduler goes by."""
    for host in hosts:
        try:
            key.verify(from_base64url(hello.signature), hello_input(nonce, host))
        except BadSignature:
            continue
        return True
    return False
