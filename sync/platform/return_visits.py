"""Tells each shop which of its visits were not the person's first there: what a shop cannot know by itself.

Only visits whose person has agreed to matching and to analytics, then and now, and nothing but the visit's own id and
yes or no goes down. A visit is a return when the person was in the same store on an earlier day of that store, as far
as matching shows. Its place is the log's: each visit is looked at once, when all that has arrived is folded, and told
again after a crash rather than not at all. Knows no HTTP.

*Source*: docs/sync.md, "Commands" (`visits.returning`); docs/decisions/0523-who-came-again.md.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from gateway.clock import Clock
from sync.platform.profile_book import EVENT, ProfileBook
from sync.platform.profile_reading import MINE
from sync.platform.store import PlatformStore
from sync.platform.telling import Telling

_PLACE: Final = "return_visits"
_STEP: Final = 200  # visits
_WAS_HERE: Final = "('visit', 'sale', 'exchange')"


class _Beat(msgspec.Struct):
    time_zone: str = ""


class _Visit(msgspec.Struct, frozen=True):
    place: int
    ref: str
    store: str
    at_ms: int
    person: int


class ReturnVisits:
    """`step` from the fold's thread when it has nothing to fold."""

    def __init__(self, book: ProfileBook, store: PlatformStore, telling: Telling, clock: Clock) -> None:
        """`book`, `store`: open."""
        self._book = book
        self._store = store
        self._telling = telling
        self._clock = clock

    def step(self) -> int:
        """Look at the visits that came since, some hundreds at most; returns how many were told."""
        now_ms = round(self._clock.now().wall_s * 1000)
        with self._book.reading() as connection:
            row = connection.execute("SELECT value FROM fact WHERE name = ?", (_PLACE,)).fetchone()
            after = int(row[0]) if row else 0
            until = int(
                connection.execute("SELECT coalesce(max(place), 0) FROM touch WHERE origin = ?", (EVENT,)).fetchone()[0]
            )
            if until <= after:
                return 0
            places = connection.execute(
                "SELECT place FROM touch WHERE origin = ? AND place > ? AND kind = 'visit' ORDER BY place LIMIT ?",
                (EVENT, after, _STEP),
            ).fetchall()
            if len(places) == _STEP:
                until = int(places[-1][0])
            visits = self._agreed(connection, after, until, now_ms) if places else []
        gateways = self._gateways([it.place for it in visits])
        zones = self._zones()
        told: defaultdict[str, dict[str, bool]] = defaultdict(dict)
        with self._book.reading() as connection:
            for visit in visits:
                gateway = gateways.get(visit.place, "")
                if (zone := zones.get(gateway)) is not None:
                    told[gateway][visit.ref] = _was_here_before(connection, visit, zone, now_ms)
        for gateway, answers in told.items():
            self._telling.give(None, gateway, "visits.returning", {"visits": answers})
        with self._book.transaction() as writing:
            writing.set_fact(_PLACE, str(until))
        return sum(map(len, told.values()))

    def _agreed(self, connection: sqlite3.Connection, after: int, until: int, now_ms: int) -> list[_Visit]:
        """The visits in a stretch of the log whose person is known and has agreed to be counted."""
        rows = connection.execute(
            f"SELECT t.place, t.ref, t.store, t.at_ms, c.person {MINE} AND t.origin = :origin AND t.kind = 'visit' "  # noqa: S608 - constants
            "AND t.place > :after AND t.place <= :until AND EXISTS (SELECT 1 FROM consented a WHERE "
            "a.person = c.person AND a.purpose = 'analytics' AND a.since_ms <= t.at_ms "
            "AND (a.until_ms IS NULL OR a.until_ms > :now)) ORDER BY t.place",
            {"now": now_ms, "origin": EVENT, "after": after, "until": until},
        ).fetchall()
        return [_Visit(*row) for row in rows]

    def _gateways(self, places: list[int]) -> dict[int, str]:
        """Who told of each visit."""
        if not places:
            return {}
        return {
            place: str(msgspec.json.decode(body)["id"]).rsplit(".", 3)[0] for place, body in self._store.bodies(places)
        }

    def _zones(self) -> dict[str, ZoneInfo]:
        """The gateways' calendars, as their heartbeats tell; one that tells none is told nothing."""
        found = {}
        for name, beat in self._store.gateways():
            try:
                found[name] = ZoneInfo(msgspec.json.decode(beat or b"{}", type=_Beat).time_zone)
            except (msgspec.DecodeError, ValueError, OSError, LookupError):
                continue
        return found


def _was_here_before(connection: sqlite3.Connection, visit: _Visit, zone: ZoneInfo, now_ms: int) -> bool:
    """Whether the person was in that store before the day on which the visit began."""
    entered_at = datetime.fromtimestamp(visit.at_ms / 1000, zone)
    midnight_ms = int(entered_at.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)
    row = connection.execute(
        f"SELECT 1 {MINE} AND c.person = :person AND t.store = :store AND t.kind IN {_WAS_HERE} "
        "AND t.at_ms < :midnight LIMIT 1",
        {"now": now_ms, "person": visit.person, "store": visit.store, "midnight": midnight_ms},
    ).fetchone()
    return row is not None
