"""Serial ports, local (tty, USB adapter) and remote (RFC 2217), through pyserial.

Every parameter goes into pyserial's constructor: changing one on an open port fails on some drivers. The path is
resolved at each `open`, so `/dev/serial/by-id/…` finds a re-plugged adapter whatever number the kernel gave it.
Must not know what the bytes mean.

*Source*: PROTOCOLS §2.1–§2.8.
"""

from __future__ import annotations

import errno
import os
import socket
import termios
import time
from pathlib import Path

import msgspec
import serial
from serial import rfc2217
from serial.tools import list_ports

from devices.transports.tcp import keep_alive, readable
from gateway.errors import Unavailable

_WRITE_S = 2.0
_SLICE_S = 0.02  # rfc2217 has no descriptor to wait on; its read waits in slices of this

# What pyserial lets through when a device goes away: SerialException is an OSError, `in_waiting` raises the bare
# OSError, termios.error is neither, and a port closed under a reader fails on its None descriptor.
_GONE = (OSError, TypeError, ValueError, termios.error)


class SerialPort(msgspec.Struct, frozen=True):
    """A serial port of this machine. `by_id` and `by_path` are None where udev made no such name."""

    path: str  # /dev/ttyUSB0: may be another device after the next re-plug
    by_id: str | None = None  # names the adapter by its USB serial number
    by_path: str | None = None  # names the socket it is plugged into
    usb_id: str | None = None  # "1a86:7523"
    description: str = ""

    @property
    def stable(self) -> str:
        """The name to write into the configuration."""
        return self.by_id or self.by_path or self.path


class SerialLine:
    """A `Line` over a local serial port, held exclusively (an advisory lock that other gateways respect)."""

    def __init__(
        self, path: str, baud: int = 115200, bytesize: int = 8, parity: str = "N", dtr: bool | None = None
    ) -> None:
        """Store the parameters.

        Args:
            path: the port, best its `/dev/serial/by-id` or `by-path` name.
            baud: bits a second.
            bytesize: data bits, 5–8.
            parity: N, E or O. One stop bit always.
            dtr: False keeps DTR low while opening, for boards that a rising DTR resets; None leaves the usual high.
        """
        self._path = path
        self._baud = baud
        self._bytesize = bytesize
        self._parity = parity
        self._dtr = dtr
        self._port: serial.Serial | None = None

    def open(self) -> None:
        """Open and lock the port.

        Raises:
            Unavailable: not plugged in, no serial port, no permission, or in use; the hint says what to do.
        """
        if self._port is not None:
            return
        port = serial.Serial(
            port=None, baudrate=self._baud, bytesize=self._bytesize, parity=self._parity, timeout=0,
            write_timeout=_WRITE_S, exclusive=True,
        )  # fmt: skip
        if self._dtr is not None:
            port.dtr = self._dtr
        port.port = self._path
        try:
            port.open()
        except _GONE as error:
            port.close()
            raise _refused(self._path, error) from error
        self._port = port

    def read(self, timeout_s: float) -> bytes:
        """All that has come; b"" after `timeout_s` of silence.

        Raises:
            Unavailable: the device was plugged out, or another process takes its bytes.
        """
        port = self._opened("read line")
        try:
            if not readable(port.fileno(), timeout_s):
                return b""
            return bytes(port.read(port.in_waiting or 1))
        except _GONE as error:
            raise _lost("read line", self._path, error) from error

    def write(self, data: bytes) -> None:
        """Send all of `data`. Raises Unavailable when the device is gone or takes nothing for 2 s."""
        port = self._opened("write line")
        try:
            port.write(data)
        except _GONE as error:
            raise _lost("write line", self._path, error) from error

    def close(self) -> None:
        """Unlock and close the port; may be called again."""
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def _opened(self, operation: str) -> serial.Serial:
        if self._port is None:
            raise Unavailable(operation, self._path, "the line is not open")
        return self._port


class Rfc2217Line:
    """A `Line` over a serial port that a network server offers (ser2net, Moxa); opening takes about 0.4 s.

    pyserial runs one thread of its own for the connection and buffers without bound what is not read; the far port's
    speed bounds it in practice.
    """

    def __init__(self, host: str, port: int, baud: int = 115200, bytesize: int = 8, parity: str = "N") -> None:
        self._address = f"rfc2217://[{host}]:{port}" if ":" in host else f"rfc2217://{host}:{port}"
        self._baud = baud
        self._bytesize = bytesize
        self._parity = parity
        self._port: rfc2217.Serial | None = None

    def open(self) -> None:
        """Connect and set speed and framing at the far end; at most about 11 s.

        Raises:
            Unavailable: no such server, or it does not speak RFC 2217.
        """
        if self._port is not None:
            return
        port = rfc2217.Serial(
            port=None, baudrate=self._baud, bytesize=self._bytesize, parity=self._parity, timeout=_SLICE_S
        )
        port.port = self._address
        try:
            port.open()
        except _GONE as error:
            port.close()
            raise Unavailable(
                "open line", self._address, str(error),
                "check host and port, and that the server offers RFC 2217 (ser2net: telnet with rfc2217)",
            ) from error  # fmt: skip
        connection = getattr(port, "_socket", None)  # no public way; without it only a dead cable is noticed late
        if isinstance(connection, socket.socket):
            keep_alive(connection)
        self._port = port

    def read(self, timeout_s: float) -> bytes:
        """All that has come; b"" after `timeout_s` of silence, in steps of 20 ms.

        Raises:
            Unavailable: the server or the connection is gone.
        """
        port = self._opened("read line")
        until_s = time.monotonic() + timeout_s
        try:
            first = port.read(1)
            while not first and time.monotonic() < until_s:
                first = port.read(1)
            return bytes(first + port.read(port.in_waiting)) if first else b""
        except _GONE as error:
            raise _lost("read line", self._address, error) from error

    def write(self, data: bytes) -> None:
        """Send all of `data`. Raises Unavailable when the connection is gone."""
        port = self._opened("write line")
        try:
            port.write(data)
        except _GONE as error:
            raise _lost("write line", self._address, error) from error

    def close(self) -> None:
        """Close the connection (0.3 s, pyserial's grace for the server); may be called again."""
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def _opened(self, operation: str) -> rfc2217.Serial:
        if self._port is None:
            raise Unavailable(operation, self._address, "the line is not open")
        return self._port


def ports(names: Path = Path("/dev/serial")) -> list[SerialPort]:
    """The serial ports of this machine, sorted by path; empty when there are none.

    Args:
        names: the folder where udev keeps `by-id` and `by-path`.
    """
    by_id, by_path = _links(names / "by-id"), _links(names / "by-path")
    found = {path: SerialPort(path, by_id.get(path), by_path.get(path)) for path in (*by_id, *by_path)}
    try:
        listed = list_ports.comports()
    except (OSError, TypeError, ValueError):  # a device that vanishes while sysfs is read
        listed = []
    for port in listed:
        path = os.path.realpath(port.device)
        usb_id = f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None and port.pid is not None else None
        found[path] = SerialPort(path, by_id.get(path), by_path.get(path), usb_id, port.description or "")
    return [found[path] for path in sorted(found)]


def _links(folder: Path) -> dict[str, str]:
    """Device path → udev's name for it, the first of several."""
    try:
        names = sorted(folder.iterdir(), reverse=True)
    except OSError:
        return {}
    return {os.path.realpath(name): str(name) for name in names}


def _refused(path: str, error: BaseException) -> Unavailable:
    """Why a port could not be opened, as something a person can act on."""
    code = error.errno if isinstance(error, OSError) else None
    target = Path(path)
    if target.is_dir():
        return Unavailable("open line", path, "it is a directory, not a port", _choose())
    if code == errno.ENOENT:
        return Unavailable("open line", path, "there is no such port", f"plug the device in, or {_choose()}")
    if code in (errno.EACCES, errno.EPERM):
        hint = "let the gateway's user into the port's group, usually: usermod -aG dialout USER, then log in again"
        return Unavailable("open line", path, "no permission to use the port", hint)
    if code in (errno.EBUSY, errno.EAGAIN):
        hint = f"stop the other program (another gateway, a terminal); this names it: fuser -v {path}"
        return Unavailable("open line", path, "the port is in use by another process", hint)
    if target.exists() and not target.is_char_device():
        return Unavailable("open line", path, "it is a file, not a port", _choose())
    if code in (errno.ENXIO, errno.ENODEV, errno.EIO):
        return Unavailable("open line", path, "the port has no device behind it", f"plug the device in, or {_choose()}")
    return Unavailable("open line", path, str(error), "check that it is a serial port and takes this speed and framing")


def _lost(operation: str, address: str, error: BaseException) -> Unavailable:
    if isinstance(error, serial.SerialTimeoutException):
        return Unavailable(operation, address, "the device takes no bytes", "check its power and flow control")
    return Unavailable(
        operation, address, f"the device has gone ({error})", "plug it in again; no other program may read this port"
    )


def _choose() -> str:
    """A hint with names that exist."""
    names = [port.stable for port in ports()]
    if not names:
        return "no serial port is plugged in now; `storefront doctor` lists them"
    return "choose one of: " + ", ".join(names[:6])
