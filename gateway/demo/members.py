"""The members of a demo at the platform: their online history, coupons and hints, and at the end what is known of them.

Takes the part of the chain's own staff: imports the web shop's files, issues coupons into the members' apps, tells the
shop's staff a hint — all through the platform's own functions. At the end each member's profile is put beside what the
member really bought, and one member is forgotten everywhere. Knows the club and the platform; no device.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from devices.simulator import web_shop
from devices.simulator.ledger import Sale
from devices.simulator.members import Club, Coupon, Member
from gateway.demo.books import Kept, Line
from gateway.demo.platform import DemoPlatform
from gateway.errors import StorefrontError
from gateway.journal.reader import JournalReader

if TYPE_CHECKING:
    from sync.platform.campaigns import Funnel
    from sync.platform.profiles import Profiles

_GATEWAY, _STORE, _REGION = "gw01", "0001", "CN"  # of config/demo.toml
_CAMPAIGN: Final = "members-day"
_FACES: Final = (Decimal("10.00"), Decimal("20.00"))
_COUPON_EVERY: Final = 2  # every second member who agreed gets one
_HINTS: Final = (
    "最近在网上看过轻薄羽绒服，可以请她试穿。", "常买龙井茶，新茶今天到店。", "上次退了牛仔裤，尺码偏大，建议小一码。",
    "会员生日在本周，记得送上祝福。",
)  # fmt: skip
_A_STEP: Final = 2  # coupons or hints at once: each is a durable write
_FOLD_S: Final = 8.0  # in which the platform must have read what it has
_FORGET_S: Final = 20.0  # in which the shop must have forgotten


class DemoMembers:
    """`step` while the shop is open; `compared`, then `forget`, when all has arrived. One thread."""

    def __init__(
        self, club: Club, platform: DemoPlatform, folder: Path, seed: int, run: datetime,
        give: Callable[[str, Coupon], None],
    ) -> None:  # fmt: skip
        """Store.

        Args:
            club: who they are.
            platform: open.
            folder: where the web shop's files are put.
            seed: of the web shop.
            run: when the demo began, aware.
            give: puts a coupon into a member's app.
        """
        self._club = club
        self._platform = platform
        self._folder = folder
        self._files = (club.members, seed, run)
        self._give = give
        self._work: Iterator[None] | None = None
        self.issued = 0

    def step(self) -> None:
        """One small piece of work, if there is any; what is not possible yet is tried later."""
        profiles = self._platform.profiles
        if profiles is None:
            return
        if self._work is None:
            self._work = self._tell(profiles)
        next(self._work, None)

    def compared(self, kept: Kept) -> list[Line]:
        """What the platform shows of each member beside what they bought under their consent, and the coupons."""
        profiles = self._platform.profiles
        if profiles is None:
            return []
        due = {it.number: self._due(it, kept) for it in self._club.members}
        until_s = time.monotonic() + _FOLD_S
        while True:
            shown = {it.number: _sales(profiles, it) for it in self._club.members}
            if time.monotonic() >= until_s or all(shown[number] == sales for number, sales in due.items()):
                break
            time.sleep(0.2)
        doubtful = {due.member for sale, due in self._club.sales.items() if not self._club.sure(sale)}
        pairs = [(due[it.number], shown[it.number]) for it in self._club.members if it.number not in doubtful]
        redeemed = sum(it.redeemed for it in _funnels(profiles) if it.campaign == _CAMPAIGN)
        online = sum(1 for it in self._club.members if profiles.reading.owner("member", it.number, _now_ms()))
        note = f"sales in the right profiles; {online} members with online history"
        return [
            Line(
                "profiles", sum(len(one) for one, _ in pairs), sum(len(it) for _, it in pairs),
                sum(len(one - it) for one, it in pairs), sum(len(it - one) for one, it in pairs), note,
                ("shop", "platform"),
            ),
            Line(
                "redemptions", len(self._club.redeemed), redeemed, max(0, len(self._club.redeemed) - redeemed), 0,
                f"{self.issued} issued by the platform", ("shop", "platform"),
            ),
        ]  # fmt: skip

    def forget(self, journal: Path) -> Line | None:
        """One member asks to be forgotten: what names them goes from the shop's files and from the platform.

        The proof is in bytes: every key that stood in the member's events is looked for in the files of both.

        Returns:
            None when nobody was ever named.

        Raises:
            JournalError: the journal cannot be read.
        """
        profiles = self._platform.profiles
        member = next((it for it in self._club.members if self._club.agreed(it) and self._mine(it)), None)
        if profiles is None or member is None:
            return None
        person = profiles.reading.owner("member", member.number, _now_ms())
        keys = _keys_of(journal, self._mine(member))
        if person is None or not keys:
            return None
        began_s = time.monotonic()
        erased = profiles.telling.erase(person)
        files = [part for file in (journal, self._platform.database, profiles.book.path) for part in _parts(file)]
        while left := _found(keys, files):
            if time.monotonic() - began_s > _FORGET_S:
                break
            time.sleep(0.2)
        known = profiles.reading.owner("member", member.number, _now_ms()) is not None
        took_s = time.monotonic() - began_s
        note = f"{erased.events} events, {len(keys)} keys gone from the files of shop and platform in {took_s:.1f} s"
        note = f"still named in {', '.join(left)}" if left else note
        return Line("forgotten", 1, int(not left and not known), int(bool(left) or known), 0, note, ("asked", "done"))

    # ── inside ──

    def _tell(self, profiles: Profiles) -> Iterator[None]:
        """The chain's staff at work, a piece at a time."""
        from sync.platform.history import import_lines, spelling

        normalise = spelling(_REGION)
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, text in web_shop.files(*self._files).items():
            (self._folder / name).write_text(text, "utf-8")
            import_lines(profiles.book, text.splitlines(keepends=True), normalise, name)
            yield
        agreed = [it for it in self._club.members if it.habit != "refuses"]
        for number, member in enumerate(agreed[::_COUPON_EVERY]):
            while not self._issued(profiles, member, _FACES[number % len(_FACES)]):
                yield
            if number % _A_STEP == 0:
                yield
        for number, member in enumerate(agreed[1::8]):
            while not self._hinted(profiles, member, _HINTS[number % len(_HINTS)]):
                yield
            yield

    def _issued(self, profiles: Profiles, member: Member, face: Decimal) -> bool:
        """Whether the platform could issue a coupon: not before it knows the shop and the member's consent."""
        person = profiles.reading.owner("member", member.number, _now_ms())
        if person is None:
            return False
        try:
            token, _ = profiles.telling.issue_coupon(person, _GATEWAY, _STORE, _CAMPAIGN, face)
        except StorefrontError:
            return False
        self._give(member.number, Coupon(token, face))
        self.issued += 1
        return True

    def _hinted(self, profiles: Profiles, member: Member, text: str) -> bool:
        person = profiles.reading.owner("member", member.number, _now_ms())
        with contextlib.suppress(StorefrontError):
            if person is not None:
                profiles.telling.hint(person, _GATEWAY, text, tier=member.tier)
                return True
        return False

    def _mine(self, member: Member) -> set[Sale]:
        return {sale for sale, due in self._club.sales.items() if due.member == member.number and due.named}

    def _due(self, member: Member, kept: Kept) -> set[str]:
        """The member's sales that the platform may show: none of somebody who does not agree any more."""
        if not self._club.agreed(member):
            return set()
        return {number for till, number in self._mine(member) if (till, number) in kept.sales}


def _sales(profiles: Profiles, member: Member) -> set[str]:
    """Numbers of the sales in the shop that stand in the member's profile."""
    person = profiles.reading.owner("member", member.number, _now_ms())
    profile = None if person is None else profiles.reading.profile(person, _now_ms())
    entries = () if profile is None else profile.entries
    return {it.ref.rpartition("-")[2] for it in entries if it.kind == "sale"}


def _funnels(profiles: Profiles) -> list[Funnel]:
    from sync.platform.campaigns import funnels

    return funnels(profiles.book)


def _keys_of(journal: Path, sales: set[Sale]) -> set[bytes]:
    """Everything in the events of these sales that stands for a person."""
    keys: set[bytes] = set()
    numbers = {number for _, number in sales}
    with JournalReader(journal) as reader:
        after = 0
        while batch := reader.read("transactions", after):
            after = batch[-1].position
            for event in batch:
                fields = event.decode()
                if fields["type"] != "store.pos.sale.v1":
                    continue
                if str(fields["data"]["transaction_id"]).rpartition("-")[2] in numbers:
                    person = fields["data"].get("loyalty") or {}
                    named = (person.get("day_key"), person.get("sealed"), fields.get("consentref"))
                    keys |= {key.encode() for key in named if key}
    return keys


def _parts(database: Path) -> list[Path]:
    return [database, database.with_name(database.name + "-wal")]


def _found(keys: set[bytes], files: list[Path]) -> list[str]:
    """Names of the files in which a key stands."""
    found = []
    for path in files:
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            if any(key in content for key in keys):
                found.append(path.name)
    return found


def _now_ms() -> int:
    return int(time.time() * 1000)
