"""What an operator can choose about the ledger."""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """``public_url`` is the address that tickets name: proofs for any other are refused.

    ``hold_s``: how long booked points wait before they can be redeemed, so that a fault found late can still be
    set right. 0 lets them be redeemed at once. ``early_hold_s``: the same for half of what an owner earns in the
    first 90 days; it means nothing where it is not above ``hold_s``, or where that is 0.
    ``line_bps_max``: what all devices of one network (/24 or /56) are paid for at most, on average of an hour: behind
    one home line may be any number of devices, real or made up, and no more than one line. Homes that share a /24 share
    it too.
    """

    public_url: str
    hold_s: int = 14 * DAY_S
    early_hold_s: int = 90 * DAY_S
    line_bps_max: int = 100_000_000
    sweep_interval_s: int = 60
    trusted_proxies: tuple[str, ...] = ()
