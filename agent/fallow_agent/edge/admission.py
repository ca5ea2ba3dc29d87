"""All checks at the door of the service port, in one place and one order. Pure.

The trust rules that :func:`admit_ticket` and :func:`admit_transfer` keep, in this order, cheap before dear and the
caller's faults before our state, so that a stranger learns nothing about the device:

1. The ticket is there, once, within its size, and in strict form.        403 ``bad-ticket``
2. It is signed by a scheduler key that is known here.                    403 ``bad-ticket``
3. It is for this device.                                                 403 ``wrong-device``
4. It is valid now, give or take :data:`CLOCK_SKEW_S`.                    403 ``bad-ticket`` (early), ``ticket-expired``
5. It is for the object in the path.                                      403 ``wrong-object``
6. The owner allows its service.                                          503 ``paused``
7. It is not spent: not in a batch, sealed, or used up.                   403 ``ticket-spent``
   (Here its account is opened, and a receipt that came along is taken.)
8. The object is held.                                                    404 ``not-held``
9. The range lies within the object.                                      416 ``range-not-satisfiable``
10. The ticket still covers the bytes asked for.                          403 ``ticket-spent``
11. The device serves now: not paused, within hours, quota and line.      503 ``paused``, ``line-busy``
12. The table of connections of the home's router is not nearly full.     503 ``too-many``
13. There is a place among the owner's ``connections_max``, and among
    those that the table bears.                                           429 ``too-many``

A ticket that passed 1 and 2 is remembered by its text (:class:`VerifiedTickets`), because neither can change.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fallow_wire.errors import PeerError, UnsatisfiableRange
from fallow_wire.http import Problem, Span, etag_of, requested_span
from fallow_wire.jws import Signed
from fallow_wire.keys import PublicKey
from fallow_wire.tickets import Ticket, verify_ticket

from .account import Account

CLOCK_SKEW_S = 5
"""The device's clock follows the scheduler's within a second or two; a ticket is used seconds after its issue."""
TICKETS_REMEMBERED_MAX = 512
"""At most 4 KiB each; several times the consumers that a home line serves at once."""
TOO_MANY_RETRY_S = 5
TABLE_FULL_RETRY_S = 60
"""Entries of closed connections live for two minutes; half of them are gone by then."""
NEW_TICKET = "ask the scheduler for a new ticket: open the object's address there again"
ELSEWHERE = "ask the scheduler again; it names another device or the origin"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused; with ``retry_after_s`` where waiting helps.

    ``reason``: for the owner's phone, where nobody is served at all: ``owner``, ``metered``, ``hours``, ``month``,
    ``device`` (hot or busy) or ``household``.
    """

    problem: Problem
    retry_after_s: int | None = None
    reason: str = ""


class Refused(Exception):
    """A request that is refused. It carries the :class:`Refusal`."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.problem.type)
        self.refusal = refusal


def forbidden(slug: str, detail: str, remedy: str = NEW_TICKET) -> Refused:
    """403 with ``slug``."""
    return Refused(Refusal(Problem(403, slug, "Ticket refused", detail, "caller", remedy)))


def paused(detail: str, retry_after_s: int, reason: str = "") -> Refusal:
    """503 ``paused``: the owner does not want to serve now."""
    return Refusal(Problem(503, "paused", "Not serving now", detail, "here", ELSEWHERE), retry_after_s, reason)


def line_busy(detail: str, retry_after_s: int, reason: str = "") -> Refusal:
    """503 ``line-busy``: the line is the household's, or its allowance is used up."""
    return Refusal(Problem(503, "line-busy", "The line is in use", detail, "here", ELSEWHERE), retry_after_s, reason)


def not_held() -> Refusal:
    """404 ``not-held``: the object is not here, or no longer."""
    return Refusal(Problem(404, "not-held", "Not held", "this device does not hold it", "here", ELSEWHERE))


class VerifiedTickets:
    """Steps 1 and 2, once for each text; the tickets used last are remembered."""

    def __init__(self, key_of: Callable[[str], PublicKey | None], remembered_max: int = TICKETS_REMEMBERED_MAX) -> None:
        self._key_of = key_of
        self._remembered_max = remembered_max
        self._tickets: OrderedDict[str, Signed[Ticket]] = OrderedDict()

    def verify(self, token: str) -> Signed[Ticket]:
        """:raises PeerError: naming what is wrong."""
        known = self._tickets.get(token)
        if known is not None:
            self._tickets.move_to_end(token)
            return known
        signed = verify_ticket(token, self._key_of)
        self._tickets[token] = signed
        if len(self._tickets) > self._remembered_max:
            self._tickets.popitem(last=False)
        return signed

    def clear(self) -> None:
        """The scheduler's keys have changed: verify all anew."""
        self._tickets.clear()


class Door(Protocol):
    """What the device knows and decides, asked for only when the check before it has passed."""

    def is_served(self, service: str) -> bool:
        """True when the owner allows ``service``."""

    def is_spent(self, jti: str) -> bool: ...

    def size_of(self, object_id: str) -> int | None:
        """Bytes of a held object, else None."""

    def refusal(self) -> Refusal | None:
        """Why nothing is served now, if so."""

    def is_full(self) -> bool:
        """True when all connections that the owner and the table bear are in use."""

    def is_table_full(self) -> bool:
        """True while the table of connections of the home's router has no room but for the household."""


def admit_ticket(
    token: str | None, object_id: str, now: int, device_id: str, tickets: VerifiedTickets, door: Door
) -> Signed[Ticket]:
    """Steps 1 to 7.

    :param token: the one ``ticket`` parameter, or None.
    :param now: Unix seconds.
    :raises Refused: at the first check that fails.
    """
    if not token:
        raise forbidden("bad-ticket", "exactly one ticket parameter is wanted")
    try:
        signed = tickets.verify(token)
    except PeerError as error:
        raise forbidden("bad-ticket", error.detail) from None
    ticket = signed.value
    if ticket.aud != device_id:
        raise forbidden("wrong-device", f"the ticket is for {ticket.aud}; this is {device_id}")
    if now < ticket.nbf - CLOCK_SKEW_S:
        raise forbidden("bad-ticket", f"the ticket is not valid yet; it is {now} here", "check the clocks")
    if now > ticket.exp + CLOCK_SKEW_S:
        raise forbidden("ticket-expired", f"the ticket was valid until {ticket.exp}; it is {now} here")
    if ticket.obj != object_id:
        raise forbidden("wrong-object", f"the ticket is for object {ticket.obj}")
    if not door.is_served(ticket.svc):
        raise Refused(paused(f"the owner does not offer the service {ticket.svc}", 3600))
    if door.is_spent(ticket.jti):
        raise forbidden("ticket-spent", "the ticket is used up")
    return signed


def admit_transfer(
    account: Account, range_header: str | None, if_range: str | None, *, with_body: bool, door: Door
) -> Span:
    """Steps 8 to 13; the span to send.

    :param with_body: False for HEAD, which spends nothing and takes no place.
    :raises Refused: at the first check that fails.
    """
    object_id = account.ticket.obj
    size = door.size_of(object_id)
    if size is None:
        raise Refused(not_held())
    try:
        span = requested_span(range_header, if_range, size, etag_of(object_id))
    except UnsatisfiableRange as error:
        problem = Problem(416, error.slug, "Range outside of the object", error.detail, "caller", "ask for less")
        raise Refused(Refusal(problem)) from None
    if with_body and not account.covers(span.start, span.length):
        raise forbidden("ticket-spent", f"the ticket does not cover {span.length} bytes from {span.start} any more")
    refusal = door.refusal()
    if refusal is not None:
        raise Refused(refusal)
    if with_body and door.is_table_full():
        detail = "the home's router tracks as many connections as it can"
        problem = Problem(503, "too-many", "Too many connections", detail, "here", ELSEWHERE)
        raise Refused(Refusal(problem, TABLE_FULL_RETRY_S))
    if with_body and door.is_full():
        problem = Problem(429, "too-many", "Too many connections", "all places are taken", "here", ELSEWHERE)
        raise Refused(Refusal(problem, TOO_MANY_RETRY_S))
    return span
