"""Read models' tables in memory, and events to fold into them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from gateway.event import Stream
from gateway.event_types import EVENT_TYPES
from gateway.projections.projection import Fact, Projection


def ms(text: str) -> int:
    """An instant."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


class Tables:
    """The models' tables. `tell` numbers the events."""

    def __init__(self, models: Sequence[Projection]) -> None:
        self.models = models
        self.connection = sqlite3.connect(":memory:")
        self.connection.row_factory = sqlite3.Row
        self.told = 0
        for model in models:
            for table in model.tables:
                self.connection.execute(f"CREATE TABLE {table.name} ({table.columns}) WITHOUT ROWID")

    def take(self, facts: Sequence[Fact]) -> None:
        for model in self.models:
            for change in model.fold([it for it in facts if it.stream in model.streams]):
                self.connection.executemany(change.sql, change.rows)

    def fact(self, kind: str, at: int | str, data: dict[str, Any]) -> Fact:
        """An event of `store.<kind>.v1` that happened at `at`."""
        self.told += 1
        name = f"store.{kind}.v1"
        stream: Stream = EVENT_TYPES[name].stream if name in EVENT_TYPES else "transactions"
        at_ms = ms(at) if isinstance(at, str) else at
        return Fact(stream, self.told, name, "//t/s", at_ms, at_ms, "", msgspec.Raw(json.dumps(data).encode()))

    def tell(self, kind: str, at: int | str, /, **data: Any) -> None:
        self.take([self.fact(kind, at, {"in" if key == "in_" else key: value for key, value in data.items()})])

    def query(self, sql: str, parameters: tuple[object, ...] = ()) -> Sequence[Any]:
        return self.connection.execute(sql, parameters).fetchall()

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        names = [table.name for model in self.models for table in model.tables]
        return {name: [tuple(row) for row in self.query(f"SELECT * FROM {name}")] for name in names}
