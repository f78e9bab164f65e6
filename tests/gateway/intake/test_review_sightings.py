"""Sightings after a reload, and under receivers and antennas that somebody makes up."""

from __future__ import annotations

import msgspec

from config.settings import PresenceSettings
from gateway.clock import FakeClock
from gateway.event import Origin
from gateway.intake import sightings
from gateway.intake.place import Place
from gateway.intake.reading import BeaconSighting, TagRead
from gateway.intake.sightings import Sightings

EPC = "3034257BF7194E4000001A85"


def test_a_zone_changed_by_a_reload_holds_from_the_next_sighting_on() -> None:
    """The reader's place is asked each time; what was remembered of it before does not stay for ever."""
    clock = FakeClock()
    seen = Sightings(Origin("t1", "0042", "gw01"), PresenceSettings())
    zones = []
    for zone, epc in (("door", EPC), ("shelf", EPC[:-1] + "6")):
        place = Place(device="gate", path="uhf_m100/gate", zone="front", antenna_zones={1: zone})
        for _ in range(2):
            at = clock.advance(0.1)
            zones += [
                msgspec.json.decode(draft.body)["data"]["zone_to"]
                for draft in seen.observe(TagRead(epc=epc, antenna=1, rssi_dbm=-50.0), place, at, None)
            ]
    assert zones == ["door", "shelf"]


def test_made_up_receivers_and_antennas_do_not_fill_the_memory() -> None:
    """Beyond a bound, receivers are the device they are heard through, and what departs is still told."""
    clock = FakeClock()
    seen = Sightings(Origin("t1", "0042", "gw01"), PresenceSettings())
    place = Place(device="ble", path="beacon_gateway/ble")
    told = []
    for number in range(sightings._RECEIVERS_MOST + 20):
        for _ in range(2):
            reading = BeaconSighting(scheme="ibeacon", beacon=f"b{number}", rssi_dbm=-50.0, receiver=f"r{number}")
            told += seen.observe(reading, place, clock.now(), None)
        seen.observe(TagRead(epc=EPC, antenna=number, rssi_dbm=-50.0), place, clock.now(), None)
    assert len(seen._receivers) <= sightings._RECEIVERS_MOST + 1
    assert len(seen._spots) <= sightings._SPOTS_MOST
    assert msgspec.json.decode(told[-1].body)["data"]["receiver"] == "ble"
    gone = [draft for draft in seen.expire(clock.advance(7200.0)) if draft.type == "store.beacon.departed.v1"]
    assert len(gone) == len([draft for draft in told if draft.type == "store.beacon.arrived.v1"])
