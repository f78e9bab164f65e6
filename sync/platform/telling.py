"""What the platform tells the shops about a person, by an explicit act of somebody there, and how it forgets one.

Hints and coupons go down only with a consent for offers; identifiers go down only sealed to the gateway's own key.
Erasing names a person to the shops by their events and keys, never by an identifier, then redacts the platform's own
log, and lets go of the book's rows last, so that a crash in between leaves a person who can be erased again. Knows no
HTTP.

*Source*: docs/sync.md, "Commands"; PIPL Art. 24 (offers), 47 (deletion).
"""

from __future__ import annotations

import base64
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.clock import Clock, rfc3339_s
from gateway.errors import Rejected
from gateway.shopper import coupon_token
from gateway.shopper.coupon_token import CouponToken
from gateway.shopper.identifiers import Identifier
from gateway.shopper.sealing import Sealer, key_from_text
from sync.platform.consent_state import ConsentAct
from sync.platform.profile_book import EVENT, IMPORT, ProfileBook, Writing
from sync.platform.profile_reading import ProfileReading
from sync.platform.store import PlatformStore

T = TypeVar("T")
_EVENTS_A_COMMAND: Final = 200
_LONGEST_HINT: Final = 280
_SHORTEST_KEY: Final = 8  # a gateway takes no shorter reference, which might stand in anybody's event
_FACTS: Final = ("sale", "return", "void", "exchange", "order")  # touches that stay, without the person


class GatewayKey(msgspec.Struct, frozen=True):
    """A gateway's own public key, as its heartbeat says it."""

    id: str
    public_key: str


class _Beat(msgspec.Struct):
    seal_key: GatewayKey | None = None


class Issuer(msgspec.Struct, frozen=True):
    """Who signs coupons: the key's id and the key."""

    id: str
    key: Ed25519PrivateKey


class Told(msgspec.Struct, frozen=True):
    """A command that was given: its id, the gateway."""

    command: str
    gateway: str


class Erased(msgspec.Struct, frozen=True):
    """What an erasure came to: events redacted here, and the commands to the shops."""

    events: int
    commands: tuple[Told, ...]


class Telling:
    """One for the platform; any thread."""

    def __init__(self, book: ProfileBook, store: PlatformStore, clock: Clock, issuer: Issuer | None = None) -> None:
        """`book`, `store`: open. `issuer` None: no coupons are made."""
        self._book = book
        self._store = store
        self._clock = clock
        self._issuer = issuer
        self._reading = ProfileReading(book)

    def hint(self, key: str, gateway: str, text: str, *, tier: str = "", language: str = "zh", days: int = 30) -> Told:
        """Tell a shop what its staff may say when this person comes: `profile.hints`.

        Raises:
            Rejected: no such person or gateway, no consent for offers, the gateway has no key, or the text is empty.
        """
        person = self._may(key, "offers")
        text = " ".join(text.split())
        if not text or len(text) > _LONGEST_HINT or not text.isprintable():
            raise Rejected("tell hint", "text", f"1 to {_LONGEST_HINT} printable characters are needed")
        until_s = self._clock.now().wall_s + max(1, min(days, 365)) * 86_400
        hint = {
            "sealed": self._sealed(person, gateway), "text": text, "tier": tier[:40], "language": language[:8],
            "coupons": self._open_coupons(person), "expires_at": rfc3339_s(until_s),
        }  # fmt: skip
        return self.give(person, gateway, "profile.hints", {"hints": [hint]})

    def issue_coupon(self, key: str, gateway: str, store: str, campaign: str, face: Decimal, currency: str = "CNY",
                     *, days: int = 30, channel: str = "app") -> tuple[str, Told]:  # fmt: skip
        """Make a coupon for a person, at home in one store, and tell its gateway; returns the token.

        Raises:
            Rejected: see `hint`; or the coupon cannot be one, or this platform has no issuer's key.
        """
        person = self._may(key, "offers")
        if self._issuer is None:
            raise Rejected("issue coupon", "platform", "it has no issuer's key")
        self._known(gateway)  # before the coupon is made: one that no shop hears of would count as issued
        now_s = int(self._clock.now().wall_s)
        name = f"C{secrets.token_hex(8).upper()}"
        token = coupon_token.issue(
            CouponToken(
                key=self._issuer.id, id=name, campaign=campaign, face=face, currency=currency, stores=(store,),
                not_before_s=now_s - 60, expires_s=now_s + max(1, min(days, 730)) * 86_400, uses=1, home=store,
                channel=channel,
            ),
            self._issuer.key,
        )  # fmt: skip
        with self._book.transaction() as writing:
            identifier = self._identifiers(writing, person)[0]
            writing.sql(
                "INSERT INTO coupon VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (name, campaign, channel, str(face), identifier, now_s * 1000, None, IMPORT),
            )
        told = self.give(person, gateway, "coupons.issue", {"tokens": [token], "keys": [self._signs(self._issuer)]})
        return token, told

    def consent(self, key: str, gateway: str, purposes: Sequence[str], *, granted: bool, notice: str = "",
                language: str = "zh") -> list[Told]:  # fmt: skip
        """Note a grant or a withdrawal that the person made online, and tell a shop: a `consent.update` an identifier.

        Raises:
            Rejected: no such person or gateway, or the gateway has no key.
        """
        person = self._person(key)
        now = self._clock.now()
        record = f"p-{secrets.token_hex(8)}"
        told = [
            self.give(
                person, gateway, "consent.update",
                {"act": "granted" if granted else "withdrawn", "person": sealed, "at": rfc3339_s(now.wall_s),
                 "purposes": list(purposes), "record_id": record, "notice_version": notice or None,
                 "language": language},
            )
            for sealed in self._sealed(person, gateway)
        ]  # fmt: skip
        with self._book.transaction() as writing:
            writing.consent(
                ConsentAct("granted" if granted else "withdrawn", tuple(purposes), round(now.wall_s * 1000)), record,
                self._identifiers(writing, person)[0], notice=notice, language=language, method="platform",
                origin=IMPORT, place=0,
            )  # fmt: skip
        return told

    # -- forgetting

    def erase(self, key: str) -> Erased:
        """Forget a person: here, and at every gateway that has events of theirs (`subject.erase`).

        What was sold stays countable, without the person. Of an identifier that others have, too, only this person's
        links go. May be called again after a crash.

        Raises:
            Rejected: there is no such person.
        """
        person = self._person(key)
        now_ms = round(self._clock.now().wall_s * 1000)
        with self._book.transaction() as writing:
            mine = self._identifiers(writing, person)
            places = self._places(writing, person)
            records = self._records(writing, mine)
            day_keys = {row[0] for row in _each(writing, "SELECT key FROM day_key WHERE identifier = ?", mine)}
        commands = self._tell_erasure(person, places, records, day_keys)
        count = sum(self._store.redact(part) for part in _parts(places))
        with self._book.transaction() as writing:
            told = writing.sql(
                "SELECT command FROM told WHERE person = ? AND kind != 'subject.erase'", (person,)
            ).fetchall()
        for (command,) in told:
            self._store.blank_command(command)
        with self._book.transaction() as writing:
            self._forget(writing, person, mine, now_ms)
        self._store.scrub()
        self._book.scrub()
        return Erased(count, commands)

    def tidy(self) -> int:
        """Redact what came late of erased persons, blank what is done and need not be kept; returns how many rows."""
        with self._book.reading() as connection:
            late = [int(row[0]) for row in connection.execute("SELECT place FROM late LIMIT ?", (_EVENTS_A_COMMAND,))]
            done = connection.execute(
                "SELECT command FROM told WHERE kind IN ('subject.erase', 'visits.returning') AND outcome = 'done' "
                "LIMIT 50"
            ).fetchall()
        if not late and not done:
            return 0
        self._store.redact(late)
        for (command,) in done:
            self._store.blank_command(command)
        with self._book.transaction() as writing:
            for place in late:
                writing.sql("DELETE FROM late WHERE place = ?", (place,))
            for (command,) in done:
                writing.sql("DELETE FROM told WHERE command = ?", (command,))
        self._store.scrub()
        return len(late) + len(done)

    def _tell_erasure(
        self, person: int, places: Sequence[int], records: list[str], day_keys: set[str]
    ) -> tuple[Told, ...]:
        ids: defaultdict[str, list[str]] = defaultdict(list)
        sealed: defaultdict[str, list[str]] = defaultdict(list)
        store_of: defaultdict[str, set[str]] = defaultdict(set)
        for part in _parts(places):
            for _, body in self._store.bodies(part):
                event = msgspec.json.decode(body)
                gateway = str(event["id"]).rsplit(".", 3)[0]
                ids[gateway].append(event["id"])
                store_of[gateway].add(str(event.get("source", "")).removeprefix("//").split("/")[2])
                sealed[gateway] += _sealed_in(event.get("data"))
        told: list[Told] = []
        for gateway, events in ids.items():
            # A day key is a store's own: no other shop can do anything with it.
            keys = [key.partition("|")[2] for key in day_keys if key.partition("|")[0] in store_of[gateway]]
            told += [self.give(person, gateway, "subject.erase", {"positions": part}) for part in _parts(events)]
            told += [self.give(person, gateway, "subject.erase", {"sealed": part}) for part in _parts(sealed[gateway])]
            if keys or records:
                told.append(self.give(person, gateway, "subject.erase", {"day_keys": keys, "consentrefs": records}))
        return tuple(told)

    def _records(self, writing: Writing, mine: Sequence[int]) -> list[str]:
        """Consents that are this person's alone: a shop would erase everybody who has such a record.

        A till that numbers no consents may write the same words for all of them; `assumed-` a gateway writes itself.
        """
        named = {
            str(row[0]) for row in _each(writing, "SELECT record FROM consent WHERE identifier = ?", mine) if row[0]
        }
        return [
            record
            for record in sorted(named)
            if not record.startswith("assumed-")
            and {
                row[0]
                for row in writing.sql(
                    "SELECT identifier FROM consent WHERE record = ? AND identifier IS NOT NULL", (record,)
                )
            }
            <= set(mine)
        ]

    def _places(self, writing: Writing, person: int) -> list[int]:
        """Where the log mentions the person, or a touch or a consent is theirs."""
        rows = writing.sql(
            "SELECT m.place FROM claim c JOIN mention m ON m.identifier = c.identifier AND m.at_ms >= c.since_ms "
            "AND m.at_ms < c.until_ms WHERE c.person = ?1 AND c.sole = 1 "
            "UNION SELECT t.place FROM claim c JOIN touch t ON t.identifier = c.identifier AND t.at_ms >= c.since_ms "
            "AND t.at_ms < c.until_ms WHERE c.person = ?1 AND c.sole = 1 AND t.origin = ?2 "
            "UNION SELECT n.place FROM claim c JOIN consent n ON n.identifier = c.identifier "
            "WHERE c.person = ?1 AND c.sole = 1 AND n.origin = ?2 ORDER BY 1",
            (person, EVENT),
        )
        return [int(row[0]) for row in rows]

    def _forget(self, writing: Writing, person: int, mine: Sequence[int], now_ms: int) -> None:
        sql = writing.sql
        facts = ", ".join(f"'{kind}'" for kind in _FACTS)
        spans = sql(
            "SELECT identifier, since_ms, until_ms FROM claim WHERE person = ? AND sole = 1", (person,)
        ).fetchall()
        for identifier, since_ms, until_ms in spans:
            span = (identifier, since_ms, until_ms)
            visits = sql(
                "SELECT store, ref FROM touch WHERE identifier = ? AND at_ms >= ? AND at_ms < ? AND kind = 'visit'",
                span,
            ).fetchall()
            for visit in visits:
                sql("DELETE FROM visit_sale WHERE store = ? AND visit = ?", visit)
            where = "WHERE identifier = ? AND at_ms >= ? AND at_ms < ?"
            sql(f"DELETE FROM touch {where} AND kind NOT IN ({facts})", span)  # noqa: S608 - constants
            sql(
                "UPDATE touch SET identifier = NULL, how = '', day_key = NULL, record = NULL, detail = '{}', "
                "ref = CASE origin WHEN 1 THEN '' ELSE ref END WHERE identifier = ? AND at_ms >= ? AND at_ms < ?",
                span,
            )
            sql("DELETE FROM mention WHERE identifier = ? AND at_ms >= ? AND at_ms < ?", span)
        near: set[int] = set()
        for identifier in mine:
            near |= {
                int(end)
                for row in sql("SELECT one, other FROM edge WHERE ?1 IN (one, other, replaced)", (identifier,))
                for end in row
            }
            sql("DELETE FROM edge WHERE ?1 IN (one, other, replaced)", (identifier,))
            sql("DELETE FROM consent WHERE identifier = ?", (identifier,))
            sql("DELETE FROM day_key WHERE identifier = ?", (identifier,))
            sql("UPDATE coupon SET identifier = NULL WHERE identifier = ?", (identifier,))
            others = sql("SELECT 1 FROM claim WHERE identifier = ? AND person != ?", (identifier, person)).fetchone()
            sql("DELETE FROM claim WHERE identifier = ? AND person = ?", (identifier, person))
            if others is None:  # nobody had it before or after
                sql(
                    "INSERT OR REPLACE INTO forgotten SELECT mark, ? FROM identifier WHERE id = ?", (now_ms, identifier)
                )
                sql("DELETE FROM identifier WHERE id = ?", (identifier,))
        sql("DELETE FROM claim WHERE person = ?", (person,))
        sql("DELETE FROM consented WHERE person = ?", (person,))
        sql("UPDATE told SET person = NULL WHERE person = ?", (person,))
        sql("DELETE FROM person WHERE id = ?1 OR merged = ?1", (person,))
        writing.derive(near - set(mine))

    # -- inside

    def _person(self, key: str) -> int:
        found = self._reading.person(key)
        if found is None:
            raise Rejected("tell", "person", "there is no such person")
        return found[0]

    def _may(self, key: str, purpose: str) -> int:
        person = self._person(key)
        now_ms = round(self._clock.now().wall_s * 1000)
        with self._book.reading() as connection:
            row = connection.execute(
                "SELECT 1 FROM consented WHERE person = ? AND purpose = ? AND since_ms IS NOT NULL "
                "AND since_ms <= ? AND (until_ms IS NULL OR until_ms > ?)",
                (person, purpose, now_ms, now_ms),
            ).fetchone()
        if row is None:
            raise Rejected("tell", "person", f"they have not agreed to {purpose}")
        return person

    def _identifiers(self, writing: Writing, person: int) -> list[int]:
        """The identifiers that are this person's alone, members first."""
        rows = writing.sql(
            "SELECT DISTINCT c.identifier FROM claim c JOIN identifier i ON i.id = c.identifier WHERE c.person = ? "
            "AND c.sole = 1 ORDER BY i.scheme != 'member', c.identifier",
            (person,),
        ).fetchall()
        if not rows:
            raise Rejected("tell", "person", "nothing is theirs alone")
        return [int(row[0]) for row in rows]

    def _sealed(self, person: int, gateway: str) -> list[str]:
        """The person's identifiers of now, as only that gateway can read them."""
        beat = dict(self._store.gateways()).get(gateway, b"")
        if beat == b"":
            raise Rejected("tell", gateway[:64], "there is no such gateway")
        try:
            key = msgspec.json.decode(beat or b"{}", type=_Beat).seal_key
            sealer = None if key is None else Sealer(key.id, key_from_text(key.public_key))
        except (msgspec.DecodeError, ValueError):
            sealer = None
        if sealer is None:
            raise Rejected("tell", gateway, "its heartbeat has told no key to seal to", "wait for its next heartbeat")
        with self._book.reading() as connection:
            rows = connection.execute(
                "SELECT DISTINCT i.scheme, i.box FROM claim c JOIN identifier i ON i.id = c.identifier "
                "WHERE c.person = ? AND c.sole = 1 AND c.until_ms > ?",
                (person, round(self._clock.now().wall_s * 1000)),
            ).fetchall()
        return [sealer.seal(Identifier(scheme, self._book.vault.unboxed(box))) for scheme, box in rows]

    def _signs(self, issuer: Issuer) -> dict[str, str]:
        public = issuer.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"id": issuer.id, "public": base64.urlsafe_b64encode(public).rstrip(b"=").decode()}

    def _open_coupons(self, person: int) -> list[str]:
        with self._book.reading() as connection:
            rows = connection.execute(
                "SELECT DISTINCT k.coupon FROM claim c JOIN coupon k ON k.identifier = c.identifier WHERE c.person = ? "
                "AND c.sole = 1 AND NOT EXISTS (SELECT 1 FROM coupon_step s WHERE s.coupon = k.coupon "
                "AND s.step = 'redeemed') LIMIT 20",
                (person,),
            )
            return [str(row[0]) for row in rows]

    def _known(self, gateway: str) -> None:
        if gateway not in dict(self._store.gateways()):
            raise Rejected("tell", gateway[:64], "there is no such gateway")

    def give(self, person: int | None, gateway: str, kind: str, data: dict[str, Any]) -> Told:
        """Give a gateway a command; `person`: whom it is about, None for several.

        Raises:
            Rejected: there is no such gateway.
        """
        self._known(gateway)
        now = self._clock.now()
        command = f"{kind.replace('.', '-')}-{secrets.token_hex(8)}"
        event = {
            "specversion": "1.0", "id": command, "source": "//platform", "type": f"store.command.{kind}.v1",
            "time": rfc3339_s(now.wall_s), "data": data,
        }  # fmt: skip
        with self._book.transaction() as writing:
            writing.sql(
                "INSERT INTO told (command, person, gateway, kind, at_ms) VALUES (?, ?, ?, ?, ?)",
                (command, person, gateway, kind, round(now.wall_s * 1000)),
            )
        self._store.command(gateway, command, msgspec.json.encode(event))
        return Told(command, gateway)


def _sealed_in(value: Any) -> list[str]:
    """Every sealed identifier in an event's data."""
    if isinstance(value, dict):
        own = [value["sealed"]] if isinstance(value.get("sealed"), str) else []
        return own + [one for inner in value.values() for one in _sealed_in(inner)]
    return [one for inner in value for one in _sealed_in(inner)] if isinstance(value, list) else []


def _each(writing: Writing, sql: str, identifiers: Sequence[int]) -> Iterable[tuple[Any, ...]]:
    for identifier in identifiers:
        yield from writing.sql(sql, (identifier,))


def _parts(rows: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(rows), _EVENTS_A_COMMAND):
        yield list(rows[start : start + _EVENTS_A_COMMAND])
