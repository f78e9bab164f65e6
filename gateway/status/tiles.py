"""The big numbers of the day as they are shown: what it is called, how it is written, what it means in plain words.

One list for every view: the page shows all with their lines, the wall shows them large. Knows the languages; knows no
markup.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Literal

import msgspec

from gateway.status import words
from gateway.status.chart import Spark, spark
from gateway.status.language import Language
from gateway.status.today import Figure, Today

About = Literal["people", "sales", "queue", "coupons", "answers"]
_QUEUE = ((0, "nobody"), (3, "short"), (6, "growing"))  # people in the longest queue, at most
_NPS = ((-1, "unhappy"), (29, "fair"), (69, "good"))


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """One number, written out. `shown` "" : it is not known, and `note` says why. `mark`: "up", "down" or ""."""

    key: str
    name: str
    shown: str
    at_least: bool = False
    note: str = ""
    verdict: str = ""
    mark: Literal["", "up", "down"] = ""
    trouble: bool = False
    spark: Spark | None = None


def tiles(today: Today, t: Language, now_ms: int) -> list[Tile]:
    """Every number of the day, the most wanted first."""
    said = _Said(today, t, now_ms)
    return [
        said.tile("people_now", today.people_now, "people", t.number),
        said.tile("people_in", today.people_in, "people", t.number, said.out),
        said.tile("sales", today.sales, "sales", t.number, said.returns),
        said.tile("conversion", today.conversion, said.conversion_about, t.percent, lambda: t.text(words.PER_VISITOR)),
        said.tile("net", today.net, "sales", lambda value: t.money(value, today.currency, whole=True)),
        said.tile("basket", today.basket, "sales", lambda value: t.money(value, today.currency), said.items),
        said.queue(),
        said.tile("redeemed", today.redeemed, "coupons", t.number, said.refused),
        said.smiles() if today.nps.value is None and today.smiles.value is not None else said.nps(),
    ]


class _Said:
    """The day in one language."""

    def __init__(self, today: Today, t: Language, now_ms: int) -> None:
        self._today, self._t = today, t
        self._weekday, self._hour = t.weekday(now_ms), t.hour(now_ms)
        known = today.people_in.value is not None
        self.conversion_about: About = "sales" if today.sales.value is None and known else "people"

    def tile(
        self, key: str, figure: Figure, about: About, write: Callable[[Decimal], str],
        extra: Callable[[], str] = lambda: "",
    ) -> Tile:  # fmt: skip
        name = self._t.text(words.FIGURES[key])
        if figure.value is None:
            return Tile(key=key, name=name, shown="", note=self._why(figure, about))
        comparison = ""
        if figure.verdict and figure.usual is not None:
            verdict = (words.VERDICTS if figure.weeks > 1 else words.WEEK_AGO)[figure.verdict]
            comparison = self._t.say(
                verdict, {"weekday": self._weekday, "usual": write(figure.usual), "hour": self._hour}
            )
        return Tile(
            key=key, name=name, shown=write(figure.value), at_least=figure.at_least,
            note=self._why(figure, about) or extra(), verdict=comparison, mark=_mark(figure), spark=spark(figure.trend),
        )  # fmt: skip

    def queue(self) -> Tile:
        figure = self._today.queue
        plain = self.tile("queue", figure, "queue", self._t.number, self._wait)
        if figure.value is None:
            return plain
        level = next((name for most, name in _QUEUE if figure.value <= most), "long")
        return msgspec.structs.replace(plain, verdict=self._t.text(words.QUEUES[level]), trouble=level == "long")

    def nps(self) -> Tile:
        figure = self._today.nps
        answers = sum(day.answers for day in self._today.feedback)
        plain = self.tile(
            "nps", figure, "answers", self._t.signed, lambda: self._t.say(words.ANSWERS, {"answers": answers})
        )
        if figure.value is None:
            return plain
        level = next((name for most, name in _NPS if figure.value <= most), "delighted")
        return msgspec.structs.replace(plain, verdict=self._t.text(words.MOODS[level]))

    def smiles(self) -> Tile:
        return self.tile(
            "smiles", self._today.smiles, "answers", lambda value: self._t.percent(value, 0),
            lambda: self._t.say(words.ANSWERS, {"answers": sum(day.answers for day in self._today.feedback)}),
        )  # fmt: skip

    def out(self) -> str:
        return self._t.say(words.OUT, {"people": int(self._today.people_out.value or 0)})

    def returns(self) -> str:
        return self._t.say(words.RETURNS, {"returns": self._today.returns}) if self._today.returns else ""

    def items(self) -> str:
        value = self._today.items.value
        return "" if value is None else self._t.say(words.ITEMS, {"items": value})

    def refused(self) -> str:
        return self._t.say(words.REFUSED, {"coupons": self._today.refused}) if self._today.refused else ""

    def _wait(self) -> str:
        queue = self._today.longest_queue
        return "" if queue is None or queue.wait_s is None else self._t.say(words.WAIT, {"wait_s": queue.wait_s})

    def _why(self, figure: Figure, about: About) -> str:
        """Why it is not there, or how far it holds."""
        key = f"not_set_up:{about}" if figure.reason == "not_set_up" else figure.reason
        if not key and figure.at_least:
            key = "counter_dark"
        if key == "counter_dark" and figure.dark_s is None:
            key = "counter_dark_now"
        return self._t.say(words.REASONS[key], {"dark_s": figure.dark_s or 0.0}) if key else ""


def _mark(figure: Figure) -> Literal["", "up", "down"]:
    if figure.verdict in ("above", "far_above"):
        return "up"
    return "down" if figure.verdict in ("below", "far_below") else ""
