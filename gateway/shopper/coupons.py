"""The coupon desk: takes tills' questions from any thread and answers each after its answer is durable.

A token is verified on the thread that asks; the decision, the book's change, its event and the answer itself are one
transaction on the journal's writing thread, and questions that arrive together share it. So a till that hears
`reserved` has a reservation that survives a power cut, and the same question asked again, over whatever transport, gets
the same answer. Knows no transport; what may be used is `coupon_rules`', what is written `coupon_book`'s.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.clock import Clock, Instant
from gateway.errors import JournalError, Rejected
from gateway.event import Draft, Origin
from gateway.journal.news import News
from gateway.shopper import coupon_tables as tables
from gateway.shopper.coupon_book import CouponBook
from gateway.shopper.coupon_messages import Answer, Request, about, answer, from_json, to_json
from gateway.shopper.coupon_rules import Limits
from gateway.shopper.coupon_tables import Use
from gateway.shopper.coupon_token import CouponToken, public_key, verify

log = logging.getLogger(__name__)
T = TypeVar("T")

_WAITING = 512  # questions at once; a shop has some dozen tills
REFUSALS_A_MINUTE = 60  # of one till that are told and kept; more are only answered
_LANES = 1000
_TOGETHER = 64  # of them in one transaction


class Commits(Protocol):
    """The journal, as the desk needs it (`CommitLoop`)."""

    @property
    def is_open(self) -> bool:
        """Whether it can be written."""
        ...

    @property
    def news(self) -> News:
        """Word of events that have been written."""
        ...

    def record(self, work: Callable[[sqlite3.Connection], tuple[T, Sequence[Draft]]]) -> Future[T]:
        """Run `work` and write its events in one durable transaction."""
        ...


class CouponFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The desk at a glance, for the page and the metrics. Money in `currency`.

    `at_risk`: what would be lost if every coupon honoured on the shop's own risk proved used elsewhere. No reservation
    brings it above `at_risk_limit`; a till that confirms late, or sells without asking, can. `doubled`: sales
    that gave a discount no use was left for, since the book began.
    """

    currency: str = ""
    at_risk: Decimal = Decimal(0)
    at_risk_limit: Decimal = Decimal(0)
    held: int = 0
    redeemed: int = 0
    issued: int = 0
    doubled: int = 0
    answered: int = 0  # since the start
    refused: int = 0  # since the start
    worst_ms: float = 0.0  # longest time to an answer since the start


class _Asked(msgspec.Struct):
    lane: str
    request: Request
    token: CouponToken | str | None  # verified, or why it is not; None where none is needed
    future: Future[Answer]
    since_us: int
    transaction: str = ""  # as it may be kept


class CouponDesk:
    """One for the gateway; made before the journal is open, usable once it is."""

    def __init__(
        self, commits: Commits, origin: Origin, clock: Clock, limits: Limits, keys: Mapping[str, str],
        *, hold_s: float = 900.0, clean: Callable[[str, Instant], str] = lambda text, at: text,
    ) -> None:  # fmt: skip
        """Store.

        Args:
            commits: the journal's writing thread.
            origin: for the events' source.
            clock: wall and monotonic time.
            limits: what the shop allows.
            keys: issuers' public keys of the configuration, base64url by id.
            hold_s: how long a reservation is kept.
            clean: a till's number of a sale without numbers of persons, as the sale itself will bear it.

        Raises:
            Rejected: a key is none.
        """
        self.limits = limits
        self.hold_s = hold_s
        self._clean = clean
        self.commits = commits
        self.origin = origin
        self.clock = clock
        self._configured = {name: public_key(text) for name, text in keys.items()}
        self._keys: Mapping[str, Ed25519PublicKey] = dict(self._configured)
        self._waiting: deque[_Asked] = deque()
        self._lock = threading.Lock()
        self._batch: list[_Asked] = []  # under way in the present transaction
        self._minute = 0
        self._refusals: dict[str, int] = {}  # of this minute, by lane; on the writing thread only
        self._scheduled = False
        self.ready = False  # set by the clerk, who makes the tables
        self._answered = self._refused = 0
        self._worst_us = 0
        self._figures = CouponFigures(currency=limits.currency, at_risk_limit=limits.at_risk)

    @property
    def keys(self) -> Mapping[str, Ed25519PublicKey]:
        """The issuers' keys that are trusted now."""
        return self._keys

    def ask(self, lane: str, request: Request) -> Future[Answer]:
        """Answer a question; from any thread, never waits.

        Args:
            lane: the till's name, proved by whoever took the question.
            request: well-formed.

        Returns:
            The answer, when it is durable. Never an error: what cannot be decided now is `unavailable` or `busy`.
        """
        future: Future[Answer] = Future()
        now = self.clock.now()
        token: CouponToken | str | None = None
        if request.operation in ("check", "reserve"):
            try:
                token = verify(request.token, self._keys)
            except Rejected as error:
                token = error.reason
        if isinstance(token, str) and request.operation == "check":
            future.set_result(self._told(answer(token, request)))
            return future
        refusal, transaction = "", ""
        try:
            transaction = request.transaction and self._clean(request.transaction, now)
        except OSError:  # no key can be kept, and so no number that needs one
            refusal = "unavailable"
        with self._lock:
            refusal = "unavailable" if not (self.ready and self.commits.is_open) else refusal
            refusal = refusal or ("busy" if len(self._waiting) >= _WAITING else "")
            if not refusal:
                self._waiting.append(_Asked(lane, request, token, future, now.mono_us, transaction))
        if refusal:
            future.set_result(answer(refusal, request))
        else:
            self._schedule()
        return future

    def trust(self, connection: sqlite3.Connection) -> None:
        """Read the issuers' keys again: the configuration's and the platform's, without those that were revoked."""
        trusted = {name: public_key(text) for name, text in tables.keys(connection).items()} | self._configured
        revoked = tables.revoked_keys(connection)
        self._keys = {name: key for name, key in trusted.items() if name not in revoked}

    def look(self, query: tables.Query) -> None:
        """Read the figures anew; `query`: of a reader of the journal."""
        counts = {row[0]: row[1] for row in query("SELECT state, count(*) FROM coupon_use GROUP BY state")}
        doubled = query("SELECT value FROM coupon_fact WHERE name = 'doubled'")
        self._figures = CouponFigures(
            currency=self.limits.currency, at_risk=Decimal(query(tables.AT_RISK)[0][0]) / 1000,
            at_risk_limit=self.limits.at_risk, held=counts.get("held", 0), redeemed=counts.get("redeemed", 0),
            issued=query("SELECT count(*) FROM coupon_known WHERE issued")[0][0],
            doubled=int(doubled[0][0]) if doubled else 0,
        )  # fmt: skip

    def figures(self) -> CouponFigures:
        """The desk now; the book's figures as of the last `look`."""
        return msgspec.structs.replace(
            self._figures, answered=self._answered, refused=self._refused, worst_ms=self._worst_us / 1000
        )

    def book(self, connection: sqlite3.Connection) -> CouponBook:
        """The book in a transaction of the journal."""
        return CouponBook(connection, self.limits, self.origin, self.clock.now())

    # -- inside

    def _schedule(self) -> None:
        with self._lock:
            if self._scheduled or not self._waiting:
                return
            self._scheduled = True
        self.commits.record(self._answer_some).add_done_callback(self._settle)

    def _answer_some(self, connection: sqlite3.Connection) -> tuple[list[tuple[_Asked, Answer]], Sequence[Draft]]:
        """On the writing thread, in its transaction."""
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(_TOGETHER, len(self._waiting)))]
            self._batch = batch
        book = self.book(connection)
        said = [(asked, self._decide(connection, book, asked)) for asked in batch]
        return said, book.drafts

    def _settle(self, done: Future[list[tuple[_Asked, Answer]]]) -> None:
        """After the commit, or when it failed: nobody is left waiting."""
        with self._lock:
            batch, self._batch = self._batch, []
            self._scheduled = False
            if (error := done.exception()) is not None and not batch:  # it did not even begin
                batch = list(self._waiting)
                self._waiting.clear()
        if error is not None:
            if not isinstance(error, JournalError):
                log.error("coupons=failed error=%s", type(error).__name__)
            for asked in batch:
                _give(asked, answer("unavailable", asked.request))
        else:
            now_us = self.clock.now().mono_us
            for asked, said in done.result():
                self._worst_us = max(self._worst_us, now_us - asked.since_us)
                _give(asked, self._told(said))
        self._schedule()

    def _decide(self, connection: sqlite3.Connection, book: CouponBook, asked: _Asked) -> Answer:
        request, lane = asked.request, asked.lane
        if request.operation == "check":
            assert isinstance(asked.token, CouponToken)
            return self._check(book, request, asked.token)
        digest = request.digest
        if (before := tables.answered(connection, lane, request.request)) is not None:
            return from_json(before[1]) if before[0] == digest else answer("request_reused", request)
        book.quiet = self._often(lane)
        said = _OPERATIONS[request.operation](self, book, asked)
        if said.ok or not book.quiet:
            tables.keep_answer(connection, lane, request.request, digest, to_json(said))
        if not said.ok:
            self._refusals[lane] = self._refusals.get(lane, 0) + 1
        return said

    def _often(self, lane: str) -> bool:
        """Whether a till has had its refusals of this minute: a broken one must not fill the journal."""
        minute = self.clock.now().mono_us // 60_000_000
        if minute != self._minute or len(self._refusals) > _LANES:
            self._minute, self._refusals = minute, {}
        return self._refusals.get(lane, 0) >= REFUSALS_A_MINUTE

    def _check(self, book: CouponBook, request: Request, token: CouponToken) -> Answer:
        allowed = book.judge(token, request.currency)
        if isinstance(allowed, str):
            return answer(allowed, request, **about(token))
        return answer("valid", request, **about(token), rule=allowed.rule, note=allowed.note)

    def _reserve(self, book: CouponBook, asked: _Asked) -> Answer:
        request, token = asked.request, asked.token
        if not isinstance(token, CouponToken):
            assert token is not None
            book.refuse(token, None, asked.lane, asked.transaction)
            return answer(token, request)
        reservation = hashlib.blake2b(f"{asked.lane}\0{request.request}".encode(), digest_size=12).hexdigest()
        use = book.reserve(token, reservation, asked.lane, asked.transaction, request.currency)
        if isinstance(use, str):
            return answer(use, request, **about(token))
        return answer("reserved", request, **_use(use, token), hold_s=int(self.hold_s))

    def _confirm(self, book: CouponBook, asked: _Asked) -> Answer:
        use = book.confirm(asked.request.reservation, asked.lane, asked.transaction)
        return answer(use, asked.request) if isinstance(use, str) else answer("redeemed", asked.request, **_use(use))

    def _release(self, book: CouponBook, asked: _Asked) -> Answer:
        use = book.release(asked.request.reservation, asked.lane, void=asked.request.void)
        return answer(use, asked.request) if isinstance(use, str) else answer("released", asked.request, **_use(use))

    def _told(self, said: Answer) -> Answer:
        self._answered += 1
        self._refused += not said.ok
        return said


_OPERATIONS: dict[str, Callable[[CouponDesk, CouponBook, _Asked], Answer]] = {
    "reserve": CouponDesk._reserve,
    "confirm": CouponDesk._confirm,
    "release": CouponDesk._release,
}


def _use(use: Use, token: CouponToken | None = None) -> dict[str, Any]:
    return {
        "coupon": use.coupon, "campaign": use.campaign, "face": use.face, "currency": use.currency, "uses": use.uses,
        "use": use.use, "rule": use.rule, "reservation": use.reservation, "note": use.note,
        **(about(token) if token else {}),
    }  # fmt: skip


def _give(asked: _Asked, said: Answer) -> None:
    if asked.future.set_running_or_notify_cancel():
        asked.future.set_result(said)
