"""Sales by hour and currency: how many, for how much, how many items.

From `store.pos.sale`. Returns are negative and counted apart; a voided transaction is counted and moves no money. Money
is kept in ten-thousandths of the currency as a whole number, so sums are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from gateway.event import Stream
from gateway.projections.projection import Change, Fact, Query, Table, have_table, label, told_by
from gateway.projections.store_time import StoreTime

_TYPE = "store.pos.sale.v1"
_PARTS = 10_000  # of one unit of the currency
_MOST = Decimal(1_000_000_000)  # a receipt above it is a mistake and is passed over
_ITEMS_MOST = Decimal(1_000_000)


class _Line(msgspec.Struct):
    kind: str = "sale"
    quantity: Decimal = Decimal(1)
    unit: str = "C62"
    voided: bool = False


class _Totals(msgspec.Struct):
    net: Decimal
    item_count: Decimal | None = None


class _Sale(msgspec.Struct):
    kind: str
    totals: _Totals
    currency: str = ""
    lines: tuple[_Line, ...] = ()
    loyalty: msgspec.Raw = msgspec.Raw(b"null")  # whose it was stays unread


class SalesHour(msgspec.Struct, frozen=True, kw_only=True):
    """One hour in one currency. `net` includes returns; `items` may be broken for goods by weight."""

    hour_ms: int
    currency: str
    sales: int
    returns: int
    voids: int
    net: Decimal
    sold: Decimal  # of sales alone: what a basket is made of
    items: Decimal
    last_ms: int
    members: int = 0  # sales with a consented member


class Sales:
    """The read model."""

    name = "sales"
    streams: tuple[Stream, ...] = ("transactions",)
    tables: tuple[Table, ...] = (
        Table(
            "sales_hour",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, currency TEXT NOT NULL, sales INTEGER NOT NULL, "
            "returns INTEGER NOT NULL, voids INTEGER NOT NULL, net_parts INTEGER NOT NULL, "
            "sold_parts INTEGER NOT NULL, item_parts INTEGER NOT NULL, last_ms INTEGER NOT NULL, "
            "members INTEGER NOT NULL, "
            "PRIMARY KEY (day, hour_ms, currency)",
            day=True,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"2 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Sale).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Sum the run by hour and currency."""
        sums: dict[tuple[str, int, str], list[int]] = {}
        for fact, sale in told_by(facts, _TYPE, self._decode):
            net = _parts(sale.totals.net, _MOST)
            items = _parts(_items(sale), _ITEMS_MOST)
            if net is None or items is None:
                continue
            key = (*self._time.bucket(fact.happened_ms), label(sale.currency, 8))
            row = sums.setdefault(key, [0, 0, 0, 0, 0, 0, 0, 0])
            row[6] = max(row[6], fact.happened_ms)
            if sale.kind == "void":
                row[2] += 1
                continue
            row[3] += net
            if sale.kind == "return":
                row[1] += 1
                continue
            row[0] += 1
            row[4] += net
            row[5] += items
            row[7] += bytes(sale.loyalty) not in _NOBODY
        if sums:
            yield Change(_ADD, [(*key, *row) for key, row in sums.items()])


_ADD = """
INSERT INTO sales_hour VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  sales = sales + excluded.sales, returns = returns + excluded.returns, voids = voids + excluded.voids,
  net_parts = net_parts + excluded.net_parts, sold_parts = sold_parts + excluded.sold_parts,
  item_parts = item_parts + excluded.item_parts, last_ms = max(last_ms, excluded.last_ms),
  members = members + excluded.members
"""
_NOBODY = (b"null", b"{}")


def hours_of(query: Query, day: str, last: str = "") -> list[SalesHour]:
    """The hours of that day (or until the day `last`) in which a till said something, in order; [] when none did."""
    if not have_table(query, "sales_hour"):
        return []
    rows = query("SELECT * FROM sales_hour WHERE day BETWEEN ? AND ? ORDER BY hour_ms, currency", (day, last or day))
    return [
        SalesHour(
            hour_ms=row["hour_ms"], currency=row["currency"], sales=row["sales"], returns=row["returns"],
            voids=row["voids"], net=Decimal(row["net_parts"]) / _PARTS, sold=Decimal(row["sold_parts"]) / _PARTS,
            items=Decimal(row["item_parts"]) / _PARTS, last_ms=row["last_ms"], members=row["members"],
        )
        for row in rows
    ]  # fmt: skip


def _items(sale: _Sale) -> Decimal:
    """How many pieces: the till's own count, else its lines; something weighed is one piece."""
    if sale.totals.item_count is not None:
        return sale.totals.item_count
    try:
        return sum(
            (
                line.quantity if line.unit == "C62" else Decimal(1)
                for line in sale.lines
                if line.kind == "sale" and not line.voided
            ),
            Decimal(0),
        )
    except ArithmeticError:  # quantities beyond any sense
        return Decimal("NaN")


def _parts(amount: Decimal, most: Decimal) -> int | None:
    """The amount in ten-thousandths; None for what is no amount."""
    if not amount.is_finite() or abs(amount) > most:
        return None
    return int((amount * _PARTS).to_integral_value())
