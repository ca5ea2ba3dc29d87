"""Which AS and which country an address is of, by offline tables in the form of ip-location-db.

Rows are ``start,end,country`` or ``start,end,asn,name``, in CSV or CSV.gz, IPv4 or IPv6 or both.

A table is three arrays for each family: 10 to 20 bytes a range, neighbours of one value counted as one.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton

from fallow_wire.errors import LocalError

from ..scheduling.places import Place

ROWS_MAX = 5_000_000
"""Of one table: six times the largest that is known; more is another file, or would eat the memory."""
ASN_MAX = 2**32 - 1
PLACES_MAX = 65_536
"""Different places that are kept as one value each; there are some 100,000 networks in the world."""


class AddressTable:
    """What one file tells: ``values`` are ASNs, or countries as two letters in one number."""

    def __init__(self) -> None:
        self._ipv4 = _Ranges("I")
        self._ipv6 = _Ranges("Q")
        self.of_countries: bool | None = None
        """None while it has no row."""

    @classmethod
    def read(cls, path: Path) -> AddressTable:
        """Read a file; a second or two for the whole internet.

        :raises LocalError: naming the file, and the line where one is wrong.
        """
        try:
            with _opened(path) as text:
                return cls.of_rows(text, str(path))
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise LocalError(f"{path}: {getattr(error, 'strerror', None) or error}") from None

    @classmethod
    def of_rows(cls, lines: Iterable[str], name: str) -> AddressTable:
        """:param name: of the file, for errors. Raises as :meth:`read`."""
        table = cls()
        rows = csv.reader(lines)
        number = 0
        try:
            for number, row in enumerate(rows, 1):
                if number > ROWS_MAX:
                    raise ValueError(f"more than {ROWS_MAX} rows")
                if row:
                    table._add(row)
        except (ValueError, csv.Error) as error:
            raise LocalError(f"{name}, line {max(number, rows.line_num)}: {error}") from None
        if table.of_countries is None:
            raise LocalError(f"{name}: holds no rows of start,end,country or start,end,asn,name")
        return table

    def _add(self, row: list[str]) -> None:
        if len(row) < 3:
            raise ValueError("start,end,country or start,end,asn,name is wanted")
        start, end, value = row[0].strip(), row[1].strip(), row[2].strip()
        of_countries = not value.isdigit()
        if self.of_countries is None:
            self.of_countries = of_countries
        elif self.of_countries != of_countries:
            raise ValueError("countries and AS numbers in one table")
        family, ranges = (AF_INET6, self._ipv6) if ":" in start else (AF_INET, self._ipv4)
        ranges.add(_packed(family, start), _packed(family, end), _country(value) if of_countries else _asn(value))

    def __len__(self) -> int:
        """Ranges, after neighbours of one value were joined."""
        return len(self._ipv4) + len(self._ipv6)

    @property
    def size_bytes(self) -> int:
        return self._ipv4.size_bytes + self._ipv6.size_bytes

    def value_of(self, packed: bytes) -> int | None:
        """:param packed: 4 or 16 bytes."""
        return (self._ipv4 if len(packed) == 4 else self._ipv6).value_of(packed)


class _Ranges:
    """Of one family, rising; where two overlap the later one counts, to its end. IPv6 by /64, which is the least that a
    home gets: of smaller ranges the last of a /64 counts."""

    def __init__(self, code: str) -> None:
        self._starts = array(code)
        self._ends = array(code)
        self._values = array("I")
        self._last = b""

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def size_bytes(self) -> int:
        return sum(len(one) * one.itemsize for one in (self._starts, self._ends, self._values))

    def add(self, start: bytes, end: bytes, value: int) -> None:
        if end < start:
            raise ValueError("the range ends before it starts")
        if start < self._last:
            raise ValueError("the ranges of a family must rise; sort the file by its first column")
        self._last = start
        first, last = _number(start), _number(end)
        if self._starts and self._values[-1] == value and self._ends[-1] + 1 >= first:
            self._ends[-1] = max(last, self._ends[-1])
        else:
            self._starts.append(first)
            self._ends.append(last)
            self._values.append(value)

    def value_of(self, packed: bytes) -> int | None:
        number = _number(packed)
        at = bisect_right(self._starts, number) - 1
        return self._values[at] if at >= 0 and number <= self._ends[at] else None


class AddressTables:
    """Tables together: of each kind the first one counts that knows the address."""

    def __init__(self, tables: Iterable[AddressTable] = ()) -> None:
        tables = list(tables)
        self._countries = [table for table in tables if table.of_countries]
        self._networks = [table for table in tables if table.of_countries is False]

    def place_of(self, address: str) -> Place:
        """Where an IPv4 or IPv6 address is, IPv4 also in the form of IPv6. :raises ValueError: for anything else."""
        packed = _packed(AF_INET6 if ":" in address else AF_INET, address.partition("%")[0])
        if packed[:12] == _MAPPED:
            packed = packed[12:]
        return _place(_first(self._networks, packed), _first(self._countries, packed) or 0)


_MAPPED = bytes(10) + b"\xff\xff"


def _first(tables: list[AddressTable], packed: bytes) -> int | None:
    return next((value for table in tables if (value := table.value_of(packed)) is not None), None)


@lru_cache(maxsize=PLACES_MAX)
def _place(asn: int | None, country: int) -> Place:
    """One value for all who are there: a hundred thousand devices are in some thousand places."""
    return Place(asn, f"{chr(country >> 8)}{chr(country & 255)}" if country else None)


def _number(packed: bytes) -> int:
    return int.from_bytes(packed[:8], "big")


def _packed(family: int, address: str) -> bytes:
    try:
        return inet_pton(family, address)
    except (OSError, ValueError):  # not of the family; with a NUL in it
        raise ValueError(f"{address[:64]!r} is not an address") from None


def _asn(text: str) -> int:
    number = int(text) if len(text) <= 10 else ASN_MAX + 1
    if number > ASN_MAX:
        raise ValueError(f"{text[:16]!r} is not an AS number")
    return number


def _country(text: str) -> int:
    if len(text) != 2 or not (text.isascii() and text.isalpha() and text.isupper()):
        raise ValueError(f"{text[:16]!r} is neither two capital letters nor an AS number")
    return ord(text[0]) << 8 | ord(text[1])


@contextmanager
def _opened(path: Path) -> Iterator[io.TextIOBase]:
    if path.name.endswith(".gz"):
        with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
            yield text
    else:
        with path.open(encoding="utf-8", newline="") as plain:
            yield plain
