"""Tills that fight for coupons at a desk that is killed again and again, and the books afterwards.

Every coupon has one use and every lane wants it. A lane whose question was not answered asks it again, with the same
number, at the desk's next life. Nothing here knows how the desk keeps its word; it only counts broken ones.
"""

from __future__ import annotations

import random
import selectors
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from gateway.journal.reader import JournalReader
from gateway.shopper.coupon_token import issue
from tests.gateway.shopper.counter import HOME, KEY

LANES = 8
_MOST_ANSWERS = 60  # of a life that ends in a kill
_SILENT_S = 60.0  # nobody is answered for so long: something is wrong


class Books(msgspec.Struct):
    """What was promised, and what of it is true. The last four must be 0."""

    kills: int
    answers: int
    coupons: int
    redeemed: int
    doubled: int  # coupons that two tills were told they had redeemed, or that the journal tells twice
    forgotten: int  # answers that the book does not know any more
    untold: int  # uses in the book without exactly one event for it
    contradicted: int  # questions that had two different answers


class _Lane:
    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        self.coupon = 0
        self.pending = b""
        self.reservation = ""

    def reserve(self, token: str) -> None:
        self._ask({"operation": "reserve", "token": token})

    def confirm(self) -> None:
        self._ask({"operation": "confirm", "reservation": self.reservation})

    def _ask(self, fields: dict[str, str]) -> None:
        self.number += 1
        self.pending = msgspec.json.encode({"request": f"{self.name}-{self.number}", **fields})


class Tills:
    """The lanes, the tokens, and every answer that was heard."""

    def __init__(self, directory: Path, seed: int = 1) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.lanes = {f"till-{number}": _Lane(f"till-{number}") for number in range(LANES)}
        self.tokens: list[str] = []
        self.heard: dict[str, bytes] = {}
        self.contradicted = 0
        self.confirmed: dict[str, set[str]] = {}
        self.reserved: dict[str, str] = {}
        now_s = int(time.time())
        self._like = msgspec.structs.replace(HOME, not_before_s=now_s - 86_400, expires_s=now_s + 86_400)
        for lane in self.lanes.values():
            lane.reserve(self.token(0))

    def token(self, number: int) -> str:
        while number >= len(self.tokens):
            self.tokens.append(issue(msgspec.structs.replace(self._like, id=f"K-{len(self.tokens)}"), KEY))
        return self.tokens[number]

    def live(self, answers: int | None) -> None:
        """One life of the desk: hear so many answers, asking on, then kill it; None: until each lane has its last."""
        command = [sys.executable, "-m", "tests.faults.coupon_child", str(self.directory)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as desk:
            assert desk.stdin is not None and desk.stdout is not None
            try:
                assert desk.stdout.readline() == b"ready\n"
                for lane in self.lanes.values():
                    self._send(desk, lane)
                waiting = set(self.lanes)
                watch = selectors.DefaultSelector()
                watch.register(desk.stdout, selectors.EVENT_READ)
                buffer, heard = b"", 0
                while waiting and (answers is None or heard < answers):
                    assert watch.select(_SILENT_S), "nobody is answered"
                    buffer += desk.stdout.read1(65_536)  # type: ignore[attr-defined]
                    *lines, buffer = buffer.split(b"\n")
                    heard += len(lines)
                    for line in lines:
                        lane = self._hear(line)
                        if answers is None:
                            waiting.discard(lane.name)
                        else:
                            self._send(desk, lane)
                time.sleep(self.random.uniform(0.0, 0.01) if answers is not None else 0.0)
            finally:
                desk.kill()

    def _send(self, desk: subprocess.Popen[bytes], lane: _Lane) -> None:
        assert desk.stdin is not None
        repeat = 2 if self.random.random() < 0.05 else 1  # now and then a till asks twice at once
        desk.stdin.write((lane.name.encode() + b"\t" + lane.pending + b"\n") * repeat)
        desk.stdin.flush()

    def _hear(self, line: bytes) -> _Lane:
        name, _, payload = line.partition(b"\t")
        lane = self.lanes[name.decode()]
        said: dict[str, Any] = msgspec.json.decode(payload)
        number = said["request"]
        if said.get("retry"):
            return lane
        if self.heard.setdefault(number, payload) != payload:
            self.contradicted += 1
        if number != f"{lane.name}-{lane.number}":
            return lane  # the second answer to a question that was asked twice
        if said["reason"] == "reserved":
            self.reserved[said["reservation"]] = said["coupon"]
            lane.reservation = said["reservation"]
            lane.confirm()
        else:
            if said["reason"] == "redeemed":
                self.confirmed.setdefault(said["coupon"], set()).add(said["reservation"])
            lane.coupon += 1
            lane.reserve(self.token(lane.coupon))
        return lane

    def books(self, kills: int) -> Books:
        """Hold what was said against what is kept."""
        with JournalReader(self.directory / "journal.db") as reader:
            rows = reader.query("SELECT reservation, coupon, use, state FROM coupon_use")
            told: Counter[tuple[str, str, int]] = Counter()
            after = 0
            while events := reader.read("transactions", after, 1000):
                after = events[-1].position
                for event in events:
                    body = event.decode()
                    if (step := body["type"].split(".")[2]) in ("reserved", "redeemed"):
                        told[step, body["data"]["coupon"], body["data"]["use"]] += 1
        states = {row["reservation"]: row["state"] for row in rows}
        redeemed = [row for row in rows if row["state"] == "redeemed"]
        twice = [count for (step, _, _), count in told.items() if step == "redeemed" and count != 1]
        each = Counter((row["coupon"], row["use"]) for row in redeemed)
        return Books(
            kills=kills, answers=len(self.heard), coupons=len(self.tokens), redeemed=len(redeemed),
            doubled=sum(len(holders) > 1 for holders in self.confirmed.values()) + len(twice)
            + sum(count > 1 for count in each.values()),
            forgotten=sum(reservation not in states for reservation in self.reserved)
            + sum(states.get(it) != "redeemed" for holders in self.confirmed.values() for it in holders),
            untold=sum(told["redeemed", row["coupon"], row["use"]] != 1 for row in redeemed)
            + (sum(count for (step, _, _), count in told.items() if step == "redeemed") != len(redeemed)),
            contradicted=self.contradicted,
        )  # fmt: skip


def fight(directory: Path, kills: int, seed: int = 1) -> Books:
    """So many lives that end in a kill a moment after an answer that is drawn, one that ends in peace, and the books.

    Where a kill falls does not depend on how fast the machine is.
    """
    tills = Tills(directory, seed)
    for _ in range(kills):
        tills.live(tills.random.randint(0, _MOST_ANSWERS))
    tills.live(None)
    return tills.books(kills)
