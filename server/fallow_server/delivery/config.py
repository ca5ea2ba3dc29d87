"""Settings and limits of delivery, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..scheduling.bookings import REST_S
from ..scheduling.filters import Config as FilterConfig


@dataclass(frozen=True, slots=True)
class Config:
    """
    ``public_url``: of this scheduler, as consumers and devices reach it; ``ledger_url``: of the ledger, as tickets
    name it. Both without a trailing slash, both set by the composition root.
    ``ticket_s``: life of a ticket; 900 s is the most that the wire allows.
    ``sources_max``: devices in a plan or a Metalink; more would lend escrow to devices that are hardly used.
    ``crowd_sources_max``: the same for an object that many ask for at once, so that they spread; a plan holds 16.
    ``address_tables``: files that tell the AS and the country of an address (CSV or CSV.gz of ``start,end,asn,name`` or
    ``start,end,country``); of each kind the first that knows an address counts. Without, nobody is near anybody.
    ``redirect_bytes_min``: smaller objects come from the origin, for a redirect costs more than their bytes.
    ``assumed_bps_max``: what a routed request needs of a device, at most; with four of them a film of 2 GiB is there
    in half an hour. It is booked with so much, gets whatever the line has, and lets others be sent there too.
    ``unmeasured_bps``: what a device's line is believed to carry at most before the server has measured it: a usual
    home line. What it says of its line counts up to this, later up to a quarter more than was measured.
    ``rest_s``: nobody more is sent for so long to a device whose household took back what was promised; 0 for never.
    ``consumer_tickets_burst``, ``consumer_tickets_per_s``: of one address (an IPv6 /64); a home behind one address
    stays well below, one script does not drain a publisher's escrow.
    ``consumer_bytes_burst``, ``consumer_bytes_per_s``: of what such tickets allow. Each locks its worst case in the
    escrow for two days, used or not, and those of large objects are few but dear: one address gets four tickets for the
    largest object at once, and more per second than its line can take. Beyond, it is served by the origin.
    ``consumer_crowds_burst``, ``consumer_crowds_per_s``: objects that one address (an IPv6 /64) can have spread over
    devices; three requests are a crowd, and one script could keep the fleet busy with what nobody wants.
    ``consumers_max``: addresses remembered for that; the oldest are forgotten first.
    ``asked_again_s``: who asks for the same object again within so long is sent to another device: longer than players
    wait before they try again, and shorter than a consumer who wants it twice.
    ``transfers_max``: from the origin at once; each holds a file and about half a MiB.
    ``transfers_per_consumer_max``: of those, and of those that wait their turn, for one address (an IPv6 /64); one that
    reads slowly must leave places.
    ``stall_s_max``: a consumer that takes nothing for so long is cut.
    ``ledger_wait_s_max``: how long a consumer waits for the ledger before it gets the origin's bytes.
    ``ledger_refused_s``: how long an empty escrow or an absent ledger is not asked again.
    ``lease_tickets_min``, ``lease_tickets_max``: escrow is borrowed for so many tickets of the kind in hand; it starts
    small, for what an hour leaves over is locked for two days, and doubles while it is used up.
    """

    public_url: str = ""
    ledger_url: str = ""
    ticket_s: int = 900
    sources_max: int = 4
    crowd_sources_max: int = 16
    address_tables: tuple[str, ...] = ()
    redirect_bytes_min: int = 1
    assumed_bps_max: int = 2_500_000
    unmeasured_bps: int = 20_000_000
    rest_s: float = REST_S
    consumer_tickets_burst: int = 600
    consumer_tickets_per_s: float = 10
    consumer_bytes_burst: int = 256 * 2**30
    consumer_bytes_per_s: int = 256 * 2**20
    consumer_crowds_burst: int = 8
    consumer_crowds_per_s: float = 0.1
    consumers_max: int = 50_000
    asked_again_s: float = 30
    transfers_max: int = 1000
    transfers_per_consumer_max: int = 100
    stall_s_max: float = 60
    ledger_wait_s_max: float = 2
    ledger_refused_s: float = 15
    lease_tickets_min: int = 8
    lease_tickets_max: int = 1024
    filters: FilterConfig = field(default_factory=FilterConfig)
