"""The end of a demo: the shop's own books beside the journal, line by line.

Reads what the journal took in since the demo began, and says whether every sale is there once, every visitor counted,
every code read and every tag that was read often enough seen. Knows the ledger and the journal, nothing that runs.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from devices.simulator.ledger import Ledger
from devices.simulator.members import Club
from gateway.demo.history import SOURCE
from gateway.event import STREAMS, Stream
from gateway.event_types import FootfallCounted, type_of
from gateway.journal.reader import JournalReader

_TAG_EVENTS: Final = ("store.rfid.arrived.v1", "store.rfid.moved.v1")
_FOOTFALL: Final = type_of(FootfallCounted).name
_SCAN_EVENTS: Final = ("store.barcode.scanned.v1", "store.interaction.scanned.v1")


_CONSENT_EVENTS: Final = ("store.consent.granted.v1", "store.consent.withdrawn.v1")
_SCANNER, _DOOR = "scanner", "door-qr"  # devices of config/demo.toml


class PixelCount(msgspec.Struct, frozen=True):
    """A camera's newest report of one interval. Times in seconds: since 1970, and of the machine's monotonic clock."""

    start_s: float
    interval_s: float
    came: int
    left: int
    coverage: float
    revision: int
    recorded_s: float
    mono_s: float


class Kept(msgspec.Struct):
    """What the journal holds of a run."""

    sales: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)  # (till, number) → times
    money: Decimal = Decimal(0)
    scans: int = 0
    tags: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)  # (reader, EPC) → times seen to come
    entered: int = 0
    left: int = 0
    ratings: int = 0
    named: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)  # sales that name somebody, or did
    redeemed: Counter[str] = msgspec.field(default_factory=Counter)  # coupon → uses
    door_codes: int = 0
    consents: int = 0
    points: int = 0
    visits: dict[str, tuple[str, ...]] = {}  # visit → sales that it lists; a corrected one is gone
    events: int = 0
    pixels: dict[tuple[str, str], PixelCount] = msgspec.field(default_factory=dict)  # by line and interval


class Line(msgspec.Struct, frozen=True):
    """One comparison. `missing` and `extra` are counts that nothing explains; both 0 when all is well."""

    what: str
    shop: int
    journal: int
    missing: int = 0
    extra: int = 0
    note: str = ""
    sides: tuple[str, str] = ("shop", "journal")  # whose counts `shop` and `journal` are

    @property
    def in_order(self) -> bool:
        """True when the books agree."""
        return not self.missing and not self.extra


def read_on(reader: JournalReader, heads: dict[Stream, int], kept: Kept) -> None:
    """Add to `kept` what was accepted after the positions in `heads`, and move these on.

    Raises:
        JournalError: the journal cannot be read.
    """
    for stream in STREAMS:
        while batch := reader.read(stream, heads[stream]):
            heads[stream] = batch[-1].position
            for event in batch:
                fields = event.decode()
                if f"/{SOURCE}/" in fields["source"]:
                    kept.events += 1
                elif fields["type"] == _FOOTFALL and "/camera/" in fields["source"]:
                    _see(kept, fields)
                else:
                    _count(kept, fields["type"], fields["data"])


def compared(ledger: Ledger, kept: Kept, damaged: int = 0) -> list[Line]:
    """The books side by side; `damaged`: frames that bad cables spoiled, which may have become something else."""
    due = {sale for sale in ledger.sales if sale not in ledger.unproven_sales}
    missing = sum(sale not in kept.sales for sale in due)
    extra = sum(times - 1 for times in kept.sales.values()) + sum(sale not in ledger.sales for sale in kept.sales)
    found = sum((net for sale, net in ledger.sales.items() if sale in kept.sales), Decimal(0))
    lost = [f"{count} {reason}" for reason, count in sorted(ledger.lost_on_wire.items())]
    sure = {key for key, trace in ledger.tags.items() if trace.sure}
    sales_note = ", ".join([f"¥{ledger.money:,} and ¥{kept.money:,}", *_unread(len(ledger.unproven_sales))])
    return [
        Line("sales", len(ledger.sales), kept.sales.total(), missing, extra + (kept.money != found), sales_note),
        Line(
            "scans", ledger.scans, kept.scans, max(0, ledger.scans - ledger.unproven_scans - kept.scans),
            max(0, kept.scans - ledger.scans - damaged), ", ".join(lost + _unread(ledger.unproven_scans)),
        ),
        Line("side door in", ledger.entered, kept.entered, *_apart(ledger.entered, kept.entered)),
        Line("side door out", ledger.left, kept.left, *_apart(ledger.left, kept.left)),
        Line("door codes", ledger.door_codes, kept.door_codes, *_apart(ledger.door_codes, kept.door_codes)),
        Line("answers", ledger.ratings, kept.ratings, *_apart(ledger.ratings, kept.ratings)),
        Line(
            "tags", len(sure), len(kept.tags), len(sure - kept.tags.keys()), len(kept.tags.keys() - ledger.tags.keys()),
            f"often enough for an arrival; {len(ledger.tags)} in all",
        ),
    ]  # fmt: skip


def persons(club: Club, kept: Kept) -> list[Line]:
    """What the members did beside what the journal knows of it: named where they agreed, and nowhere else.

    A sale of somebody whose consent may have been overtaken while the gateway was away proves nothing.
    """
    sure = {sale: due for sale, due in club.sales.items() if club.sure(sale)}
    due = {sale for sale, it in sure.items() if it.named}
    known = {sale for sale, times in kept.named.items() if times}
    lost = sum(sale not in known for sale in due if sale in kept.sales)
    wrongly = sum(sale in known for sale in sure if sale not in due) + sum(sale not in club.sales for sale in known)
    unproven = len(club.sales) - len(sure)
    note = f"of {len(club.sales)} with a card; nobody else is named"
    note += f", {unproven} while a consent was on its way" if unproven else ""
    twice = sum(times - 1 for times in kept.redeemed.values())
    unknown = sum(coupon not in club.redeemed for coupon in kept.redeemed)
    joined = Counter(_number(sale) for visit in kept.visits.values() for sale in visit)
    strange = sum(sale not in club.sales or (sale in sure and sale not in due) for sale in joined)
    strange += sum(times - 1 for times in joined.values())
    return [
        Line("members", len(due), len(due & known), lost, wrongly, note),
        Line("consents", 2 * club.consents, kept.consents, *_apart(2 * club.consents, kept.consents), "card and app"),
        Line("points", club.points, kept.points, *_apart(club.points, kept.points)),
        Line(
            "visits", len(due), len(joined), 0, strange,
            f"sales of members in {len(kept.visits)} visits that have ended; the others are under way",
        ),
        Line(
            "coupons", len(club.redeemed), kept.redeemed.total(),
            sum(coupon not in kept.redeemed for coupon in club.redeemed), twice + unknown, "redeemed, each once",
        ),
    ]  # fmt: skip


def _number(transaction_id: str) -> tuple[str, str]:
    """Till and the till's own number: `0001-till-1-2026-11-22-1234`."""
    store_and_till, _, number = transaction_id.rpartition("-")
    return store_and_till.split("-", 1)[1].rsplit("-", 3)[0], number


def _unread(count: int) -> list[str]:
    return [f"{count} over a line that nobody may have read"] if count else []


def _apart(shop: int, journal: int) -> tuple[int, int]:
    return max(0, shop - journal), max(0, journal - shop)


def _see(kept: Kept, fields: dict[str, Any]) -> None:
    """A camera's count; a later revision supersedes."""
    kept.events += 1
    it = msgspec.convert(fields["data"], FootfallCounted)
    count = PixelCount(
        _seconds(it.interval_start), it.interval_s, it.in_, it.out, it.quality.coverage, it.revision,
        _seconds(fields["recordedtime"]), fields["monous"] / 1e6,
    )  # fmt: skip
    known = kept.pixels.get((it.line, it.interval_start))
    if known is None or known.revision <= count.revision:
        kept.pixels[(it.line, it.interval_start)] = count


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _count(kept: Kept, kind: str, data: dict[str, object]) -> None:
    kept.events += 1
    if kind == "store.pos.sale.v1":
        sale = msgspec.convert(data, _Sale, strict=False)
        number = _number(sale.transaction_id)
        kept.sales[number] += 1
        kept.named[number] += sale.loyalty is not None
        kept.money += sale.totals.net
    elif kind in _SCAN_EVENTS:
        kept.scans += data["scanner"] == _SCANNER
        kept.door_codes += data["scanner"] == _DOOR
    elif kind in _TAG_EVENTS:
        kept.tags[(str(data["reader"]), str(data["epc_hex"]))] += 1
    elif kind == _FOOTFALL:
        count = msgspec.convert(data, _Count)
        kept.entered += count.in_
        kept.left += count.out
    elif kind == "store.feedback.given.v1":
        kept.ratings += 1
    elif kind == "store.coupon.redeemed.v1":
        kept.redeemed[str(data["coupon"])] += 1
    elif kind in _CONSENT_EVENTS:
        kept.consents += 1
    elif kind == "store.points.earned.v1":
        kept.points += 1
    elif kind == "store.visit.closed.v1":
        visit = msgspec.convert(data, _Visit)
        kept.visits.pop(visit.supersedes or "", None)
        kept.visits[visit.visit_id] = visit.transaction_ids


class _Net(msgspec.Struct):
    net: Decimal


class _Visit(msgspec.Struct):
    visit_id: str
    transaction_ids: tuple[str, ...] = ()
    supersedes: str | None = None


class _Sale(msgspec.Struct):
    workstation_id: str
    transaction_id: str
    totals: _Net
    loyalty: dict[str, Any] | None = None


class _Count(msgspec.Struct):
    in_: int = msgspec.field(name="in")
    out: int
