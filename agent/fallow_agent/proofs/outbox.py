"""The outbox: every served ticket, from its first byte to the ledger's acknowledgement.

A ticket passes through these states and no others::

    (unknown) --save--> open --seal--> sealed --next_batch--> batched --acknowledge--> kept --in time--> gone
                          |               ^                      |                       |
                          |               +----- resume_from ----+-----------------------+
                          +--seal, nothing served--> gone      (the ledger expects another place in the chain)

From ``seal`` on its ``jti`` is *spent* until the ticket has expired, so that it cannot be served again and enter a
second batch.

What was acknowledged is kept for as long as the ledger would take it again: one that was restored from a backup has
forgotten it, and says so by the place in the chain that it expects.

Durability, and gentleness to flash: the database is in WAL mode with ``synchronous=NORMAL``. ``save``, ``seal`` and
``acknowledge`` only write to the page cache; they survive a killed process, and a power cut may cost what happened
since the last checkpoint but never corrupts. A batch is committed with ``synchronous=FULL`` before it is returned: a
batch that was sent is never forgotten, so no other batch can take its place in the chain.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fallow_wire.batches import FIRST_PREV, Ack, Batch, BatchItem, batch_hash
from fallow_wire.errors import FallowError, LocalError, PeerError
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import PrivateKey
from fallow_wire.limits import BATCH_BYTES_MAX, BATCH_ITEMS_MAX, PROOF_AGE_S_MAX
from fallow_wire.strict import dumps

_PROOF = """token TEXT NOT NULL,
        countersigned INTEGER NOT NULL,
        max_bytes INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        ms INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        ended_at INTEGER NOT NULL,
        receipt TEXT,
        receipt_n INTEGER NOT NULL,
        receipt_bytes INTEGER NOT NULL,
        spans TEXT NOT NULL"""
"""Columns of a proof."""

OUTBOX_TABLES = f"""
    CREATE TABLE outbox_tickets (
        id INTEGER PRIMARY KEY,
        jti TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL CHECK (state IN ('open', 'sealed', 'batched')),
        {_PROOF}
    );
    CREATE INDEX outbox_tickets_by_state ON outbox_tickets (state);
    CREATE TABLE outbox_spent (jti TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE outbox_batch (did TEXT PRIMARY KEY, seq INTEGER NOT NULL, token TEXT NOT NULL);
    CREATE TABLE outbox_chain (did TEXT PRIMARY KEY, seq INTEGER NOT NULL, prev TEXT NOT NULL);
    CREATE TABLE outbox_refused (reason TEXT PRIMARY KEY, items INTEGER NOT NULL);
"""
"""A script for the database's migrations. The chain's state is never deleted: it belongs to the key, not the owner."""

KEPT_TABLE = f"""
    CREATE TABLE outbox_kept (
        jti TEXT PRIMARY KEY,
        did TEXT NOT NULL,
        seq INTEGER NOT NULL,
        acknowledged_at INTEGER NOT NULL,
        {_PROOF}
    );
    CREATE INDEX outbox_kept_by_place ON outbox_kept (did, seq);
"""
"""The second script: tickets that the ledger has acknowledged, with the batch that they went in."""

# The payload, before base64url makes it a third longer; the rest is room for header, signature, did, seq and prev.
_BATCH_ITEM_BYTES_MAX = BATCH_BYTES_MAX * 3 // 4 - 1024
_MUTABLE = ("bytes", "ms", "ended_at", "started_at", "receipt", "receipt_n", "receipt_bytes", "spans")
_COLUMNS = (
    "jti, token, countersigned, max_bytes, expires_at, bytes, ms, started_at, ended_at, receipt, receipt_n, "
    "receipt_bytes, spans"
)


@dataclass(frozen=True, slots=True)
class OutboxConfig:
    """What the outbox holds at most. At a limit new tickets are refused; no proof is ever dropped to make room.

    ``kept_max``: acknowledged tickets, some 4 MB; the oldest go first, as nothing is owed for them.
    ``tickets_max``: some 2 KB each, so 20 MB of flash; days of service of a home line while the ledger is away.
    ``spent_max``: some 60 bytes each; ten spent tickets a second through the longest life of a ticket.
    ``spent_grace_s``: spent tickets are remembered for so long after they expired, should the clock be set back.
    """

    tickets_max: int = 10_000
    spent_max: int = 10_000
    spent_grace_s: int = 300
    kept_max: int = 2_000


class OutboxUnavailable(FallowError):
    """A proof could not be kept: the outbox is full or the disk refuses. Serve nothing that cannot be proven."""

    slug = "outbox-unavailable"


@dataclass(frozen=True, slots=True)
class ServedTicket:
    """One ticket's service so far.

    ``bytes``: of a legacy ticket the distinct bytes served, of a countersigned one the bytes sent. ``receipt`` is the
    consumer's last, as received. ``spans``: distinct bytes served (legacy), as ``[start, end)``.
    """

    jti: str
    token: str
    countersigned: bool
    max_bytes: int
    expires_at: int
    bytes: int = 0
    ms: int = 0
    started_at: int = 0
    ended_at: int = 0
    receipt: str | None = None
    receipt_n: int = 0
    receipt_bytes: int = 0
    spans: tuple[tuple[int, int], ...] = ()

    def claim(self) -> BatchItem:
        """What the device claims for it; never more than the ticket allows."""
        claimed = min(self.bytes, self.max_bytes)
        return BatchItem(self.token, claimed, self.ms, self.started_at, self.ended_at, self.receipt)


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A signed batch as it is sent, and sent again until it is acknowledged. ``jtis`` in the order of its items."""

    did: str
    seq: int
    token: str
    hash: str
    jtis: tuple[str, ...]


class Outbox:
    """Works on a connection of :func:`..store.open_database`, from one thread."""

    def __init__(self, connection: sqlite3.Connection, config: OutboxConfig | None = None) -> None:
        self._connection = connection
        self._config = config or OutboxConfig()

    # -------------------------------------------------------------- serving

    def find(self, jti: str) -> ServedTicket | None:
        """The ticket while it is open, else None."""
        found = self._tickets("state = 'open' AND jti = ?", jti)
        return found[0] if found else None

    def is_spent(self, jti: str) -> bool:
        """True from ``seal`` on, until :meth:`forget_expired` finds the ticket expired."""
        return self._one("SELECT 1 FROM outbox_spent WHERE jti = ?", jti) is not None

    def has_room(self) -> bool:
        """False when a ticket that is not known yet would be refused."""
        tickets = self._count("SELECT count(*) FROM outbox_tickets")
        spent = self._count("SELECT count(*) FROM outbox_spent")
        return tickets < self._config.tickets_max and spent < self._config.spent_max

    def save(self, served: ServedTicket) -> None:
        """Insert or update an open ticket; survives a killed process when it returns.

        :raises OutboxUnavailable: for a new ticket when there is no room, for any when the disk refuses.
        :raises LocalError: for a spent ticket; its proof is sealed and may not change.
        """
        known = self._one("SELECT state FROM outbox_tickets WHERE jti = ?", served.jti)
        if (known is not None and known[0] != "open") or (known is None and self.is_spent(served.jti)):
            raise LocalError(f"ticket {served.jti} is spent")
        if known is None and not self.has_room():
            raise OutboxUnavailable("too many proofs wait for the ledger; no new tickets are served")
        values = (
            *(served.jti, served.token, int(served.countersigned), served.max_bytes, served.expires_at),
            *(served.bytes, served.ms, served.started_at, served.ended_at),
            *(served.receipt, served.receipt_n, served.receipt_bytes, json.dumps(served.spans)),
        )
        update = ", ".join(f"{name} = excluded.{name}" for name in _MUTABLE)
        places = ", ".join("?" * len(values))
        with self._transaction():
            self._connection.execute(
                f"INSERT INTO outbox_tickets (state, {_COLUMNS}) VALUES ('open', {places})"
                f" ON CONFLICT (jti) DO UPDATE SET {update}",
                values,
            )

    def seal(self, jti: str) -> None:
        """Ready for a batch, and spent. A ticket under which nothing was served is only spent.

        Sealing a ticket that is sealed, or was never saved, changes nothing.

        :raises OutboxUnavailable: the disk refuses; the ticket is open still.
        """
        served = self.find(jti)
        if served is None:
            return
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO outbox_spent VALUES (?, ?)", (jti, served.expires_at))
            if served.bytes == 0 and served.receipt is None:
                self._connection.execute("DELETE FROM outbox_tickets WHERE jti = ?", (jti,))
            else:
                self._connection.execute("UPDATE outbox_tickets SET state = 'sealed' WHERE jti = ?", (jti,))

    def open_tickets(self) -> list[ServedTicket]:
        """Oldest first."""
        return self._tickets("state = 'open'")

    def forget_expired(self, now: int) -> None:
        """Stop remembering spent tickets that could not be served any more."""
        before = now - self._config.spent_grace_s
        if self._one("SELECT 1 FROM outbox_spent WHERE expires_at < ? LIMIT 1", before) is not None:
            with self._transaction():
                self._connection.execute("DELETE FROM outbox_spent WHERE expires_at < ?", (before,))

    # -------------------------------------------------------------- handing over

    def next_batch(self, key: PrivateKey) -> SealedBatch | None:
        """The batch that waits for its ack, else a new one of the oldest sealed tickets; None without any.

        A new batch is on the disk (``synchronous=FULL``) when this returns.

        :raises OutboxUnavailable: the disk refuses; nothing may be sent.
        """
        did = key.public.device_id()
        stored = self._one("SELECT seq, token FROM outbox_batch WHERE did = ?", did)
        if stored is not None:
            jtis = tuple(served.jti for served in self._tickets("state = 'batched'"))
            return SealedBatch(did, stored[0], stored[1], batch_hash(stored[1]), jtis)
        if self._one("SELECT 1 FROM outbox_batch") is not None:
            # Made by a key that is no longer this device's: its tickets wait for a batch of the new key.
            with self._transaction():
                self._dissolve()
        chosen = _fitting(self._tickets("state = 'sealed'", limit=BATCH_ITEMS_MAX))
        if not chosen:
            return None
        chain = self._one("SELECT seq, prev FROM outbox_chain WHERE did = ?", did) or (0, FIRST_PREV)
        seq = chain[0] + 1
        batch = Batch(did, seq, chain[1], tuple(served.claim() for served in chosen))
        token = sign(Kind.BATCH, batch, key, kid=did)
        sealed = SealedBatch(did, seq, token, batch_hash(token), tuple(served.jti for served in chosen))
        with self._transaction(durable=True):
            self._connection.execute("INSERT INTO outbox_batch VALUES (?, ?, ?)", (did, seq, token))
            self._connection.execute("INSERT OR REPLACE INTO outbox_chain VALUES (?, ?, ?)", (did, seq, sealed.hash))
            self._connection.executemany(
                "UPDATE outbox_tickets SET state = 'batched' WHERE jti = ?", [(jti,) for jti in sealed.jtis]
            )
        return sealed

    def acknowledge(self, ack: Ack) -> None:
        """Let go of the batch that ``ack`` answers and count what was refused; what was booked is kept for a while.

        The signature of the ack is the caller's to verify; see :mod:`submission`. An ack of an earlier batch, come
        twice, changes nothing.

        :raises PeerError: when it names the waiting batch's place but not the batch.
        :raises OutboxUnavailable: the disk refuses; the batch waits still, and the ledger will give the ack again.
        """
        stored = self._one("SELECT token FROM outbox_batch WHERE did = ? AND seq = ?", ack.did, ack.seq)
        if stored is None:
            return
        if batch_hash(stored[0]) != ack.batch:
            raise PeerError("the ack is for another batch")
        with self._transaction():
            self._connection.execute("DELETE FROM outbox_batch WHERE did = ?", (ack.did,))
            self._keep(ack)
            self._connection.execute("DELETE FROM outbox_tickets WHERE state = 'batched'")
            for item in ack.items:
                if item.result == "refused":
                    self._connection.execute(
                        "INSERT INTO outbox_refused VALUES (?, 1) ON CONFLICT (reason) DO UPDATE SET items = items + 1",
                        (item.reason or "malformed",),
                    )

    def resume_from(self, did: str, seq: int, prev: str) -> None:
        """Continue the chain where the ledger stands: the next batch gets ``seq`` and ``prev``.

        For a device whose database was lost, a ledger restored from a backup, or a change of ledger. The waiting
        batch, which the ledger has not taken, is dissolved; its tickets go into the next one. So do those of batches
        from ``seq`` on that were acknowledged and are kept still: the ledger has forgotten them. It books none twice.
        """
        with self._transaction(durable=True):
            self._dissolve()
            self._connection.execute(
                f"INSERT OR IGNORE INTO outbox_tickets (state, {_COLUMNS}) SELECT 'sealed', {_COLUMNS} FROM outbox_kept"
                " WHERE did = ? AND seq >= ? ORDER BY seq, rowid",
                (did, seq),
            )
            self._connection.execute("DELETE FROM outbox_kept WHERE did = ? AND seq >= ?", (did, seq))
            self._connection.execute("INSERT OR REPLACE INTO outbox_chain VALUES (?, ?, ?)", (did, seq - 1, prev))

    def forget_kept(self) -> None:
        """No longer keep what was acknowledged: the device leaves its owner."""
        with self._transaction():
            self._connection.execute("DELETE FROM outbox_kept")

    # -------------------------------------------------------------- status

    def waiting(self) -> int:
        """Sealed tickets that the ledger has not acknowledged."""
        return self._count("SELECT count(*) FROM outbox_tickets WHERE state IN ('sealed', 'batched')")

    def oldest_at(self) -> int | None:
        """Unix time at which service ended under the ticket that waits longest."""
        statement = "SELECT ended_at FROM outbox_tickets WHERE state IN ('sealed', 'batched') ORDER BY id LIMIT 1"
        found = self._one(statement)
        return found[0] if found else None

    def status(self, now: int) -> dict[str, int]:
        """What the owner's phone sees of it."""
        oldest_at = self.oldest_at()
        oldest_s = 0 if oldest_at is None else max(0, now - oldest_at)
        return {"waiting": self.waiting(), "oldest_s": oldest_s, "refused": sum(self.refused().values())}

    def kept(self) -> int:
        """Acknowledged tickets that could be handed over again."""
        return self._count("SELECT count(*) FROM outbox_kept")

    def refused(self) -> dict[str, int]:
        """Items that the ledger refused, by reason."""
        return dict(self._connection.execute("SELECT reason, items FROM outbox_refused ORDER BY reason"))

    # -------------------------------------------------------------- inside

    def _keep(self, ack: Ack) -> None:
        """Keep what ``ack`` booked of the waiting batch, and forget what no ledger would take any more."""
        booked = [(item.jti,) for item in ack.items if item.result == "booked"]
        self._connection.executemany(
            f"INSERT OR REPLACE INTO outbox_kept (did, seq, acknowledged_at, {_COLUMNS})"
            f" SELECT ?, ?, ?, {_COLUMNS} FROM outbox_tickets WHERE state = 'batched' AND jti = ?",
            [(ack.did, ack.seq, ack.iat, *jti) for jti in booked],
        )
        self._connection.execute(
            "DELETE FROM outbox_kept WHERE acknowledged_at < ? OR rowid <= (SELECT max(rowid) - ? FROM outbox_kept)",
            (ack.iat - PROOF_AGE_S_MAX, self._config.kept_max),
        )

    def _dissolve(self) -> None:
        self._connection.execute("DELETE FROM outbox_batch")
        self._connection.execute("UPDATE outbox_tickets SET state = 'sealed' WHERE state = 'batched'")

    def _tickets(self, where: str, *values: object, limit: int = -1) -> list[ServedTicket]:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM outbox_tickets WHERE {where} ORDER BY id LIMIT ?", (*values, limit)
        )
        return [_ticket(row) for row in rows]

    def _one(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self._connection.execute(statement, values).fetchone()
        return found

    def _count(self, statement: str) -> int:
        count: int = self._connection.execute(statement).fetchone()[0]
        return count

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[None]:
        """All or nothing. :raises OutboxUnavailable: the disk is full, read-only or failing; nothing has changed."""
        if durable:
            self._connection.execute("PRAGMA synchronous = FULL")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise OutboxUnavailable(f"the proofs cannot be written: {error}") from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if durable:
                self._connection.execute("PRAGMA synchronous = NORMAL")


def _ticket(row: tuple[Any, ...]) -> ServedTicket:
    jti, token, countersigned, *others, spans = row
    values: list[Any] = [jti, token, bool(countersigned), *others]
    values.append(tuple((start, end) for start, end in json.loads(spans)))
    return ServedTicket(*values)


def _fitting(tickets: Iterable[ServedTicket]) -> list[ServedTicket]:
    """As many, from the first on, as one batch holds by bytes."""
    chosen: list[ServedTicket] = []
    room = _BATCH_ITEM_BYTES_MAX
    for served in tickets:
        room -= len(dumps(encode(served.claim()))) + 1
        if room < 0:
            break
        chosen.append(served)
    return chosen
