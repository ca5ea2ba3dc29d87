"""Shapes of the LAN API on port M: activation and the owner's limits."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

from .errors import Malformed
from .fields import boolean, integer, items, mapping, matching, one_of, record, text
from .limits import INTEGER_MAX
from .tickets import SERVICES

STATES = ("dormant", "activating", "active", "paused", "leaving")
TERMS_VERSION = "1"
LAN_PORT = 32556
SERVICE_PORT = 32557
SETUP_CODE_ATTEMPTS_MAX = 5

_URL = re.compile(r"https?://[A-Za-z0-9._~\[\]:-]+(/[A-Za-z0-9._~/-]*)?\Z")

HTTP_URL = matching(_URL, "an http or https address without query", 256)


@dataclass(frozen=True, slots=True)
class Hours:
    """A weekly window in the device's local time: days 0 (Monday) … 6, minutes since midnight, end exclusive.

    A window whose end is not after its start runs past midnight.
    """

    days: Annotated[tuple[int, ...], items(integer(0, 6), 7, 1)]
    start_min: Annotated[int, integer(0, 1439)]
    end_min: Annotated[int, integer(1, 1440)]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the owner allows. ``None``: no limit of the owner's; empty ``hours``: always."""

    upload_bps_max: Annotated[int | None, integer(0, INTEGER_MAX)] = None
    upload_percent_max: Annotated[int, integer(0, 100)] = 80
    monthly_bytes_max: Annotated[int | None, integer(0, INTEGER_MAX)] = None
    content_bytes_max: Annotated[int | None, integer(0, INTEGER_MAX)] = None
    hours: Annotated[tuple[Hours, ...], items(record(Hours), 28)] = ()
    services: Annotated[dict[str, bool], mapping(one_of(*SERVICES), boolean(), 16)] = field(default_factory=dict)
    connections_max: Annotated[int, integer(0, 10_000)] = 100


@dataclass(frozen=True, slots=True)
class Consent:
    terms_version: Annotated[str, text(16, 1)]
    accepted: Annotated[bool, boolean()]


@dataclass(frozen=True, slots=True)
class Activation:
    """``POST /v1/activation``."""

    scheduler: Annotated[str, HTTP_URL]
    claim_token: Annotated[str, text(128, 8)]
    setup_code: Annotated[str, text(32, 1)]
    consent: Annotated[Consent, record(Consent)]
    limits: Annotated[Limits | None, record(Limits)] = None

    def __post_init__(self) -> None:
        if not self.consent.accepted:
            raise Malformed("consent.accepted: the owner must accept the terms first")


@dataclass(frozen=True, slots=True)
class SpeedtestRequest:
    """``POST /v1/speedtest``. ``insist``: also where it costs money, or the month's bytes are used up."""

    insist: Annotated[bool, boolean()] = False


@dataclass(frozen=True, slots=True)
class Pause:
    """``POST /v1/pause``: for so many seconds, or until resumed."""

    for_s: Annotated[int | None, integer(1, 31 * 86400)] = None
