"""Alerts begin when a cause lasts and end when it stays away; nothing is told twice, nothing is forgotten."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import AlertRuleSettings, AlertSettings, GatewaySettings, Settings, WebhookSettings
from gateway.alerts.alert import Alarm, Alert, Seen
from gateway.alerts.book import GRACE_S, MOST_UP, AlertBook, State
from gateway.alerts.desk import FILE, AlertDesk
from gateway.alerts.rules import CAUSES, RULES, cause_of, limits_of, rules_of, seen_of, within
from gateway.clock import FakeClock
from gateway.errors import Unavailable
from gateway.status import words

TILL = Seen(id="device:till1", rule="till_dark", key="till_stale", severity="warning", parameters={"device": "till1"})
FULL = Seen(id="storage", rule="storage", key="journal_full", severity="critical")
HOOK = WebhookSettings(name="duty", shape="generic", url="env:URL")


def passes(book: AlertBook, clock: FakeClock, seconds: float, *present: Seen, holding: frozenset[str] = frozenset(),
           open_: bool = True) -> None:  # fmt: skip
    """Let so long pass, looking every five seconds."""
    for _ in range(int(seconds / 5)):
        book.saw(present, holding, clock.advance(5.0), open_=open_)


def up(book: AlertBook) -> list[str]:
    return [alert.id for alert in book.alerts if alert.up]


def test_a_cause_must_last_and_must_stay_away() -> None:
    """Till dark: five minutes to begin, one to end; a flicker in between changes nothing."""
    book, clock = AlertBook(RULES), FakeClock()
    passes(book, clock, 290, TILL)
    assert up(book) == []
    passes(book, clock, 10)  # a gap shorter than half a minute
    passes(book, clock, 10, TILL)
    assert up(book) == ["device:till1"]
    passes(book, clock, 50)
    passes(book, clock, 5, TILL)
    passes(book, clock, 55)
    assert up(book) == ["device:till1"]
    passes(book, clock, 10)
    assert up(book) == [] and len(book.alerts) == 1


def test_a_cause_that_only_flickers_is_no_alert() -> None:
    book, clock = AlertBook(RULES), FakeClock()
    for _ in range(20):
        passes(book, clock, 60, TILL)
        passes(book, clock, 60)
    assert book.alerts == ()


def test_what_is_just_below_its_limit_keeps_an_alert_and_begins_none() -> None:
    book, clock = AlertBook(RULES), FakeClock()
    passes(book, clock, 400, holding=frozenset({TILL.id}))
    assert up(book) == []
    passes(book, clock, 400, TILL)
    passes(book, clock, 4000, holding=frozenset({TILL.id}))
    assert up(book) == ["device:till1"]


def test_other_words_for_the_same_cause_are_the_same_alert_and_worse_is_told_again() -> None:
    book, clock = AlertBook(RULES), FakeClock()
    passes(book, clock, 320, TILL)
    book.tell(book.alerts[0], told=True)
    assert book.acknowledge(1, clock.now()) is not None
    passes(book, clock, 10, msgspec.structs.replace(TILL, key="till_faulted"))
    assert [(it.key, it.told, it.acknowledged) for it in book.alerts] == [("till_faulted", True, True)]
    passes(book, clock, 10, msgspec.structs.replace(TILL, severity="critical"))
    assert [(it.severity, it.told, it.acknowledged) for it in book.alerts] == [("critical", False, False)]


def test_nothing_is_over_in_the_first_minutes_after_a_start() -> None:
    """Devices connect again in that time; an alert that is still true is not told anew."""
    clock = FakeClock()
    kept = Alert(number=7, id=TILL.id, rule=TILL.rule, key=TILL.key, severity="warning", raised_ms=0, told=True)
    book = AlertBook(RULES, State(next_number=8, alerts=(kept,)))
    passes(book, clock, GRACE_S - 10)
    assert up(book) == [TILL.id]
    passes(book, clock, 20)
    assert up(book) == []


def test_nothing_begins_while_the_shop_is_closed_and_what_was_up_stays() -> None:
    book, clock = AlertBook(RULES), FakeClock()
    passes(book, clock, 4000, TILL, FULL, open_=False)
    assert up(book) == ["storage"]
    passes(book, clock, 320, TILL)
    passes(book, clock, 4000, TILL, open_=False)
    assert up(book) == ["device:till1"]


def test_a_clock_that_is_set_neither_raises_nor_clears() -> None:
    book, clock = AlertBook(RULES), FakeClock()
    book.saw([TILL], (), clock.now())
    clock.step(1e8)
    book.saw([TILL], (), clock.advance(5))
    assert book.alerts == ()
    passes(book, clock, 320, TILL)
    clock.step(-1e8)
    book.saw([], (), clock.advance(5))
    assert up(book) == [TILL.id]


def test_an_alarm_of_which_nobody_tells_the_end_ends_by_hand() -> None:
    clock = FakeClock()
    alarm = Alert(number=1, id="alarm:x", rule="gateway", key="alarm", severity="warning", raised_ms=0)
    book = AlertBook(RULES, State(alerts=(alarm,)))
    settled = book.acknowledge(1, clock.now())
    assert settled is not None and not settled.up and book.acknowledge(1, clock.now()) is None


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 3]), st.integers(5, 900)), max_size=30))
def test_a_cause_is_up_once_at_most_and_raised_and_cleared_take_turns(way: list[tuple[int, int]]) -> None:
    """Whatever comes and goes: one alert a cause, events in order, numbers of their own."""
    book, clock, said = AlertBook(RULES), FakeClock(), {}
    for what, seconds in way:
        present = [it for bit, it in ((1, TILL), (2, FULL)) if what & bit]
        for _ in range(0, seconds, 25):
            book.saw(present, (), clock.advance(25.0))
            assert len(up(book)) == len(set(up(book))) <= 2
            for alert in book.unsaid():
                said.setdefault(alert.number, []).append(alert.said)
                book.say(alert)
    assert all(states in ([""], ["", "raised"]) for states in said.values())
    assert [it.number for it in book.alerts] == sorted({it.number for it in book.alerts})


def test_a_thousand_causes_at_once_stay_bounded() -> None:
    book, clock = AlertBook(RULES), FakeClock()
    many = [msgspec.structs.replace(TILL, id=f"device:{n}") for n in range(1000)]
    passes(book, clock, 400, *many)
    assert len(book.alerts) == MOST_UP


def settings(**alerts: object) -> Settings:
    return Settings(gateway=GatewaySettings(store="0042"), alerts=AlertSettings(**alerts))  # type: ignore[arg-type]


def desk(path: Path, clock: FakeClock, **alerts: object) -> AlertDesk:
    made = AlertDesk(path, settings(**{"quiet_hours": "", "webhooks": (HOOK,), **alerts}), clock)
    made.open()
    return made


def looks(desk: AlertDesk, clock: FakeClock, seconds: float, *present: Seen) -> None:
    for _ in range(int(seconds / 5)):
        desk.look(list(present), (), clock.advance(5.0))


def test_a_restart_tells_nothing_again_and_loses_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    first = desk(tmp_path, clock)
    looks(first, clock, 320, TILL)
    message = first.next_message("duty")
    assert message is not None and message.kind == "raised"
    first.say(first.unsaid()[0])
    second = desk(tmp_path, clock)  # killed, not closed
    assert second.next_message("duty") == message
    second.settled(message)
    looks(second, clock, 60, TILL)
    third = desk(tmp_path, clock)
    looks(third, clock, 320, TILL)
    assert third.next_message("duty") is None and third.unsaid() == [] and len(third.view().now) == 1
    looks(third, clock, GRACE_S + 120)
    over = third.next_message("duty")
    assert over is not None and over.kind == "cleared" and third.view().now == ()


def test_the_night_holds_back_what_is_not_critical_until_morning(tmp_path: Path) -> None:
    clock = FakeClock()  # 10:00 in Shanghai
    quiet = desk(tmp_path, clock, quiet_hours="09:00-11:00")
    looks(quiet, clock, 400, TILL, FULL)
    message = quiet.next_message("duty")
    assert message is not None and message.alert.id == "storage"
    quiet.settled(message)
    assert quiet.next_message("duty") is None and len(quiet.view().now) == 2 and quiet.view().quiet
    looks(quiet, clock, 3700, TILL, FULL)
    message = quiet.next_message("duty")
    assert message is not None and message.alert.id == TILL.id


def test_what_is_seen_is_not_told_and_what_is_put_off_is_told_then(tmp_path: Path) -> None:
    clock = FakeClock()
    kept = desk(tmp_path, clock)
    looks(kept, clock, 320, TILL)
    told = kept.next_message("duty")
    assert told is not None
    kept.settled(told)
    assert kept.snooze(1, 3600)
    looks(kept, clock, 3500, TILL)
    assert kept.next_message("duty") is None
    looks(kept, clock, 200, TILL)
    again = kept.next_message("duty")
    assert again is not None
    kept.settled(again)
    assert kept.acknowledge(1) and not kept.acknowledge(99) and not kept.snooze(99, 3600)
    looks(kept, clock, 4000, TILL)
    assert kept.next_message("duty") is None


def test_settings_that_change_while_it_runs_hold_from_the_next_look_on(tmp_path: Path) -> None:
    """A webhook that is gone is owed nothing and may still report; a rule that is off ends what it began."""
    clock = FakeClock()
    kept = desk(tmp_path, clock)
    looks(kept, clock, 320, TILL)
    message = kept.next_message("duty")
    assert message is not None
    other = msgspec.structs.replace(HOOK, name="other")
    off = AlertRuleSettings(cause="till_dark", enabled=False)
    kept.obey(settings(quiet_hours="", webhooks=(other,), rules=(off,)).alerts)
    kept.failed("duty", "HTTP 500")  # its exchange was under way
    kept.settled(message)
    assert [hook.name for hook in kept.view().hooks] == ["other"] and kept.next_message("other") is None
    assert len(kept.view().now) == 1
    looks(kept, clock, 400, TILL)
    over = kept.next_message("other")
    assert over is not None and over.kind == "cleared" and kept.view().now == ()
    kept.close()
    assert kept.view().past == ()
    kept.open()
    assert len(kept.view().past) == 1 and kept.next_message("other") == over


def test_a_webhook_hears_its_severities_only_and_its_box_is_bounded(tmp_path: Path) -> None:
    clock = FakeClock()
    kept = desk(tmp_path, clock, webhooks=(msgspec.structs.replace(HOOK, least="critical", cleared=False),))
    looks(kept, clock, 320, TILL)
    assert kept.next_message("duty") is None
    many = [msgspec.structs.replace(FULL, id=f"storage:{n}") for n in range(100)]
    for _ in range(3):  # 300 alerts that come and go
        looks(kept, clock, 600, *many)
        looks(kept, clock, 600)
    state = kept.view().hooks[0]
    assert state.waiting == 100 and state.dropped == 200
    clock.advance(90_000)
    assert kept.next_message("duty") is None and kept.view().hooks[0].dropped == 300  # nobody wants yesterday's


@pytest.mark.parametrize("content", [b"", b"{", b'{"alerts": 5}', b"\xff\xfe", b"null"])
def test_a_broken_file_is_set_aside_and_alerts_begin_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    clock = FakeClock()
    kept = desk(tmp_path, clock)
    looks(kept, clock, 320, TILL)
    assert len(kept.view().now) == 1 and (tmp_path / "alerts.broken").read_bytes() == content


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    clock = FakeClock()
    kept = desk(tmp_path, clock)
    (tmp_path / ".alerts.json.new").mkdir()
    with pytest.raises(Unavailable, match="keep alerts"):
        looks(kept, clock, 320, TILL)


def test_alarms_are_kept_until_they_are_over(tmp_path: Path) -> None:
    clock = FakeClock()
    kept = desk(tmp_path, clock)
    alarm = Alarm(what="journal_salvaged", source="urn:x", severity="critical", since_ms=1)
    kept.heard([alarm], [], "e", 10)
    assert desk(tmp_path, clock).alarms() == (alarm,) and desk(tmp_path, clock).position == ("e", 10)
    kept.heard([], [("journal_salvaged", "urn:x")], "e", 20)
    assert desk(tmp_path, clock).alarms() == ()


def test_rules_and_limits_follow_the_configuration() -> None:
    own = AlertSettings(
        rules=(
            AlertRuleSettings(cause="queue_long", limit=12, severity="critical", raise_after_s=10),
            AlertRuleSettings(cause="clock", enabled=False),
        )
    )
    rules = rules_of(own)
    assert rules["queue_long"].severity == "critical" and rules["queue_long"].raise_after_s == 10
    assert rules["queue_long"].clear_after_s == RULES["queue_long"].clear_after_s
    assert not rules["clock"].enabled and limits_of(own).queue_people == 12
    book, clock = AlertBook(rules), FakeClock()
    passes(book, clock, 4000, Seen(id="clock", rule="clock", key="clock_unsynced", severity="notice"))
    assert book.alerts == ()


def test_every_cause_has_words_and_a_rule() -> None:
    assert set(CAUSES) <= set(words.TROUBLES)
    assert {rule for rule, _, _ in CAUSES.values()} == set(RULES)
    assert cause_of("stale", {"device": "x"}) == cause_of("never_seen", {"device": "x"}) == "device:x"
    assert seen_of("plugged", "notice", {"kind": "scale"}) is None


@pytest.mark.parametrize(
    ("span", "hour", "inside"),
    [("22:00-08:00", 23, True), ("22:00-08:00", 3, True), ("22:00-08:00", 8, False), ("22:00-08:00", 12, False),
     ("", 3, False), ("10:00-24:00", 23, True), ("10:00-22:00", 22, False), ("00:00-00:00", 5, True)],
)  # fmt: skip
def test_a_span_of_the_day_may_cross_midnight(span: str, hour: int, inside: bool) -> None:
    assert within(span, datetime(2026, 11, 22, hour)) is inside  # noqa: DTZ001 - local on purpose
