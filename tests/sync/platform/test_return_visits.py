"""Who came again: whom a shop is told of, what counts as an earlier day, and that each visit is told once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.clock import rfc3339_s
from gateway.event_types import CommandCompleted, VisitCompared
from gateway.platform_commands.return_visits import _Returning
from sync.platform.return_visits import ReturnVisits
from tests.sync.platform.platform_parts import DAY_S, T0, shopper
from tests.sync.platform.town import Town

ANN, BEN, PHONE = (
    shopper("member", "A1", "a" * 32),
    shopper("member", "B2", "b" * 32),
    shopper("phone", "+8613800001234"),
)
COUNTED = ("visits", "matching", "analytics")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    it = Town(tmp_path)
    it.agrees(ANN, purposes=COUNTED)
    yield it
    it.close()


def visit(town: Town, name: str, at_s: float, who: Any = ANN, **more: Any) -> None:
    town.visits(f"v-{name * 24}", rfc3339_s(at_s), rfc3339_s(at_s + 600), who=who, at_s=at_s + 600, **more)


def told(town: Town) -> dict[str, bool]:
    """What the shop has been told, by the letter of the visit."""
    town.send()
    again = ReturnVisits(town.book, town.store, town.telling, town.clock)
    while again.step():
        pass
    answers: dict[str, bool] = {}
    for data in town.commands("visits.returning"):
        _Returning(**data)  # type: ignore[arg-type]
        answers |= data["visits"]  # type: ignore[operator]
    return {name[2]: returning for name, returning in answers.items()}


def test_the_first_visit_of_a_member_is_the_first_and_one_on_another_day_is_a_return(town: Town) -> None:
    visit(town, "a", T0)
    visit(town, "b", T0 + 3600)
    visit(town, "c", T0 + 3 * DAY_S)
    assert told(town) == {"a": False, "b": False, "c": True}
    assert len(town.commands("visits.returning")) == 1 and told(town) == {"a": False, "b": False, "c": True}


def test_the_day_is_the_shops_and_not_universal_time(town: Town) -> None:
    late = datetime(2026, 11, 23, 23, 30, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp()
    visit(town, "a", late)
    visit(town, "b", late + 3600)
    assert told(town) == {"a": False, "b": True}


def test_a_purchase_under_a_proved_identifier_counts_and_one_in_another_shop_does_not(town: Town) -> None:
    town.agrees(BEN, purposes=COUNTED)
    town.links(ANN, PHONE)
    town.sells("s1", T0 + 10, who=PHONE)
    town.sells("s2", T0 + 10, who=BEN, store="0043")
    visit(town, "a", T0 + 2 * DAY_S)
    visit(town, "b", T0 + 2 * DAY_S, BEN)
    assert told(town) == {"a": True, "b": False}


@pytest.mark.parametrize(
    ("purposes", "withdraws"), [(("visits", "matching"), False), (("visits", "analytics"), False), (COUNTED, True)]
)
def test_nothing_is_said_of_whoever_has_not_agreed_or_does_not_any_more(
    town: Town, purposes: tuple[str, ...], withdraws: bool
) -> None:
    town.agrees(BEN, purposes=purposes, record="r-ben")
    town.sells("s1", T0 + 10, who=BEN)
    visit(town, "b", T0 + 2 * DAY_S, BEN)
    visit(town, "a", T0 + 2 * DAY_S)
    if withdraws:
        town.withdraws(BEN, T0 + 3 * DAY_S, record="r-ben")
    assert told(town) == {"a": False}


def test_a_corrected_visit_is_told_of_again_and_a_shop_without_a_calendar_is_told_nothing(town: Town) -> None:
    visit(town, "a", T0)
    visit(town, "b", T0 + 2 * DAY_S)
    assert told(town) == {"a": False, "b": True}
    visit(town, "c", T0 + 2 * DAY_S, supersedes="v-" + "b" * 24)
    assert told(town)["c"] is True
    town.store.beat("gw01", b'{"time_zone": "Nowhere/At-All"}', "")
    visit(town, "d", T0 + 4 * DAY_S)
    assert "d" not in told(town)


def test_an_answer_that_was_taken_is_blanked_and_goes_with_whoever_is_forgotten(town: Town) -> None:
    visit(town, "a", T0)
    assert told(town) == {"a": False}
    with town.book.reading() as connection:
        (command,) = connection.execute("SELECT command FROM told WHERE kind = 'visits.returning'").fetchone()
    town.log.add(CommandCompleted(command=command, kind="visits.returning", outcome="done"), T0 + 700)
    compared = town.log.add(VisitCompared(visit_id="v-" + "a" * 24, returning=False), T0 + 700)
    town.send()
    town.telling.tidy()
    assert town.commands("visits.returning") == [{}]
    town.telling.erase(town.key("A1"))
    body = dict(town.store.bodies(range(1, compared + 2)))
    assert not [text for text in body.values() if b"v-aaaa" in text]
