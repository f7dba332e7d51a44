"""The 69,659 purchases of the CDNOW data set, by date.

`data/PROVENANCE.md` describes the data and their source.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from array import array
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

from eventbraid.examples.order_fulfilment import data

FIRST_DAY = date(1997, 1, 1)
ORIGINAL_SHA256 = "eff6889ed364c5199d6eacbbeb7a6d559971df4406ac876f322c373f00a072ef"

ROWS = 69_659
CUSTOMERS = 23_570
CDS = 167_881
CENTS = 250_031_563
FREE = 80
REPEATED = 255


class Purchase(NamedTuple):
    """One purchase.

    Attributes:
        number: Its index, from 1, in a stable sort of the file by date.
        customer: The customer's number, from 1.
        day: The day of the purchase.
        cds: The number of CDs.
        cents: Their total price in cents of US dollars; 80 purchases cost nothing.
    """

    number: int
    customer: int
    day: date
    cds: int
    cents: int


@cache
def purchases() -> tuple[Purchase, ...]:
    """Return all purchases by date; those of one day in the order of the file.

    Example:
        >>> first = purchases()[0]
        >>> first.number, first.day.isoformat(), first.cents
        (1, '1997-01-01', 1177)
    """
    rows = sorted(_rows(), key=_by_day)
    days = [FIRST_DAY + timedelta(days=day) for day in range(rows[-1][1] + 1)]
    return tuple(
        Purchase(number, customer, days[day], cds, cents)
        for number, (customer, day, cds, cents) in enumerate(rows, start=1)
    )


def original_text() -> bytes:
    """Rebuild the original `CDNOW_master.txt`, byte for byte."""
    lines = [" customer_id  date number_of_cds  dollar_value"]
    for customer, day, cds, cents in _rows():
        when = FIRST_DAY + timedelta(days=day)
        lines.append(f" {customer:05d} {when:%Y%m%d} {cds:2d} {cents / 100:7.2f}")
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


def discrepancies() -> list[str]:
    """Return the documented facts that do not hold; an empty list if all do."""
    rows = purchases()
    kinds = {row[1:] for row in rows}
    facts = {
        "rows": (len(rows), ROWS),
        "customers": (len({row.customer for row in rows}), CUSTOMERS),
        "CDs": (sum(row.cds for row in rows), CDS),
        "cents": (sum(row.cents for row in rows), CENTS),
        "purchases of value 0": (sum(row.cents == 0 for row in rows), FREE),
        "repeated rows": (len(rows) - len(kinds), REPEATED),
        "first day": (rows[0].day, FIRST_DAY),
        "last day": (rows[-1].day, date(1998, 6, 30)),
        "digest": (hashlib.sha256(original_text()).hexdigest(), ORIGINAL_SHA256),
    }
    return [
        f"{fact}: {found}, expected {expected}"
        for fact, (found, expected) in facts.items()
        if found != expected
    ]


def _rows() -> list[tuple[int, int, int, int]]:
    packed = files(data).joinpath("cdnow.bin").read_bytes()
    unpacked = memoryview(zlib.decompress(packed))
    customer_steps, rest = _column("H", unpacked)
    days, rest = _column("H", rest)
    cds, rest = _column("B", rest)
    cents, rest = _column("I", rest)
    return list(zip(accumulate(customer_steps), days, cds, cents, strict=True))


def _column(code: str, unpacked: memoryview) -> tuple[array[int], memoryview]:
    column: array[int] = array(code)
    size = ROWS * column.itemsize
    column.frombytes(unpacked[:size])
    if sys.byteorder == "big":
        column.byteswap()
    return column, unpacked[size:]


_by_day = itemgetter(1)


if __name__ == "__main__":
    wrong = discrepancies()
    sys.stdout.write("\n".join(wrong) + "\n" if wrong else "all facts hold\n")
    sys.exit(1 if wrong else 0)
