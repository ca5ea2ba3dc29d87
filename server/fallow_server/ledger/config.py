"""What an operator can choose about the ledger."""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """``public_url`` is the address that tickets name: proofs for any other are refused.

    ``hold_s``: how long booked points wait before they can be redeemed, so that a fault found late can still be
    set right. 0 lets them be redeemed at once.
    """

    public_url: str
    hold_s: int = 14 * DAY_S
    sweep_interval_s: int = 60
    trusted_proxies: tuple[str, ...] = ()
