"""Online history from CSV: what the web shop and the member system know, row by row into the book of persons.

The kind of a file is told by its header. A row that cannot be used is refused with its line and the reason, never with
what it says about a person; the rest is taken. The same row again changes nothing, so a file may be imported twice, or
after an interruption. A delivery phone or an e-mail in an order finds a person, but it proves nothing: only
registrations that were verified are acts. Knows no event and no HTTP.

*Source*: docs/matching.md, "Online history"; RFC 4180 (CSV).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, get_args

import msgspec

from gateway.errors import ConfigError, Rejected
from sync.platform.consent_state import ConsentAct
from sync.platform.identity_graph import Act
from sync.platform.profile_book import IMPORT, ProfileBook, Touch, Writing
from sync.platform.profile_fold import ms, parts
from sync.platform.vault import SCHEMES, Named

Normalise = Callable[[str, str], Named]
"""(scheme, as written) → the one spelling. Raises Rejected without quoting it."""

_BATCH: Final = 500
_ERRORS_KEPT: Final = 100
_LONGEST_FIELD: Final = 1_000
_PURPOSES: Final = frozenset({"visits", "matching", "offers", "analytics"})
_BY: Final = ("member", "phone", "email", "app", "payment")  # columns that name a person, the surest first


def spelling(region: str) -> Normalise:
    """The shops' own spelling; `region`: where a phone number without a country code is from."""
    from gateway.shopper.identifiers import Rules, normalise

    rules = Rules(region=region)
    return lambda scheme, raw: normalise(scheme, raw, rules)  # type: ignore[arg-type]  # checked by the callers


class Problem(msgspec.Struct, frozen=True):
    """A row that was refused. `line`: of the file, the header is line 1."""

    line: int
    column: str
    reason: str


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What a file came to: rows read = taken + known + refused. `problems`: the first of the refused."""

    kind: str
    rows: int
    taken: int
    known: int
    refused: int
    problems: tuple[Problem, ...]


class _Bad(Exception):
    def __init__(self, column: str, reason: str) -> None:
        super().__init__(column, reason)
        self.column = column
        self.reason = reason


class Row:
    """One row's fields, read strictly."""

    def __init__(self, fields: Mapping[str, str], normalise: Normalise) -> None:
        self._fields = fields
        self._normalise = normalise

    def text(self, column: str, *, needed: bool = False) -> str:
        """The field without the space around it."""
        value = (self._fields.get(column) or "").strip()
        if len(value) > _LONGEST_FIELD or "\0" in value:
            raise _Bad(column, f"over {_LONGEST_FIELD} characters, or a NUL")
        if needed and not value:
            raise _Bad(column, "is empty")
        return value

    def at_ms(self, column: str) -> int | None:
        """A time with its offset; None where the field is empty."""
        text = self.text(column)
        if not text:
            return None
        try:
            at_ms = ms(text)
        except (ValueError, OverflowError):
            raise _Bad(column, "is no time with an offset, as in 2026-11-22T09:31:07+08:00") from None
        if not 0 < at_ms < 4_102_444_800_000:
            raise _Bad(column, "lies before 1970 or after 2099")
        return at_ms

    def needed_ms(self, column: str) -> int:
        """A time."""
        at_ms = self.at_ms(column)
        if at_ms is None:
            raise _Bad(column, "is empty")
        return at_ms

    def money(self, column: str) -> int:
        """An amount in ten-thousandths."""
        try:
            amount = parts(Decimal(self.text(column, needed=True)))
        except InvalidOperation:
            amount = None
        if amount is None:
            raise _Bad(column, "is no amount with a decimal point")
        return amount

    def yes(self, column: str) -> bool:
        """yes or no."""
        text = self.text(column, needed=True).lower()
        if text not in ("yes", "no", "true", "false", "1", "0"):
            raise _Bad(column, "is neither yes nor no")
        return text in ("yes", "true", "1")

    def named(self, scheme: str, column: str) -> Named:
        """An identifier, in the one spelling."""
        if scheme not in SCHEMES:
            raise _Bad("scheme", "is not one of " + ", ".join(SCHEMES))
        try:
            return self._normalise(scheme, self.text(column, needed=True))
        except Rejected as refused:
            raise _Bad(column, refused.reason) from None

    def who(self) -> Named:
        """The surest identifier that the row has."""
        for scheme in _BY:
            if self.text(scheme):
                return self.named(scheme, scheme)
        raise _Bad("member", "the row names nobody")


class _Kind(msgspec.Struct, frozen=True):
    """A kind of file: columns it must have, its key, and what a row does. `take` is given the import's row number."""

    needs: frozenset[str]
    key: tuple[str, ...]
    take: Callable[[Writing, Row, int], None]


def import_file(book: ProfileBook, path: Path, normalise: Normalise) -> Imported:
    """Import one file.

    Args:
        book: open.
        path: CSV, UTF-8 (a byte order mark is fine), comma, semicolon or tab, with a header.
        normalise: spells identifiers as the shops do.

    Raises:
        ConfigError: it cannot be read, is not UTF-8, or its header fits no kind.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return import_lines(book, file, normalise, path.name)
    except OSError as error:
        raise ConfigError("import", path.name, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError("import", path.name, "it is not UTF-8", "save it as UTF-8 and import it again") from error


def import_lines(book: ProfileBook, lines: Iterable[str], normalise: Normalise, name: str) -> Imported:
    """`import_file` of lines."""
    lines = iter(lines)
    head = next(lines, "")
    delimiter = max(",;\t", key=head.count)
    columns = [column.strip().lower() for column in next(csv.reader([head], delimiter=delimiter), [])]
    kind = next((each for each, it in KINDS.items() if it.needs <= set(columns)), None)
    if kind is None or len(set(columns)) != len(columns):
        known = "; ".join(f"{each}: {', '.join(sorted(it.needs))}" for each, it in KINDS.items())
        raise ConfigError("import", name, "its header fits no kind of file", f"columns needed — {known}")
    counts = {"taken": 0, "known": 0, "refused": 0}
    problems: list[Problem] = []
    for batch in _batches(lines, columns, delimiter):
        with book.transaction() as writing:
            for line, fields in batch:
                try:
                    if fields is None:
                        raise _Bad("", f"does not have the header's {len(columns)} fields")
                    counts["taken" if _take(writing, kind, Row(fields, normalise)) else "known"] += 1
                except _Bad as bad:
                    counts["refused"] += 1
                    problems.append(Problem(line, bad.column, bad.reason))
        del problems[_ERRORS_KEPT:]
    return Imported(kind=kind, rows=sum(counts.values()), problems=tuple(problems), **counts)


def _batches(
    lines: Iterator[str], columns: list[str], delimiter: str
) -> Iterator[list[tuple[int, dict[str, str] | None]]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    batch: list[tuple[int, dict[str, str] | None]] = []
    while True:
        line = reader.line_num + 2  # where the row begins; the header was line 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error:
            batch.append((line, None))
            continue
        if not any(field.strip() for field in fields):
            continue
        batch.append((line, dict(zip(columns, fields, strict=True)) if len(fields) == len(columns) else None))
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _take(writing: Writing, kind: str, row: Row) -> bool:
    """False when the row is known. All or nothing: a refused row leaves no trace."""
    it = KINDS[kind]
    text = "\x1f".join(row.text(column) for column in it.key)
    key = writing.mark_of(text)
    writing.sql("SAVEPOINT row")
    try:
        made = writing.sql(
            "INSERT OR IGNORE INTO imported (kind, key) VALUES (?, ?) RETURNING id", (kind, key)
        ).fetchone()
        if made is not None:
            it.take(writing, row, int(made[0]))
    except _Bad:
        writing.sql("ROLLBACK TO row")
        raise
    finally:
        writing.sql("RELEASE row")
    return made is not None


def _identify(writing: Writing, named: Named, column: str, at_ms: int) -> int:
    try:
        identifier = writing.identify(named.scheme, named.value, at_ms)
    except Rejected as refused:
        raise _Bad(column, refused.reason) from None
    if identifier is None:
        raise _Bad(column, "this person's data up to then was erased")
    return identifier


def _member(writing: Writing, row: Row, place: int) -> None:
    joined_ms = row.needed_ms("joined_at")
    member = _identify(writing, row.named("member", "member"), "member", joined_ms)
    detail = {name: row.text(name) for name in ("tier", "language") if row.text(name)}
    writing.touch(
        Touch(kind="joined", at_ms=joined_ms, channel=row.text("channel") or "online", identifier=member,
              detail=msgspec.json.encode(detail).decode(), origin=IMPORT, place=place)
    )  # fmt: skip


def _registration(writing: Writing, row: Row, place: int) -> None:
    act, at_ms = row.text("act", needed=True), row.needed_ms("at")
    if act not in get_args(Act) or act == "basket":
        raise _Bad("act", "is none of registration, login, phone_change, card_change")
    if not row.yes("verified"):
        return  # somebody typed it in; that proves nothing
    one = _identify(writing, row.who(), "member", at_ms)
    other = _identify(writing, row.named(row.text("scheme", needed=True), "value"), "value", at_ms)
    scheme = row.text("replaced_scheme") or row.text("scheme")
    replaced = _identify(writing, row.named(scheme, "replaced"), "replaced", at_ms) if row.text("replaced") else 0
    writing.link(act, one, other, at_ms, replaced=replaced, origin=IMPORT, place=place)  # type: ignore[arg-type]


def _order(writing: Writing, row: Row, place: int) -> None:
    at_ms, amount = row.needed_ms("ordered_at"), row.money("amount")
    who = _identify(writing, row.who(), "member", at_ms)
    currency = row.text("currency", needed=True).upper()
    if len(currency) != 3 or not currency.isascii() or not currency.isalpha():
        raise _Bad("currency", "is no ISO 4217 code")
    items = row.text("items")
    if items and not (items.isascii() and items.isdigit() and len(items) < 7):
        raise _Bad("items", "is no number of items")
    detail = {name: row.text(name) for name in ("coupon", "status") if row.text(name)}
    writing.touch(
        Touch(kind="order", at_ms=at_ms, channel=row.text("channel") or "online", identifier=who,
              ref=row.text("order_id", needed=True), amount_parts=amount, currency=currency,
              items=float(items) if items else None, detail=msgspec.json.encode(detail).decode(), origin=IMPORT,
              place=place)
    )  # fmt: skip


def _consent(writing: Writing, row: Row, place: int) -> None:
    step, at_ms = row.text("step", needed=True), row.needed_ms("at")
    if step not in ("granted", "withdrawn"):
        raise _Bad("step", "is neither granted nor withdrawn")
    purposes = tuple(row.text("purposes").replace("+", " ").replace("|", " ").split())
    if not set(purposes) <= _PURPOSES or (step == "granted" and not purposes):
        raise _Bad("purposes", "are not of " + ", ".join(sorted(_PURPOSES)))
    who = _identify(writing, row.who(), "member", at_ms)
    act = ConsentAct("granted" if step == "granted" else "withdrawn", purposes, at_ms, row.at_ms("expires_at"))
    writing.consent(
        act, row.text("record_id", needed=True), who, notice=row.text("notice_version"),
        language=row.text("language"), method=row.text("method") or "import", origin=IMPORT, place=place,
    )  # fmt: skip


def _coupon(writing: Writing, row: Row, place: int) -> None:
    issued_ms = row.needed_ms("issued_at")
    who = _identify(writing, row.who(), "member", issued_ms)
    face = row.text("face_value")
    if face:
        row.money("face_value")
    writing.sql(
        "INSERT INTO coupon VALUES (?, ?, ?, ?, ?, ?, NULL, ?) ON CONFLICT (coupon) DO UPDATE SET "
        "identifier = excluded.identifier, issued_ms = excluded.issued_ms, campaign = excluded.campaign, "
        "channel = excluded.channel, face = excluded.face",
        (row.text("coupon", needed=True), row.text("campaign"), row.text("channel") or "online", face, who, issued_ms,
         IMPORT),
    )  # fmt: skip


KINDS: Final[dict[str, _Kind]] = {
    "registrations": _Kind(
        frozenset({"at", "act", "scheme", "value", "verified"}),
        ("at", "act", "member", "phone", "email", "app", "scheme", "value"), _registration,
    ),
    "consents": _Kind(frozenset({"record_id", "at", "step", "purposes"}), ("record_id", "at", "step"), _consent),
    "coupons": _Kind(frozenset({"coupon", "issued_at", "campaign"}), ("coupon",), _coupon),
    "orders": _Kind(frozenset({"order_id", "ordered_at", "amount", "currency"}), ("order_id",), _order),
    "members": _Kind(frozenset({"member", "joined_at"}), ("member", "joined_at"), _member),
}  # fmt: skip
