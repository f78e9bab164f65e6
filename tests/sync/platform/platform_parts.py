"""Parts of the matching tests: events as a gateway makes them, a log in memory, identifiers that seal readably."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec

from gateway.clock import Instant
from gateway.errors import Rejected
from gateway.event import Origin, draft, envelope
from gateway.event_types import (
    ConsentGranted,
    ConsentWithdrawn,
    EventData,
    MemberLinked,
    Sale,
    Shopper,
    Totals,
    VisitClosed,
    type_of,
)
from gateway.event_types import Line as SaleLine
from sync.platform.profile_book import ProfileBook
from sync.platform.profile_fold import ProfileFold
from sync.platform.profile_reading import Entry, Profile, ProfileReading
from sync.platform.vault import Vault

DAY_S = 86_400.0
T0 = 1_795_312_800.0  # a Sunday morning
EPOCH = "ab" * 16


class Open(msgspec.Struct, frozen=True):
    """An identifier."""

    scheme: str
    value: str


class Readable:
    """Seals in clear; opens what says so."""

    def open(self, sealed: str) -> Open:
        key, _, text = sealed.partition(".")
        if key != "clear":
            raise Rejected("open", "sealed", "another key")
        return Open(*text.split("|", 1))


def shopper(scheme: str, value: str, day_key: str | None = None) -> Shopper:
    """A person as an event names one."""
    return Shopper(sealed=f"clear.{scheme}|{value}", scheme=scheme, day_key=day_key)


class Log:
    """Events in order of arrival, as the platform has them."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, bytes]] = []

    def add(self, data: EventData, at_s: float = T0, *, store: str = "0042", record: str | None = None) -> int:
        """One event; returns its position."""
        entry = type_of(data)
        made = draft(
            entry.stream, entry.name, data, source=Origin("t1", store, "gw01").source("till"),
            at=Instant(at_s, 1), extensions={"consentref": record} if record else None,
        )  # fmt: skip
        seq = len(self.rows) + 1
        body = envelope(
            made.body, gateway="gw01", stream=entry.stream, epoch=EPOCH, seq=seq, recorded_s=at_s, boot="0" * 32
        )
        self.rows.append((seq, body))
        return seq

    def events(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        return [row for row in self.rows if row[0] > after][:limit]


class World:
    """A book, a log, and what folds the one into the other."""

    def __init__(self, directory: Path) -> None:
        self.vault = Vault(directory / "p.key")
        self.vault.open()
        self.book = ProfileBook(directory / "p.db", self.vault, durable=False)
        self.book.open()
        self.log = Log()
        self.fold = ProfileFold(self.book, self.log, Readable())
        self.reading = ProfileReading(self.book)
        self.now_s = T0 + 90 * DAY_S

    # -- what happens

    def agrees(
        self, who: Shopper | None, at_s: float = T0, *, record: str = "", until: str | None = None,
        purposes: tuple[str, ...] = ("visits", "matching"),
    ) -> None:  # fmt: skip
        self.log.add(
            ConsentGranted(
                record_id=record or f"r-{len(self.log.rows)}", purposes=purposes, notice_version="1",
                notice_digest="0", language="zh", method="till", expires_at=until, shopper=who,
            ),
            at_s,
        )  # fmt: skip

    def withdraws(self, who: Shopper | None, at_s: float, *, record: str = "w-1") -> None:
        self.log.add(
            ConsentWithdrawn(
                record_id=record, purposes=("matching",), notice_version="1", notice_digest="0", language="zh",
                method="page", shopper=who,
            ),
            at_s,
        )  # fmt: skip

    def links(self, one: Shopper, other: Shopper, at_s: float = T0, *, act: str = "registration",
              replaced: Shopper | None = None) -> None:  # fmt: skip
        self.log.add(MemberLinked(act=act, shopper=one, linked=other, replaced=replaced), at_s)  # type: ignore[arg-type]

    def sells(self, number: str, at_s: float, *, who: Shopper | None = None, payer: Shopper | None = None,
              net: str = "10.00", store: str = "0042", record: str | None = None) -> None:  # fmt: skip
        self.log.add(
            Sale(
                transaction_id=number, kind="sale", workstation_id="1", business_date="2026-11-22", currency="CNY",
                lines=(SaleLine(seq=1, amount=Decimal(net)),),
                totals=Totals(net=Decimal(net)), tap="json", confidence=1.0,
                loyalty=who, payer=payer,
            ),
            at_s, store=store, record=record,
        )  # fmt: skip

    def visits(self, number: str, entered: str, left: str, *, who: Shopper | None = None, sales: tuple[str, ...] = (),
               at_s: float = T0, supersedes: str | None = None, confidence: float = 0.9) -> None:  # fmt: skip
        self.log.add(
            VisitClosed(
                visit_id=number, opened_by="loyalty_scan", entered_at=entered, left_at=left, transaction_ids=sales,
                evidence=("member_scan",), confidence=confidence, algorithm="1", supersedes=supersedes, shopper=who,
            ),
            at_s,
        )  # fmt: skip

    # -- what the platform makes of it

    def key_of(self, scheme: str, value: str, at_s: float | None = None) -> str | None:
        self.fold.catch_up()
        return self.reading.owner(scheme, value, round((self.now_s if at_s is None else at_s) * 1000))

    def profile(self, scheme: str, value: str, at_s: float | None = None) -> Profile:
        key = self.key_of(scheme, value, at_s)
        assert key is not None
        found = self.reading.profile(key, round(self.now_s * 1000))
        assert found is not None
        return found

    def refs(self, scheme: str, value: str) -> list[str]:
        """What the person did, oldest first."""
        return [entry.ref for entry in reversed(self.profile(scheme, value).entries)]

    def entry(self, scheme: str, value: str, ref: str) -> Entry:
        return next(entry for entry in self.profile(scheme, value).entries if entry.ref == ref)

    def facts(self) -> dict[str, str]:
        with self.book.reading() as connection:
            return dict(connection.execute("SELECT name, value FROM fact"))

    def close(self) -> None:
        self.book.close()
