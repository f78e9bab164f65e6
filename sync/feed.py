"""The feed as pure logic: what a pulling consumer may ask, and what it is answered. No HTTP, no SQLite, no thread.

A cursor names a committed position, is authenticated (HMAC-SHA256), and carries a tag of what stands there, so that a
cursor of another gateway, a forged one, one of a journal that was restored since, and one whose next event is not kept
any more all get a different, plain answer — never a silent hole.

*Source*: docs/sync.md, "Pull".
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.event import STREAMS

Position = tuple[int, ...]
"""Everything up to here has been read. One number a stream for a gateway, one for all at the platform."""

MAX_LIMIT = 2000
MAX_WAIT_S = 60.0
_VERSION = 1
_TAG_BYTES = 8
_MAC_BYTES = 16


class FeedRefused(Exception):
    """A request that gets a problem for an answer; `status` and `kind` are the contract's, `extra` joins the body."""

    def __init__(self, status: int, kind: str, detail: str, extra: Mapping[str, object] | None = None) -> None:
        super().__init__(status, kind, detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.extra = dict(extra or {})


class Bounds(msgspec.Struct, frozen=True):
    """The committed events that are there now: reading may begin after `low` and ends at `high`."""

    low: Position
    high: Position


class Page(msgspec.Struct, frozen=True):
    """Some events in order, and where the next page begins."""

    events: Sequence[bytes]
    next: Position


class FeedSource(Protocol):
    """Where the events are. Called by one thread at a time; raises `JournalError` or `Unavailable`."""

    def bounds(self) -> Bounds:
        """One consistent look at what is there."""
        ...

    def page(self, after: Position, high: Position, streams: Sequence[str], limit: int) -> Page:
        """Up to `limit` events after `after`, none beyond `high`; at least one if there is one."""
        ...

    def tag(self, position: Position) -> bytes:
        """Eight bytes that change when the events up to `position` are no longer the ones that they were."""
        ...

    def lag(self, position: Position, high: Position, streams: Sequence[str]) -> int:
        """How many events lie between. Pure: may be called from any thread."""
        ...


class Offset(msgspec.Struct, frozen=True):
    """What a consumer has committed; `version` changes with every commit."""

    position: Position
    version: str


class Offsets(Protocol):
    """Where consumers' committed positions are kept. Called by one thread at a time."""

    def find(self, consumer: str) -> Offset | None:
        """The consumer's offset; None when it never committed."""
        ...

    def commit(self, token: FeedToken, position: Position, expected: str | None) -> Offset | None:
        """Commit for the token's consumer and its streams; None when `expected` ("" = must not exist) is not its
        version now.
        """
        ...

    def drop(self, consumer: str) -> bool:
        """Forget it; False when there was none."""
        ...


class FeedToken(msgspec.Struct, frozen=True):
    """What one consumer may read. `digest`: SHA-256 of its secret, so that the secret itself is nowhere.

    `required`: retention waits for it, up to the quota.
    """

    consumer: str
    digest: bytes
    streams: tuple[str, ...]
    required: bool = False


def token_digest(secret: str) -> bytes:
    """SHA-256 of a bearer token, as `FeedToken.digest`."""
    return hashlib.sha256(secret.encode()).digest()


def admit(tokens: Sequence[FeedToken], authorization: str | None) -> FeedToken:
    """Whose request this is; nobody is let in by default.

    Raises:
        FeedRefused: 401, no or unknown token.
    """
    scheme, _, secret = (authorization or "").partition(" ")
    found = None
    if scheme.lower() == "bearer" and secret:
        digest = token_digest(secret.strip())
        for token in tokens:  # all of them, so that the time says nothing
            if hmac.compare_digest(token.digest, digest):
                found = token
    if found is None:
        raise FeedRefused(401, "unauthorised", "a consumer's token is needed")
    return found


def allowed_streams(token: FeedToken, asked: str | None) -> tuple[str, ...]:
    """The streams to serve: those asked for, or all that the token is for.

    Raises:
        FeedRefused: 400, there is no such stream; 403, the token is not for it.
    """
    if asked is None:
        return token.streams
    names = tuple(dict.fromkeys(name for name in asked.split(",") if name))
    if not names or any(name not in STREAMS for name in names):
        raise FeedRefused(400, "stream-unknown", f"streams are {', '.join(STREAMS)}")
    if any(name not in token.streams for name in names):
        raise FeedRefused(403, "stream-forbidden", "the token is not for this stream")
    return names


class CursorCode:
    """Makes and checks cursors with a secret of this feed."""

    def __init__(self, secret: bytes, width: int) -> None:
        """`secret`: at least 16 random bytes, kept over restarts; `width`: numbers in a position."""
        if len(secret) < 16:
            raise ValueError("secret: a feed's secret has at least 16 bytes")
        self._secret = secret
        self._form = struct.Struct(f">BB{width}q{_TAG_BYTES}s")
        self._width = width

    def encode(self, position: Position, tag: bytes) -> str:
        """The opaque cursor of a position."""
        packed = self._form.pack(_VERSION, self._width, *position, tag[:_TAG_BYTES])
        return urlsafe_b64encode(packed + self._mac(packed)).rstrip(b"=").decode()

    def decode(self, text: str) -> tuple[Position, bytes]:
        """The position and tag of a cursor.

        Raises:
            FeedRefused: 400, it is not one of this feed.
        """
        refused = FeedRefused(400, "cursor-invalid", "this is not a cursor of this feed")
        if len(text) > 400:
            raise refused
        try:
            raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        except (ValueError, UnicodeEncodeError):
            raise refused from None
        packed, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if len(packed) != self._form.size or not hmac.compare_digest(mac, self._mac(packed)):
            raise refused
        if self.encode((fields := self._form.unpack(packed))[2:-1], fields[-1]) != text:
            raise refused  # the same cursor has one spelling
        return fields[2:-1], fields[-1]

    def _mac(self, packed: bytes) -> bytes:
        return hmac.digest(self._secret, packed, "sha256")[:_MAC_BYTES]


class Feed:
    """Answers one request after the other; called by one thread at a time."""

    def __init__(self, source: FeedSource, offsets: Offsets, secret: bytes, width: int) -> None:
        """`secret` and `width` as for `CursorCode`."""
        self.source = source
        self.offsets = offsets
        self._code = CursorCode(secret, width)

    def start(self, token: FeedToken, after: str | None, streams: Sequence[str]) -> Position:
        """Where this request begins: its cursor, or what the consumer has committed, or the oldest event kept.

        Raises:
            FeedRefused: 400, 409 or 410.
        """
        bounds = self.source.bounds()
        if after is None:
            committed = self.offsets.find(token.consumer)
            if committed is None:
                return bounds.low
            position = committed.position
        else:
            position, tag = self._code.decode(after)
            if (
                any(at > high for at, high in zip(position, bounds.high, strict=True))
                or self.source.tag(position) != tag
            ):
                raise FeedRefused(
                    409, "generation-changed",
                    "the events up to this cursor are not the ones that were read: the journal was restored, salvaged "
                    "or renumbered; begin again from `oldest` or from `snapshot`",
                    self.pointers(bounds),
                )  # fmt: skip
        self._refuse_behind(position, bounds, streams)
        return position

    def page(self, position: Position, streams: Sequence[str], limit: int) -> tuple[Page, dict[str, str]]:
        """The next events and the Feed-* fields that go with them.

        Raises:
            FeedRefused: 410, retention was faster than the read.
        """
        high = self.source.bounds().high
        page = self.source.page(position, high, streams, max(1, min(limit, MAX_LIMIT)))
        bounds = self.source.bounds()  # once more: what went since `start` looked is missing at the page's beginning
        self._refuse_behind(position, bounds, streams)
        return page, {
            "feed-next": self.cursor(page.next),
            "feed-low": self.cursor(bounds.low),
            "feed-high": self.cursor(bounds.high),
            "feed-lag": str(self.source.lag(page.next, bounds.high, streams)),
        }

    def cursor(self, position: Position) -> str:
        """The cursor of a committed position."""
        return self._code.encode(position, self.source.tag(position))

    def pointers(self, bounds: Bounds) -> dict[str, object]:
        """Where a consumer that lost its place can begin again."""
        return {"oldest": self.cursor(bounds.low), "newest": self.cursor(bounds.high), "snapshot": "/v1/feed/snapshot"}

    def commit(self, token: FeedToken, cursor: str, if_match: str | None, if_none_match: str | None) -> Offset:
        """Commit a consumer's offset.

        Raises:
            FeedRefused: 400, 409 (see `start`), 412.
        """
        position = self.start(token, cursor, ())
        expected = "" if (if_none_match or "").strip() == "*" else None
        if if_match is not None and if_match.strip() != "*":
            expected = if_match.strip().strip('"') or "?"
        committed = self.offsets.commit(token, position, expected)
        if committed is None:
            raise FeedRefused(412, "offset-changed", "the offset was committed by somebody else meanwhile")
        return committed

    def _refuse_behind(self, position: Position, bounds: Bounds, streams: Sequence[str]) -> None:
        if self._behind(position, bounds, streams):
            raise FeedRefused(
                410, "cursor-expired", "events after this cursor are not kept any more; nothing is skipped silently",
                self.pointers(bounds),
            )  # fmt: skip

    def _behind(self, position: Position, bounds: Bounds, streams: Sequence[str]) -> bool:
        if len(position) == 1:
            return bool(streams) and position[0] < bounds.low[0]
        return any(position[STREAMS.index(name)] < bounds.low[STREAMS.index(name)] for name in streams)
