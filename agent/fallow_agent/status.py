"""What a phone sees: the fields of ``GET /v1/status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fallow_wire.fields import encode

from .controls import Controls
from .lan.api import state_of
from .life import Life

if TYPE_CHECKING:
    from .online import Online


def status_of(life: Life, controls: Controls, online: Online | None) -> dict[str, Any]:
    """The members that ``docs/protocol.md`` names; those of the line and the uplink only while there are any."""
    usage = controls.usage
    status: dict[str, Any] = {
        **state_of(life),
        "today": {"bytes_up": usage.day_bytes, "yields": 0 if online is None else online.yields_today},
        "month": {"bytes": usage.month_bytes},
        "sessions": [],
        "tasks": [],
        "content": {"objects": 0, "bytes": 0},
        "uplink": {"connected": False},
    }
    if life.error is not None:
        status["uplink"]["error"] = life.error.as_json()
    if online is not None:
        status |= {name: encode(value) for name, value in online.status().items()}
    return status
