"""What is audited: a ledger's SQLite file, or an export, which is loaded into a temporary database first.

Either way the audit reads one SQLite connection, whose tables have the columns of the ledger's.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fallow_wire.errors import PeerError
from fallow_wire.fields import decode
from fallow_wire.keys import Jwk, JwkSet, PublicKey
from fallow_wire.limits import BATCH_BYTES_MAX, MIB

from ..errors import ClientError

LINE_BYTES_MAX = BATCH_BYTES_MAX + MIB
"""The longest line is that of a batch and its ack."""
SQLITE_MAGIC = b"SQLite format 3\0"
GZIP_MAGIC = b"\x1f\x8b"
INDEXES = (
    "entries (seq)",
    "entries (ref)",
    "entries (holder)",
    "settlements (device, batch_seq)",
    "settlements (jti)",
    "deliveries (device)",
)
"""What the audit looks rows up by, in an export's database; the ledger's own has them already."""
COLUMNS = {
    "ledger_keys": "kid x",
    "tariffs": "id version valid_from token",
    "entries": "seq at kind account holder micro_points posting ref hash",
    "chain_head": "id entries hash",
    "roots": "day entries hash token",
    "balances": "account kind holder hour micro_points",
    "devices": "id x owner seq hash forked_at",
    "batches": "device seq hash token ack received_at",
    "settlements": "jti device batch_seq item digest owner publisher service tier issued_at "
    "claimed_bytes allowed_bytes confirmed_bytes confirmed_ms paid_bytes tariff rate quality scarcity weight "
    "micro_points entry_seq booked_at matures_at late_at consumer object line odds audits seal "
    "region bps reach delivered",
    "clawbacks": "jti micro_points reason entry_seq at",
    "earners": "owner since",
    "holds": "owner matures_at micro_points",
    "legacy_days": "scope holder day bytes",
    "line_hours": "line hour bytes",
    "audits": "jti device bytes agreed reason at",
    "deliveries": "device day delivered consumers valid_from",
    "redemptions": "id owner reward micro_points state created_at changed_at",
    "statements": "account month token",
    "reports": "day at sound report",
    "restores": "at backup_at entries hash reviewed_at",
}


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The tables of ``path``, read only.

    :raises ClientError: it is neither an export nor a ledger's database, or it is cut short.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(SQLITE_MAGIC))
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror}", "name an export or a copy of ledger.sqlite") from error
    if start == SQLITE_MAGIC:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            yield _ready(connection)
        finally:
            connection.close()
        return
    with tempfile.TemporaryDirectory(prefix="fallow-verify-") as directory:
        connection = sqlite3.connect(Path(directory) / "export.sqlite")
        try:
            with path.open("rb") as plain, gzip.GzipFile(fileobj=plain) as packed:
                _load(connection, packed if start.startswith(GZIP_MAGIC) else plain, path)
            yield _ready(connection)
        finally:
            connection.close()


def trusted_keys(path: Path) -> dict[str, PublicKey]:
    """The keys of a JWK set that the auditor holds already, by ``kid``.

    :raises ClientError: the file is not one.
    """
    try:
        found = decode(JwkSet, json.loads(path.read_bytes()), strict=False)
        keys = [PublicKey.from_jwk(jwk) for jwk in found.keys]
    except (OSError, ValueError, PeerError) as error:
        raise ClientError(f"{path} is not a JWK set: {error}", "save the ledger's /.well-known/jwks.json") from error
    return {key.thumbprint(): key for key in keys}


def ledger_key(x: str) -> PublicKey:
    """:raises PeerError: it is no key."""
    return PublicKey.from_jwk(Jwk("OKP", "Ed25519", x))


def _ready(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.row_factory = sqlite3.Row
    # A damaged file may hold text that is no UTF-8; it must be found as a difference and not end the audit.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return connection


def _load(connection: sqlite3.Connection, file: IO[bytes] | gzip.GzipFile, path: Path) -> None:
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    for table, columns in COLUMNS.items():
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns.split())})")
    counts = dict.fromkeys(COLUMNS, 0)
    said: dict[str, Any] | None = None
    try:
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX), b""), 1):
            value = json.loads(line)
            if number == 1 and value.get("ledger") != 1:
                raise ClientError(f"{path} is not an export of a ledger", "take it from GET /v1/export")
            if "table" in value:
                _insert(connection, value["table"], value["row"])
                counts[value["table"]] += 1
            elif "rows" in value:
                said = value["rows"]
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, zlib.error, sqlite3.Error) as error:
        raise ClientError(f"{path} is not a whole export: {error or type(error).__name__}", "take it again") from error
    if said != counts:
        raise ClientError(f"{path} is not a whole export", "take it again")
    for index, columns in enumerate(INDEXES):
        connection.execute(f"CREATE INDEX audit_{index} ON {columns}")
    connection.commit()


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    columns = COLUMNS[table].split()
    unknown = row.keys() - set(columns)
    if unknown:
        raise ValueError(f"{table} has a column {min(unknown)!r} that this version does not know")
    marks = ", ".join("?" * len(columns))
    connection.execute(f"INSERT INTO {table} VALUES ({marks})", [row.get(name) for name in columns])
