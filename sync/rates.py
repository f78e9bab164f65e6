"""How fast each stream may be delivered at most, as the platform asked with `stream.rate`; kept over restarts.

A cap is for a platform that is being rebuilt or a line that is paid by the byte. It slows delivery down and nothing
else: events are taken and kept as ever. Knows no network.

*Source*: docs/sync.md, "Commands".
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.durable_file import replace_file
from gateway.errors import Rejected, Unavailable
from gateway.event import Stream

SLOWEST = 0.1  # events a second; a cap is not meant to stop a stream
_FASTEST = 1_000_000


class _Cap(msgspec.Struct, forbid_unknown_fields=True):
    stream: Stream
    events_per_s: Annotated[float, Meta(ge=SLOWEST, le=_FASTEST)] | None


class Rates:
    """Caps by stream, in a small file that is replaced whole. Any thread may ask."""

    def __init__(self, path: Path | None = None) -> None:
        """`path`: None keeps them in memory only."""
        self._path = path
        self._lock = threading.Lock()
        self._caps: dict[Stream, float] | None = None

    def of(self, stream: Stream) -> float | None:
        """Events a second at most; None: as fast as it goes."""
        with self._lock:
            return self._loaded().get(stream)

    def set(self, data: Mapping[str, Any]) -> None:
        """Take a cap, `{stream, events_per_s}`, or with None take it away; durable when this returns.

        Raises:
            Rejected: there is no such stream, or it is no rate.
            Unavailable: the disk does not take it; nothing has changed.
        """
        try:
            asked = msgspec.convert(dict(data), _Cap, strict=False)
        except msgspec.ValidationError as error:
            raise Rejected("cap stream", "command", f"not understood: {error}") from error
        with self._lock:
            caps = dict(self._loaded())
            caps.pop(asked.stream, None)
            if asked.events_per_s is not None:
                caps[asked.stream] = asked.events_per_s
            self._save(caps)
            self._caps = caps

    def _loaded(self) -> dict[Stream, float]:
        if self._caps is None:
            self._caps = {}
            if self._path is not None:
                try:
                    self._caps = msgspec.json.decode(self._path.read_bytes(), type=dict[Stream, float])
                except (OSError, msgspec.DecodeError, UnicodeDecodeError):
                    self._caps = {}  # never set, or damaged: then the platform has to say it again
            self._caps = {stream: cap for stream, cap in self._caps.items() if SLOWEST <= cap <= _FASTEST}
        return self._caps

    def _save(self, caps: dict[Stream, float]) -> None:
        if self._path is None:
            return
        try:
            replace_file(self._path, msgspec.json.encode(caps))
        except OSError as error:
            raise Unavailable("cap stream", str(self._path), error.strerror or str(error)) from error
