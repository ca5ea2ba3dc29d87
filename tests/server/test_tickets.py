"""What a ticket costs and what it may say."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from delivery_harness import ALICE, HandClock, HandLink
from fallow_server.delivery.config import Config
from fallow_server.delivery.escrow import Escrow
from fallow_server.delivery.tickets import Order, TicketIssuer
from fallow_server.signing import SigningKeys
from fallow_wire.ids import uuid7_ms
from fallow_wire.keys import PrivateKey
from fallow_wire.limits import TICKET_BYTES_MAX
from fallow_wire.tariff import Factors
from fallow_wire.tickets import Ticket, verify_ticket
from hypothesis import given, settings
from hypothesis import strategies as st
from support import key

GIB = 2**30
DEVICE = key(1).public.device_id()
ORDER = Order("a" * 64, ALICE, "pseudonym", GIB)


class Issuing:
    def __init__(self, signer: PrivateKey, config: Config | None = None) -> None:
        self.link, self.clock = HandLink(), HandClock()
        self.config = config or Config("http://scheduler.test", "http://ledger.test", lease_tickets_min=1)
        self.escrow = Escrow(self.config, self.link, self.clock)
        self.keys = SigningKeys.__new__(SigningKeys)
        self.keys._current, self.keys._retired = signer, ()
        self.issuer = TicketIssuer(self.config, self.keys, self.escrow, self.link, self.clock)

    async def issue(self, order: Order) -> Ticket | None:
        token = await self.issuer.issue(DEVICE, order)
        await asyncio.sleep(0)
        if token is None:
            return None
        assert len(token) <= TICKET_BYTES_MAX // 2
        return verify_ticket(token, self.keys.public_keys().get).value


def test_jti_is_of_now_and_never_twice() -> None:
    async def script() -> None:
        desk = Issuing(key(9))
        tickets = [await desk.issue(ORDER) for _ in range(50)]
        assert len({ticket.jti for ticket in tickets if ticket}) == 50
        assert tickets[0] is not None
        assert uuid7_ms(tickets[0].jti) == desk.clock.now_ms()
        await desk.escrow.close()

    asyncio.run(script())


def test_a_countersigned_ticket_costs_more_than_a_legacy_one() -> None:
    async def script() -> None:
        for order, cost in (
            (ORDER, 500_000),
            (replace(ORDER, jwk=key(5).public.jwk()), 1_000_000),
            (replace(ORDER, service="fill", jwk=key(5).public.jwk()), 250_000),
            (replace(ORDER, service="probe"), 0),
        ):
            desk = Issuing(key(9))
            desk.link.escrow[ALICE] = cost
            assert await desk.issue(order) is not None
            assert sum(granted for _, _, granted in desk.link.reservations) == cost
            if cost:
                assert await desk.issue(order) is None
            await desk.escrow.close()

    asyncio.run(script())


def test_an_unknown_tariff_is_not_asked_for_by_every_consumer() -> None:
    async def script() -> None:
        desk = Issuing(key(9))
        desk.link.away = True
        assert await desk.issue(ORDER) is None
        desk.link.away = False
        assert await desk.issue(ORDER) is None
        desk.clock.seconds += 16
        assert await desk.issue(ORDER) is not None
        await desk.escrow.close()

    asyncio.run(script())


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 4 * GIB), st.sampled_from(["object", "fill"]), st.booleans(), st.integers(0, 1200)),
        max_size=20,
    ),
    st.integers(0, 5_000_000),
)
def test_what_the_ledger_may_book_was_reserved_in_that_hour(
    wanted: list[tuple[int, str, bool, int]], deposited: int
) -> None:
    async def script() -> None:
        desk = Issuing(key(9), Config("http://scheduler.test", "http://ledger.test"))
        desk.link.escrow[ALICE] = deposited
        tariff = desk.link.tariff.value
        promised: dict[int, int] = {}
        for size, service, signs, pause_s in wanted:
            desk.clock.seconds += pause_s
            jwk = key(5).public.jwk() if signs else None
            ticket = await desk.issue(replace(ORDER, max_bytes=size, service=service, jwk=jwk))
            if ticket is not None:
                rate, weight = tariff.rates[ticket.svc], tariff.weights[ticket.tier]
                cost = Factors(ticket.max_bytes, rate, 1000, 1000, weight).micro_points()
                promised[ticket.iat // 3600] = promised.get(ticket.iat // 3600, 0) + cost
        await desk.escrow.close()
        for hour, cost in promised.items():
            assert cost <= sum(granted for _, at, granted in desk.link.reservations if at == hour)

    asyncio.run(script())
