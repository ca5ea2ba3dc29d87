"""What the scheduler asks of every device."""

from __future__ import annotations

from dataclasses import dataclass

from fallow_wire.session import HEARTBEAT_S


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    heartbeat_s: int = HEARTBEAT_S
    ticket_idle_s: int = 30
    """A countersigned ticket without traffic for so long is closed, and its proof goes to the ledger."""
