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
    """

    public_url: str
    hold_s: int = 14 * DAY_S
    early_hold_s: int = 90 * DAY_S
    sweep_interval_s: int = 60
    trusted_proxies: tuple[str, ...] = ()
