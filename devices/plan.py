"""From a device's settings to what it takes to run it: driver, checked options, line parameters or topics.

Where configuration and catalogue meet. Errors carry the full path of the key (`devices[2].options.baud`), so the same
function serves the start, the reload and `storefront check-config`. Opens nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from config.loader import convert
from config.settings import DeviceSettings, Settings
from devices.catalogue import load
from devices.driver import Driver, Options
from devices.transports.line import line_for
from devices.transports.mqtt_settings import broker_address, valid_filter
from gateway.errors import ConfigError

_LINE_KEYS = ("baud", "bytesize", "parity")


class LineOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Serial link parameters that any serial device accepts in its options; None takes the driver's default."""

    baud: Annotated[int, Meta(ge=300, le=4_000_000)] | None = None
    bytesize: Literal[5, 6, 7, 8] | None = None
    parity: Literal["N", "E", "O"] | None = None


class DevicePlan(msgspec.Struct, frozen=True):
    """A device, ready to be run; `make` gives a fresh driver for each connection."""

    settings: DeviceSettings
    driver: type[Driver]
    options: Options
    baud: int
    bytesize: int
    parity: Literal["N", "E", "O"]
    topics: tuple[str, ...]

    @property
    def name(self) -> str:
        """The device's name in the configuration."""
        return self.settings.name

    @property
    def path(self) -> str:
        """The device's part of an event's source, as in `uhf_m100/door`."""
        return f"{self.driver.name}/{self.settings.name}"

    def make(self) -> Driver:
        """A fresh driver object."""
        return self.driver(self.options, self.settings.name)


def plan(settings: Settings, file: str) -> list[DevicePlan]:
    """Plans of all enabled devices, checked.

    Raises:
        ConfigError: the first thing that is wrong, with its path.
    """
    plans = [
        plan_device(device, f"devices[{index}]", file)
        for index, device in enumerate(settings.devices)
        if device.enabled
    ]
    if any(device.driver.wire == "mqtt" for device in plans):
        _check_broker(settings, file)
    return plans


def _check_broker(settings: Settings, file: str) -> None:
    """Refuse a broker, or none, through which no device could ever be heard."""
    if settings.broker.mode == "none":
        raise ConfigError(
            "read configuration", file, 'broker.mode: "none", but a device speaks MQTT', 'take "embedded" or "external"'
        )
    if settings.broker.mode == "external":
        try:
            broker_address(settings.broker.url)
        except ConfigError as error:
            raise ConfigError("read configuration", file, f"broker.url: {error.reason}", error.hint) from error


def plan_device(device: DeviceSettings, where: str, file: str) -> DevicePlan:
    """The plan of one device; `where` is the path of its table.

    Raises:
        ConfigError: unknown driver, wrong options, or no address or topics.
    """
    try:
        driver = load(device.driver).cls
    except ConfigError as error:
        raise ConfigError(
            "read configuration", file, f"{where}.driver: {device.driver!r} is unknown", error.hint
        ) from error
    own = {field.encode_name for field in msgspec.structs.fields(driver.options_type)}
    raw: dict[str, Any] = dict(device.options)
    line = LineOptions()
    if driver.wire == "serial":
        given = {key: raw.pop(key) if key not in own else raw[key] for key in _LINE_KEYS if key in raw}
        line = convert(given, LineOptions, file, f"{where}.options")
        if not device.address:
            raise ConfigError(
                "read configuration", file, f"{where}.address: missing",
                "a serial device needs one: /dev/serial/by-id/…, tcp://host:port or rfc2217://host:port",
            )  # fmt: skip
    for antenna in device.antenna_zones:
        if not (antenna.isascii() and antenna.isdigit()):
            raise ConfigError(
                "read configuration", file, f"{where}.antenna_zones.{antenna}: is no number of an antenna",
                'as in antenna_zones = { 1 = "door" }',
            )  # fmt: skip
    try:
        options = convert(raw, driver.options_type, file, f"{where}.options")
    except ValueError as error:  # raised by the options' own check
        raise ConfigError(
            "read configuration", file, f"{where}.options.{error}", f"see `storefront drivers {device.driver}`"
        ) from error
    topics = device.topics or tuple(getattr(options, "topics", ()) or ()) or driver.topics
    if driver.wire == "mqtt" and not topics:
        raise ConfigError(
            "read configuration", file, f"{where}.topics: missing", 'say which topics it publishes to: topics = ["…/#"]'
        )
    for index, topic in enumerate(topics if driver.wire == "mqtt" else ()):
        if not valid_filter(topic) or topic.startswith("$share/"):  # of a shared one, others would get a part
            raise ConfigError(
                "read configuration", file, f"{where}.topics[{index}]: is no topic filter that can be used",
                "# stands alone as the last level, + as a whole one; no $share",
            )  # fmt: skip
    baud = line.baud or getattr(options, "baud", None) or driver.baud  # some drivers name it among their own
    parity = line.parity or driver.parity
    if driver.wire == "serial":
        try:
            line_for(device.address, baud, line.bytesize or driver.bytesize, parity)
        except ConfigError as error:
            raise ConfigError("read configuration", file, f"{where}.address: {error.reason}", error.hint) from error
    return DevicePlan(
        device, driver, options, baud, line.bytesize or driver.bytesize,
        parity, topics if driver.wire == "mqtt" else (),
    )  # fmt: skip
