"""The open accounts, and their place in the outbox.

An account is written before its first byte is sent (what cannot be proven is not served), at once when a receipt
comes, and else within :data:`SAVE_INTERVAL_S` by :meth:`Register.save`: a killed process loses the legacy bytes of a
second at most, and flash is not written at every small range. Of countersigned bytes it loses nothing, for their
receipts are saved.
"""

from __future__ import annotations

from fallow_wire.errors import Malformed
from fallow_wire.jws import Kind, Signed, parse, split
from fallow_wire.tickets import Receipt, Ticket, verify_receipt

from fallow_agent.clock import Clock
from fallow_agent.proofs.outbox import Outbox, ServedTicket

from .account import Account
from .admission import CLOCK_SKEW_S, forbidden

SAVE_INTERVAL_S = 1.0


class Register:
    """Accounts by ``jti``. Those that a former run left open are taken over."""

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        for served in outbox.open_tickets():
            self._accounts[served.jti] = _resumed(served)

    def is_spent(self, jti: str) -> bool:
        account = self._accounts.get(jti)
        return account.is_complete if account is not None else self._outbox.is_spent(jti)

    def open(self, signed: Signed[Ticket]) -> Account:
        """The account of a ticket, opened on its first use.

        :raises Refused: another ticket with the same ``jti`` is in use.
        """
        account = self._accounts.get(signed.value.jti)
        if account is None:
            account = Account(signed.value, signed.token, self._clock.now())
            self._accounts[signed.value.jti] = account
        elif account.token != signed.token:
            raise forbidden("bad-ticket", "another ticket with the same jti is in use")
        return account

    def begin(self, account: Account) -> None:
        """A transfer begins. :raises OutboxUnavailable: its proof could not be kept, so it must not."""
        if not account.saved:
            self._write(account)
        account.began(self._clock.now_ms())

    def end(self, account: Account) -> None:
        """A transfer has ended. :meth:`close_idle` seals the account if that was all."""
        account.ended(self._clock.now_ms())

    def confirm(self, account: Account, token: str) -> Account:
        """Verify a receipt and keep it.

        :raises PeerError: naming what is wrong with it.
        :raises OutboxUnavailable: it could not be kept.
        """
        if token == account.receipt:
            return account
        signed = verify_receipt(token, account.ticket)
        if account.confirm(signed.value, signed.token, self._clock.now()):
            self._write(account)
        return account

    def confirm_any(self, token: bytes) -> Account:
        """A receipt that came without its ticket; the account it belongs to.

        :raises PeerError: it is malformed, or does not verify.
        :raises Refused: its ticket is spent, or was never used here.
        """
        claimed = parse(split(token, Kind.RECEIPT), Receipt)
        account = self._accounts.get(claimed.jti)
        if account is None:
            if self._outbox.is_spent(claimed.jti):
                raise forbidden("ticket-spent", "the ticket of this receipt is closed")
            raise forbidden("bad-ticket", "the ticket of this receipt was not used here")
        try:
            text = token.decode("ascii")
        except UnicodeDecodeError:
            raise Malformed("a receipt is ASCII text") from None
        return self.confirm(account, text)

    def save(self) -> None:
        """Write what has changed. :raises OutboxUnavailable: the disk refuses; it stays marked as changed."""
        for account in self._accounts.values():
            if account.dirty:
                self._write(account)

    def close_idle(self, now: int, idle_s: int) -> None:
        """Seal what is complete, expired, or countersigned and idle for ``idle_s``; not what is being served.

        :raises OutboxUnavailable: the disk refuses; what is not sealed stays open.
        """
        for account in tuple(self._accounts.values()):
            if account.transfers:
                continue
            idle = account.countersigned and now - account.touched_at >= idle_s
            if idle or now > account.ticket.exp + CLOCK_SKEW_S or account.is_complete:
                self._seal(account)
        self._outbox.forget_expired(now)

    def close_all(self) -> None:
        """Seal everything that is not being served. :raises OutboxUnavailable: the disk refuses."""
        for account in tuple(self._accounts.values()):
            if not account.transfers:
                self._seal(account)

    def _seal(self, account: Account) -> None:
        if account.saved:
            self._write(account)
            self._outbox.seal(account.ticket.jti)
        self._accounts.pop(account.ticket.jti, None)

    def _write(self, account: Account) -> None:
        ticket = account.ticket
        self._outbox.save(
            ServedTicket(
                jti=ticket.jti,
                token=account.token,
                countersigned=account.countersigned,
                max_bytes=ticket.max_bytes,
                expires_at=ticket.exp,
                bytes=account.claimed_bytes,
                ms=account.served_ms(self._clock.now_ms()),
                started_at=account.started_at,
                ended_at=account.touched_at,
                receipt=account.receipt,
                receipt_n=account.receipt_n,
                receipt_bytes=account.receipt_bytes,
                spans=() if account.countersigned else account.spans.as_tuple(),
            )
        )
        account.saved = True
        account.dirty = False


def _resumed(served: ServedTicket) -> Account:
    # The signature was verified before it was saved; the key may have been rotated since.
    account = Account(parse(split(served.token, Kind.TICKET), Ticket), served.token, served.started_at)
    receipt = None if served.receipt is None else (served.receipt, served.receipt_n, served.receipt_bytes)
    account.resume(
        sent=served.bytes,
        ms=served.ms,
        started_at=served.started_at,
        touched_at=served.ended_at,
        receipt=receipt,
        spans=served.spans,
    )
    return account
