"""Serial plugs of the virtual store: ptys with names that stay, which can be pulled and put back.

`Plug` is the device's end of a line: what the gateway opens is a symbolic link such as `dev/gate` to the pty's other
end. Pulling the plug takes the link away and hangs the line up, as a USB adapter does. `Noise` flips bits. Must not
know what any byte means.

*Source*: pty(7), termios(3).
"""

from __future__ import annotations

import contextlib
import os
import random
import tty
from pathlib import Path

from gateway.errors import Unavailable

_READ_BYTES = 4096


class Noise:
    """A bad cable: flips a bit in some of the frames that pass. Every frame is either whole or damaged, and told."""

    def __init__(self, share: float, seed: int) -> None:
        """`share` of frames that are damaged, 0–1; 0 is a good cable."""
        self.share = share
        self.damaged = 0
        self._dice = random.Random(seed)  # noqa: S311 - noise, not a secret

    def passed(self, frame: bytes) -> bytes:
        """The frame as it comes out of the cable."""
        if not frame or self._dice.random() >= self.share:
            return frame
        self.damaged += 1
        spoiled = bytearray(frame)
        for _ in range(self._dice.choice((1, 1, 2, 5))):
            spoiled[self._dice.randrange(len(spoiled))] ^= 1 << self._dice.randrange(8)
        return bytes(spoiled) if spoiled != frame else frame[:-1]  # flipped there and back: cut it instead


class Plug:
    """One serial device's plug. One thread uses it: `plug`, then `read` and `write`, `pull`, and `plug` again."""

    def __init__(self, link: Path) -> None:
        """`link`: the name under which the gateway finds the device; its folder is made by `plug`."""
        self.link = link
        self.lost_frames = 0  # written while nobody took them and the line was full, or the plug was out
        self._master = -1
        self._slave = -1

    @property
    def plugged(self) -> bool:
        """True while the plug is in."""
        return self._master >= 0

    def fileno(self) -> int:
        """The descriptor to wait on for `read`; -1 while the plug is out."""
        return self._master

    def plug(self) -> None:
        """Put the plug in; nothing happens when it is in.

        Raises:
            Unavailable: the machine has no pty left, or the folder cannot be written.
        """
        if self.plugged:
            return
        try:
            self._master, self._slave = os.openpty()
            tty.setraw(self._slave)
            os.set_blocking(self._master, False)
            self.link.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.link.with_name(f".{self.link.name}.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(os.ttyname(self._slave))
            fresh.replace(self.link)  # atomic, also over a link that a killed demo has left
        except OSError as error:
            self.pull()
            raise Unavailable(
                "plug in", str(self.link), error.strerror or str(error), "the data directory must be writable"
            ) from error

    def pull(self) -> None:
        """Pull the plug: whoever reads the line sees it hang up. Safe to call twice."""
        if self.plugged:
            with contextlib.suppress(OSError):
                if self.link.is_symlink() and str(self.link.readlink()) == os.ttyname(self._slave):
                    self.link.unlink()
        for descriptor in (self._slave, self._master):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1

    def read(self) -> bytes:
        """What the gateway has sent; b"" for nothing."""
        try:
            return os.read(self._master, _READ_BYTES) if self.plugged else b""
        except OSError:  # nothing there (EAGAIN)
            return b""

    def write(self, frame: bytes) -> bool:
        """Send a frame; False if it did not leave whole: the plug is out, or nobody reads and the line is full."""
        try:
            sent = os.write(self._master, frame) if self.plugged else 0
        except OSError:
            sent = 0
        if sent < len(frame):
            self.lost_frames += 1
            return False
        return True
