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


@dataclass(frozen=True, slots=True)
class RewardsConfig:
    """How providers are asked.

    ``allow_private_addresses``: providers may be in private networks and speak plain http; for laboratories only.
    ``webhook_s_max``: for a whole request.
    ``fulfil_attempts_max``: then the redemption is unknown; with the waits between ``fulfil_s_min`` (which doubles)
    and ``fulfil_s_max`` that is after an hour or more.
    ``ask_attempts_max``: so often is a provider asked what became of an unknown one, over two weeks or more; then it
    waits for the operator.
    ``poll_s``: orders of other processes on the same database wake nobody here.
    """

    allow_private_addresses: bool = False
    webhook_s_max: float = 20
    fulfil_attempts_max: int = 14
    fulfil_s_min: int = 1
    fulfil_s_max: int = 1800
    ask_attempts_max: int = 24
    ask_s_min: int = 3600
    ask_s_max: int = DAY_S
    poll_s: float = 5

    @property
    def lease_s(self) -> int:
        """How long an order is one worker's: longer than its request can take, and the writing after it."""
        return 2 * round(self.webhook_s_max) + 2
