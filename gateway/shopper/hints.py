"""Hints: what staff may say to a member who has agreed to offers, and who of them is in the shop now.

The platform sends a hint for identifiers sealed to this gateway; what is kept is the store's own HMAC of each, as for
consents, so a reading that names the person finds the hint and nobody can read from it who that is. A guest stands on
the board from the act that opened the visit to its end, or until the consent is taken back. Texts come from outside:
they are checked here, and escaped by whoever shows them. Knows no wire and no page.

*Source*: docs/sync.md, "Commands" (`profile.hints`); PIPL Art. 24 (offers).
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import blake2b

import msgspec

from gateway.clock import Clock

LONGEST_TEXT = 280
_LONGEST_TIER = 40
_COUPONS = 20
_KEYS_MOST = 20_000
_GUESTS_MOST = 200
_NOTICES_MOST = 1_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z]{2,4})?")
_TABLE = """CREATE TABLE IF NOT EXISTS hint (
    person BLOB PRIMARY KEY, hint BLOB NOT NULL, record TEXT NOT NULL, day_key TEXT NOT NULL,
    expires_ms INTEGER NOT NULL) WITHOUT ROWID"""


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """What to say. `group`: the same for all identifiers of one person, and nothing else."""

    group: str
    text: str
    tier: str = ""
    language: str = ""
    coupons: tuple[str, ...] = ()
    expires_ms: int


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """A member who is in the shop: nobody's name. `since_ms`: wall clock, when they were recognised."""

    visit: str
    lane: str
    since_ms: int
    text: str
    tier: str
    language: str
    coupons: tuple[str, ...]


class Notice(msgspec.Struct, frozen=True):
    """For the till of a lane: a guest has come, or (`here` False) is not there any more."""

    lane: str
    guest: Guest
    here: bool


class _Kept(msgspec.Struct, frozen=True):
    hint: Hint
    record: str


def checked(text: str, tier: str, language: str, coupons: Sequence[str], identifiers: Iterable[str]) -> str:
    """Why a hint is none; "" when it can be shown. It must not hold the person's own identifiers in other words."""
    if not 1 <= len(text) <= LONGEST_TEXT or not text.isprintable() or not text.strip():
        return "text"
    if len(tier) > _LONGEST_TIER or not tier.isprintable():
        return "tier"
    if language and not _LANGUAGE.fullmatch(language):
        return "language"
    if len(coupons) > _COUPONS or not all(_NAME.fullmatch(coupon) for coupon in coupons):
        return "coupons"
    plain = re.sub(r"[\W_]", "", f"{text} {tier}").upper()
    for identifier in identifiers:
        bare = re.sub(r"[\W_]", "", identifier).upper()
        if len(bare) >= 4 and (bare in plain or (bare.isdigit() and len(bare) > 8 and bare[-8:] in plain)):
            return "it names the person"
    return ""


class Recognition:
    """One for the gateway; any thread may ask. What is in memory is what the table holds."""

    def __init__(self, clock: Clock, most: int = 5_000) -> None:
        """`most`: persons' identifiers with a hint; those that end soonest go first."""
        self.expired = 0
        self._clock = clock
        self._most = most
        self._hints: dict[bytes, _Kept] = {}
        self._keys: OrderedDict[str, bytes] = OrderedDict()  # day key → person
        self._leads: dict[str, str] = {}  # group → the first day key of it that was seen
        self._unwritten: dict[bytes, str] = {}
        self._removed: set[bytes] = set()
        self._guests: OrderedDict[str, tuple[Guest, str]] = OrderedDict()
        self._notices: deque[Notice] = deque(maxlen=_NOTICES_MOST)
        self._lock = threading.Lock()

    # -- the table; on the writing connection

    def load(self, connection: sqlite3.Connection) -> None:
        """Make the table and read it; what has ended goes."""
        connection.execute(_TABLE)
        connection.execute("DELETE FROM hint WHERE expires_ms <= ?", (self._now_ms(),))
        rows = connection.execute("SELECT person, hint, record, day_key FROM hint").fetchall()
        with self._lock:
            self._hints.clear()
            for person, body, record, day_key in rows:
                try:
                    hint = msgspec.json.decode(body, type=Hint)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # a damaged row is no hint
                self._hints[bytes(person)] = _Kept(hint, record)
                if day_key:
                    self._keys[day_key] = bytes(person)

    def keep(self, connection: sqlite3.Connection, persons: Sequence[tuple[bytes, str]], hint: Hint) -> int:
        """Keep a hint for all identifiers (each with the record of its consent) of one person, in place of older ones.

        Returns:
            How many others' had to go because there are too many.
        """
        body = msgspec.json.encode(hint)
        dropped = 0
        with self._lock:
            for person, record in persons:
                self._removed.discard(person)
                self._hints[person] = _Kept(hint, record)
            while len(self._hints) > self._most:
                soonest = min(self._hints, key=lambda person: self._hints[person].hint.expires_ms)
                self._forget([soonest])
                connection.execute("DELETE FROM hint WHERE person = ?", (soonest,))
                dropped += 1
            kept = [(person, record) for person, record in persons if person in self._hints]
        connection.executemany(
            "INSERT INTO hint VALUES (?, ?, ?, '', ?) ON CONFLICT DO UPDATE SET hint = excluded.hint, "
            "record = excluded.record, expires_ms = excluded.expires_ms",
            [(person, body, record, hint.expires_ms) for person, record in kept],
        )
        return dropped

    def take_back(self, connection: sqlite3.Connection, persons: Sequence[bytes]) -> int:
        """Remove the hints of a person, found by any identifier; returns how many rows."""
        with self._lock:
            groups = {kept.hint.group for person in persons if (kept := self._hints.get(person)) is not None}
            mine = [person for person, kept in self._hints.items() if kept.hint.group in groups]
            self._forget(mine)
        found = {*mine, *persons}
        return connection.executemany("DELETE FROM hint WHERE person = ?", [(person,) for person in found]).rowcount

    def withdrawn(self, person: bytes, day_key: str, purposes: Collection[str]) -> None:
        """A consent was taken back: without one for offers the hint goes, without one for visits the guest does."""
        with self._lock:
            if "offers" in purposes:
                kept = self._hints.get(person)
                if kept is not None:
                    mine = [it for it, other in self._hints.items() if other.hint.group == kept.hint.group]
                    self._forget(mine)
                    self._removed.update(mine)
            elif "visits" in purposes and self._keys.get(day_key) == person and person in self._hints:
                group = self._hints[person].hint.group
                for visit in [visit for visit, (_, other) in self._guests.items() if other == group]:
                    self._leave(visit)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write which day keys were seen, so that a restart knows who is in the shop, and what was taken back."""
        with self._lock:
            rows = [(day_key, person) for person, day_key in self._unwritten.items()]
            self._unwritten.clear()
            removed = list(self._removed)
            self._removed.clear()
        if removed:
            connection.executemany("DELETE FROM hint WHERE person = ?", [(person,) for person in removed])
        if rows:
            connection.executemany("UPDATE hint SET day_key = ? WHERE person = ?", rows)

    @property
    def unwritten(self) -> bool:
        """Whether `write` has something to do."""
        return bool(self._unwritten or self._removed)

    # -- who is there

    @property
    def wanted(self) -> bool:
        """Whether anybody has a hint: else no reading need be looked up."""
        return bool(self._hints)

    def named(self, person: bytes, day_key: str) -> None:
        """A reading named a person who has agreed to offers."""
        if person not in self._hints or self._keys.get(day_key) == person:
            return
        with self._lock:
            self._keys[day_key] = person
            self._unwritten[person] = day_key
            while len(self._keys) > _KEYS_MOST:
                self._keys.popitem(last=False)

    def lead(self, day_key: str) -> str:
        """The day key that stands for all of one person's, as far as the platform has said which they are."""
        person = self._keys.get(day_key)
        kept = None if person is None else self._hints.get(person)
        if kept is None:
            return day_key
        with self._lock:
            if len(self._leads) > _KEYS_MOST:
                self._leads.clear()
            return self._leads.setdefault(kept.hint.group, day_key)

    def here(self, visit: str, day_keys: Sequence[str], lane: str, since_ms: int) -> None:
        """A visit has begun, or its person is at another lane now."""
        with self._lock:
            kept = next((it for key in day_keys if (it := self._hints.get(self._keys.get(key, b"")))), None)
            if kept is None or kept.hint.expires_ms <= self._now_ms():
                return
            hint, before = kept.hint, self._guests.get(visit)
            if before is not None and before[0].lane == lane:
                return
            guest = Guest(
                visit=visit, lane=lane, since_ms=since_ms if before is None else before[0].since_ms, text=hint.text,
                tier=hint.tier, language=hint.language, coupons=hint.coupons,
            )  # fmt: skip
            if before is not None:
                self._notices.append(Notice(before[0].lane, before[0], False))
            self._guests[visit] = (guest, hint.group)
            self._notices.append(Notice(lane, guest, True))
            while len(self._guests) > _GUESTS_MOST:
                self._leave(next(iter(self._guests)))

    def gone(self, visit: str) -> None:
        """A visit has ended, or was dropped."""
        with self._lock:
            self._leave(visit)

    def guests(self) -> list[Guest]:
        """Who is in the shop, the latest first."""
        with self._lock:
            return [guest for guest, _ in reversed(self._guests.values())]

    def notices(self) -> list[Notice]:
        """What the tills have not been told yet."""
        with self._lock:
            told = list(self._notices)
            self._notices.clear()
        return told

    def erased(self, matches: Callable[[str], bool]) -> None:
        """Forget whoever is being erased; the table is the erasure's."""
        with self._lock:
            keys = {person for day_key, person in self._keys.items() if matches(day_key)}
            groups = {
                kept.hint.group
                for person, kept in self._hints.items()
                if person in keys or (kept.record and matches(kept.record))
            }
            self._forget([person for person, kept in self._hints.items() if kept.hint.group in groups])

    def counts(self) -> dict[str, int]:
        """How much there is, for the heartbeat."""
        return {"hints": len(self._hints), "guests": len(self._guests)}

    # -- inside, with the lock held

    def _forget(self, persons: Collection[bytes]) -> None:
        groups = {self._hints.pop(person).hint.group for person in persons if person in self._hints}
        for day_key in [key for key, person in self._keys.items() if person in persons]:
            del self._keys[day_key]
        for group in groups:
            self._leads.pop(group, None)
        for person in persons:
            self._unwritten.pop(person, None)
        for visit in [visit for visit, (_, group) in self._guests.items() if group in groups]:
            self._leave(visit)

    def _leave(self, visit: str) -> None:
        left = self._guests.pop(visit, None)
        if left is not None:
            self._notices.append(Notice(left[0].lane, left[0], False))

    def _now_ms(self) -> int:
        return int(self._clock.now().wall_s * 1000)


def group_of(persons: Iterable[bytes]) -> str:
    """The group of a person's identifiers."""
    return blake2b(b"".join(sorted(persons)), digest_size=8).hexdigest()
