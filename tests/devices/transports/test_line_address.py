"""Which carrier an address chooses."""

from __future__ import annotations

import pytest

from devices.transports.line import line_for
from devices.transports.serial_line import Rfc2217Line, SerialLine
from devices.transports.tcp import TcpLine
from gateway.errors import ConfigError, Unavailable


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0", SerialLine),
        ("/dev/ttyUSB0", SerialLine),
        ("rfc2217://127.0.0.1:4000", Rfc2217Line),
        ("tcp://reader.local:4001", TcpLine),
        ("tcp://[::1]:4001", TcpLine),
    ],
)
def test_the_address_chooses_the_carrier(address: str, kind: type) -> None:
    """A path is a port of this machine; a scheme names a network carrier."""
    assert isinstance(line_for(address), kind)


@pytest.mark.parametrize(
    "address",
    ["", "tcp://host", "tcp://:80", "tcp://host:70000", "tcp://host:80/x", "http://host:80", "rfc2217://[::1"],
)
def test_a_meaningless_address_is_a_configuration_error(address: str) -> None:
    """An address that can never work is refused when it is read, with the forms that work."""
    with pytest.raises(ConfigError) as caught:
        line_for(address)
    assert "/dev/serial/by-id" in caught.value.hint


def test_impossible_framing_is_a_configuration_error() -> None:
    """Nine data bits or no speed do not exist."""
    with pytest.raises(ConfigError):
        line_for("/dev/ttyUSB0", bytesize=9)
    with pytest.raises(ConfigError):
        line_for("/dev/ttyUSB0", baud=0)


@pytest.mark.parametrize("address", ["/dev/ttyUSB99", "tcp://127.0.0.1:9", "rfc2217://127.0.0.1:9"])
def test_an_unopened_line_says_so_and_closes_quietly(address: str) -> None:
    """Reading before opening is an error that names the line; closing twice is none."""
    line = line_for(address)
    with pytest.raises(Unavailable, match="not open"):
        line.read(0)
    with pytest.raises(Unavailable, match="not open"):
        line.write(b"x")
    line.close()
    line.close()
