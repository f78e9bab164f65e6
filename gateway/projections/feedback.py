"""Answers of shoppers by hour and question: how often each score was given."""

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


class FeedbackHour(msgspec.Struct, frozen=True, kw_only=True):
    """How many gave a question one score in one hour."""

    hour_ms: int
    question: str
    score: int
    answers: int


class Feedback:
    """The read model."""

    name = "feedback"
    streams: tuple[Stream, ...] = ("transactions",)
    tables: tuple[Table, ...] = (
        Table(
            "feedback_hour",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, question TEXT NOT NULL, score INTEGER NOT NULL, "
            "answers INTEGER NOT NULL, PRIMARY KEY (day, hour_ms, question, score)",
            day=True,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"2 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Given).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Count the run by hour, question and score; a score outside 0–10 is none."""
        counts: dict[tuple[str, int, str, int], int] = {}
        for fact in facts:
            if fact.type != _TYPE:
                continue
            try:
                given = self._decode(fact.data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if given.score not in _SCORES:
                continue
            key = (*self._time.bucket(fact.happened_ms), label(given.question_id), given.score)
            counts[key] = counts.get(key, 0) + 1
        if counts:
            yield Change(
                "INSERT INTO feedback_hour VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET answers = answers + excluded.answers",
                [(*key, count) for key, count in counts.items()],
            )


_DAY = """
SELECT question, score, sum(answers) AS answers FROM feedback_hour WHERE day = ? GROUP BY question, score
ORDER BY question, score
"""


def day_of(query: Query, day: str) -> list[FeedbackDay]:
    """That day's answers by question; [] when there were none."""
    if not have_table(query, "feedback_hour"):
        return []
    found: dict[str, dict[int, int]] = {}
    for row in query(_DAY, (day,)):
        found.setdefault(row["question"], {})[row["score"]] = row["answers"]
    return [FeedbackDay(question, scores) for question, scores in found.items()]


def hours_of(query: Query, first: str, last: str) -> list[FeedbackHour]:
    """The answers from one day to another, both included; [] when there were none."""
    if not have_table(query, "feedback_hour"):
        return []
    rows = query(
        "SELECT * FROM feedback_hour WHERE day BETWEEN ? AND ? ORDER BY hour_ms, question, score", (first, last)
    )
    return [
        FeedbackHour(hour_ms=row["hour_ms"], question=row["question"], score=row["score"], answers=row["answers"])
        for row in rows
    ]


def scales_of(query: Query) -> dict[str, tuple[int, int]]:
    """The lowest and highest score of every question in all that is kept: smileys go from 1 to 4, NPS from 0 to 10."""
    if not have_table(query, "feedback_hour"):
        return {}
    rows = query("SELECT question, min(score) AS low, max(score) AS high FROM feedback_hour GROUP BY question", ())
    return {row["question"]: (row["low"], row["high"]) for row in rows}


def is_nps(question: str, scale: tuple[int, int]) -> bool:
    """Whether a question asks for 0–10: its id says so, or somebody gave a score that no smiley has."""
    return "nps" in question.lower() or scale[0] < 1 or scale[1] > 4
