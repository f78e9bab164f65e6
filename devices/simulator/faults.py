"""When each fault of the demo begins and ends. What it does is the composition's business.

Pure: knows no device and no clock but the seconds it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal, get_args

import msgspec

FaultName = Literal[
    "unplug", "flood", "corrupt", "broker", "clock", "till-poison", "disk-full", "uplink", "camera", "kill"
]
FAULTS: Final[tuple[FaultName, ...]] = get_args(FaultName)


class Fault(msgspec.Struct, frozen=True):
    """One kind of fault: what a person reads when it begins and ends, and its rhythm in seconds of real time."""

    name: FaultName
    begins: str
    ends: str
    lasts_s: float = 20.0
    every_s: float = 60.0


KINDS: Final[dict[FaultName, Fault]] = {
    fault.name: fault
    for fault in (
        Fault("unplug", "the gate reader's plug is pulled", "the gate reader is plugged in again"),
        Fault("flood", "a sensor gone mad: 500 messages a second, and strange tags at the gate", "the flood is over"),
        Fault("corrupt", "bad cables damage every fifth frame of readers and scanner", "good cables again"),
        Fault("broker", "the MQTT broker is stopped; till and sensors keep their messages", "the broker is back"),
        Fault("clock", "the gateway's wall clock jumps forward by one hour", "it jumps back by one hour"),
        Fault("till-poison", "the till sends four messages that are no sales", "the till is well again", 2.0),
        Fault("disk-full", "the journal may take 8 MiB only and fills up", "it may take 2 GiB again", 40.0, 120.0),
        Fault(
            "uplink", "the line to the platform is cut; events wait at the gateway",
            "the line is whole again; the gateway's next try comes within half a minute",
        ),
        Fault(
            "camera", "the camera's process hangs (SIGSTOP): nobody is counted at the main door, which is not zero",
            "nobody did anything: the gateway has put another process in its place", 25.0, 90.0,
        ),
        Fault("kill", "the gateway is killed (SIGKILL)", "the gateway is started again", 1.0),
    )
}  # fmt: skip


class Schedule:
    """Says when the chosen faults begin and end; several are spread over their period."""

    def __init__(self, names: Iterable[FaultName], first_s: float = 10.0, pace: float = 1.0) -> None:
        """Store.

        Args:
            names: the faults, each once.
            first_s: when the first begins.
            pace: how many times faster than usual all of it goes, > 0; for tests.
        """
        chosen = [KINDS[name] for name in dict.fromkeys(names)]
        self._pace = pace
        self._next_s = {
            fault.name: first_s / pace + index * fault.every_s / pace / max(1, len(chosen))
            for index, fault in enumerate(chosen)
        }
        self._ends_s: dict[FaultName, float] = {}

    def due(self, now_s: float) -> Iterator[tuple[Fault, bool]]:
        """What begins (True) or ends (False) by `now_s` seconds after the start, each told once."""
        for name, ends_s in list(self._ends_s.items()):
            if ends_s <= now_s:
                del self._ends_s[name]
                yield KINDS[name], False
        for name, begins_s in list(self._next_s.items()):
            if begins_s <= now_s and name not in self._ends_s:
                fault = KINDS[name]
                self._next_s[name] = begins_s + fault.every_s / self._pace
                self._ends_s[name] = now_s + fault.lasts_s / self._pace
                yield fault, True

    def finish(self) -> Iterator[Fault]:
        """Ends everything that is under way; nothing begins any more."""
        self._next_s.clear()
        while self._ends_s:
            yield KINDS[self._ends_s.popitem()[0]]

    @property
    def active(self) -> tuple[FaultName, ...]:
        """Faults under way."""
        return tuple(self._ends_s)
