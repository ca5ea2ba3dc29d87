"""Issuing tickets: only what the publisher's escrow covers, only for what was routed."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fallow_wire.ids import uuid7
from fallow_wire.jws import Kind, Signed, sign
from fallow_wire.keys import Jwk
from fallow_wire.tariff import Factors, Tariff
from fallow_wire.tickets import BPS_MAX, Confirmation, Ticket

from ..clock import Clock
from ..link import LedgerUnreachable
from ..signing import SigningKeys
from .config import Config
from .escrow import Escrow

TARIFF_S = 1.0
"""The tariff is not asked for anew within so long: locks and timers around it would cost half a signature."""

ISSUED_WITHIN_S = 60
"""The ledger's answer about escrow is not waited for so long."""

_log = logging.getLogger(__name__)


class Tariffs(Protocol):
    async def current_tariff(self) -> Signed[Tariff]:
        """The tariff in force. :raises LedgerUnreachable: when it is not known."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a ticket is to allow. ``sub``: a consumer's pseudonym, or the id of a device that fills.

    ``odds`` and ``pool``: of the choice of the device, see :class:`~..scheduling.routing.Choice`.
    ``bps``: what the device is reckoned to give.
    ``jwk``: the key that confirms delivery; None makes a legacy ticket.
    """

    object_id: str
    publisher: str
    sub: str
    max_bytes: int
    service: str = "object"
    jwk: Jwk | None = None
    odds: int | None = None
    pool: str = ""
    bps: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a ticket says of the device itself, as in :class:`fallow_wire.tickets.Ticket`. None: nobody knows it."""

    line: str | None = None
    line_bps: int | None = None
    region: str | None = None
    reach: int | None = None


NOT_KNOWN = Standing()


class TicketIssuer:
    """
    :param randomness: gives so many random bytes.
    :param standing_of: what is known of a device.
    :param pool_of: the pseudonym of a pool.
    """

    def __init__(
        self,
        config: Config,
        keys: SigningKeys,
        escrow: Escrow,
        tariffs: Tariffs,
        clock: Clock,
        randomness: Callable[[int], bytes] = os.urandom,
        standing_of: Callable[[str], Standing] = lambda device: NOT_KNOWN,
        pool_of: Callable[[str], str] = lambda pool: pool,
    ) -> None:
        self._config = config
        self._keys = keys
        self._escrow = escrow
        self._tariffs = tariffs
        self._clock = clock
        self._randomness = randomness
        self._standing_of = standing_of
        self._pool_of = pool_of
        self._tariff: Signed[Tariff] | None = None
        self._tariff_id = ""
        self._tariff_at_s = 0.0
        self._no_tariff_until = 0.0

    async def issue(self, device_id: str, order: Order) -> str | None:
        """A signed ticket for one device, its worst-case cost taken from the escrow.

        :returns: None when the tariff is not known or the escrow does not cover it: nobody would be paid.
        """
        tariff = await self._current()
        if tariff is None:
            return None
        tier = "legacy" if order.jwk is None else "countersigned"
        standing = self._standing_of(device_id)
        issued_at = await self._escrow.take(order.publisher, self._cost(tariff, order, tier, standing.region))
        if issued_at is None:
            return None
        ticket = Ticket(
            iss=self._config.public_url,
            aud=device_id,
            jti=uuid7(self._clock.now_ms(), self._randomness(10)),
            sub=f"{order.sub}.{self._pool_of(order.pool)}" if order.pool else order.sub,
            iat=issued_at,
            nbf=issued_at,
            exp=issued_at + self._config.ticket_s,
            obj=order.object_id,
            svc=order.service,
            tier=tier,
            max_bytes=order.max_bytes,
            publisher=order.publisher,
            tariff=self._tariff_id,
            ledger=self._config.ledger_url,
            cnf=None if order.jwk is None else Confirmation(order.jwk),
            line=standing.line,
            odds=order.odds,
            region=standing.region,
            bps=None if order.bps is None else max(1, min(order.bps, BPS_MAX)),
            line_bps=standing.line_bps,
            reach=standing.reach,
        )
        return sign(Kind.TICKET, ticket, self._keys.current)

    async def price(self, service: str) -> int | None:
        """What the tariff in force pays for ``service``, µp per GiB; None when it is not known."""
        tariff = await self._current()
        return None if tariff is None else tariff.rates.get(service, 0)

    def _cost(self, tariff: Tariff, order: Order, tier: str, region: str | None) -> int:
        """The most that the ledger can book for the ticket, µp."""
        now = self._clock.now()
        return Factors(
            bytes=order.max_bytes,
            rate=tariff.rates.get(order.service, 0),
            quality=tariff.quality_max,
            # The hour may end before the ticket is issued.
            scarcity=max(tariff.scarcity_at(region, at) for at in (now, now + ISSUED_WITHIN_S)),
            weight=tariff.weights.get(tier, 0),
        ).micro_points()

    async def _current(self) -> Tariff | None:
        now_s = self._clock.monotonic()
        if now_s < self._no_tariff_until:
            return None
        if self._tariff is not None and now_s - self._tariff_at_s < TARIFF_S:
            return self._tariff.value
        try:
            async with asyncio.timeout(self._config.ledger_wait_s_max):
                signed = await self._tariffs.current_tariff()
        except (LedgerUnreachable, TimeoutError) as error:
            _log.warning("no tickets: the tariff is not known (%s)", error or "the ledger is slow")
            self._no_tariff_until = self._clock.monotonic() + self._config.ledger_refused_s
            return None
        if signed is not self._tariff:
            self._tariff, self._tariff_id = signed, signed.value.tariff_id()
        self._tariff_at_s = now_s
        return signed.value
