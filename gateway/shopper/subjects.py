"""Subjects: from the raw identifiers of a reading to a person as an event may name one, or to nobody.

The one place where an identifier is weighed: normalised, its consent looked up, keyed and sealed. A sale that names two
persons names none, a withdrawal on one identifier of a sale counts for all of them, and what is not allowed is counted
and forgotten. `visits` allows the day key, `matching` what is sealed to the platform. Implements
`gateway.intake.person.Subjects`. Knows no device and no storage.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from config.settings import PrivacySettings
from gateway.clock import Instant, rfc3339_s
from gateway.errors import Rejected
from gateway.event_types import ConsentGranted, ConsentWithdrawn, Shopper
from gateway.intake.person import Linked, Subject
from gateway.intake.reading import ConsentAct, Identity
from gateway.shopper.consent import PURPOSES, Consents, Purpose, Standing, Terms
from gateway.shopper.day_keys import DayKeys
from gateway.shopper.identifiers import SCHEMES, Identifier, Rules, normalise, rules_of, scheme_of
from gateway.shopper.key_ring import KeyRing

_IDENTIFIERS_MOST = 8  # of one reading
_SEALED_KEPT = 4096
_FUTURE_S = 300.0
_LATEST_S = 7_258_118_400.0  # 2200
_RECORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class SubjectCounters(msgspec.Struct):
    """What became of readings with identifiers of persons, since the start."""

    named: int = 0
    no_consent: int = 0
    withdrawn: int = 0
    malformed: int = 0  # identifiers that were none
    contradictory: int = 0  # readings that named two persons
    surplus: int = 0  # further identifiers of somebody who was named already
    unsealed: int = 0  # matching was allowed, but the platform has given no key


class Watch(Protocol):
    """Who else must know at once that a person was named, or took a consent back; called on the caller's thread."""

    @property
    def wanted(self) -> bool:
        """Whether `named` need be called."""
        ...

    def named(self, person: bytes, day_key: str) -> None:
        """Somebody who has agreed to visits and to offers; `person` as `Consents.person`."""
        ...

    def withdrawn(self, person: bytes, day_key: str, purposes: Collection[str]) -> None:
        """Somebody took these purposes back; `day_key` of today."""
        ...


class ShopperSubjects:
    """One for the gateway; any thread may ask."""

    def __init__(
        self, privacy: PrivacySettings, region: str, consents: Consents, day_keys: DayKeys, keys: KeyRing
    ) -> None:
        """`region`: `[gateway].region`, where a phone number without a country code is from."""
        self.counters = SubjectCounters()
        self.rules: Rules = rules_of(privacy, region)
        self._privacy = privacy
        self._consents = consents
        self._day_keys = day_keys
        self._keys = keys
        self.watch: Watch | None = None
        self._sealed: OrderedDict[str, str] = OrderedDict()  # by day key: sealing costs more than all else
        self._lock = threading.Lock()

    def subject(self, identities: Sequence[Identity], at: Instant, happened_s: float) -> Subject | None:
        """The person, as far as consent allows; see `gateway.intake.person.Subjects`."""
        identifiers = self._identifiers(identities)
        if not identifiers:
            return None
        standings = [self._consents.standing(each, at.wall_s, happened_s) for each in identifiers]
        withdrawn = frozenset().union(*(standing.withdrawn for standing in standings))
        sealable = True
        for identifier, standing in zip(identifiers, standings, strict=True):
            granted = self._granted(identifier, standing)
            allowed = {purpose: granted[purpose] for purpose in granted.keys() - withdrawn}
            shopper = self._shopper(identifier, at, visits="visits" in allowed, matching="matching" in allowed)
            if shopper is not None:
                self.counters.named += 1
                self.counters.surplus += len(identifiers) - 1
                watch = self.watch
                if watch is not None and watch.wanted and shopper.day_key and "offers" in allowed:
                    watch.named(self._consents.person(identifier), shopper.day_key)
                return Subject(shopper, allowed.get("matching") or allowed["visits"])
            sealable = sealable and "matching" not in allowed
        if withdrawn:
            self.counters.withdrawn += 1
        elif sealable:  # else it is counted as unsealed
            self.counters.no_consent += 1
        return None

    def linked(self, member: Identity, others: Sequence[Identity], at: Instant, happened_s: float) -> Linked | None:
        """The member and what else is theirs; see `gateway.intake.person.Subjects`.

        Joining identifiers is matching, so the member's consent must cover that, and no withdrawal may stand against
        any of the others. What is theirs now gets its key of the day, too, where `visits` allow one: the act joins the
        two for this day's visits. What was given up is the platform's alone to know.
        """
        told = [self.identifier(other.scheme, other.value) for other in others]
        subject = self.subject((member,), at, happened_s)
        if subject is None or subject.shopper.sealed is None:
            return None
        standings = [self._consents.standing(each, at.wall_s, happened_s) for each in told]
        withdrawn = frozenset().union(*(standing.withdrawn for standing in standings))
        if "matching" in withdrawn:
            self.counters.withdrawn += 1
            return None
        shopper = subject.shopper
        if "visits" in withdrawn:
            shopper = msgspec.structs.replace(shopper, day_key=None)
        shoppers = [
            self._shopper(each, at, visits=nth == 0 and shopper.day_key is not None, matching=True)
            for nth, each in enumerate(told)
        ]
        return Linked(Subject(shopper, subject.consent), tuple(it for it in shoppers if it is not None))

    def counts(self) -> dict[str, int]:
        """What became of readings with persons and of consents, since the start, by name."""
        consents = self._consents.counters
        return {
            **{f"subjects_{name}": count for name, count in msgspec.structs.asdict(self.counters).items()},
            **{f"consents_{name}": count for name, count in msgspec.structs.asdict(consents).items()},
        }

    def allows(self, identifier: Identifier, purpose: Purpose, at: Instant) -> str | None:
        """The record id of the consent that covers a purpose now; None without one.

        Raises:
            Unavailable: it cannot be known now.
        """
        standing = self._consents.standing(identifier, at.wall_s, at.wall_s)
        return self._granted(identifier, standing).get(purpose)

    def identifier(self, scheme: str, raw: str) -> Identifier:
        """An identifier as this store spells it; `scheme` as a device names it.

        Raises:
            Rejected: it is none.
        """
        return normalise(scheme_of(scheme, self.rules), raw, self.rules)

    def consent(self, act: ConsentAct, at: Instant, happened_s: float) -> ConsentGranted | ConsentWithdrawn:
        """Take a consent or its withdrawal and return what to journal; see `gateway.intake.person.Subjects`."""
        identifier = self.identifier(act.scheme, act.identifier)
        purposes = _purposes(act.purposes)
        told = happened_s != at.wall_s
        acted_s = min(happened_s, at.wall_s + _FUTURE_S)
        acted_ms, now_ms = int(acted_s * 1000), int(at.wall_s * 1000)
        terms = self._terms(act, identifier, acted_ms, purposes)
        if act.act == "withdrawn":
            purposes = purposes or PURPOSES
            record = self._consents.withdraw(identifier, purposes, acted_ms if told else None, now_ms)
            if self.watch is not None:
                standing = self._consents.standing(identifier, at.wall_s, at.wall_s)  # a newer grant may outlive it
                ended = [purpose for purpose in purposes if purpose not in self._granted(identifier, standing)]
                day_key = self._day_keys.keyed(identifier.plaintext, at)
                self.watch.withdrawn(self._consents.person(identifier), day_key, ended)
            # Nobody is named whose consent is known by its record, and theirs alone. Where it was given elsewhere, or
            # the till wrote another record or everybody's, the platform could only guess, so it is told who, sealed;
            # the day key, which joins visits, is not.
            unknown = (
                record is None
                or act.record_id not in (None, record)
                or (self._consents.is_anothers(record, identifier))
            )
            return ConsentWithdrawn(
                record_id=terms.record if act.record_id is not None or record is None else record, purposes=purposes,
                notice_version=terms.notice_version, notice_digest=terms.notice_digest, language=terms.language,
                method=terms.method,
                shopper=self._shopper(identifier, at, visits=False, matching=True) if unknown else None,
            )  # fmt: skip
        if not purposes:
            raise _refused("purposes", "none is named", f"name some of {', '.join(PURPOSES)}")
        if not terms.notice_version:
            raise _refused(
                "notice", "a consent must say on which notice it was given",
                "send notice_version, or set privacy.notice_version",
            )  # fmt: skip
        expires_s = _moment(act.expires) if act.expires else acted_s + self._privacy.consent_days * 86_400
        self._consents.grant(identifier, purposes, acted_ms, int(expires_s * 1000), terms, now_ms)
        return ConsentGranted(
            record_id=terms.record, purposes=purposes, notice_version=terms.notice_version,
            notice_digest=terms.notice_digest, language=terms.language, method=terms.method,
            expires_at=rfc3339_s(expires_s),
            shopper=self._shopper(identifier, at, visits="visits" in purposes, matching=True),
        )  # fmt: skip

    # -- inside

    def _identifiers(self, identities: Sequence[Identity]) -> list[Identifier]:
        """Who is named, the surest identifier first; [] for nobody, and for two."""
        found: dict[str, Identifier] = {}
        malformed = max(0, len(identities) - _IDENTIFIERS_MOST)
        for identity in identities[:_IDENTIFIERS_MOST]:
            try:
                identifier = self.identifier(identity.scheme, identity.value)
            except Rejected:
                malformed += 1
                continue
            if found.setdefault(identifier.scheme, identifier) != identifier:
                self.counters.contradictory += 1
                return []
        self.counters.malformed += malformed
        return [found[scheme] for scheme in SCHEMES if scheme in found]

    def _granted(self, identifier: Identifier, standing: Standing) -> dict[str, str]:
        """Purposes and their records; what the shop says was agreed to elsewhere counts until anything is recorded."""
        granted = dict(standing.granted)
        for purpose in self._privacy.assumed_purposes.get(identifier.scheme, ()):
            if purpose not in standing.known:
                granted[purpose] = f"assumed-{identifier.scheme}"
        return granted

    def _shopper(self, identifier: Identifier, at: Instant, *, visits: bool, matching: bool) -> Shopper | None:
        if not visits and not matching:
            return None
        day_key = self._day_keys.keyed(identifier.plaintext, at)
        sealed = self._seal(identifier, day_key, at) if matching else None
        if matching and sealed is None:
            self.counters.unsealed += 1
        if not visits and sealed is None:
            return None
        return Shopper(day_key=day_key if visits else None, sealed=sealed, scheme=identifier.scheme)

    def _seal(self, identifier: Identifier, day_key: str, at: Instant) -> str | None:
        sealer = self._keys.sealer(at.wall_s)
        if sealer is None:
            return None
        place = f"{sealer.key_id}.{day_key}"
        with self._lock:
            sealed = self._sealed.get(place)
            if sealed is not None:
                self._sealed.move_to_end(place)
                return sealed
        sealed = sealer.seal(identifier)
        with self._lock:
            self._sealed[place] = sealed
            while len(self._sealed) > _SEALED_KEPT:
                self._sealed.popitem(last=False)
        return sealed

    def _terms(self, act: ConsentAct, identifier: Identifier, acted_ms: int, purposes: tuple[Purpose, ...]) -> Terms:
        """The record of an act, checked: it goes into an event, so it must not name the person in other words."""
        privacy = self._privacy
        digits = re.sub(r"\W", "", identifier.value).upper()
        texts = {
            "record_id": (act.record_id or "", _RECORD), "notice_version": (act.notice_version or "", _WORD),
            "notice_digest": ((act.notice_digest or "").lower(), _DIGEST), "language": (act.language or "", _WORD),
            "method": (act.method or "", _WORD),
        }  # fmt: skip
        for name, (text, form) in texts.items():
            if text and not form.fullmatch(text):
                raise _refused(name, "it is not in the form of one", "letters, digits and . _ - only, 64 at most")
            if len(digits) >= 4 and digits in re.sub(r"\W", "", text).upper():
                raise _refused(name, "it holds the person's identifier", "use a number of its own for the record")
        made = self._consents.mac(
            f"{act.act}\x1f{acted_ms}\x1f{' '.join(purposes)}\x1f".encode() + identifier.plaintext
        )
        own_notice = act.notice_version is not None
        return Terms(
            record=act.record_id or f"c-{made.hex()[:20]}",
            notice_version=act.notice_version or privacy.notice_version,
            notice_digest=texts["notice_digest"][0] if own_notice else privacy.notice_digest,
            language=act.language or "", method=act.method or "",
        )  # fmt: skip


def _purposes(text: str) -> tuple[Purpose, ...]:
    named = set(re.split(r"[\s,;]+", text.strip().lower())) - {""} if len(text) <= 256 else {"too long"}
    known = tuple(purpose for purpose in PURPOSES if purpose in named)
    if len(known) != len(named):
        raise _refused("purposes", "there is no such purpose", f"the purposes are {', '.join(PURPOSES)}")
    return known


def _moment(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
        moment_s = at.timestamp() if at.tzinfo is not None else -1.0
    except (ValueError, OverflowError):
        moment_s = -1.0
    if not 0 <= moment_s < _LATEST_S:
        raise _refused("expires", "it is no time of this age with its zone", "RFC 3339: 2027-12-31T23:59:59+08:00")
    return moment_s


def _refused(subject: str, reason: str, hint: str) -> Rejected:
    return Rejected("take consent", subject, reason, hint)
