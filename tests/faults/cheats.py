"""Gateways that cheat, so that the harness can prove that it would notice.

Each is a class put in the place of an honest one before the life begins; the product knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from gateway.app import Gateway
from gateway.event import STREAMS, Draft
from gateway.intake.inlet import Inlet, Item, Poison
from gateway.journal.writer import Appended, JournalWriter


class AcknowledgeFirst(Inlet):
    """Tells the broker to forget a message when it is heard, before it is written."""

    def offer(self, source: str, item: Item, timeout_s: float = 0.0) -> bool:
        """Call the receipt, then queue."""
        if item.receipt is not None:
            item.receipt()
            item.receipt = None
        return super().offer(source, item, timeout_s)


class NeverSynced(JournalWriter):
    """Leaves the writing to the operating system."""

    level = "OFF"

    def open(self, reason: str = "fresh") -> None:
        """Open, then take the promise back."""
        super().open(reason)
        self._connected().execute(f"PRAGMA synchronous = {self.level}")


class SyncedNowAndThen(NeverSynced):
    """SQLite's usual advice for WAL: fsync at checkpoints only."""

    level = "NORMAL"


class Forgetful(JournalWriter):
    """Does not remember after a start what it wrote before."""

    def _remember_tail(self) -> None:
        return


class NumbersAgain(JournalWriter):
    """Loses the last rows at a start and gives their positions to others."""

    def open(self, reason: str = "fresh") -> None:
        """Open without the newest five rows of each stream."""
        super().open(reason)
        for stream in STREAMS:
            head = self._heads[stream]
            self._connected().execute(f"DELETE FROM {stream} WHERE position > ?", (head - 5,))
            self._heads[stream] = max(0, head - 5)


class NeverForgets(JournalWriter):
    """Takes every message for a repeat that looks like an earlier one, whether the broker says so or not."""

    def append(self, drafts: Sequence[Draft], poison: Sequence[Poison] = ()) -> Appended:
        """Append as if nothing were fresh."""
        return super().append([msgspec.structs.replace(draft, fresh=False) for draft in drafts], poison)


class Cheat(msgspec.Struct, frozen=True):
    """How to build it, and whether only a power cut can show it."""

    build: Callable[[Gateway], None]
    needs_power_cut: bool = False


def _inlet(kind: type[Inlet]) -> Callable[[Gateway], None]:
    def build(gateway: Gateway) -> None:
        gateway.inlet.__class__ = kind

    return build


def _writer(kind: type[JournalWriter]) -> Callable[[Gateway], None]:
    def build(gateway: Gateway) -> None:
        gateway.writer.__class__ = kind

    return build


CHEATS: dict[str, Cheat] = {
    "ack-before-commit": Cheat(_inlet(AcknowledgeFirst)),
    "synchronous-off": Cheat(_writer(NeverSynced), needs_power_cut=True),
    "synchronous-normal": Cheat(_writer(SyncedNowAndThen), needs_power_cut=True),
    "forgetful": Cheat(_writer(Forgetful)),
    "numbers-again": Cheat(_writer(NumbersAgain)),
    "never-forgets": Cheat(_writer(NeverForgets)),
}
