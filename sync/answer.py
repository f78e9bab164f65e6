"""What a platform's HTTP answer means: the answer table of the contract, as a table.

Only a 200 that proves itself moves a cursor: it parses, it names this gateway, stream and epoch, and it acknowledges
something between what was acknowledged and what was sent. Anything that might come from a captive portal, a proxy or a
broken server is `retry`: never a loss. Pure; knows no connection.

*Source*: docs/sync.md, answer table; RFC 9110 (Retry-After, §10.2.3), RFC 9457 (problem details).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import msgspec

from sync.uplink import Batch, BatchResult, Lane, Limits, Outcome, Rejection, Stopped

T = TypeVar("T", int, float)

MAX_TEXT = 500  # of a foreign server's words that are kept


class Reply(msgspec.Struct, frozen=True):
    """An HTTP answer: header names in lower case, the body whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """Content type without parameters, in lower case; "" when there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


OUTCOME_OF_STATUS: dict[int, Outcome] = {
    400: "bisect",
    401: "unauthorised",
    403: "unauthorised",
    404: "closed",
    408: "retry",
    410: "closed",
    412: "unknown_epoch",
    413: "too_large",
    415: "unsupported",
    422: "bisect",
    425: "retry",
    429: "retry",
}
"""Every other status, known or not, is `retry`; 409 is decided by its problem type."""


class _Verdict(msgspec.Struct):
    seq: int
    status: str
    code: str = ""
    detail: str = ""
    verdict_id: str = ""
    original: str = ""


class _Stopped(msgspec.Struct):
    seq: int
    code: str = ""
    retry_after_s: float | None = None


class _Limits(msgspec.Struct):
    max_events: int | None = None
    max_bytes: int | None = None
    min_interval_ms: float | None = None


class _Taken(msgspec.Struct):
    gateway: str
    stream: str
    epoch: str
    acked_through: int
    results: list[_Verdict] = []
    stopped: _Stopped | None = None
    limits: _Limits = msgspec.field(default_factory=_Limits)
    commands_pending: int = 0


_taken = msgspec.json.Decoder(_Taken)


def read_push(reply: Reply, batch: Batch) -> BatchResult:
    """The answer to a pushed batch."""
    if reply.status == 200:
        return _read_taken(reply, batch.lane, batch.first, batch.last)
    return read_refusal(reply)


def read_epoch(reply: Reply, lane: Lane) -> BatchResult:
    """The answer to `GET` or `PUT` of an epoch: 200 or 201, naming the lane and how far the platform has it."""
    if reply.status in (200, 201):
        return _read_taken(reply, lane, 1, (1 << 62))
    return read_refusal(reply)


def read_done(reply: Reply) -> BatchResult:
    """The answer to something that needs no content (a declared gap, a heartbeat): 200, 201, 202 or 204."""
    if reply.status in (201, 202, 204) or (reply.status == 200 and _is_json(reply)):
        return BatchResult(outcome="taken")
    return read_refusal(reply)


def read_refusal(reply: Reply) -> BatchResult:
    """What any answer but a valid 200 asks of the gateway."""
    problem = _problem(reply)
    reason = _words(reply, problem)
    outcome = OUTCOME_OF_STATUS.get(reply.status, "retry")
    wait_s = retry_after_s(reply.headers)
    if reply.status == 409:
        return _conflict(problem, reason, wait_s)
    if outcome == "bisect" and reply.media_type in ("text/html", "application/xhtml+xml"):
        outcome = "retry"  # a proxy's page: it has not looked at any event
    return BatchResult(outcome=outcome, reason=reason, retry_after_s=wait_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for; None when it is absent or means nothing.

    A date is compared with the answer's own Date, not with this machine's clock, which may be wrong by a year.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until, now = parsedate_to_datetime(text), parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    until, now = (at if at.tzinfo else at.replace(tzinfo=UTC) for at in (until, now))
    return max(0.0, (until - now).total_seconds())


def _is_json(reply: Reply) -> bool:
    return reply.media_type == "application/json" or reply.media_type.endswith("+json")


def _read_taken(reply: Reply, lane: Lane, first: int, last: int) -> BatchResult:
    def invalid(reason: str) -> BatchResult:
        return BatchResult(outcome="retry", reason=f"200, but {reason}; is there a captive portal or a proxy?")

    if not _is_json(reply):
        return invalid(f"it is {reply.media_type or 'untyped'}, not JSON")
    try:
        taken = _taken.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return invalid(f"not as the contract says ({error})")
    if (taken.gateway, taken.stream, taken.epoch) != (lane.gateway, lane.stream, lane.epoch):
        return invalid("it speaks of another gateway, stream or epoch")
    if not first - 1 <= taken.acked_through <= last:
        return invalid(f"it acknowledges {taken.acked_through}, which is not in {first - 1}–{last}")
    said: dict[int, Rejection | None] = {}
    duplicates = 0
    for item in taken.results:
        if not first <= item.seq <= taken.acked_through:
            return invalid(f"a verdict on {item.seq}, which it has not consumed")
        status = item.original or "accepted" if item.status == "duplicate" else item.status
        duplicates += item.status == "duplicate"
        if status not in ("accepted", "rejected"):
            return invalid(f"a verdict {item.status!r} that the contract does not know")
        verdict = None
        if status == "rejected":
            verdict = Rejection(item.seq, item.code[:100] or "rejected", item.detail[:MAX_TEXT], item.verdict_id[:100])
        if said.setdefault(item.seq, verdict) != verdict:
            return invalid(f"two verdicts on {item.seq}")
    stopped = None
    if taken.stopped is not None:
        stopped = Stopped(taken.stopped.seq, taken.stopped.code[:100], _positive(taken.stopped.retry_after_s))
    limits = Limits(
        _positive(taken.limits.max_events),
        _positive(taken.limits.max_bytes),
        None if taken.limits.min_interval_ms is None else max(0.0, taken.limits.min_interval_ms / 1000),
    )
    return BatchResult(
        outcome="taken",
        acked_through=taken.acked_through,
        rejected=tuple(verdict for _, verdict in sorted(said.items()) if verdict is not None),
        duplicates=duplicates,
        stopped=stopped,
        limits=limits,
        commands_pending=max(0, taken.commands_pending),
    )


def _positive(value: T | None) -> T | None:
    return value if value is not None and value > 0 else None


def _conflict(problem: dict[str, Any], reason: str, wait_s: float | None) -> BatchResult:
    kind = str(problem.get("code") or problem.get("type") or "")
    if kind.endswith("sequence-gap"):
        expected = problem.get("expected_seq")
        if isinstance(expected, int) and not isinstance(expected, bool) and expected >= 1:
            return BatchResult(outcome="gap", reason=reason, expected_seq=expected)
        reason = "409 sequence-gap without a usable expected_seq"
    elif kind.endswith("sequence-conflict"):
        seq = problem.get("seq")
        known = isinstance(seq, int) and not isinstance(seq, bool) and seq >= 1
        return BatchResult(outcome="conflict", reason=reason, conflict_seq=seq if known else None)
    return BatchResult(outcome="retry", reason=reason, retry_after_s=wait_s)


def _problem(reply: Reply) -> dict[str, Any]:
    if not _is_json(reply):
        return {}
    try:
        problem = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return problem if isinstance(problem, dict) else {}


def _words(reply: Reply, problem: dict[str, Any]) -> str:
    """One printable line about the refusal; foreign text is cut and cleaned."""
    said = problem.get("detail") or problem.get("title") or ""
    text = "".join(c for c in str(said) if c.isprintable())[:MAX_TEXT]
    return f"HTTP {reply.status}{': ' if text else ''}{text}"
