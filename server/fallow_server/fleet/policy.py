"""What the scheduler asks of every device."""

from __future__ import annotations

from dataclasses import dataclass

from fallow_wire.errors import LocalError, Malformed
from fallow_wire.session import HEARTBEAT_S, TICKET_IDLE_S, VERSION, AgentAdvice


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    heartbeat_s: int = HEARTBEAT_S
    ticket_idle_s: int = TICKET_IDLE_S
    """A countersigned ticket without traffic for so long is closed, and its proof goes to the ledger. A consumer of a
    crowd comes back to each of sixteen devices after half a minute to a minute and a half."""
    agent_version: str = ""
    """The version that devices are advised to have, where their package sources have it; empty: none."""
    agent_percent: int = 100
    """To so many of them, always the same ones for a version: raise it as they do well."""

    def __post_init__(self) -> None:
        if self.agent_version:
            try:
                VERSION(self.agent_version, "policy.agent_version", True)
            except Malformed as error:
                raise LocalError(error.detail) from None
        if self.agent_percent > 100:
            raise LocalError("policy.agent_percent: 100 at most")

    @property
    def advice(self) -> AgentAdvice | None:
        return AgentAdvice(self.agent_version, self.agent_percent) if self.agent_version else None
