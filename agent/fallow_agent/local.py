"""Asks the agent that runs on this device, as its command line does."""

from __future__ import annotations

import http.client
import json
from typing import Any

from fallow_wire.errors import LocalError

from .config import Config
from .identity import KEY_FILE, load_or_create_identity, local_token

ANSWER_S_MAX = 5


class NotRunning(LocalError):
    """No agent answers with this configuration."""

    slug = "not-running"


def ask(config: Config) -> dict[str, Any]:
    """What the running agent says of itself: the members of ``GET /v1/device`` and ``GET /v1/status``.

    :raises NotRunning: none answers.
    """
    if not (config.state_dir / KEY_FILE).exists():
        raise NotRunning(f"{config.state_dir} has no device key; is it running? Say which with --state-dir")
    token = local_token(load_or_create_identity(config.state_dir))
    host = config.lan.bind[0] if config.lan.bind else "127.0.0.1"
    connection = http.client.HTTPConnection(host, config.lan.port, timeout=ANSWER_S_MAX)
    found: dict[str, Any] = {}
    try:
        for path in ("/v1/device", "/v1/status"):
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            found |= json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotRunning(f"no agent answers at {host}:{config.lan.port} ({error}); is it running?") from None
    finally:
        connection.close()
    return found
