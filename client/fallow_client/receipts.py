"""A consumer's side of one ticket: what it confirms, signed by the key of the plan."""

from __future__ import annotations

from fallow_wire.jws import Kind, sign
from fallow_wire.keys import PrivateKey
from fallow_wire.tickets import Receipt


class TicketReceipts:
    """Cumulative receipts of one ticket. Only verified chunks may be confirmed.

    :param url: where the object is served, without the ticket.
    """

    def __init__(self, jti: str, device_id: str, url: str, ticket: str, key: PrivateKey) -> None:
        self.device_id = device_id
        self.url = url
        self.ticket = ticket
        self._jti = jti
        self._key = key
        self._n = 0
        self._bytes = 0
        self._ms = 0
        self._digest = ""
        self._latest: str | None = None
        self._delivered_n = 0

    def confirm(self, length: int, ms: int, digest: str) -> None:
        """:param digest: hexadecimal SHA-256 of the chunk, verified just now."""
        self._n += 1
        self._bytes += length
        self._ms += ms
        self._digest = digest
        self._latest = None

    def latest(self) -> tuple[int, str] | None:
        """The newest receipt with its ``n``; None while there is nothing to confirm."""
        if self._n == 0:
            return None
        if self._latest is None:
            receipt = Receipt(self._jti, self._n, self._bytes, self._ms, self._digest)
            self._latest = sign(Kind.RECEIPT, receipt, self._key)
        return self._n, self._latest

    def delivered(self, n: int) -> None:
        """The device has answered a request that carried receipt ``n``."""
        self._delivered_n = max(self._delivered_n, n)

    @property
    def is_due(self) -> bool:
        """The device does not have the newest receipt yet."""
        return self._n > self._delivered_n
