"""Reading the book: who a key belongs to, what a person did online and in the shops, with evidence and confidence.

A touch is a person's when the identifier under it was theirs alone at that moment and they agreed to the matching by
then and still do. A visit brings its sales with it. Knows no HTTP and no language.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

import msgspec

from sync.platform.profile_book import PARTS, ProfileBook
from sync.platform.profile_claims import STILL
from sync.platform.vault import masked

SURE: Final = {"member": 1.0}
LINKED, BEFORE_LINK, BY_DAY_KEY, SAME_TIME = 0.98, 0.90, 0.97, 0.90
AFTER_VISIT_MS: Final = 15 * 60 * 1000  # a sale so long after a visit's end is still of it
_MOST = 5_000  # rows of one person's history
SALES = ("sale", "return", "order", "exchange")

MINE: Final = """
FROM claim c JOIN touch t ON t.identifier = c.identifier AND t.at_ms >= c.since_ms AND t.at_ms < c.until_ms
JOIN consented s ON s.person = c.person AND s.purpose = 'matching' AND s.since_ms IS NOT NULL
 AND t.at_ms >= s.since_ms AND (s.until_ms IS NULL OR s.until_ms > :now)
JOIN identifier i ON i.id = c.identifier
WHERE c.sole = 1 AND t.superseded = 0"""
"""Touches that are somebody's, by the rules above; needs the parameter `now` (ms)."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a history. `confidence`: 0–1, that it was this person; `evidence`: why, newest reason last."""

    touch: int
    kind: str
    channel: str
    store: str
    at_ms: int
    end_ms: int
    ref: str
    amount_parts: int | None
    currency: str
    items: float | None
    confidence: float
    evidence: tuple[str, ...]
    detail: dict[str, object]
    visit: str = ""  # the visit that brought a sale with it


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """An identifier of a person, masked. `sole` False: others have it, too, and it tells nothing."""

    shown: str
    scheme: str
    since_ms: int
    until_ms: int | None
    sole: bool
    act: str
    edge: int


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """A purpose. `since_ms` None: not agreed."""

    purpose: str
    since_ms: int | None
    until_ms: int | None
    withdrawn_ms: int | None


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A coupon of a person."""

    coupon: str
    campaign: str
    channel: str
    face: str
    issued_ms: int | None
    state: str
    store: str
    at_ms: int | None


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a person that a page shows; `key` is opaque."""

    key: str
    known: tuple[Known, ...]
    consents: tuple[Agreed, ...]
    entries: tuple[Entry, ...]
    coupons: tuple[Card, ...]
    household: int  # other persons with whom an identifier is shared


class ProfileReading:
    """Questions to an open book; any thread."""

    def __init__(self, book: ProfileBook) -> None:
        """`book`: open."""
        self._book = book

    def person(self, key: str) -> tuple[int, str] | None:
        """A person's number and present key, following joins; None when there is none."""
        with self._book.reading() as connection:
            row = connection.execute("SELECT id, key, merged FROM person WHERE key = ?", (key,)).fetchone()
            for _ in range(50):
                if row is None or row[2] is None:
                    break
                row = connection.execute("SELECT id, key, merged FROM person WHERE id = ?", (row[2],)).fetchone()
            return None if row is None or row[2] is not None else (int(row[0]), str(row[1]))

    def owner(self, scheme: str, value: str, at_ms: int) -> str | None:
        """The key of the one person whose identifier it is at a moment; None: nobody's, or several persons'."""
        with self._book.reading() as connection:
            row = connection.execute(
                "SELECT p.key FROM identifier i JOIN claim c ON c.identifier = i.id JOIN person p ON p.id = c.person "
                "WHERE i.mark = ? AND c.sole = 1 AND c.since_ms <= ? AND ? < c.until_ms",
                (self._book.vault.mark(scheme, value), at_ms, at_ms),
            ).fetchone()
        return None if row is None else str(row[0])

    def newest(self, now_ms: int, limit: int = 50) -> list[tuple[str, int, int]]:
        """Persons who did something last: key, how much they did, when."""
        with self._book.reading() as connection:
            rows = connection.execute(
                "SELECT c.person, t.at_ms FROM touch t CROSS JOIN claim c ON c.identifier = t.identifier "
                "AND c.sole = 1 AND t.at_ms >= c.since_ms AND t.at_ms < c.until_ms ORDER BY t.id DESC LIMIT 2000"
            ).fetchall()
            persons = list(dict.fromkeys(int(row[0]) for row in rows))[:limit]
            found = []
            for person in persons:
                row = connection.execute(
                    f"SELECT count(*), max(t.at_ms) {MINE} AND c.person = :person",
                    {"now": now_ms, "person": person},
                ).fetchone()
                if row[0]:
                    key = connection.execute("SELECT key FROM person WHERE id = ?", (person,)).fetchone()[0]
                    found.append((str(key), int(row[0]), int(row[1])))
        return found

    def profile(self, key: str, now_ms: int) -> Profile | None:
        """Everything about a person; None when there is none of that key."""
        found = self.person(key)
        if found is None:
            return None
        number, key = found
        with self._book.reading() as connection:
            return Profile(
                key=key, known=self._known(connection, number), consents=self._agreed(connection, number),
                entries=tuple(self._entries(connection, number, now_ms)), coupons=self._coupons(connection, number),
                household=self._household(connection, number),
            )  # fmt: skip

    def history(self, person: int, now_ms: int) -> list[Entry]:
        """What a person did, newest first."""
        with self._book.reading() as connection:
            return self._entries(connection, person, now_ms)

    def _entries(self, connection: sqlite3.Connection, person: int, now_ms: int) -> list[Entry]:
        rows = connection.execute(
            f"SELECT {_COLUMNS}, i.scheme, t.how, c.proved_ms, c.edge {MINE} AND c.person = :person "
            "ORDER BY t.at_ms DESC, t.id DESC LIMIT :most",
            {"now": now_ms, "person": person, "most": _MOST},
        ).fetchall()
        entries: dict[int, Entry] = {}
        for *row, scheme, how, proved_ms, edge in rows:
            sure, evidence = _certainty(scheme, how, row[4] >= proved_ms, bool(edge))
            entries[row[0]] = _entry(row, sure * row[10], (evidence,))
        for visit in [entry for entry in entries.values() if entry.kind == "visit"]:
            for sale in self._sales_of(connection, visit, entries, person):
                before = entries.get(sale.touch)
                if before is None:
                    entries[sale.touch] = sale
                elif not before.visit:
                    entries[sale.touch] = msgspec.structs.replace(
                        before, visit=visit.ref, evidence=(*before.evidence, *sale.evidence)
                    )
        return sorted(entries.values(), key=lambda entry: (-entry.at_ms, -entry.touch))

    def _sales_of(
        self, connection: sqlite3.Connection, visit: Entry, entries: dict[int, Entry], person: int
    ) -> Iterator[Entry]:
        """The sales of a visit: those it lists; where it lists none, the person's own of that time in that store."""
        # CROSS JOIN: SQLite keeps the order, and does not walk over all sales of the store.
        listed = connection.execute(
            f"SELECT {_COLUMNS}, t.identifier FROM visit_sale v "  # noqa: S608 - constants
            "CROSS JOIN touch t ON t.store = v.store AND t.ref = v.sale "
            "AND t.kind IN ('sale', 'return', 'exchange') WHERE v.store = ? AND v.visit = ?",
            (visit.store, visit.ref),
        ).fetchall()
        for *row, identifier in listed:
            if identifier is None or row[0] in entries or not self._of_another(connection, identifier, person):
                yield _entry(row, visit.confidence * row[10], ("visit_lists_sale",), visit.ref)
        if not listed:
            for entry in list(entries.values()):
                if (
                    entry.kind in ("sale", "return", "exchange")
                    and entry.store == visit.store
                    and not entry.visit
                    and visit.at_ms <= entry.at_ms <= visit.end_ms + AFTER_VISIT_MS
                ):
                    sure = entry.confidence * SAME_TIME
                    yield msgspec.structs.replace(
                        entry, visit=visit.ref, evidence=("same_store_and_time",), confidence=sure
                    )

    def _of_another(self, connection: sqlite3.Connection, identifier: int, person: int) -> bool:
        """A visit's sale that names somebody else, or a household that is not this person's, contradicts it."""
        mine = connection.execute(
            "SELECT 1 FROM claim WHERE identifier = ? AND person = ?", (identifier, person)
        ).fetchone()
        anybody = connection.execute("SELECT 1 FROM claim WHERE identifier = ?", (identifier,)).fetchone()
        return mine is None and anybody is not None

    def _known(self, connection: sqlite3.Connection, person: int) -> tuple[Known, ...]:
        rows = connection.execute(
            "SELECT i.scheme, i.box, c.proved_ms, c.until_ms, c.sole, coalesce(e.act, ''), c.edge FROM claim c "
            "JOIN identifier i ON i.id = c.identifier LEFT JOIN edge e ON e.id = c.edge WHERE c.person = ? "
            "ORDER BY i.scheme != 'member', c.proved_ms",
            (person,),
        ).fetchall()
        return tuple(
            Known(
                shown=masked(scheme, self._book.vault.unboxed(box)), scheme=scheme, since_ms=proved_ms,
                until_ms=None if until_ms == STILL else until_ms, sole=bool(sole), act=act, edge=edge,
            )
            for scheme, box, proved_ms, until_ms, sole, act, edge in rows
        )  # fmt: skip

    def _agreed(self, connection: sqlite3.Connection, person: int) -> tuple[Agreed, ...]:
        return tuple(
            Agreed(purpose=row[0], since_ms=row[1], until_ms=row[2], withdrawn_ms=row[3])
            for row in connection.execute(
                "SELECT purpose, since_ms, until_ms, withdrawn_ms FROM consented WHERE person = ? ORDER BY purpose",
                (person,),
            )
        )

    def _coupons(self, connection: sqlite3.Connection, person: int) -> tuple[Card, ...]:
        rows = connection.execute(
            "SELECT DISTINCT k.coupon, k.campaign, k.channel, k.face, k.issued_ms, "
            "(SELECT s.step || char(31) || s.store || char(31) || s.at_ms FROM coupon_step s WHERE s.coupon = k.coupon "
            " ORDER BY s.at_ms DESC, s.place DESC LIMIT 1) "
            "FROM claim c JOIN coupon k ON k.identifier = c.identifier WHERE c.person = ? AND c.sole = 1 "
            "ORDER BY k.issued_ms DESC LIMIT 200",
            (person,),
        ).fetchall()
        cards = []
        for coupon, campaign, channel, face, issued_ms, last in rows:
            state, store, at_ms = str(last).split("\x1f") if last else ("issued", "", "")
            cards.append(
                Card(coupon=coupon, campaign=campaign, channel=channel, face=face, issued_ms=issued_ms, state=state,
                     store=store, at_ms=int(at_ms) if at_ms else None)
            )  # fmt: skip
        return tuple(cards)

    def _household(self, connection: sqlite3.Connection, person: int) -> int:
        row = connection.execute(
            "SELECT count(DISTINCT o.person) FROM claim c JOIN claim o ON o.identifier = c.identifier "
            "AND o.person != c.person WHERE c.person = ? AND c.sole = 0",
            (person,),
        ).fetchone()
        return int(row[0])


_COLUMNS = (
    "t.id, t.kind, t.channel, t.store, t.at_ms, t.end_ms, t.ref, t.amount_parts, t.currency, t.items, t.confidence, "
    "t.detail"
)


def _entry(row: list[object], confidence: float, evidence: tuple[str, ...], visit: str = "") -> Entry:
    touch, kind, channel, store, at_ms, end_ms, ref, amount_parts, currency, items, _, detail = row
    return msgspec.convert(
        {
            "touch": touch, "kind": kind, "channel": channel, "store": store, "at_ms": at_ms, "end_ms": end_ms,
            "ref": ref, "amount_parts": amount_parts, "currency": currency, "items": items,
            "confidence": round(confidence, 3), "evidence": evidence, "visit": visit,
            "detail": msgspec.json.decode(str(detail)),
        },
        Entry,
    )  # fmt: skip


def _certainty(scheme: str, how: str, proved: bool, linked: bool) -> tuple[float, str]:
    """How sure a touch under an identifier is, and the words for it."""
    if scheme in SURE:
        sure, evidence = SURE[scheme], f"key_{scheme}"
    elif not linked or proved:
        sure, evidence = LINKED, f"key_{scheme}"
    else:
        sure, evidence = BEFORE_LINK, f"before_link_{scheme}"
    return (sure * BY_DAY_KEY, f"day_key_{scheme}") if how == "day_key" else (sure, evidence)


def money(amount_parts: int) -> float:
    """Ten-thousandths as a number, for sums and models."""
    return amount_parts / PARTS
