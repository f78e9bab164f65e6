"""The normaliser against values that no event can hold: a refusal with its reason, or the event without them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest

from config.settings import PresenceSettings
from gateway.clock import Instant
from gateway.errors import Rejected, Unavailable
from gateway.event import Draft, Origin
from gateway.event_types import Totals
from gateway.intake.normaliser import Normaliser
from gateway.intake.place import Place
from gateway.intake.reading import Button, CardRead, Custom, DoorCount, Reading, Sale, SensorValue
from gateway.intake.sightings import Sightings

EAST, WEST = timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))
NOW, NEVER_SET = Instant(1_795_312_800.0, 5_000_000), Instant(7.0, 5_000_000, "unsynced")
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
TIMES = [
    FIRST,
    LAST,
    FIRST.replace(tzinfo=EAST),
    LAST.replace(tzinfo=WEST),
    *(at.replace(tzinfo=None) for at in (FIRST, LAST, datetime(2026, 11, 22, tzinfo=UTC))),
]


class Keys:
    """Pseudonyms, as long as there is room for their key."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full

    def day_key(self, scheme: str, identifier: str, at: Instant) -> str:
        if self.full:
            raise OSError(28, "No space left on device")
        return "key"


def drafts(reading: Reading, at: Instant = NOW, keys: Keys | None = None) -> list[Draft]:
    origin = Origin("t1", "0042", "gw01")
    normaliser = Normaliser(origin, Sightings(origin, PresenceSettings()), keys or Keys(), time_zone="Asia/Shanghai")
    return normaliser.drafts(reading, Place(device="d", path="x/d"), at)


@pytest.mark.parametrize("at", [NOW, NEVER_SET], ids=["set", "1970"])
@pytest.mark.parametrize("told", TIMES, ids=str)
def test_no_time_of_a_device_can_cost_its_event(told: datetime, at: Instant) -> None:
    """The ends of the calendar and times without a zone are passed over; the sale itself is kept."""
    (button,) = drafts(Button(value="x", device_at=told), at)
    sale = Sale(sequence="1", totals=Totals(net=Decimal(1)), opened_at=told, closed_at=told)
    (sold,) = drafts(sale, at)
    for one in (button, sold):
        body = msgspec.json.decode(one.body)
        assert body["time"][:4] == ("2026" if at is NOW else "1970")
        assert "opened_at" not in body["data"]


@pytest.mark.parametrize(
    "reading",
    [
        *(DoorCount(line="l", entered=1, left=1, interval_s=s) for s in (math.nan, math.inf, -1.0, 1e15, 1e300)),
        Button(value="\ud800"),
        Button(value="x", device_seq="\ud800"),
        Custom(event_type="store.sensor.read.v1", values={"sensor": "\ud800", "quantity": "q", "value": 1, "unit": ""}),
    ],
    ids=repr,
)  # fmt: skip
def test_what_no_event_can_hold_is_refused_with_a_reason_that_quotes_nothing(reading: Reading) -> None:
    """NaN, endless intervals and lone surrogates are refused; nothing else is ever raised."""
    with pytest.raises(Rejected) as refused:
        drafts(reading)
    assert refused.value.reason and refused.value.hint and "\ud800" not in str(refused.value)


def test_a_number_that_is_none_makes_no_event() -> None:
    """Not a number is no measurement."""
    assert drafts(SensorValue(quantity="q", value=math.nan, unit="u")) == []


def test_without_room_for_a_key_the_message_waits() -> None:
    """A full disk is an outage, which is tried again, and no defect."""
    with pytest.raises(Unavailable, match="No space"):
        drafts(CardRead(number=1, version=1, printed="1"), keys=Keys(full=True))
