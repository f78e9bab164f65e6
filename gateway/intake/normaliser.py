"""The normaliser: from what a device said to what happened in the shop.

It gives a statement its time, its place, its name as a fact (so that a repeat is known) and, where it speaks of a
person, a pseudonym or nothing at all; numbers of persons that were typed where none belong are taken out first.
Sightings of tags and beacons go through the presence engine and come out as arrived, moved and departed. One table says
which reading becomes which event. Knows no driver, port or storage.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date, datetime
from datetime import time as clock_time
from hashlib import blake2b
from typing import Any, Protocol, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from gateway import event_types as types
from gateway.clock import Instant, rfc3339, rfc3339_s
from gateway.errors import Rejected, Unavailable
from gateway.event import Draft, Origin, draft
from gateway.intake import reading as said
from gateway.intake.content_links import ContentLinks
from gateway.intake.free_text import FreeText
from gateway.intake.person import Identity, Nobody, Subject, Subjects
from gateway.intake.place import Place
from gateway.intake.sightings import Sightings

__all__ = ["Normaliser", "NormaliserCounters", "Place", "Pseudonyms"]

_FUTURE_S = 300.0  # a device's clock may be this far ahead of ours
_PAST_S = 14 * 86_400.0  # a device may have kept its data this long
_KEYS_KEPT_DAYS = 2  # full days that a day's key outlives it (`gateway.shopper.day_keys`)
_SANE_S = 1_704_067_200.0  # 2024-01-01: a clock before that was never set
_LATEST_S = 4_102_444_800.0  # 2100-01-01: nor can one after that be right, and a calendar ends somewhere
_INTERVAL_MOST_S = 31 * 86_400.0  # of a people counter
_QUOTED = re.compile(r"(Invalid enum value) .*?( - at `|$)", re.DOTALL)  # reasons stand in clear: no word of a message
_PERSONAL_AIS = ("8017", "8018")  # GS1 service relations: numbers of persons

R = TypeVar("R", bound=said.Reading)


class Pseudonyms(Protocol):
    """Where day keys come from (`gateway.shopper.day_keys`)."""

    def day_key(self, scheme: str, identifier: str, at: Instant) -> str:
        """The pseudonym of an identifier on the day of `at`."""
        ...


class NormaliserCounters(msgspec.Struct):
    """What was set aside, since the start."""

    subjects_dropped: int = 0  # identifiers of persons left out because no consent covered them
    implausible_times: int = 0  # device times that could not be true; the time of arrival was used
    unknown_types: int = 0  # configured mappings to an event type that does not exist


class Normaliser:
    """One for the whole gateway; sources call it from their own threads."""

    def __init__(
        self,
        origin: Origin,
        sightings: Sightings,
        pseudonyms: Pseudonyms,
        subjects: Subjects | None = None,
        *,
        time_zone: str = "UTC",
        currency: str = "",
        content_links: ContentLinks | None = None,
        region: str = "CN",
    ) -> None:
        """`time_zone` gives business dates, `currency` is the shop's, where a till does not say.

        `subjects`: who identifiers of persons stand for; without it nobody is ever named. `content_links`: the QR
        codes of our own. `region`: ISO 3166, where a phone number without a country code is from.
        """
        self.counters = NormaliserCounters()
        self._origin = origin
        self._sightings = sightings
        self._pseudonyms = pseudonyms
        self._subjects = subjects or Nobody()
        self._zone = ZoneInfo(time_zone)
        self._content_links = content_links or ContentLinks()
        self.free_text = FreeText(region)
        self._currency = currency or None
        self._encode = msgspec.json.Encoder(decimal_format="string").encode

    def drafts(
        self, reading: said.Reading, place: Place, at: Instant, delivery: bytes = b"", fresh: bool = True
    ) -> list[Draft]:
        """What a reading means: usually one event, often none (a repeat sighting, a device's state).

        Args:
            reading: what the device said.
            place: where the device stands.
            at: when it was received.
            delivery: names the delivery, where the transport may repeat one.
            fresh: the transport says that this is no repeat.

        Raises:
            Rejected: it holds a value that no event can have.
            Unavailable: a pseudonym cannot be made, or a consent not be looked up, now.
        """
        rule = _RULES.get(type(reading))
        if rule is None:
            return []
        try:
            clean = self.free_text.cleaned(
                reading, lambda kind, value: self._pseudonyms.day_key(f"text_{kind}", value, self._own_day(reading, at))
            )
            return rule(self, clean, place, at, delivery, fresh)
        except (ArithmeticError, TypeError, ValueError) as error:  # never its text: it may quote what was said
            raise Rejected(
                "make event", place.device, f"a value that no event can have ({type(error).__name__})",
                "look at its text and numbers with `storefront quarantine show`",
            ) from error  # fmt: skip
        except OSError as error:
            raise Unavailable(
                "make pseudonym", "day key", error.strerror or type(error).__name__,
                "the data directory must be writable and have room",
            ) from error  # fmt: skip

    def expire(self, at: Instant) -> list[Draft]:
        """Departures that silence has made certain; call it twice a second."""
        return self._sightings.expire(at)

    def name(self, text: str, at: Instant) -> str:
        """A number that a till gave, as a sale that bears it is named on the same day: without numbers of persons.

        Raises:
            OSError: a pseudonym cannot be made now.
        """
        return self.free_text.name(text, lambda kind, value: self._pseudonyms.day_key(f"text_{kind}", value, at))

    # -- rules

    def _sighting(
        self, reading: said.Reading, place: Place, at: Instant, _delivery: bytes, _fresh: bool
    ) -> list[Draft]:
        return self._sightings.observe(reading, place, at, self._device_time(reading, at))

    def _sale(self, reading: said.Sale, place: Place, at: Instant, delivery: bytes, fresh: bool) -> list[Draft]:
        happened_s = self._happened(reading, at, reading.closed_at)
        workstation = reading.workstation_id or place.device
        date = reading.business_date or datetime.fromtimestamp(happened_s, self._zone).date().isoformat()
        transaction_id = f"{self._origin.store}-{workstation}-{date}-{reading.sequence}"
        named = ((Identity(reading.member_scheme or "member", reading.member),) if reading.member else ()) + (
            reading.identities
        )
        subject = self._subject(named, at, happened_s)
        # Who pays is the member's own word only if consent covers the means of payment by itself: it may be another's.
        paid = tuple(each for each in reading.identities if each.scheme == "payment")
        payer = self._subjects.subject(paid, at, happened_s) if paid and subject is not None else None
        if payer is not None and subject is not None and payer.shopper.scheme == subject.shopper.scheme:
            payer = None  # nobody but the payer was named
        operator = reading.operator and self._pseudonyms.day_key("operator", reading.operator, at)
        sale = types.Sale(
            transaction_id=transaction_id,
            kind=reading.kind,
            workstation_id=workstation,
            operator=operator,
            business_date=date,
            opened_at=_text(reading.opened_at),
            closed_at=_text(reading.closed_at),
            currency=reading.currency or self._currency,
            lines=reading.lines,
            tenders=reading.tenders,
            coupons=reading.coupons,
            loyalty=subject.shopper if subject is not None else None,
            payer=payer.shopper if payer is not None else None,
            totals=reading.totals,
            tap=reading.tap,
            confidence=reading.confidence,
            receipt_end=reading.end,
        )
        if reading.device_seq is None:  # the till gave it no number that would tell it from another of the same content
            return [self._draft(sale, reading, place, at, happened_s, delivery, fresh=fresh, person=subject)]
        # The same receipt told twice (by two taps, after a restart of the till) is one sale; a different total is not.
        fact = _fact("sale", transaction_id, reading.kind, str(reading.totals.net))
        return [self._draft(sale, reading, place, at, happened_s, fact, fresh=False, person=subject)]

    def _points(self, reading: said.Points, place: Place, at: Instant, delivery: bytes, fresh: bool) -> list[Draft]:
        named = (Identity(reading.member_scheme or "member", reading.member),) if reading.member else ()
        subject = self._subject(named, at, self._happened(reading, at))
        data = (types.PointsEarned if reading.act == "earned" else types.PointsSpent)(
            programme=reading.programme, points=reading.points, transaction_id=reading.transaction_id,
            shopper=subject.shopper if subject is not None else None,
        )  # fmt: skip
        return [self._plain(data, reading, place, at, delivery, fresh, person=subject)]

    def _consent(
        self, reading: said.ConsentAct, place: Place, at: Instant, delivery: bytes, fresh: bool
    ) -> list[Draft]:
        data = self._subjects.consent(reading, at, self._happened(reading, at))
        happened_s = self._happened(reading, at)
        person = None if data.shopper is None else Subject(data.shopper, data.record_id)
        if reading.record_id is not None or happened_s != at.wall_s:  # told twice, it is the same act
            words = (reading.act, data.record_id, *data.purposes, data.expires_at or "")
            delivery, fresh = _fact("consent", *words), False
        return [self._draft(data, reading, place, at, happened_s, delivery, fresh=fresh, person=person)]

    def _link(self, reading: said.MemberLink, place: Place, at: Instant, delivery: bytes, fresh: bool) -> list[Draft]:
        others = (reading.linked,) if reading.replaced is None else (reading.linked, reading.replaced)
        person = self._subjects.linked(reading.member, others, at, self._happened(reading, at))
        if person is None or len(person.others) != len(others):
            self.counters.subjects_dropped += 1
            return []  # without its persons there is nothing left to tell
        data = types.MemberLinked(
            act=reading.act, shopper=person.subject.shopper, linked=person.others[0],
            replaced=person.others[1] if reading.replaced is not None else None,
        )  # fmt: skip
        return [self._plain(data, reading, place, at, delivery, fresh, person=person.subject)]

    def _basket(self, reading: said.BasketStep, place: Place, at: Instant, delivery: bytes, fresh: bool) -> list[Draft]:
        data = types.Basket(
            basket_id=reading.basket_id, lane=reading.lane or place.device, step=reading.step, gtin=reading.gtin
        )
        return [self._plain(data, reading, place, at, delivery, fresh)]

    def _scan(self, reading: said.Scan, place: Place, at: Instant, delivery: bytes, fresh: bool) -> list[Draft]:
        if reading.kind == "loyalty":
            named = Identity(reading.scheme or "member", reading.text)
            subject = self._subject((named,), at, self._happened(reading, at))
            seen = types.InteractionScanned(
                scanner=place.device, campaign=reading.campaign, content_id=reading.content_id,
                shopper=subject.shopper if subject is not None else None,
            )  # fmt: skip
            return [self._plain(seen, reading, place, at, delivery, fresh, person=subject)]
        if (content := self._content_links.content(reading.text)) is not None:
            shown = types.InteractionScanned(
                scanner=place.device, campaign=content.campaign, content_id=content.content_id or None
            )
            return [self._plain(shown, reading, place, at, delivery, fresh)]
        gs1 = {ai: value for ai, value in reading.gs1.items() if ai not in _PERSONAL_AIS}
        link = reading.digital_link
        if link is not None and any(f"/{ai}/" in link for ai in _PERSONAL_AIS):
            link = None
        data = types.BarcodeScanned(
            symbology=reading.symbology,
            kind=reading.kind,
            gtin=reading.gtin,
            gs1=gs1,
            lot=reading.lot,
            serial=reading.serial,
            expiry=reading.expiry,
            weight_kg=reading.weight_kg,
            price=reading.price,
            digital_link=link,
            addon=reading.addon,
            coupon=reading.coupon,
            text=self.free_text.note(reading.text) if place.keep_text else None,
            scanner=place.device,
            error=reading.error,
        )
        return [self._plain(data, reading, place, at, delivery, fresh, subject=reading.gtin)]

    def _card(self, reading: said.CardRead, place: Place, at: Instant, delivery: bytes, fresh: bool) -> list[Draft]:
        return self._card_event(types.CardSeen, reading, place, at, delivery, fresh)

    def _card_gone(
        self, reading: said.CardRemoved, place: Place, at: Instant, delivery: bytes, fresh: bool
    ) -> list[Draft]:
        return self._card_event(types.CardGone, reading, place, at, delivery, fresh)

    def _card_event(
        self, kind: type[types.CardSeen | types.CardGone], reading: said.CardRead | said.CardRemoved, place: Place,
        at: Instant, delivery: bytes, fresh: bool,
    ) -> list[Draft]:  # fmt: skip
        number = str(reading.number)
        if not place.personal:  # the shop's own: keys of staff, of lockers
            key = self._pseudonyms.day_key("lf_card", number, at)
            return [self._plain(kind(reader=place.device, day_key=key), reading, place, at, delivery, fresh)]
        subject = self._subject((Identity("card", number),), at, self._happened(reading, at))
        data = kind(reader=place.device, shopper=subject.shopper if subject is not None else None)
        return [self._plain(data, reading, place, at, delivery, fresh, person=subject)]

    def _custom(self, reading: said.Custom, place: Place, at: Instant, delivery: bytes, fresh: bool) -> list[Draft]:
        entry = types.EVENT_TYPES.get(reading.event_type)
        if entry is None:
            self.counters.unknown_types += 1
            return []
        if entry.data in _PERSONAL or _PERSON_FIELDS & reading.values.keys():
            raise Rejected(
                "map to event", reading.event_type, "a mapping cannot name a person in an event of its own",
                "map to reading `points`, `consent` or `scan` (kind loyalty); they key what names a person",
            )  # fmt: skip
        try:
            data = msgspec.convert(reading.values, entry.data, strict=False)
        except msgspec.ValidationError as error:
            raise Rejected(
                "map to event", reading.event_type, _QUOTED.sub(r"\1\2", str(error)),
                "map every field that `docs/events.md` asks for",
            ) from error  # fmt: skip
        return [self._plain(data, reading, place, at, delivery, fresh, subject=reading.subject)]

    def _simple(self, reading: said.Reading, place: Place, at: Instant, delivery: bytes, fresh: bool) -> list[Draft]:
        data = _SIMPLE[type(reading)](reading, place)
        return [] if data is None else [self._plain(data, reading, place, at, delivery, fresh)]

    def _door(self, reading: said.DoorCount, place: Place, at: Instant, delivery: bytes, fresh: bool) -> list[Draft]:
        end_s = self._happened(reading, at)
        if not 0 <= reading.interval_s <= _INTERVAL_MOST_S:
            raise Rejected("map to event", place.device, "interval_s is no length of an interval", "check its mapping")
        data = types.FootfallCounted(
            line=reading.line,
            entrance=place.zone or place.device,
            interval_start=rfc3339_s(end_s - reading.interval_s),
            interval_s=reading.interval_s,
            in_=reading.entered,
            out=reading.left,
            quality=types.CountQuality(coverage=1.0, detector=place.path),
        )
        return [self._plain(data, reading, place, at, delivery, fresh)]

    # -- inside

    def _plain(
        self, data: types.EventData, reading: said.Reading, place: Place, at: Instant, delivery: bytes, fresh: bool,
        subject: str | None = None, person: Subject | None = None,
    ) -> Draft:  # fmt: skip
        """An event whose identity is the device's own counter, or else the delivery it came with."""
        fact = delivery
        if reading.device_seq is not None:
            kind = type(reading).__name__
            fact = _fact(kind, place.device, reading.device_boot or "", reading.device_seq)
            fresh = False
        happened_s = self._happened(reading, at)
        return self._draft(data, reading, place, at, happened_s, fact, fresh=fresh, subject=subject, person=person)

    def _draft(
        self, data: types.EventData, reading: said.Reading, place: Place, at: Instant, happened_s: float, fact: bytes,
        *, fresh: bool, subject: str | None = None, person: Subject | None = None,
    ) -> Draft:  # fmt: skip
        entry = types.type_of(data)
        return draft(
            entry.stream, entry.name, data, source=self._origin.source(place.path), at=at, happened_s=happened_s,
            subject=subject, zone=place.zone, srcseq=reading.device_seq, dedupe=fact, fresh=fresh,
            extensions={"consentref": person.consent} if person is not None else None,
        )  # fmt: skip

    def _subject(self, named: tuple[Identity, ...], at: Instant, happened_s: float) -> Subject | None:
        if not named:
            return None
        subject = self._subjects.subject(named, at, happened_s)
        if subject is None:
            self.counters.subjects_dropped += 1
        return subject

    def _own_day(self, reading: said.Reading, at: Instant) -> Instant:
        """A moment of the day that a statement is of: told once more after midnight it says the same of free text.

        The day of arrival where it names none, or one whose key cannot be expected to be kept.
        """
        sale = reading if isinstance(reading, said.Sale) else None
        told = (sale.closed_at, _noon(sale.business_date, self._zone)) if sale is not None else ()
        for moment in (*told, reading.device_at):  # what a till says anew with each sending comes last
            if moment is None or moment.tzinfo is None or abs(at.wall_s - moment.timestamp()) > _PAST_S:
                continue  # the year 1, for one, which no zone can move
            days = (at.wall_at.astimezone(self._zone).date() - moment.astimezone(self._zone).date()).days
            if -1 <= days <= _KEYS_KEPT_DAYS:
                return msgspec.structs.replace(at, wall_s=moment.timestamp())
        return at

    def _happened(self, reading: said.Reading, at: Instant, other: datetime | None = None) -> float:
        """Best estimate of when it happened: the device's time where that can be true, else the time of arrival."""
        told = self._device_time(reading, at, other)
        return at.wall_s if told is None else told

    def _device_time(self, reading: said.Reading, at: Instant, other: datetime | None = None) -> float | None:
        device_at = reading.device_at or other
        if device_at is None:
            return None
        told_s = math.nan if device_at.tzinfo is None else device_at.timestamp()  # without a zone it cannot be placed
        if at.wall_s < _SANE_S <= told_s < _LATEST_S or at.wall_s - _PAST_S <= told_s <= at.wall_s + _FUTURE_S:
            return told_s
        self.counters.implausible_times += 1
        return None


# What only this module may fill in: a mapping that could would be a way past the consent.
_PERSONAL = (
    types.ConsentGranted, types.ConsentWithdrawn, types.PointsEarned, types.PointsSpent, types.VisitClosed,
    types.CardSeen, types.CardGone, types.MemberLinked,
)  # fmt: skip
_PERSON_FIELDS = frozenset({"shopper", "loyalty", "payer", "operator"})


def _fact(*parts: str) -> bytes:
    """Eight bytes that name a fact."""
    return blake2b("\x1f".join(parts).encode(), digest_size=8).digest()


def _noon(day: str | None, zone: ZoneInfo) -> datetime | None:
    """Noon of an ISO date; None for anything else."""
    try:
        return None if day is None else datetime.combine(date.fromisoformat(day), clock_time(12), zone)
    except ValueError:
        return None


def _text(at: datetime | None) -> str | None:
    """RFC 3339; None for no time, or one that is none of this age (a till's "no time" is often the year 1)."""
    try:
        return None if at is None or at.tzinfo is None or not 1970 <= at.year < 2200 else rfc3339(at)
    except OverflowError:  # its offset leads out of the calendar
        return None


def _sensor(reading: Any, place: Place) -> types.EventData | None:
    if not math.isfinite(reading.value):
        return None
    return types.SensorRead(
        sensor=reading.sensor or place.device, quantity=reading.quantity, value=reading.value, unit=reading.unit
    )


def _weight(reading: Any, place: Place) -> types.EventData | None:
    if not reading.stable:
        return None  # a moving pan says nothing yet
    return types.ScaleWeighed(grams=reading.grams, tare=reading.tare_grams, stable=True, scale=place.device)


_SIMPLE: dict[type[said.Reading], Callable[[Any, Place], types.EventData | None]] = {
    said.SensorValue: _sensor,
    said.Weight: _weight,
    said.Contact: lambda it, place: types.ContactChanged(contact=it.sensor or place.device, open=it.open),
    said.Button: lambda it, place: types.ButtonPressed(button=it.button or place.device, value=it.value),
    said.Feedback: lambda it, place: types.FeedbackGiven(
        question_id=it.question, score=it.score, device=place.device, scale=it.scale
    ),
}

Rule = Callable[[Normaliser, Any, Place, Instant, bytes, bool], list[Draft]]
_RULES: dict[type[said.Reading], Rule] = {
    said.TagRead: Normaliser._sighting,
    said.BeaconSighting: Normaliser._sighting,
    said.Sale: Normaliser._sale,
    said.Points: Normaliser._points,
    said.ConsentAct: Normaliser._consent,
    said.MemberLink: Normaliser._link,
    said.BasketStep: Normaliser._basket,
    said.Scan: Normaliser._scan,
    said.CardRead: Normaliser._card,
    said.CardRemoved: Normaliser._card_gone,
    said.DoorCount: Normaliser._door,
    said.Custom: Normaliser._custom,
    **dict.fromkeys(_SIMPLE, Normaliser._simple),
}
