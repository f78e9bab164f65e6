"""Tagged stock by GTIN and zone: where each tag was last said to be. From `store.rfid.*` and `store.stock.counted`.

Counting arrivals and departures would be wrong: after a restart every tag arrives again. So each tag has one row, its
newest event wins, and one that departed has none. Tags that arrived before the oldest event that is kept are not known
after a rebuild. Knows no reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.projection import COUNT_LIMIT, Change, Fact, Query, Table, have_table, label
from gateway.projections.store_time import StoreTime

_HERE = {"store.rfid.arrived.v1", "store.rfid.moved.v1"}
_GONE = "store.rfid.departed.v1"
_COUNTED = "store.stock.counted.v1"
OWN_PATH = "gateway/stock"  # who tells what the tags say; everybody else took an inventory
TAGS_MOST = 200_000  # a flood of made-up tags fills no disk
GTINS_MOST = 50_000


class _Tag(msgspec.Struct):
    epc_hex: str
    gtin: str | None = None
    zone_to: str | None = None


class _Counted(msgspec.Struct):
    gtin: str
    zone: str
    epc_count: int


class Stock(msgspec.Struct, frozen=True, kw_only=True):
    """A GTIN in a zone. `tags` are present by the readers; `counted`: what an inventory said last, None if none did."""

    gtin: str
    zone: str
    tags: int
    counted: int | None = None
    counted_ms: int | None = None


class StockByZone:
    """The read model."""

    name = "stock"
    streams: tuple[Stream, ...] = ("observations", "measurements")
    tables: tuple[Table, ...] = (
        Table(
            "stock_tag",
            "epc TEXT PRIMARY KEY, gtin TEXT NOT NULL, zone TEXT NOT NULL, day TEXT NOT NULL",
            day=True,
            keep_rows=TAGS_MOST,
        ),
        Table(
            "stock_counted",
            "gtin TEXT NOT NULL, zone TEXT NOT NULL, tags INTEGER NOT NULL, at_ms INTEGER NOT NULL, day TEXT NOT NULL, "
            "PRIMARY KEY (gtin, zone)",
            day=True,
            keep_rows=GTINS_MOST,
        ),
        Table(
            "stock_told",
            "gtin TEXT NOT NULL, zone TEXT NOT NULL, tags INTEGER NOT NULL, day TEXT NOT NULL, "
            "PRIMARY KEY (gtin, zone)",
            day=True,
            keep_rows=GTINS_MOST,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"2 {time.name}"
        self._time = time
        self._tag = msgspec.json.Decoder(_Tag).decode
        self._counted = msgspec.json.Decoder(_Counted).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Where each tag of the run is at its end; tags without a GTIN are no stock."""
        tags: dict[str, tuple[str, str, str] | None] = {}
        counts: dict[tuple[str, str], tuple[int, int, str]] = {}
        own: dict[tuple[str, str], tuple[int, str]] = {}
        for fact in facts:
            kind = fact.type
            if kind != _GONE and kind not in _HERE and kind != _COUNTED:
                continue
            try:
                if kind == _COUNTED:
                    told = self._counted(fact.data)
                    if 0 <= told.epc_count <= COUNT_LIMIT:
                        day = self._time.day(fact.happened_ms)
                        place = label(told.gtin), label(told.zone)
                        if fact.source.endswith("/" + OWN_PATH):
                            own[place] = told.epc_count, day
                        else:
                            counts[place] = told.epc_count, fact.happened_ms, day
                    continue
                tag = self._tag(fact.data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if tag.gtin:
                here = (
                    None
                    if kind == _GONE
                    else (label(tag.gtin), label(tag.zone_to or ""), self._time.day(fact.happened_ms))
                )
                tags[label(tag.epc_hex, 128)] = here
        gone = [(epc,) for epc, here in tags.items() if here is None]
        if gone:
            yield Change("DELETE FROM stock_tag WHERE epc = ?", gone)
        present = [(epc, *here) for epc, here in tags.items() if here is not None]
        if present:
            yield Change("INSERT OR REPLACE INTO stock_tag VALUES (?, ?, ?, ?)", present)
        if counts:
            yield Change(
                "INSERT OR REPLACE INTO stock_counted VALUES (?, ?, ?, ?, ?)",
                [(*key, *row) for key, row in counts.items()],
            )
        if own:
            yield Change(
                "INSERT OR REPLACE INTO stock_told VALUES (?, ?, ?, ?)", [(*key, *row) for key, row in own.items()]
            )


def untold_of(query: Query, limit: int = 1000) -> list[Stock]:
    """Where the tags say something else than was told last, 0 where the last one left; at most `limit` lines."""
    if not have_table(query, "stock_told"):
        return []
    rows = query(
        "SELECT gtin, zone, sum(tags) AS tags FROM ("
        "SELECT gtin, zone, count(*) AS tags, 0 AS told FROM stock_tag GROUP BY gtin, zone "
        "UNION ALL SELECT gtin, zone, 0, tags FROM stock_told) "
        "GROUP BY gtin, zone HAVING sum(tags) <> sum(told) ORDER BY gtin, zone LIMIT ?",
        (limit,),
    )
    return [Stock(gtin=row["gtin"], zone=row["zone"], tags=row["tags"]) for row in rows]


def now_of(query: Query, limit: int = 1000) -> list[Stock]:
    """What is here now by GTIN and zone, most tags first, at most `limit` lines; [] when no tag says anything."""
    if not have_table(query, "stock_tag"):
        return []
    rows = query(
        "SELECT gtin, zone, sum(tags) AS tags, max(counted) AS counted, max(at_ms) AS at_ms FROM ("
        "SELECT gtin, zone, count(*) AS tags, NULL AS counted, NULL AS at_ms FROM stock_tag GROUP BY gtin, zone "
        "UNION ALL SELECT gtin, zone, 0, tags, at_ms FROM stock_counted) "
        "GROUP BY gtin, zone ORDER BY tags DESC, counted DESC, gtin, zone LIMIT ?",
        (limit,),
    )
    return [
        Stock(
            gtin=row["gtin"], zone=row["zone"], tags=row["tags"], counted=row["counted"], counted_ms=row["at_ms"]
        )
        for row in rows
    ]  # fmt: skip
