"""Badges of staff, read from the journal as they are written: where and when, never whose."""

from __future__ import annotations

from pathlib import Path

from gateway.clock import FakeClock
from gateway.counting.camera_plan import BadgeOptions
from gateway.counting.staff_badges import StaffBadges
from gateway.event import Draft, draft
from gateway.event_types import BeaconArrived, BeaconDeparted, EventData, RfidArrived, type_of
from gateway.journal.writer import JournalWriter
from vision.staff import StaffSighting

BADGES = (
    BadgeOptions(line="door", ids=("fda50693-a4e2-4fb1-afcf-c6eb07647825/9",), device="entrance", window_s=3.0),
    BadgeOptions(line="door", ids=("E2801160", "30AA")),
)


def test_badges_are_seen_once_and_everybody_else_s_beacons_and_tags_are_not(tmp_path: Path) -> None:
    """By the beginning of the id and by the reader; what was there before the start is over."""
    clock, path = FakeClock(), tmp_path / "journal.db"

    def event(data: EventData) -> Draft:
        clock.advance(1.0)
        kind = type_of(data)
        return draft(kind.stream, kind.name, data, source="//t1/x", at=clock.now())

    def beacon(identity: str, receiver: str = "entrance") -> BeaconArrived:
        return BeaconArrived(scheme="ibeacon", beacon=identity, receiver=receiver)

    def tag(epc: str) -> RfidArrived:
        return RfidArrived(epc="urn:epc:raw", epc_hex=epc, reader="gate", reads=2, first_seen="", last_seen="")

    staff = "FDA50693A4E24FB1AFCFC6EB07647825/9/17"
    badges = StaffBadges(BADGES, path)
    assert badges.look() == []  # no journal yet
    writer = JournalWriter(path, "gw01", clock)
    writer.open()
    writer.append([event(beacon(staff))])
    assert badges.look() == []
    gone = BeaconDeparted(scheme="ibeacon", beacon=staff, receiver="entrance")
    told = (beacon(staff), beacon(staff, "aisle"), beacon("other"), gone, tag("e2801160AB"), tag("30BB"))
    writer.append([event(it) for it in told])
    begun_s = 1.0 + 2.0
    assert badges.look() == [StaffSighting("door", begun_s, 3.0), StaffSighting("door", begun_s + 4.0, 4.0)]
    assert badges.look() == []
    badges.close()
    writer.close()
