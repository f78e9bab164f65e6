"""Where a device stands and what the shop has decided about it: a value that intake needs with every reading."""

from __future__ import annotations

import msgspec


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A device's place. `path`: its part of the event's source, `zone`: None where it was not given."""

    device: str
    path: str
    zone: str | None = None
    antenna_zones: dict[int, str] = {}
    depart_after_s: float | None = None
    keep_text: bool = False
    personal: bool = False  # the cards or beacons it sees are carried by shoppers

    def zone_of(self, antenna: int | None) -> str | None:
        """The zone that an antenna looks at; the device's own where nothing else is said."""
        return self.zone if antenna is None else self.antenna_zones.get(antenna, self.zone)
