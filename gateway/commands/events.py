"""`events`: print what the journal holds."""

from __future__ import annotations

import heapq
import sys
import time
from pathlib import Path

from gateway.commands.common import journal_of
from gateway.event import STREAMS, Stream
from gateway.journal.reader import JournalReader, StoredEvent

_LOOK_EVERY_S = 0.2
_BATCH = 500


def events(
    config: Path | None, *, follow: bool, stream: Stream | None, type_part: str | None, last: int, as_json: bool
) -> int:
    """Print the newest `last` events that match, then, with `follow`, those that come."""
    streams = (stream,) if stream else STREAMS
    with JournalReader(journal_of(config)) as reader:
        heads = {name: reader.head(name) for name in streams}
        newest: list[StoredEvent] = []
        for name in streams:
            newest += _newest(reader, name, heads[name], last, type_part)
        newest.sort(key=lambda event: event.decode()["recordedtime"])
        for event in newest[-last:] if last > 0 else ():
            _print(event, as_json=as_json)
        while follow:
            batches = [reader.read(name, heads[name], _BATCH) for name in streams]
            for event in heapq.merge(*batches, key=lambda event: event.decode()["recordedtime"]):
                heads[event.stream] = event.position
                if _matches(event, type_part):
                    _print(event, as_json=as_json)
            if not any(batches):
                time.sleep(_LOOK_EVERY_S)
    return 0


def _newest(reader: JournalReader, stream: Stream, head: int, count: int, type_part: str | None) -> list[StoredEvent]:
    """The newest `count` matching events of a stream, looking back page by page."""
    found: list[StoredEvent] = []
    upper = head
    while upper > 0 and len(found) < count:
        lower = max(0, upper - _BATCH)
        page = [event for event in reader.read(stream, lower, _BATCH, 1 << 30) if event.position <= upper]
        found = [event for event in page if _matches(event, type_part)] + found
        upper = lower
    return found[-count:] if count > 0 else []


def _matches(event: StoredEvent, type_part: str | None) -> bool:
    return type_part is None or type_part in str(event.decode()["type"])


def _print(event: StoredEvent, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(event.json.decode() + "\n")
    else:
        fields = event.decode()
        data = "  ".join(f"{key}={value}" for key, value in (fields["data"] or {}).items())
        sys.stdout.write(f"{fields['time'][:23]}  {fields['type'].removeprefix('store.'):<24} {data}\n")
    sys.stdout.flush()
