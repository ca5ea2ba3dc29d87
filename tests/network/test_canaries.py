"""The server's canaries in a real network: devices that serve honestly agree with them, and the books hold it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fallow_client.audit.run import audit
from fallow_client.ledger import Ledger
from fragile_network import WAIT_S, FragileNetwork, prepared
from network import until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

OFTEN = {
    "FALLOW_SERVER_CANARIES_INTERVAL_S": "1",
    "FALLOW_SERVER_CANARIES_LOOK_S": "1",
    "FALLOW_SERVER_CANARIES_BPS_MAX": "1000000000",
    "FALLOW_SERVER_DELIVERY_TICKET_S": "5",  # those without receipts are handed over when they expire
}


def test_honest_devices_agree_and_are_paid_for_what_canaries_got(tmp_path: Path) -> None:
    books = tmp_path / "books.ndjson"

    def tables() -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {"audits": [], "settlements": []}
        for line in books.read_text("utf-8").splitlines():
            value = json.loads(line)
            if value.get("table") in found:
                found[value["table"]].append(value["row"])
        return found

    async def run() -> None:
        async with FragileNetwork() as network:
            await prepared(network, tmp_path, OFTEN)
            devices = {device.device_id for device in network.devices}
            async with Ledger(network.ledger_url, network.operator_token) as ledger:

                async def settled() -> bool | None:
                    """Of each device, under both tiers."""
                    network.check_running()
                    books.unlink(missing_ok=True)
                    await ledger.export(books)
                    found = tables()
                    audited = {row["jti"] for row in found["audits"]}
                    met = {(row["device"], row["tier"]) for row in found["settlements"] if row["jti"] in audited}
                    return True if met == {(d, tier) for d in devices for tier in ("legacy", "countersigned")} else None

                await until("canaries' tickets are settled", settled, WAIT_S)
                assert await ledger.reviews() == []
            found = tables()
            audits = {row["jti"]: row for row in found["audits"]}
            assert all(row["agreed"] == 1 for row in audits.values()), audits
            paid = [row for row in found["settlements"] if row["jti"] in audits]
            for row in paid:
                got = audits[row["jti"]]["bytes"]
                assert (row["claimed_bytes"], row.get("confirmed_bytes", got), row["paid_bytes"]) == (got, got, got)
            assert audit(books).differences == []

    asyncio.run(run())
