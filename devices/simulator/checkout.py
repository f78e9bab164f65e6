"""Till 1 and what it says for a member: consent, coupon, sale, points, an answer — over MQTT, in that order.

A basket with a coupon waits for the gateway's word: the coupon is held (`reserve`), taken off and redeemed with the
sale (`confirm`). A till whose question is not answered asks again with the same number and then sells without it.
Written from docs/coupons.md and from the till's manual, not with the gateway's own messages. Knows no broker.

*Source*: docs/coupons.md, "What a till asks"; `storefront drivers pos_json`.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from devices.simulator import till
from devices.simulator.ledger import Ledger
from devices.simulator.members import Club, Consent, Member
from devices.simulator.shop import Paid

SALES: Final = "store/0001/pos/till/till-1/event"
QUESTIONS: Final = "store/0001/coupon/till-1/request"
ANSWERS: Final = "store/0001/coupon/till-1/response"
_PURPOSES: Final = ("visits", "matching", "offers", "analytics")
_ANSWER_S: Final = 1.0
_TRIES: Final = 3
_SULK_S: Final = 5.0  # after a question that nobody answered; the queue must not grow
_ASKED: Final = 0.5  # of the members who buy say whether they would recommend the shop


class _Question(msgspec.Struct):
    number: str
    payload: bytes
    asked_s: float
    tries: int = 1


class Checkout:
    """`pay` puts a basket into the line, `step` serves it; one thread."""

    def __init__(
        self, tell: Callable[[str, bytes], bool], heard: Callable[[str], bytes | None], club: Club, ledger: Ledger,
        number: Callable[[], str], boot: str, seed: int, now: Callable[[], datetime],
    ) -> None:  # fmt: skip
        """Store.

        Args:
            tell: publishes; False: the outbox is full.
            heard: the newest message on a topic.
            club: the members and the book about them.
            ledger: the shop's books.
            number: gives the next number of a sale.
            boot: names this run of the till.
            seed: of who is asked for an answer.
            now: the till's own time, aware.
        """
        self._tell, self._heard = tell, heard
        self._club, self._ledger = club, ledger
        self._number, self._boot, self._now = number, boot, now
        self._dice = random.Random(seed)  # noqa: S311 - a shopper's mood
        self._line: deque[Paid] = deque()
        self._question: _Question | None = None
        self._asked = 0
        self._said = 0
        self._sulks_until_s = 0.0

    def pay(self, act: Paid) -> None:
        """A basket comes to the till."""
        self._line.append(act)

    def step(self, now_s: float) -> None:
        """Serve whoever is there, until somebody has to wait for an answer. `now_s`: monotonic."""
        while self._line:
            act = self._line[0]
            if act.member is not None:
                self._hear(act.member, now_s)
            held: dict[str, Any] | None = None
            if act.member is not None and self._brings(act, act.member, now_s):
                answered, held = self._ask(act, act.member, now_s)
                if not answered:
                    return
            self._line.popleft()
            self._question = None
            self._sell(act, held)

    def finish(self, now_s: float) -> None:
        """Serve everybody who waits, without coupons."""
        self._sulks_until_s = float("inf")
        self.step(now_s)

    # ── inside ──

    def _hear(self, member: Member, now_s: float) -> None:
        """The member joins or leaves, with the card and with the app."""
        if (consent := self._club.wish(member)) is None:
            return
        told = all(self._put(SALES, self._consent(member, consent, scheme)) for scheme in ("member", "app"))
        if told:
            self._club.said(member, consent, now_s)

    def _consent(self, member: Member, consent: Consent, scheme: str) -> dict[str, Any]:
        self._said += 1
        return {
            "v": 1, "ts": self._now().isoformat(timespec="milliseconds"), "boot": self._boot, "seq": f"c{self._said}",
            "consent": consent, "member": member.number if scheme == "member" else member.app,
            "member_scheme": scheme, "purposes": [] if consent == "withdrawn" else list(_PURPOSES),
            "language": "zh-CN", "method": "till", "record_id": f"till-1-{self._boot}-{self._said:06d}",
        }  # fmt: skip

    def _brings(self, act: Paid, member: Member, now_s: float) -> bool:
        """Whether a coupon is held to the till: one that is worth it, where coupons are answered."""
        coupon = self._club.coupon(member)
        return coupon is not None and act.coupon is None and now_s >= self._sulks_until_s and act.net > 2 * coupon.face

    def _ask(self, act: Paid, member: Member, now_s: float) -> tuple[bool, dict[str, Any] | None]:
        """Whether there is an answer, and what is held then; None: nothing."""
        coupon = self._club.coupon(member)
        assert coupon is not None
        if self._question is None:
            self._question = self._questioned({"operation": "reserve", "token": coupon.token, "currency": "CNY"}, now_s)
            return False, None
        answer = self._answer(self._question.number)
        if answer is not None and not answer.get("retry"):
            if answer["ok"]:
                return True, answer
            self._club.used(member)
            return True, None
        if now_s - self._question.asked_s < _ANSWER_S:
            return False, None
        if self._question.tries < _TRIES:
            self._question.tries += 1
            self._question.asked_s = now_s
            self._tell(QUESTIONS, self._question.payload)
            return False, None
        self._sulks_until_s = now_s + _SULK_S
        return True, None

    def _questioned(self, words: dict[str, Any], now_s: float) -> _Question:
        self._asked += 1
        number = f"{self._boot}-{self._asked}"
        payload = _json({"v": 1, "request": number, **words})
        self._tell(QUESTIONS, payload)
        return _Question(number, payload, now_s)

    def _answer(self, number: str) -> dict[str, Any] | None:
        payload = self._heard(ANSWERS)
        answer: dict[str, Any] | None = None if payload is None else json.loads(payload)
        return answer if answer is not None and answer.get("request") == number else None

    def _sell(self, act: Paid, held: dict[str, Any] | None) -> None:
        if held is not None:
            act = msgspec.structs.replace(act, coupon=held["coupon"], coupon_off=Decimal(held["face"]))
        number, member = self._number(), act.member
        if not self._tell(SALES, till.sale_json(act, "till-1", number, self._now(), self._boot)):
            return
        sale = ("till-1", number)
        self._ledger.sold(*sale, act.net)
        if member is None:
            return
        self._club.sold(sale, member)
        if held is not None:
            self._club.used(member, held["coupon"], sale)
            self._questioned({"operation": "confirm", "reservation": held["reservation"], "transaction": number}, 0.0)
        points = {"programme": "club", "points": str(int(act.net)), "member": member.number, "transaction_id": number}
        self._club.points += self._put(SALES, {"v": 1, "boot": self._boot, "seq": f"p{number}", **points})
        if self._dice.random() < _ASKED:
            score = self._dice.choices((10, 9, 8, 7, 5, 2), (34, 28, 20, 9, 6, 3))[0]
            answer = {"question": "recommend", "score": score, "scale": "nps", "boot": self._boot, "seq": f"n{number}"}
            self._ledger.ratings += self._put(SALES, answer)

    def _put(self, topic: str, words: dict[str, Any]) -> bool:
        return self._tell(topic, _json(words))


def _json(words: dict[str, Any]) -> bytes:
    return json.dumps(words, ensure_ascii=False, separators=(",", ":")).encode()
