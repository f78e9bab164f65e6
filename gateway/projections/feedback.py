"""Answers of shoppers by hour, question and scale: how often each score was given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.projection import Change, Fact, Query, Table, have_table, label, told_by
from gateway.projections.store_time import StoreTime

_TYPE = "store.feedback.given.v1"
_SCORES = {"": range(11), "nps": range(11), "smiley": range(1, 5)}


class _Given(msgspec.Struct):
    question_id: str
    score: int
    scale: str | None = None


class FeedbackDay(msgspec.Struct, frozen=True):
    """A question's answers of one day: how many gave each score."""

    question: str
    scores: dict[int, int]

    @property
    def answers(self) -> int:
        """How many there were."""
        return sum(self.scores.values())


class FeedbackHour(msgspec.Struct, frozen=True, kw_only=True):
    """How many gave a question one score in one hour. `scale`: nps or smiley; "" where the device did not say."""

    hour_ms: int
    question: str
    score: int
    answers: int
    scale: str = ""


class Feedback:
    """The read model."""

    name = "feedback"
    streams: tuple[Stream, ...] = ("transactions",)
    tables: tuple[Table, ...] = (
        Table(
            "feedback_hour",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, question TEXT NOT NULL, score INTEGER NOT NULL, "
            "scale TEXT NOT NULL, answers INTEGER NOT NULL, PRIMARY KEY (day, hour_ms, question, score, scale)",
            day=True,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"3 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Given).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Count the run by hour, question, score and scale; a score that its scale does not have is none."""
        counts: dict[tuple[str, int, str, int, str], int] = {}
        for fact, given in told_by(facts, _TYPE, self._decode):
            scale = given.scale if given.scale in _SCORES and given.scale else ""
            if given.score not in _SCORES[scale]:
                continue
            key = (*self._time.bucket(fact.happened_ms), label(given.question_id), given.score, scale)
            counts[key] = counts.get(key, 0) + 1
        if counts:
            yield Change(
                "INSERT INTO feedback_hour VALUES (?, ?, ?, ?, ?, ?) "
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
        "SELECT * FROM feedback_hour WHERE day BETWEEN ? AND ? ORDER BY hour_ms, question, score, scale",
        (first, last),
    )
    return [
        FeedbackHour(
            hour_ms=row["hour_ms"], question=row["question"], score=row["score"], answers=row["answers"],
            scale=row["scale"],
        )
        for row in rows
    ]  # fmt: skip


def scales_of(query: Query) -> dict[str, tuple[int, int]]:
    """The lowest and highest score of every question in all that is kept: smileys go from 1 to 4, NPS from 0 to 10."""
    if not have_table(query, "feedback_hour"):
        return {}
    rows = query("SELECT question, min(score) AS low, max(score) AS high FROM feedback_hour GROUP BY question", ())
    return {row["question"]: (row["low"], row["high"]) for row in rows}


def is_nps(question: str, scores: tuple[int, int], scale: str = "") -> bool:
    """Whether an answer is one from 0 to 10.

    Args:
        question: its id.
        scores: the lowest and highest score that it was ever given.
        scale: what the device said of the answer. Where it said nothing ("") the question's id decides, or that
            somebody gave a score which no smiley has.
    """
    if scale:
        return scale == "nps"
    return "nps" in question.lower() or scores[0] < 1 or scores[1] > 4
