"""Heat of the floor by hour and camera: person-seconds in each cell of the camera's grid. From `store.heatmap.sampled`.

A grid that was redrawn with other rows or columns is another map. Knows no picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.interval import begin_ms, span
from gateway.projections.projection import Change, Fact, Query, Table, have_table, label, told_by
from gateway.projections.store_time import StoreTime

_TYPE = "store.heatmap.sampled.v1"
CELLS_MOST = 4096  # of a grid; a finer one is passed over
_KEEP_DAYS = 35  # cells are many
_PERSON_S_MOST = 1e7


class _Sampled(msgspec.Struct):
    camera: str
    interval_s: float
    rows: int
    cols: int
    person_seconds: tuple[float, ...]
    interval_start: str = ""


class HeatMap(msgspec.Struct, frozen=True, kw_only=True):
    """One camera's map: `person_s` row by row from the top left, over `interval_s` of looking."""

    camera: str
    rows: int
    cols: int
    person_s: tuple[float, ...]
    interval_s: float


class Heat:
    """The read model. Cells without anybody have no row."""

    name = "heat"
    streams: tuple[Stream, ...] = ("measurements",)
    tables: tuple[Table, ...] = (
        Table(
            "heat_hour",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, camera TEXT NOT NULL, grid_rows INTEGER NOT NULL, "
            "grid_cols INTEGER NOT NULL, interval_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, "
            "PRIMARY KEY (day, hour_ms, camera, grid_rows, grid_cols)",
            day=True,
            keep_days=_KEEP_DAYS,
        ),
        Table(
            "heat_cell",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, camera TEXT NOT NULL, grid_rows INTEGER NOT NULL, "
            "grid_cols INTEGER NOT NULL, cell INTEGER NOT NULL, person_ms INTEGER NOT NULL, "
            "PRIMARY KEY (day, hour_ms, camera, grid_rows, grid_cols, cell)",
            day=True,
            keep_days=_KEEP_DAYS,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"1 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Sampled).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Sum the run by hour, camera and cell."""
        maps: dict[tuple[str, int, str, int, int], list[int]] = {}
        cells: dict[tuple[str, int, str, int, int, int], int] = {}
        for fact, told in told_by(facts, _TYPE, self._decode):
            if not 0 < told.rows <= CELLS_MOST or not 0 < told.cols <= CELLS_MOST // told.rows:
                continue
            if len(told.person_seconds) != told.rows * told.cols:
                continue
            interval_ms, _ = span(told.interval_s, 1.0)
            at_ms = begin_ms(told.interval_start, fact.happened_ms)
            key = (*self._time.bucket(at_ms), label(told.camera), told.rows, told.cols)
            row = maps.setdefault(key, [0, at_ms])
            row[0] += interval_ms
            row[1] = max(row[1], at_ms)
            for cell, seconds in enumerate(told.person_seconds):
                if 0 < seconds <= _PERSON_S_MOST:
                    place = (*key, cell)
                    cells[place] = cells.get(place, 0) + round(seconds * 1000)
        if maps:
            yield Change(_ADD, [(*key, *row) for key, row in maps.items()])
        if cells:
            yield Change(_CELLS, [(*key, person_ms) for key, person_ms in cells.items()])


_ADD = """
INSERT INTO heat_hour VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  interval_ms = interval_ms + excluded.interval_ms, last_ms = max(last_ms, excluded.last_ms)
"""
_CELLS = """
INSERT INTO heat_cell VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET person_ms = person_ms + excluded.person_ms
"""


def maps_of(query: Query, first: str, last: str, begin_ms: int = 0, end_ms: int = 1 << 62) -> list[HeatMap]:
    """The cameras' maps over the hours that begin in [`begin_ms`, `end_ms`) of those days; the newest grid of each."""
    if not have_table(query, "heat_cell"):
        return []
    where = "day BETWEEN ? AND ? AND hour_ms >= ? AND hour_ms < ?"
    asked = (first, last, begin_ms, end_ms)
    found: list[HeatMap] = []
    for row in query(
        "SELECT camera, grid_rows, grid_cols, sum(interval_ms) AS interval_ms, max(last_ms) AS last_ms "  # noqa: S608 - fixed text
        f"FROM heat_hour WHERE {where} GROUP BY camera, grid_rows, grid_cols ORDER BY camera, last_ms DESC",
        asked,
    ):
        if found and found[-1].camera == row["camera"]:
            continue  # the grid was redrawn since
        person_s = [0.0] * (row["grid_rows"] * row["grid_cols"])
        for cell in query(
            f"SELECT cell, sum(person_ms) AS person_ms FROM heat_cell WHERE {where} AND camera = ? "  # noqa: S608
            "AND grid_rows = ? AND grid_cols = ? GROUP BY cell",
            (*asked, row["camera"], row["grid_rows"], row["grid_cols"]),
        ):
            person_s[cell["cell"]] = cell["person_ms"] / 1000
        found.append(
            HeatMap(
                camera=row["camera"], rows=row["grid_rows"], cols=row["grid_cols"], person_s=tuple(person_s),
                interval_s=row["interval_ms"] / 1000,
            )
        )  # fmt: skip
    return found
