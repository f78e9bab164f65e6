"""What a demo is asked to play, and how it ended. Values only."""

from __future__ import annotations

from pathlib import Path

import msgspec

from devices.simulator.faults import FaultName
from gateway.demo.books import Line
from gateway.demo.broker import Kind
from gateway.journal.reader import StreamState


class DemoPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run.

    `page_port` 0: no page. `for_s`: how long the shop is open; None: until stopped.
    `speed`: shop seconds in a real second: how much faster than in life everybody goes about. `visitors`: on a mean day
    of twelve hours by the clock; 0: as many as the speed makes of a shop's day.
    `pace`: how much faster than usual faults follow each other.
    `broker`: `auto` takes the embedded one, else Mosquitto, else none. `platform`: run the reference platform, too.
    """

    data: Path
    page_port: int = 8080
    speed: float = 60.0
    seed: int = 1
    faults: tuple[FaultName, ...] = ()
    for_s: float | None = None
    pace: float = 1.0
    broker: Kind = "auto"
    platform: bool = True
    history_days: int = 0  # before today, made up for a new journal
    visitors: float = 0.0
    zone: str = "Asia/Shanghai"  # where the shop lies; a journal that exists stays where it began


class Outcome(msgspec.Struct, frozen=True):
    """How a demo ended: the books, the conservation lines, and what happened on the way."""

    lines: list[Line]
    states: list[StreamState]
    restarts: int
    ready_s: float | None  # from the start until the gateway took events
    page_s: float | None  # … until the page answered
    seen_faults: dict[str, int]

    @property
    def in_order(self) -> bool:
        """True when nothing is missing that should be there, and nothing is there twice."""
        return all(line.in_order for line in self.lines) and all(
            state.accepted == state.acked + state.pending + state.quarantined + state.expired + state.declared_lost
            for state in self.states
        )
