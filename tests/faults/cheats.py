"""Gateways that cheat, so that the harness can prove that it would notice.

Each is a class put in the place of an honest one before the life begins; the product knows nothing of them. Here too:
`crash_at`, by which an honest gateway dies at a moment that matters.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Sequence
from hashlib import blake2b

import msgspec

import devices.source
from devices.transports.mqtt import Delivery
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


def _by_content(delivery: Delivery, device: str, broker: bytes = b"") -> bytes:
    """A name for a message that says nothing of its delivery."""
    return blake2b(delivery.topic.encode() + b"\0" + delivery.payload, digest_size=7).digest()


class JudgesByContent(JournalWriter):
    """Takes what looks like an earlier message for a repeat of it, whatever the broker says."""

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


def _judge_by_content(gateway: Gateway) -> None:
    devices.source.delivery_key = _by_content
    gateway.writer.__class__ = JudgesByContent


CHEATS: dict[str, Cheat] = {
    "ack-before-commit": Cheat(_inlet(AcknowledgeFirst)),
    "synchronous-off": Cheat(_writer(NeverSynced), needs_power_cut=True),
    "synchronous-normal": Cheat(_writer(SyncedNowAndThen), needs_power_cut=True),
    "forgetful": Cheat(_writer(Forgetful)),
    "numbers-again": Cheat(_writer(NumbersAgain)),
    "by-content": Cheat(_judge_by_content),
}


def crash_at(gateway: Gateway, point: str) -> None:
    """Let the process die by SIGKILL at a place that a random moment seldom hits.

    `before:N` — before the N-th commit is begun; `after:N` — after it, before anybody is told; `told:N` — when it is
    told, while the acknowledgements are on their way; `sync:N` — when the disk is asked for the N-th time to keep what
    it has (with the shim of `powercut` only).
    """
    word, _, number = point.partition(":")
    if word == "sync":
        ctypes.CDLL(None).powercut_at(int(number))
        return
    honest = type(gateway.writer)
    left = int(number)

    class Mortal(honest):  # type: ignore[misc, valid-type]
        """Dies at the appointed commit."""

        def append(self, drafts: Sequence[Draft], poison: Sequence[Poison] = ()) -> Appended:
            nonlocal left
            left -= 1
            if not left and word == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            appended: Appended = super().append(drafts, poison)
            if not left and word == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            if not left and word == "told":
                threading.Timer(0.0005, os.kill, (os.getpid(), signal.SIGKILL)).start()
            return appended

    gateway.writer.__class__ = Mortal
