"""When faults begin and end, and the shop's books."""

from __future__ import annotations

from decimal import Decimal

from devices.simulator.faults import FAULTS, KINDS, Schedule
from devices.simulator.ledger import Ledger


def told(schedule: Schedule, until_s: float) -> list[tuple[float, str, bool]]:
    found = []
    for tenth in range(int(until_s * 10)):
        found += [(tenth / 10, fault.name, begins) for fault, begins in schedule.due(tenth / 10)]
    return found


def test_a_fault_begins_and_ends_every_minute() -> None:
    """Unplug: after ten seconds for twenty, and again a minute later."""
    assert told(Schedule(["unplug"]), 95) == [
        (10.0, "unplug", True), (30.0, "unplug", False), (70.0, "unplug", True), (90.0, "unplug", False)
    ]  # fmt: skip


def test_several_faults_are_spread_and_named_twice_count_once() -> None:
    """Two faults do not begin together."""
    begun = [(at_s, name) for at_s, name, begins in told(Schedule(["broker", "unplug", "broker"]), 60) if begins]
    assert begun == [(10.0, "broker"), (40.0, "unplug")]


def test_what_is_under_way_is_ended_when_the_demo_ends() -> None:
    """`finish` ends each active fault once, and nothing begins afterwards."""
    schedule = Schedule(["unplug", "corrupt"], pace=10)
    assert [name for _, name, begins in told(schedule, 2) if begins] == ["unplug"]
    assert schedule.active == ("unplug",)
    assert [fault.name for fault in schedule.finish()] == ["unplug"]
    assert schedule.active == ()
    assert list(schedule.due(1e6)) == []


def test_every_fault_that_can_be_named_is_described() -> None:
    """The command's names and the kinds are the same, and none lasts longer than its rhythm."""
    assert set(FAULTS) == set(KINDS)
    assert all(fault.begins and fault.ends and fault.lasts_s < fault.every_s for fault in KINDS.values())


def test_a_tag_is_sure_only_when_read_often_and_quickly() -> None:
    """Four undamaged frames in 1.5 s prove an arrival; fewer, slower, or on a line that then went, do not."""
    ledger = Ledger()
    for name, times in {"quick": (0, 0.1, 0.2, 0.3), "slow": (0, 1, 2, 3), "few": (0, 0.1, 0.2)}.items():
        for at_s in times:
            ledger.tag("gate", name, at_s)
    for at_s in (9.0, 9.1, 9.2, 9.3):
        ledger.tag("gate", "late", at_s)
        ledger.tag("fitting-rooms", "elsewhere", at_s)
    ledger.unread(("gate",), 8.5)
    sure = {epc for (_, epc), trace in ledger.tags.items() if trace.sure}
    assert sure == {"quick", "elsewhere"}
    assert ("gate", "late") in ledger.tags


def test_what_a_dead_line_carried_last_is_unproven_and_nothing_else() -> None:
    """Sales and scans of the last second before a line went prove nothing; those by MQTT and earlier ones do."""
    ledger = Ledger()
    ledger.sold("till-1", "1", Decimal("5.00"))
    ledger.sold("till-2", "1", Decimal("6.00"), 3.0)
    ledger.sold("till-2", "2", Decimal("7.00"), 9.8)
    ledger.scanned(3.0)
    ledger.scanned(9.9)
    ledger.unread(("scanner", "till-2"), 9.0)
    ledger.unread(("scanner", "till-2"), 9.0)
    ledger.sold("till-2", "3", Decimal("8.00"), 10.1, proves=False)
    ledger.scanned(10.2, proves=False)
    assert ledger.unproven_sales == {("till-2", "2"), ("till-2", "3")}
    assert (ledger.scans, ledger.unproven_scans) == (3, 2)
    assert ledger.money == Decimal("26.00")
