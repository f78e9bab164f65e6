"""A line: bytes to and from one device, whatever carries them (serial port, RFC 2217 server, TCP).

This module holds the contract and the choice of a carrier by address. It must not know any device, driver or event;
how each carrier works is in `serial_line` and `tcp`.
"""

from __future__ import annotations

from typing import Literal, Protocol
from urllib.parse import urlsplit

from devices.transports.serial_line import Rfc2217Line, SerialLine
from devices.transports.tcp import TcpLine
from gateway.errors import ConfigError

Parity = Literal["N", "E", "O"]

_FORMS = "use /dev/serial/by-id/…, /dev/ttyUSB0, rfc2217://host:port or tcp://host:port"


class Line(Protocol):
    """Bytes to and from one device.

    One thread calls `open`, then `read` and `write` in turn, and at last `close`; it stops by the time-out of `read`.
    After `Unavailable` only `close` and then `open` make sense; `open` finds the device anew, so a device that was
    plugged out and in again comes back under the same address.
    """

    def open(self) -> None:
        """Acquire the device; bounded to a few seconds.

        Raises:
            Unavailable: it is not there, not ours to use, or used by another; the hint says what to do.
        """
        ...

    def read(self, timeout_s: float) -> bytes:
        """Wait up to `timeout_s` seconds (≥ 0) for bytes and return all there are; b"" after silence.

        Raises:
            Unavailable: the device has gone.
        """
        ...

    def write(self, data: bytes) -> None:
        """Send all of `data`; bounded to a few seconds.

        Raises:
            Unavailable: the device has gone or takes nothing.
        """
        ...

    def close(self) -> None:
        """Release the device. Called on the reading thread; may be called again, and when never opened."""
        ...


def line_for(address: str, baud: int = 115200, bytesize: int = 8, parity: Parity = "N") -> Line:
    """The line of that address, not yet opened.

    Args:
        address: path of a serial port, `rfc2217://host:port` (ser2net, Moxa: speed and framing are set at the far end)
            or `tcp://host:port` (raw bytes; `baud`, `bytesize` and `parity` have no meaning there).
        baud: bits a second, > 0.
        bytesize: data bits, 5–8.
        parity: N none, E even, O odd.

    Raises:
        ConfigError: the address or a parameter has no possible meaning.
    """
    if baud <= 0 or bytesize not in (5, 6, 7, 8) or parity not in ("N", "E", "O"):
        raise ConfigError("choose line", address, f"no such framing: {baud} {bytesize}{parity}1", "115200 8N1 is usual")
    scheme, _, _ = address.partition("://")
    if scheme == address:
        if not address:
            raise ConfigError("choose line", "(empty)", "the address is empty", _FORMS)
        return SerialLine(address, baud, bytesize, parity)
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError("choose line", address, f"not an address: {error}", _FORMS) from error
    if scheme not in ("tcp", "rfc2217"):
        raise ConfigError("choose line", address, f"unknown kind of line: {scheme}", _FORMS)
    if not host or not port or parts.path.strip("/"):
        raise ConfigError("choose line", address, "host and port are needed, and nothing after them", _FORMS)
    return TcpLine(host, port) if scheme == "tcp" else Rfc2217Line(host, port, baud, bytesize, parity)
