"""Sightings: tag reads and beacon adverts become arrived, moved and departed.

Joins the presence engine with what an EPC means and where antennas look. One object serves all readers, because the
same tag seen by several of them is one sighting; a lock keeps their threads apart. Knows no driver and no storage.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import msgspec

from config.settings import PresenceSettings
from gateway import event_types as types
from gateway.clock import Instant, rfc3339_s
from gateway.errors import Unavailable
from gateway.event import Draft, Origin, draft
from gateway.intake.epc import FACTORY_PREFIXES, decode, is_ignored, toggled
from gateway.intake.person import Identity, Nobody, Subject, Subjects
from gateway.intake.place import Place
from gateway.intake.presence import BEACON, Arrived, Departed, Moved, Policy, Presence, Spot
from gateway.intake.reading import BeaconSighting, Reading, TagRead

Tag = tuple[str, bool]  # the bank's hex, and whether the tag says that it holds no EPC
_ISO_PC = "0100"
_RECEIVERS_MOST = 10_000
_SPOTS_MOST = 20_000
Change = Arrived[Tag] | Moved[Tag] | Departed[Tag]
BeaconChange = Arrived[str] | Moved[str] | Departed[str]
_TAGS: dict[type, type[types.RfidArrived | types.RfidMoved | types.RfidDeparted]] = {
    Arrived: types.RfidArrived,
    Moved: types.RfidMoved,
    Departed: types.RfidDeparted,
}


class Sightings:
    """Shared by all sources; any thread may call."""

    def __init__(self, origin: Origin, settings: PresenceSettings, subjects: Subjects | None = None) -> None:
        """`settings`: the `[presence]` table; `subjects`: whose the beacons are that shoppers carry."""
        self.ignored = 0  # reads of tags that name nothing
        self.subjects_dropped = 0  # arrivals and departures of shoppers' beacons that no consent covered
        self._subjects = subjects or Nobody()
        self._origin = origin
        self._ignore = () if settings.report_factory_epcs else FACTORY_PREFIXES
        self._policy = Policy(
            arrive_reads=settings.min_reads,
            arrive_of=settings.min_reads,
            arrive_within_s=settings.arrive_within_s,
            move_offset_db=settings.move_offset_db,
            hold_off_s=settings.move_hold_off_s,
            fade_db_s=settings.move_slope_db_per_s,
            depart_after_s=settings.depart_after_s,
        )
        self._tags: Presence[Tag] = Presence()
        self._beacons: Presence[str] = Presence()
        self._places: dict[str, Place] = {}
        self._receivers: dict[str, Place] = {}
        self._spots: dict[tuple[str, int | None, str, str, float | None], Spot] = {}
        self._lock = threading.Lock()

    def observe(self, reading: Reading, place: Place, at: Instant, device_s: float | None) -> list[Draft]:
        """Take one sighting; the events that follow, most often none.

        Args:
            reading: a `TagRead` or `BeaconSighting`.
            place: where the reader stands.
            at: when it was received.
            device_s: when by the reader's clock, seconds since 1970, if that can be true.
        """
        if isinstance(reading, TagRead):
            if is_ignored(reading.epc, self._ignore):
                self.ignored += 1
                return []
            rssi: float | None = reading.rssi_raw if reading.rssi_dbm is None else reading.rssi_dbm
            scale = "raw" if reading.rssi_dbm is None and reading.rssi_raw is not None else "dbm"
            with self._lock:
                self._places[place.device] = place
                spot = self._spot(place, reading.antenna, scale)
                return self._tag_drafts(
                    self._tags.observe((reading.epc, toggled(reading.pc)), spot, rssi, _moment(at, device_s)), at
                )
        if isinstance(reading, BeaconSighting):
            with self._lock:
                receiver = reading.receiver
                if receiver not in self._receivers and len(self._receivers) >= _RECEIVERS_MOST:
                    receiver = place.device  # receivers named at random must not fill the memory
                self._receivers[receiver] = place
                spot = self._beacon_spot(place, receiver)
                key = f"{reading.scheme}:{reading.beacon}"
                changes = self._beacons.observe(key, spot, reading.rssi_dbm, _moment(at, device_s))
                try:
                    return self._beacon_drafts(changes, at)
                except (Unavailable, OSError):  # nobody can say now whose it is, and it would not be asked again
                    self._beacons.forget(key)
                    raise
        return []

    def expire(self, at: Instant) -> list[Draft]:
        """Departures that silence has made certain."""
        with self._lock:
            drafts = self._tag_drafts(self._tags.expire(at), at)
            for change in self._beacons.expire(at):
                try:
                    drafts += self._beacon_drafts((change,), at)
                except (Unavailable, OSError):  # whose it was cannot be said: that takes no other departure along
                    self.subjects_dropped += 1
            return drafts

    @property
    def present(self) -> int:
        """Tags followed now."""
        return len(self._tags)

    def _spot(self, place: Place, antenna: int | None, scale: str) -> Spot:
        # A reader without a zone is a zone of its own, so that its antennas do not make moves.
        zone = place.zone_of(antenna) or place.device
        key = (place.device, antenna, scale, zone, place.depart_after_s)  # a reload may have moved the antenna
        spot = self._spots.get(key)
        if spot is None:
            policy = self._policy
            if place.depart_after_s is not None:
                policy = msgspec.structs.replace(policy, depart_after_s=place.depart_after_s)
            spot = self._remember(key, Spot(place.device, antenna, zone, "raw" if scale == "raw" else "dbm", policy))
        return spot

    def _beacon_spot(self, place: Place, receiver: str) -> Spot:
        zone = place.zone or receiver
        key = (receiver, None, "beacon", zone, None)
        return self._spots.get(key) or self._remember(key, Spot(receiver, None, zone, "dbm", BEACON))

    def _remember(self, key: tuple[str, int | None, str, str, float | None], spot: Spot) -> Spot:
        if len(self._spots) >= _SPOTS_MOST:  # antennas numbered at random must not fill the memory
            self._spots.clear()
        self._spots[key] = spot
        return spot

    def _tag_drafts(self, changes: Iterable[Change], at: Instant) -> list[Draft]:
        drafts = []
        for change in changes:
            bank, iso = change.key
            epc = decode(bank, _ISO_PC if iso else None)
            place = self._places[change.spot.reader]
            here = change.spot.zone
            raw = change.spot.scale == "raw"
            strength = None if change.rssi is None else round(change.rssi, 1)
            left = isinstance(change, Departed)
            came_from = change.origin.zone if isinstance(change, Moved) else here if left else None
            uri = epc.uri or f"urn:epc:raw:{len(bank) * 4}.x{bank}"
            data = _TAGS[type(change)](
                epc=uri,
                epc_hex=bank,
                gtin=epc.gtin,
                serial=epc.serial,
                reader=change.spot.reader,
                antenna=change.spot.antenna,
                zone_from=came_from,
                zone_to=None if left else here,
                rssi_dbm=None if raw else strength,
                rssi_raw=strength if raw else None,
                reads=change.reads,
                first_seen=rfc3339_s(change.first_seen.wall_s),
                last_seen=rfc3339_s(change.last_seen.wall_s),
            )
            drafts.append(self._draft(data, place, change, at, uri, here))
        return drafts

    def _beacon_drafts(self, changes: Sequence[BeaconChange], at: Instant) -> list[Draft]:
        drafts = []
        for change in changes:
            if isinstance(change, Moved):
                continue  # receivers overlap too much for a move to be a fact
            scheme, _, beacon = change.key.partition(":")
            place = self._receivers[change.spot.reader]
            person: Subject | None = None
            if place.personal:
                # Asked at each event, so that a withdrawal between arrival and departure counts.
                person = self._subjects.subject((Identity("beacon", beacon),), at, change.last_seen.wall_s)
                if person is None or person.shopper.day_key is None:
                    self.subjects_dropped += 1
                    continue  # without its name nothing is left of the event
                beacon = person.shopper.day_key
            left = isinstance(change, Departed)
            kind = types.BeaconDeparted if left else types.BeaconArrived
            data = kind(
                scheme=scheme,
                beacon=beacon,
                receiver=change.spot.reader,
                zone=change.spot.zone,
                rssi_dbm=None if change.rssi is None else round(change.rssi, 1),
                dwell_s=round(change.last_seen.mono_s - change.first_seen.mono_s, 1) if left else None,
                shopper=person.shopper if person is not None else None,
            )
            drafts.append(self._draft(data, place, change, at, beacon, change.spot.zone, person))
        return drafts

    def _draft(
        self,
        data: types.EventData,
        place: Place,
        change: Change | BeaconChange,
        at: Instant,
        subject: str,
        zone: str | None,
        person: Subject | None = None,
    ) -> Draft:
        entry = types.type_of(data)
        happened_s = change.last_seen.wall_s
        return draft(
            entry.stream, entry.name, data, source=self._origin.source(place.path), at=at, happened_s=happened_s,
            subject=subject, zone=zone,
            extensions={"consentref": person.consent} if person is not None else None,
        )  # fmt: skip


def _moment(at: Instant, device_s: float | None) -> Instant:
    """When the thing was sighted: the device's wall time, on our monotonic clock."""
    if device_s is None:
        return at
    return Instant(device_s, at.mono_us, at.quality)
