"""The coupon book's tables in the journal's database, and the questions asked of them.

A use is one row; `UNIQUE (coupon, use)` among the live ones (held or redeemed) is what makes a use happen once,
whatever threads, tills and restarts do. Rows of what was given back stay for a while: a till may still speak of them.
Every row can be made again from the events of the journal (`coupon_rebuild`). Knows SQL; decides nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from gateway.shopper.coupon_rules import RuleName, Standing
from gateway.shopper.coupon_token import CouponToken

State = Literal["held", "redeemed", "released", "lapsed", "refused"]  # refused: a sale that had no use left
Query = Callable[[str], Sequence[Any]]
"""How figures are read: SQL to rows (`JournalReader.query`)."""
REQUESTS_KEPT = 100_000
ENDED_KEPT = 20_000  # uses given back, newest
ENDED_OF_ONE = 100  # of one coupon, or twice its uses: every question about it reads them
_EXPOSED, _DELIVERED = 1, 2
_TABLES = (
    """CREATE TABLE IF NOT EXISTS coupon_use (
        reservation TEXT PRIMARY KEY, coupon TEXT NOT NULL, use INTEGER NOT NULL, state TEXT NOT NULL,
        campaign TEXT NOT NULL, face TEXT NOT NULL, currency TEXT NOT NULL, uses INTEGER NOT NULL,
        expires_s INTEGER NOT NULL, channel TEXT NOT NULL, rule TEXT NOT NULL, lease TEXT NOT NULL,
        exposed INTEGER NOT NULL, note TEXT NOT NULL, lane TEXT NOT NULL, transaction_id TEXT NOT NULL,
        sale_id TEXT NOT NULL, boot TEXT NOT NULL, mono_ms INTEGER NOT NULL, position INTEGER NOT NULL)""",
    "CREATE UNIQUE INDEX IF NOT EXISTS coupon_use_once ON coupon_use (coupon, use) "
    "WHERE state IN ('held', 'redeemed')",
    "CREATE INDEX IF NOT EXISTS coupon_use_coupon ON coupon_use (coupon)",
    "CREATE INDEX IF NOT EXISTS coupon_use_exposed ON coupon_use (exposed) WHERE exposed = 1",
    "CREATE INDEX IF NOT EXISTS coupon_use_state ON coupon_use (state)",
    "CREATE INDEX IF NOT EXISTS coupon_use_lent ON coupon_use (lease, coupon) WHERE state IN ('held', 'redeemed')",
    """CREATE TABLE IF NOT EXISTS coupon_known (
        coupon TEXT PRIMARY KEY, token BLOB NOT NULL, issued INTEGER NOT NULL, expires_s INTEGER NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS coupon_revoked (kind TEXT, name TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS coupon_lease (
        lease TEXT, coupon TEXT, campaign TEXT NOT NULL, units INTEGER NOT NULL, until_s INTEGER NOT NULL,
        PRIMARY KEY (lease, coupon)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS coupon_lease_coupon ON coupon_lease (coupon, campaign)",
    "CREATE TABLE IF NOT EXISTS coupon_key (id TEXT PRIMARY KEY, public TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS coupon_request (
        id INTEGER PRIMARY KEY, lane TEXT NOT NULL, request TEXT NOT NULL, digest BLOB NOT NULL, answer BLOB NOT NULL,
        UNIQUE (lane, request))""",
    "CREATE TABLE IF NOT EXISTS coupon_fact (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
)  # fmt: skip


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One use of a coupon, as a row. `use`: 1 … `uses`. `position`: of the event that redeemed it, 0 before."""

    reservation: str
    coupon: str
    use: int
    state: State
    campaign: str
    face: Decimal
    currency: str
    uses: int
    expires_s: int
    channel: str
    rule: RuleName
    lease: str
    exposed: int  # 0 never was, 1 is money at risk, 2 was until it was delivered
    note: str
    lane: str
    transaction_id: str
    sale_id: str
    boot: str
    mono_ms: int
    position: int


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """What the platform lent: one coupon, or units of a campaign (`coupon` is ""), until a second."""

    lease: str
    coupon: str = ""
    campaign: str = ""
    units: int = 1
    until_s: int


_COLUMNS = tuple(field.name for field in msgspec.structs.fields(Use))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM coupon_use"  # noqa: S608 - our own columns
_PUT = f"INSERT INTO coupon_use VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - as above
_CHANGE = f"UPDATE coupon_use SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE reservation = ?"  # noqa: S608
# In thousandths, whole: a face has three digits after the point at most.
AT_RISK = (
    "SELECT coalesce(sum(CAST(round(face * 1000) AS INTEGER)), 0) FROM coupon_use "
    "WHERE exposed = 1 AND state IN ('held', 'redeemed')"
)
_encode = msgspec.json.Encoder(decimal_format="string").encode
_known = msgspec.json.Decoder(CouponToken).decode


def make(connection: sqlite3.Connection) -> None:
    """Make the tables that are missing."""
    for statement in _TABLES:
        connection.execute(statement)


def uses_of(connection: sqlite3.Connection, coupon: str) -> list[Use]:
    """Every use of a coupon that is kept, in the order of the uses."""
    return list(_uses(connection, "WHERE coupon = ? ORDER BY use, rowid", (coupon,)))


def use_of(connection: sqlite3.Connection, reservation: str) -> Use | None:
    """The use that a reservation stands for."""
    return next(_uses(connection, "WHERE reservation = ?", (reservation,)), None)


def held(connection: sqlite3.Connection) -> list[Use]:
    """Every use that is held now."""
    return list(_uses(connection, "WHERE state = 'held'"))


def put_use(connection: sqlite3.Connection, use: Use) -> None:
    """Write a use, in place of the one with its reservation.

    Raises:
        sqlite3.IntegrityError: another live row has this coupon and use.
    """
    values = [str(value) if isinstance(value := getattr(use, name), Decimal) else value for name in _COLUMNS]
    if connection.execute(_CHANGE, (*values, use.reservation)).rowcount == 0:
        connection.execute(_PUT, values)


def forget_ended(connection: sqlite3.Connection, coupon: str, uses: int) -> None:
    """Keep the newest ends of one coupon: a till that holds and lets go for ever must not make every answer slower."""
    connection.execute(
        "DELETE FROM coupon_use WHERE coupon = ?1 AND state NOT IN ('held', 'redeemed') AND rowid <= ("
        "SELECT rowid FROM coupon_use WHERE coupon = ?1 AND state NOT IN ('held', 'redeemed') "
        "ORDER BY rowid DESC LIMIT 1 OFFSET ?2)",
        (coupon, max(ENDED_OF_ONE, 2 * uses)),
    )


def standing_of(connection: sqlite3.Connection, token: CouponToken, now_s: float) -> Standing:
    """What the book says of a coupon."""
    live = [use for use in uses_of(connection, token.id) if use.state in ("held", "redeemed")]
    return Standing(
        revoked=_is_revoked(connection, token), taken=len(live), lease=_lease_for(connection, token, now_s),
        optimistic=sum(use.rule == "optimistic" for use in live), at_risk=at_risk(connection),
    )  # fmt: skip


def at_risk(connection: sqlite3.Connection) -> Decimal:
    """The face of everything that was honoured on the shop's own risk and is not with the platform yet."""
    return Decimal(connection.execute(AT_RISK).fetchone()[0]) / 1000


def delivered(connection: sqlite3.Connection, through: int) -> int:
    """The platform has every event up to that position: what they tell is no risk any more. Returns how many uses."""
    return connection.execute(
        "UPDATE coupon_use SET exposed = ? WHERE exposed = ? AND state = 'redeemed' AND position BETWEEN 1 AND ?",
        (_DELIVERED, _EXPOSED, through),
    ).rowcount


def know(connection: sqlite3.Connection, token: CouponToken, *, issued: bool = False) -> None:
    """Remember what a coupon is, so that a sale may name it by its id alone."""
    connection.execute(
        "INSERT INTO coupon_known VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET token = excluded.token, issued = max(issued, excluded.issued), "
        "expires_s = excluded.expires_s WHERE token <> excluded.token OR issued < excluded.issued",
        (token.id, _encode(token), issued, token.expires_s),
    )


def known(connection: sqlite3.Connection, coupon: str) -> CouponToken | None:
    """What a coupon is; None for one that was never seen here."""
    row = connection.execute("SELECT token FROM coupon_known WHERE coupon = ?", (coupon,)).fetchone()
    return None if row is None else _known(row[0])


def revoke(connection: sqlite3.Connection, kind: Literal["coupon", "campaign", "key"], names: Sequence[str]) -> None:
    """Withdraw coupons, campaigns or issuers' keys; for ever."""
    connection.executemany("INSERT OR IGNORE INTO coupon_revoked VALUES (?, ?)", [(kind, name) for name in names])


def revoked_keys(connection: sqlite3.Connection) -> set[str]:
    """The issuers' keys that are withdrawn."""
    return {row[0] for row in connection.execute("SELECT name FROM coupon_revoked WHERE kind = 'key'")}


def keys(connection: sqlite3.Connection) -> dict[str, str]:
    """Issuers' public keys that the platform has sent, by id."""
    return dict(connection.execute("SELECT id, public FROM coupon_key"))


def put_key(connection: sqlite3.Connection, key: str, public: str) -> None:
    """Trust an issuer's key."""
    connection.execute("INSERT OR REPLACE INTO coupon_key VALUES (?, ?)", (key, public))


def put_lease(connection: sqlite3.Connection, lease: Lease) -> None:
    """Take a lease, or change one."""
    connection.execute(
        "INSERT OR REPLACE INTO coupon_lease VALUES (?, ?, ?, ?, ?)",
        (lease.lease, lease.coupon, lease.campaign, lease.units, lease.until_s),
    )


def lease_used(connection: sqlite3.Connection, lease: str, coupon: str = "") -> int:
    """How many units of a lease are held or redeemed; `coupon`: of that one only."""
    return int(
        connection.execute(
            "SELECT count(*) FROM coupon_use WHERE lease = ? AND state IN ('held', 'redeemed') "
            "AND (?2 = '' OR coupon = ?2)",
            (lease, coupon),
        ).fetchone()[0]
    )


def answered(connection: sqlite3.Connection, lane: str, request: str) -> tuple[bytes, bytes] | None:
    """The digest and the answer of a request that was answered before."""
    row = connection.execute(
        "SELECT digest, answer FROM coupon_request WHERE lane = ? AND request = ?", (lane, request)
    ).fetchone()
    return None if row is None else (bytes(row[0]), bytes(row[1]))


def keep_answer(connection: sqlite3.Connection, lane: str, request: str, digest: bytes, answer: bytes) -> None:
    """Keep an answer for the till that asks again; the oldest go."""
    last = connection.execute(
        "INSERT INTO coupon_request (lane, request, digest, answer) VALUES (?, ?, ?, ?)",
        (lane, request, digest, answer),
    ).lastrowid
    connection.execute("DELETE FROM coupon_request WHERE id <= ?", ((last or 0) - REQUESTS_KEPT,))


def fact(connection: sqlite3.Connection, name: str, otherwise: str = "") -> str:
    """A small fact by its name."""
    row = connection.execute("SELECT value FROM coupon_fact WHERE name = ?", (name,)).fetchone()
    return otherwise if row is None else str(row[0])


def put_fact(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Keep a small fact."""
    connection.execute("INSERT OR REPLACE INTO coupon_fact VALUES (?, ?)", (name, value))


def prune(connection: sqlite3.Connection, expired_s: float) -> None:
    """Forget what can do no harm: what had expired by then, and old ends of reservations."""
    for table, end in (("coupon_use", "expires_s"), ("coupon_known", "expires_s"), ("coupon_lease", "until_s")):
        connection.execute(f"DELETE FROM {table} WHERE {end} < ?", (expired_s,))  # noqa: S608
    connection.execute(
        "DELETE FROM coupon_use WHERE state NOT IN ('held', 'redeemed') "
        "AND rowid <= (SELECT max(rowid) FROM coupon_use) - ?",
        (ENDED_KEPT,),
    )


def _uses(connection: sqlite3.Connection, where: str, values: tuple[object, ...] = ()) -> Iterator[Use]:
    for row in connection.execute(f"{_SELECT} {where}", values).fetchall():
        yield msgspec.convert(dict(zip(_COLUMNS, row, strict=True)), Use)


def _is_revoked(connection: sqlite3.Connection, token: CouponToken) -> bool:
    rows = connection.execute(
        "SELECT 1 FROM coupon_revoked WHERE (kind, name) IN (VALUES ('coupon', ?), ('campaign', ?), ('key', ?))",
        (token.id, token.campaign, token.key),
    )
    return rows.fetchone() is not None


def _lease_for(connection: sqlite3.Connection, token: CouponToken, now_s: float) -> str:
    rows = connection.execute(
        "SELECT lease, coupon, units FROM coupon_lease WHERE until_s > ? AND (coupon = ? OR (coupon = '' AND "
        "campaign = ?)) ORDER BY coupon = '', until_s, lease",
        (now_s, token.id, token.campaign),
    ).fetchall()
    return next((str(lease) for lease, coupon, units in rows if lease_used(connection, lease, coupon) < units), "")
