"""The envelope: what every event carries, whatever happened (CloudEvents 1.0 JSON).

A `Draft` is an accepted event that has no number yet: its bytes lack only what the journal decides (id, sequence,
recorded time). The journal gives it a position and the bytes are then fixed for ever. Knows no event type, no device
and no storage.

*Source*: CloudEvents 1.0 specification, JSON event format.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from gateway.clock import Instant, rfc3339_s

Stream = Literal["transactions", "measurements", "observations"]
STREAMS: tuple[Stream, ...] = get_args(Stream)  # in order of importance: the last is refused first

_encoder = msgspec.json.Encoder(decimal_format="string")


class Origin(msgspec.Struct, frozen=True):
    """Where this gateway stands: tenant, store and gateway names, as in `//t1/stores/0042/gw01`."""

    tenant: str
    store: str
    gateway: str

    def source(self, device_path: str) -> str:
        """CloudEvents `source` of a device of this gateway."""
        return f"//{self.tenant}/stores/{self.store}/{self.gateway}/{device_path}"


class Draft(msgspec.Struct, frozen=True):
    """An event accepted from a source, waiting for its number.

    `body` is the event's JSON object without `specversion`, `id`, `sequence`, `recordedtime` and `bootid`, which the
    journal adds. `dedupe` names the fact behind the event (8 bytes; empty: always a new event).
    `fresh`: the source knows that this is no repeat, so it is remembered under `dedupe` but never taken for one.
    """

    stream: Stream
    type: str
    body: bytes
    dedupe: bytes = b""
    fresh: bool = False


def draft(
    stream: Stream,
    event_type: str,
    data: object,
    *,
    source: str,
    at: Instant,
    happened_s: float | None = None,
    subject: str | None = None,
    zone: str | None = None,
    srcseq: str | None = None,
    dedupe: bytes = b"",
    fresh: bool = False,
    extensions: dict[str, Any] | None = None,
) -> Draft:
    """Serialise an event once.

    Args:
        stream: which of the three streams it belongs to.
        event_type: `store.<area>.<what happened>.v1`.
        data: the typed payload, a msgspec struct; Decimals become strings.
        source: CloudEvents source, see `Origin.source`.
        at: when the gateway received it.
        happened_s: when it happened by the device's clock, seconds since 1970; the gateway's own time if None.
        subject: what it is about, where that is not a person.
        zone: the zone of the shop it happened in.
        srcseq: the device's own counter.
        dedupe: 8 bytes that name the fact, see `Draft`.
        fresh: see `Draft`.
        extensions: further CloudEvents extension attributes (lower-case letters and digits).
    """
    head: dict[str, Any] = {
        "source": source,
        "type": event_type,
        "dataschema": f"urn:storefront:{event_type}",
        "time": rfc3339_s(at.wall_s if happened_s is None else happened_s),
        "monous": at.mono_us,
        "clockq": at.quality,
    }
    if subject is not None:
        head["subject"] = subject
    if zone is not None:
        head["zone"] = zone
    if srcseq is not None:
        head["srcseq"] = srcseq
    if extensions:
        head.update(extensions)
    head["data"] = data
    return Draft(stream, event_type, _encoder.encode(head), dedupe, fresh)


def event_id(gateway: str, stream: str, epoch: str, seq: int) -> str:
    """The event's id, unique for ever and time-ordered within a stream."""
    return f"{gateway}.{stream}.{epoch}.{seq:016d}"


def envelope(body: bytes, *, gateway: str, stream: str, epoch: str, seq: int, recorded_s: float, boot: str) -> bytes:
    """The event's final bytes: what the journal decided, then the draft's body. Same arguments, same bytes."""
    head = (
        f'{{"specversion":"1.0","id":"{event_id(gateway, stream, epoch, seq)}","sequence":"{seq:016d}",'
        f'"recordedtime":"{rfc3339_s(recorded_s)}","bootid":"{boot}",'
    )
    return head.encode() + body[1:]
