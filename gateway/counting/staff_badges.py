"""When a badge of staff was read at a line, from the journal: who comes in with one is not a visitor.

A badge is an own beacon or an RFID tag whose id the configuration names. What leaves here says where and when, never
whose. Knows the journal and two event types; no camera.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from gateway.counting.camera_plan import BadgeOptions
from gateway.errors import JournalError
from gateway.event_types import BeaconArrived, RfidArrived, type_of
from gateway.journal.reader import JournalReader
from vision.staff import StaffSighting

_KINDS: Final = {type_of(BeaconArrived).name, type_of(RfidArrived).name}
_MARKS: Final = tuple(f'"{kind}"'.encode() for kind in _KINDS)
_PAGES: Final = 20  # of 500 events a look; more are read at the next


class _Arrived(msgspec.Struct):
    beacon: str = ""
    receiver: str = ""
    epc_hex: str = ""
    reader: str = ""


class _Event(msgspec.Struct):
    type: str
    monous: int
    data: _Arrived | None = None


_decode = msgspec.json.Decoder(_Event).decode


class StaffBadges:
    """One camera's badges. One thread: `look` every second or so, `close` once."""

    def __init__(self, badges: tuple[BadgeOptions, ...], journal: Path) -> None:
        """`journal`: its file, which need not exist yet."""
        self._badges = [(badge, tuple(_plain(identity) for identity in badge.ids)) for badge in badges]
        self._reader = JournalReader(journal)
        self._after: int | None = None

    def look(self) -> list[StaffSighting]:
        """Sightings since the last look; the first begins with now. [] while the journal cannot be read."""
        try:
            if not self._reader.is_open:
                if not self._reader.path.exists():
                    return []
                self._reader.open()
            if self._after is None:
                self._after = self._reader.head("observations")
            found: list[StaffSighting] = []
            for _ in range(_PAGES):
                batch = self._reader.read("observations", self._after)
                if not batch:
                    break
                self._after = batch[-1].position
                found += [sight for event in batch for sight in self._sightings(event.json)]
        except JournalError:
            self._reader.close()
            return []
        return found

    def close(self) -> None:
        """Release the journal."""
        self._reader.close()

    def _sightings(self, event: bytes) -> list[StaffSighting]:
        if not any(mark in event for mark in _MARKS):
            return []
        try:
            told = _decode(event)
        except msgspec.DecodeError:
            return []
        if told.type not in _KINDS or told.data is None:
            return []
        identity, device = _plain(told.data.beacon or told.data.epc_hex), told.data.receiver or told.data.reader
        return [
            StaffSighting(badge.line, told.monous / 1e6, badge.window_s)
            for badge, prefixes in self._badges
            if identity.startswith(prefixes) and badge.device in ("", device)
        ]


def _plain(identity: str) -> str:
    """Upper and lower case, dashes and colons make no difference."""
    return identity.lower().replace("-", "").replace(":", "")
