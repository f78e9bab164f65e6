"""The normaliser: what each statement of a device becomes, when it happened, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from config.settings import PresenceSettings
from gateway.clock import FakeClock, Instant
from gateway.errors import Rejected
from gateway.event import Draft, Origin
from gateway.event_types import ConsentGranted, Shopper
from gateway.intake import reading as said
from gateway.intake.normaliser import Normaliser
from gateway.intake.person import Identity, Linked, Subject
from gateway.intake.place import Place
from gateway.intake.sightings import Sightings

ORIGIN = Origin("t1", "0042", "gw01")
TAG = "3034B708AC397E0000000649"


class Keys:
    """Pseudonyms that a test can read."""

    def day_key(self, scheme: str, identifier: str, at: Instant) -> str:
        return f"key-of-{scheme}"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def normaliser() -> Normaliser:
    sightings = Sightings(ORIGIN, PresenceSettings())
    return Normaliser(ORIGIN, sightings, Keys(), time_zone="Asia/Shanghai", currency="CNY")


def place(device: str = "gate", **more: object) -> Place:
    return Place(device=device, path=f"driver/{device}", zone="entrance", **more)  # type: ignore[arg-type]


def decoded(draft: Draft) -> dict[str, object]:
    event: dict[str, object] = msgspec.json.decode(draft.body)
    return event


def test_a_sale_gets_an_id_of_store_till_date_and_number(normaliser: Normaliser, clock: FakeClock) -> None:
    """The business date is the shop's, not UTC's: 16:30 UTC is tomorrow in Shanghai."""
    at = clock.now()
    closed_at = at.wall_at.replace(hour=16, minute=30)
    clock.wall_s = closed_at.timestamp()
    sale = said.Sale(
        sequence="17", workstation_id="lane2", closed_at=closed_at, totals=said.Totals(net=Decimal("12.50")),
        operator="Wang", member="13800138000", lines=(said.SaleLine(seq=1, amount=Decimal("12.50")),),
    )  # fmt: skip
    (draft,) = normaliser.drafts(sale, place("till"), clock.now())
    event = decoded(draft)
    data = event["data"]
    assert isinstance(data, dict)
    date = (closed_at + timedelta(hours=8)).date().isoformat()
    assert data["transaction_id"] == f"0042-lane2-{date}-17"
    assert data["totals"] == {"net": "12.50"}
    assert data["operator"] == "key-of-operator"
    assert b"13800138000" not in draft.body and b"Wang" not in draft.body
    assert normaliser.counters.subjects_dropped == 1
    assert draft.stream == "transactions" and event["source"] == "//t1/stores/0042/gw01/driver/till"


def test_the_same_receipt_told_twice_is_one_fact_and_another_total_is_another(
    normaliser: Normaliser, clock: FakeClock
) -> None:
    """Two taps on one till give the same name to the fact; a corrected total does not."""

    def tell(net: str) -> bytes:
        sale = said.Sale(sequence="17", device_seq="17", workstation_id="1", totals=said.Totals(net=Decimal(net)))
        return normaliser.drafts(sale, place("till"), clock.now())[0].dedupe

    assert tell("1.00") == tell("1.00") != tell("2.00")


def test_two_receipts_without_a_number_are_two_sales(normaliser: Normaliser, clock: FakeClock) -> None:
    """Two people who buy the same coffee in the same minute are not one."""
    sale = said.Sale(sequence="digest", workstation_id="1", totals=said.Totals(net=Decimal("18.00")))
    drafts = [normaliser.drafts(sale, place("till"), clock.now())[0] for _ in range(2)]
    assert all(draft.fresh or not draft.dedupe for draft in drafts)


def test_a_device_counter_names_the_fact_and_a_bare_press_never_repeats(
    normaliser: Normaliser, clock: FakeClock
) -> None:
    """With a counter the same statement is known again; without one only the transport may say that it is a repeat."""
    counted = said.Button(value="single", device_seq="9", device_boot="b")
    first, again = (normaliser.drafts(counted, place(), clock.now())[0] for _ in range(2))
    assert first.dedupe == again.dedupe and not first.fresh
    bare = said.Button(value="single")
    (press,) = normaliser.drafts(bare, place(), clock.now(), delivery=b"12345678", fresh=True)
    (repeat,) = normaliser.drafts(bare, place(), clock.now(), delivery=b"12345678", fresh=False)
    assert press.fresh and not repeat.fresh and press.dedupe == repeat.dedupe == b"12345678"


@pytest.mark.parametrize(
    ("offset", "believed"),
    [
        (timedelta(seconds=-30), True),
        (timedelta(seconds=200), True),
        (timedelta(days=-2), True),
        (timedelta(hours=1), False),
        (timedelta(days=-400), False),
    ],
)
def test_a_device_time_is_used_only_where_it_can_be_true(
    normaliser: Normaliser, clock: FakeClock, offset: timedelta, believed: bool
) -> None:
    """A clock that was never set, or runs ahead, does not date an event."""
    told = clock.now().wall_at + offset
    (draft,) = normaliser.drafts(said.Button(value="1", device_at=told), place(), clock.now())
    expected = told if believed else clock.now().wall_at
    assert decoded(draft)["time"] == expected.strftime("%Y-%m-%dT%H:%M:%S.") + f"{expected.microsecond // 1000:03d}Z"
    assert normaliser.counters.implausible_times == (not believed)


def test_before_our_own_clock_is_set_a_sane_device_time_is_better(normaliser: Normaliser, clock: FakeClock) -> None:
    """A box that believes it is 1970 takes the till's word."""
    clock.wall_s = 60.0
    told = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
    (draft,) = normaliser.drafts(said.Button(value="1", device_at=told), place(), clock.now())
    assert decoded(draft)["time"] == "2026-11-22T09:00:00.000Z"


def test_a_tag_arrives_after_two_reads_and_departs_after_silence(normaliser: Normaliser, clock: FakeClock) -> None:
    """Ten reads a second are two events in a minute."""
    drafts: list[Draft] = []
    for _ in range(20):
        drafts += normaliser.drafts(said.TagRead(epc=TAG, antenna=1, rssi_dbm=-50.0), place(), clock.advance(0.1))
    drafts += normaliser.expire(clock.advance(9.0))
    drafts += normaliser.expire(clock.advance(2.0))
    assert [draft.type for draft in drafts] == ["store.rfid.arrived.v1", "store.rfid.departed.v1"]
    arrived = decoded(drafts[0])
    assert arrived["subject"] == "urn:epc:id:sgtin:2998827.058872.1609"
    assert arrived["data"]["gtin"] == "02998827588727" and arrived["data"]["zone_to"] == "entrance"  # type: ignore[index]


@pytest.mark.parametrize("epc", ["0" * 24, "E28011700000021B2F6F85F0", "E2003411B802011533ABCD12"])
def test_tags_without_an_article_are_ignored(normaliser: Normaliser, clock: FakeClock, epc: str) -> None:
    """All-zero and factory EPCs are nobody's goods."""
    for _ in range(5):
        assert normaliser.drafts(said.TagRead(epc=epc, rssi_dbm=-50.0), place(), clock.advance(0.1)) == []


def test_persons_are_left_out_of_scans(normaliser: Normaliser, clock: FakeClock) -> None:
    """A loyalty card becomes an interaction without a number; GS1 person identifiers and opaque text are not kept."""
    card = said.Scan(text="29012345678901", kind="loyalty")
    (interaction,) = normaliser.drafts(card, place("scanner"), clock.now())
    assert interaction.type == "store.interaction.scanned.v1" and b"29012345678901" not in interaction.body
    person = said.Scan(
        text="8018…", kind="gs1", gs1={"8018": "123456789012345675", "01": "09506000134352"},
        digital_link="https://id.gs1.org/8018/123456789012345675",
    )  # fmt: skip
    (scan,) = normaliser.drafts(person, place("scanner"), clock.now())
    assert b"123456789012345675" not in scan.body and b"09506000134352" in scan.body
    opaque = said.Scan(text="13800138000")
    assert b"13800138000" not in normaliser.drafts(opaque, place("scanner"), clock.now())[0].body
    kept = normaliser.drafts(said.Scan(text="shelf 17"), place("scanner", keep_text=True), clock.now())[0].body
    assert b"shelf 17" in kept
    assert b"13800138000" not in normaliser.drafts(opaque, place("scanner", keep_text=True), clock.now())[0].body


def test_a_card_is_known_by_its_day_key_only(normaliser: Normaliser, clock: FakeClock) -> None:
    """The card's number is in no event."""
    card = said.CardRead(number=3808980205, version=98, printed="008,27885")
    (draft,) = normaliser.drafts(card, place("reader"), clock.now())
    assert decoded(draft)["data"] == {"reader": "reader", "day_key": "key-of-lf_card"}


def test_a_moving_pan_and_a_broken_sensor_say_nothing(normaliser: Normaliser, clock: FakeClock) -> None:
    """Unstable weights and values that are no numbers are no events."""
    moving = said.Weight(grams=Decimal(5), stable=False)
    broken = said.SensorValue(quantity="temperature", value=float("nan"), unit="Cel")
    assert normaliser.drafts(moving, place(), clock.now()) == normaliser.drafts(broken, place(), clock.now()) == []


def test_a_mapping_that_does_not_fit_its_event_is_rejected_with_the_field(
    normaliser: Normaliser, clock: FakeClock
) -> None:
    """The message goes to quarantine and says which field was missing."""
    wrong = said.Custom(event_type="store.stock.counted.v1", values={"gtin": "1", "zone": "a"})
    with pytest.raises(Rejected, match="epc_count"):
        normaliser.drafts(wrong, place(), clock.now())


class Agreed:
    """Everybody agreed; what was asked is kept for the test."""

    def __init__(self) -> None:
        self.asked: list[tuple[Identity, ...]] = []

    def subject(self, identities: Sequence[Identity], at: Instant, happened_s: float) -> Subject | None:
        self.asked.append(tuple(identities))
        return Subject(Shopper(day_key="k" * 32, scheme=identities[0].scheme), "r-1") if identities else None

    def linked(self, member: Identity, others: Sequence[Identity], at: Instant, happened_s: float) -> Linked | None:
        self.asked.append((member, *others))
        named = tuple(Shopper(sealed=f"s-{other.scheme}", scheme=other.scheme) for other in others)
        return Linked(Subject(Shopper(sealed="s-member"), "r-1"), named)

    def consent(self, act: said.ConsentAct, at: Instant, happened_s: float) -> ConsentGranted:
        return ConsentGranted(
            record_id=act.record_id or "c-1", purposes=("visits",), notice_version="1", notice_digest="", language="",
            method="till", shopper=Shopper(day_key="k" * 32),
        )  # fmt: skip


def test_every_reading_with_a_person_names_the_subject_and_the_consent(clock: FakeClock) -> None:
    """Sales, points, loyalty scans and shoppers' cards; the raw identifier stays behind."""
    agreed = Agreed()
    normaliser = Normaliser(ORIGIN, Sightings(ORIGIN, PresenceSettings(), agreed), Keys(), agreed)
    readings: list[tuple[said.Reading, str]] = [
        (said.Sale(sequence="1", member="A-1", identities=(Identity("phone", "138"),),
                   totals=said.Totals(net=Decimal(1))), "loyalty"),
        (said.Points(programme="club", points=Decimal(5), member="A-1"), "shopper"),
        (said.Scan(kind="loyalty", text="A-1", campaign="winter", content_id="poster-3"), "shopper"),
        (said.CardRead(number=4711, version=1, printed="0"), "shopper"),
    ]  # fmt: skip
    for reading, field in readings:
        (draft,) = normaliser.drafts(reading, place(personal=True), clock.now())
        event = decoded(draft)
        data = event["data"]
        assert isinstance(data, dict) and data[field]["day_key"] == "k" * 32 and event["consentref"] == "r-1"
        assert b"A-1" not in draft.body and b"4711" not in draft.body
    assert agreed.asked[0] == (Identity("member", "A-1"), Identity("phone", "138"))
    assert normaliser.counters.subjects_dropped == 0


def test_a_sale_names_the_member_and_apart_who_paid(clock: FakeClock) -> None:
    """The means of payment may be another's: it is a subject of its own, and none where nobody else is named."""
    normaliser = Normaliser(ORIGIN, Sightings(ORIGIN, PresenceSettings()), Keys(), Agreed())
    paid, totals = (Identity("payment", "PAR-1"),), said.Totals(net=Decimal(1))
    for member, payer in (("A-1", "payment"), (None, None)):
        (draft,) = normaliser.drafts(
            said.Sale(sequence="1", member=member, identities=paid, totals=totals), place(), clock.now()
        )
        data = decoded(draft)["data"]
        assert isinstance(data, dict) and b"PAR-1" not in draft.body
        assert (data.get("payer") or {}).get("scheme") == payer and "loyalty" in data


def test_a_link_names_both_identifiers_or_is_no_event(normaliser: Normaliser, clock: FakeClock) -> None:
    """A changed phone number: member, new and old one; without a consent nothing is left to tell, and that counts."""
    link = said.MemberLink(
        act="phone_change", member=Identity("member", "A-1"), linked=Identity("phone", "138"),
        replaced=Identity("phone", "139"),
    )  # fmt: skip
    agreed = Agreed()
    asking = Normaliser(ORIGIN, Sightings(ORIGIN, PresenceSettings()), Keys(), agreed)
    (draft,) = asking.drafts(link, place(), clock.now())
    event = decoded(draft)
    assert event["type"] == "store.member.linked.v1" and event["consentref"] == "r-1"
    data = event["data"]
    assert isinstance(data, dict) and [data[it]["sealed"] for it in ("linked", "replaced")] == ["s-phone"] * 2
    assert normaliser.drafts(link, place(), clock.now()) == [] and normaliser.counters.subjects_dropped == 1


def test_a_shoppers_beacon_is_its_day_key_or_nothing(clock: FakeClock) -> None:
    """Without a consent its arrival is no event at all: nothing would be left of it but the name."""
    sighting = said.BeaconSighting(scheme="ibeacon", beacon="u/1/2", rssi_dbm=-40.0, receiver="door")
    for subjects, expected in ((Agreed(), 1), (None, 0)):
        sightings = Sightings(ORIGIN, PresenceSettings(), subjects)
        normaliser = Normaliser(ORIGIN, sightings, Keys(), subjects)
        drafts = [
            draft
            for _ in range(5)
            for draft in normaliser.drafts(sighting, place("ble", personal=True), clock.advance(0.5))
        ]
        assert len(drafts) == expected and not any(b"u/1/2" in draft.body for draft in drafts)
        assert sightings.subjects_dropped == 1 - expected


def test_a_consent_told_twice_is_one_fact(clock: FakeClock) -> None:
    """It bears its record's name; one without a name or a time is known by its delivery."""
    agreed = Agreed()
    normaliser = Normaliser(ORIGIN, Sightings(ORIGIN, PresenceSettings()), Keys(), agreed)

    def tell(record: str | None, delivery: bytes) -> bytes:
        act = said.ConsentAct(act="granted", identifier="A-1", purposes="visits", record_id=record)
        (draft,) = normaliser.drafts(act, place("till"), clock.now(), delivery)
        assert b"A-1" not in draft.body
        return draft.dedupe

    assert tell("r-1", b"x") == tell("r-1", b"y") != tell("r-2", b"x")
    assert tell(None, b"x") == b"x"


def test_a_mapping_cannot_name_a_person_past_the_consent(normaliser: Normaliser, clock: FakeClock) -> None:
    """Consents, points and subjects come from readings of their own, which key what they say."""
    for event_type, values in (
        ("store.consent.granted.v1", {"record_id": "r"}),
        ("store.points.earned.v1", {"programme": "p", "points": "1"}),
        ("store.barcode.scanned.v1", {"scanner": "s", "shopper": "A-1"}),
        ("store.pos.sale.v1", {"operator": "Wang"}),
        ("store.pos.sale.v1", {"payer": {"sealed": "138"}}),
        ("store.member.linked.v1", {"act": "login"}),
    ):
        with pytest.raises(Rejected, match="cannot name a person"):
            normaliser.drafts(said.Custom(event_type=event_type, values=values), place(), clock.now())


def test_a_refused_mapping_does_not_quote_a_value(normaliser: Normaliser, clock: FakeClock) -> None:
    """The reason stands in clear in quarantine."""
    reading = said.Custom(event_type="store.alarm.raised.v1", values={"what": "x", "severity": "13800138000"})
    with pytest.raises(Rejected) as caught:
        normaliser.drafts(reading, place(), clock.now())
    assert "138" not in caught.value.reason
