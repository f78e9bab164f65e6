"""The reference platform's opinion of an event: data of a known type must be what the type says."""

from __future__ import annotations

import msgspec

from gateway.event_types import EVENT_TYPES
from sync.platform.store import Judgement


class _Event(msgspec.Struct):
    type: str
    source: str
    time: str
    data: msgspec.Raw = msgspec.Raw(b"null")


_event = msgspec.json.Decoder(_Event)
_decoders = {name: msgspec.json.Decoder(entry.data) for name, entry in EVENT_TYPES.items()}


def judge(event: bytes) -> Judgement | None:
    """None for an event whose data fits its type, whose type is not known here, or whose data was erased."""
    try:
        head = _event.decode(event)
    except msgspec.DecodeError as error:
        return Judgement("envelope.invalid", str(error))
    data = bytes(head.data)
    decoder = _decoders.get(head.type)
    if data == b"null" or decoder is None:
        return None
    try:
        decoder.decode(data)
    except msgspec.DecodeError as error:
        return Judgement("schema.invalid", str(error))
    return None
