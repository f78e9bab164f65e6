"""The uplink over HTTP: pushes batches and says what the answer means.

Puts together the request of the contract (range, digest, coding) and hands the reply to `sync.answer`. Remembers only
which content coding the platform takes. Knows no cursor and decides nothing about time.

*Source*: docs/sync.md, "Push"; RFC 9530 (Content-Digest).
"""

from __future__ import annotations

import gzip
import hashlib
from base64 import b64encode
from typing import Literal
from urllib.parse import quote

import msgspec

from gateway.clock import Clock, rfc3339_s
from gateway.errors import Unavailable
from sync.answer import read_done, read_epoch, read_push, read_refusal
from sync.http_client import HttpClient
from sync.uplink import Batch, BatchResult, EpochReason, Lane

Coding = Literal["zstd", "gzip", "identity"]
_FALLBACK: dict[Coding, Coding] = {"zstd": "gzip", "gzip": "identity"}
_GZIP_LEVEL = 6


class HttpUplink:
    """`Uplink` to a platform that speaks the contract. One thread uses it."""

    def __init__(self, client: HttpClient, clock: Clock, coding: Coding = "gzip") -> None:
        """`coding`: what to try first; after a 415 the next simpler one is used until the object is made anew."""
        self.coding: Coding = coding if coding != "zstd" or _zstd() is not None else "gzip"
        self._client = client
        self._clock = clock

    def greet(self, lane: Lane, reason: EpochReason, previous: str | None) -> BatchResult:
        """Ask how far the platform has the lane; open it there when it is unknown."""
        path = _epoch_path(lane)
        try:
            reply = self._client.call("GET", path)
            if reply.status in (404, 412):
                opening = msgspec.json.encode({"reason": reason, "previous": previous})
                reply = self._client.call("PUT", path, opening, {"content-type": "application/json"})
        except Unavailable as error:
            return BatchResult(outcome="retry", reason=_text(error))
        return read_epoch(reply, lane)

    def send(self, batch: Batch) -> BatchResult:
        """Push a batch; after a 415 it is sent again at once in a simpler coding."""
        path = _epoch_path(batch.lane) + "/events"
        body = batch.body
        lane = batch.lane
        headers = {
            "content-type": "application/cloudevents-batch+json",
            "idempotency-key": f'"{lane.epoch}:{lane.stream}:{batch.first}-{batch.last}"',
            "sync-range": f"{batch.first}-{batch.last}",
        }
        while True:
            coded = encode(body, self.coding)
            headers["content-digest"] = content_digest(coded)
            if self.coding != "identity":
                headers["content-encoding"] = self.coding
            else:
                headers.pop("content-encoding", None)
            now = self._clock.now()
            headers["sync-sent-at"] = f"{rfc3339_s(now.wall_s)}; q={now.quality}"
            try:
                reply = self._client.call("POST", path, coded, headers)
            except Unavailable as error:
                return BatchResult(outcome="retry", reason=_text(error))
            simpler = _FALLBACK.get(self.coding)
            if reply.status != 415 or simpler is None:
                return read_push(reply, batch)
            self.coding = simpler

    def declare_gap(self, lane: Lane, first: int, last: int, reason: str) -> BatchResult:
        """Tell the platform that a range will never come."""
        body = msgspec.json.encode({"first": first, "last": last, "reason": reason})
        try:
            reply = self._client.call("POST", _epoch_path(lane) + "/gaps", body, {"content-type": "application/json"})
        except Unavailable as error:
            return BatchResult(outcome="retry", reason=_text(error))
        return read_done(reply) if reply.status < 400 else read_refusal(reply)

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()


def encode(body: bytes, coding: Coding) -> bytes:
    """The body in a content coding; the same body gives the same bytes."""
    if coding == "gzip":
        return gzip.compress(body, _GZIP_LEVEL, mtime=0)
    if coding == "zstd":
        compressor = _zstd()
        assert compressor is not None
        return compressor(body)
    return body


def content_digest(body: bytes) -> str:
    """`Content-Digest` of the bytes on the wire, SHA-256 (RFC 9530)."""
    return f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode()}:"


def gateway_path(gateway: str) -> str:
    """The path under which everything of a gateway lies."""
    return f"/v1/gateways/{quote(gateway, safe='')}"


def _epoch_path(lane: Lane) -> str:
    return f"{gateway_path(lane.gateway)}/streams/{lane.stream}/epochs/{lane.epoch}"


def _text(error: Unavailable) -> str:
    return f"{error.subject}: {error.reason}"


class _Compress:
    """zstandard's compressor at a level that costs about what gzip costs."""

    LEVEL = 9

    def __init__(self) -> None:
        import zstandard

        self._compressor = zstandard.ZstdCompressor(level=self.LEVEL, write_checksum=False)

    def __call__(self, body: bytes) -> bytes:
        coded: bytes = self._compressor.compress(body)
        return coded


def _zstd() -> _Compress | None:
    try:
        return _Compress()
    except ImportError:
        return None
