"""What a device driver is: a sans-I/O machine from a device's bytes to readings.

A driver lives in one file of `devices/drivers/`, knows the vendor's document and nothing else: no thread, no port, no
clock, no other driver. One driver object serves one connection of one device: after a reconnect the source makes a
fresh one, so a driver needs no reset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal, TypeVar

import msgspec

from gateway.clock import Instant
from gateway.intake.reading import Reading

Wire = Literal["serial", "mqtt"]


class Message(msgspec.Struct, frozen=True):
    """One MQTT message. A retained message is state of the past: drivers may learn from it, never count it."""

    topic: str
    payload: bytes
    retained: bool = False


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every driver's options; the fields are the schema of `[devices.options]` in the configuration.

    Give every field a default where a sane one exists, and say the unit in its name. A wrong value raises
    `ValueError` in `__post_init__` with the field's name first: `"depart_after_s: must be positive"`.
    """


class Counters(msgspec.Struct):
    """What a driver saw on the wire; shown on the page and by `storefront doctor`."""

    frames: int = 0  # good frames or messages
    bad_frames: int = 0  # failed checksum, length or shape
    skipped_bytes: int = 0  # bytes dropped while looking for the next frame
    ignored: int = 0  # good, but not for us (not allow-listed, retained, heartbeat of no interest)


OptionsT = TypeVar("OptionsT", bound=Options)


class Driver:
    """Base of every driver. The source calls, always on its one thread: `outgoing`, then `feed` and `tick` in turn.

    `feed` gets bytes as they come — cut anywhere — for `wire = "serial"`, or one `Message` for `wire = "mqtt"`.
    """

    name: ClassVar[str]
    wire: ClassVar[Wire]
    options_type: ClassVar[type[Options]] = Options
    topics: ClassVar[tuple[str, ...]] = ()  # mqtt: default topic filters, if the family has a fixed plan
    baud: ClassVar[int] = 115200  # serial: default link
    bytesize: ClassVar[int] = 8
    parity: ClassVar[Literal["N", "E", "O"]] = "N"
    sales: ClassVar[bool] = False  # mqtt: has a broker session of its own, so that nothing else can hold it up

    def __init__(self, options: Any, device: str) -> None:
        """Store the options (an instance of `options_type`) and the device's name in the configuration."""
        self.options = options
        self.device = device
        self.counters = Counters()

    def feed(self, data: Any, at: Instant) -> Iterable[Reading]:
        """Take what arrived at `at` and yield what it says.

        Raises:
            Rejected: (mqtt only) the message cannot be understood; it goes to quarantine with this reason. Nothing of
                it may have been yielded. A serial driver never raises: it counts in `counters` and resynchronises.
        """
        raise NotImplementedError

    def tick(self, at: Instant) -> Iterable[Reading]:
        """Called in silence too, for idle ends of frames.

        At least every 100 ms (serial; every half second where nothing has come for two) or every second (mqtt).
        """
        return ()

    def outgoing(self, at: Instant) -> bytes:
        """Bytes to write to the line now, or b"". Called after opening and after every `feed` and `tick`."""
        return b""


class DriverEntry(msgspec.Struct, frozen=True):
    """A driver in the catalogue: its name, its class and its manual (the module's docstring)."""

    name: str
    cls: type[Driver]
    manual: str
    summary: str


_registered: dict[str, type[Driver]] = {}
DriverT = TypeVar("DriverT", bound=Driver)


def driver(
    name: str, *, wire: Wire, options: type[Options] = Options, topics: tuple[str, ...] = (), baud: int = 115200,
    bytesize: int = 8, parity: Literal["N", "E", "O"] = "N", sales: bool = False,
) -> Callable[[type[DriverT]], type[DriverT]]:  # fmt: skip
    """Class decorator that names a driver and says how it is wired. `name` must be the name of its file."""

    def register(cls: type[DriverT]) -> type[DriverT]:
        cls.name, cls.wire, cls.options_type, cls.topics = name, wire, options, topics
        cls.baud, cls.bytesize, cls.parity, cls.sales = baud, bytesize, parity, sales
        _registered[name] = cls
        return cls

    return register
