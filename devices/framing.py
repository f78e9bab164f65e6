"""Finding frames in a byte stream that may start anywhere, lose bytes and carry rubbish.

One discipline for every binary serial protocol: decide at the front of the buffer; on any failure drop *one* byte and
look again; never wait for more bytes than the cap; after an idle gap nothing more of the front frame will come, so
drop and look again until the buffer is empty. What a frame looks like is the driver's knowledge, given as `measure`.

*Source*: PROTOCOLS §2.11.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from devices.driver import Counters
from gateway.clock import Instant

MORE: Final = 0  # could become a frame: wait
SKIP: Final = -1  # no frame begins here
BAD: Final = -2  # looked like a frame and failed its check

Measure = Callable[[bytearray, int], int]


class Framer:
    """Cuts whole, verified frames out of chunks. Holds at most `cap_bytes` between calls."""

    def __init__(self, measure: Measure, counters: Counters, *, cap_bytes: int, idle_s: float = 0.05) -> None:
        """Store; nothing is read yet.

        Args:
            measure: given the buffer and an index, the length of the whole good frame that starts there (> 0), or
                `MORE`, `SKIP` or `BAD`. It must not keep the buffer.
            counters: `bad_frames` and `skipped_bytes` are counted here; good frames are the driver's to count.
            cap_bytes: no frame is longer; a front that wants more is bad.
            idle_s: silence after which an unfinished frame is given up.
        """
        self._measure = measure
        self._counters = counters
        self._cap_bytes = cap_bytes
        self._idle_us = round(idle_s * 1e6)
        self._buffer = bytearray()
        self._last_us = 0

    def feed(self, data: bytes, at: Instant) -> list[bytes]:
        """Frames completed by `data`, in order; empty list if none.

        A late chunk does not end a frame (a busy box reads late): only silence seen by `tick` does.
        """
        self._buffer += data
        self._last_us = at.mono_us
        return self._scan(ended=False)

    def tick(self, at: Instant) -> list[bytes]:
        """Frames that a never-finished front was hiding, once the line has been idle; usually empty."""
        if not self._buffer or at.mono_us - self._last_us < self._idle_us:
            return []
        return self._scan(ended=True)

    def _scan(self, *, ended: bool) -> list[bytes]:
        buffer, counters, start = self._buffer, self._counters, 0
        frames: list[bytes] = []
        while start < len(buffer):
            size = self._measure(buffer, start)
            if size > 0:
                frames.append(bytes(buffer[start : start + size]))
                start += size
                continue
            if size == MORE and len(buffer) - start < self._cap_bytes:
                if not ended:
                    break
                counters.bad_frames += start == 0  # the truncated frame; what follows in it is rubbish
            elif size != SKIP:
                counters.bad_frames += 1
            counters.skipped_bytes += 1
            start += 1
        del buffer[:start]
        return frames
