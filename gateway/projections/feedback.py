"""Answers of shoppers by day and question: how often each score was given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.projection import Change, Fact, Query, Table, have_table, label
from gateway.projections.store_time import StoreTime

_TYPE = "store.feedback.given.v1"
_SCORES = range(11)


class _Given(msgspec.Struct):
    question_id: str
    score: int


class FeedbackDay(msgspec.Struct, frozen=True):
    """A question's answers of one day: how many gave each score."""

    question: str
    scores: dict[int, int]

    @property
    def answers(self) -> int:
        """How many there were."""
        return sum(self.scores.values())


class Feedback:
    """The read model."""

    name = "feedback"
    streams: tuple[Stream, ...] = ("transactions",)
    tables: tuple[Table, ...] = (
        Table(
            "feedback_day",
            "day TEXT NOT NULL, question TEXT NOT NULL, score INTEGER NOT NULL, answers INTEGER NOT NULL, "
            "PRIMARY KEY (day, question, score)",
            day=True,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"1 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Given).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Count the run by day, question and score; a score outside 0–10 is none."""
        counts: dict[tuple[str, str, int], int] = {}
        for fact in facts:
            if fact.type != _TYPE:
                continue
            try:
                given = self._decode(fact.data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if given.score not in _SCORES:
                continue
            key = self._time.day(fact.happened_ms), label(given.question_id), given.score
            counts[key] = counts.get(key, 0) + 1
        if counts:
            yield Change(
                "INSERT INTO feedback_day VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET answers = answers + excluded.answers",
                [(*key, count) for key, count in counts.items()],
            )


def day_of(query: Query, day: str) -> list[FeedbackDay]:
    """That day's answers by question; [] when there were none."""
    if not have_table(query, "feedback_day"):
        return []
    found: dict[str, dict[int, int]] = {}
    for row in query("SELECT * FROM feedback_day WHERE day = ? ORDER BY question, score", (day,)):
        found.setdefault(row["question"], {})[row["score"]] = row["answers"]
    return [FeedbackDay(question, scores) for question, scores in found.items()]
