"""Visits: a pure state machine from what consented shoppers did to visits that have ended.

    (seen) ──an authenticated act──▶ open ──exit · sale + 15 min · idle 45 min──▶ told ──late evidence──▶ corrected

A person who is only seen has no visit and is forgotten after the back-fill window. An act opens one, what was seen of
the same person before is filled in, and it closes by whatever comes first. What was told stays for some hours, so that
a sale which a till sends late makes a corrected visit that supersedes. Nothing here reads a clock: facts and `tick`
bring the time, of `visit_facts.Timeline`. A door count is no fact of this machine. Knows no storage, no event's form.

*Source*: EVENTS.md, `store.visit.closed.v1`; docs/visits.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import pairwise
from typing import Literal

import msgspec

from gateway.clock import rfc3339_s
from gateway.event_types import Shopper, VisitClosed, ZoneStay
from gateway.shopper.basket_tags import BEFORE_MS, Basket, Match, Move, TagBook
from gateway.shopper.visit_evidence import ALGORITHM, PROVES, confidence
from gateway.shopper.visit_facts import Act, Fact, Opened, Person, Sighting, Sold, Tagged, When, Withdrawn

State = Literal["seen", "open", "told"]
_MINUTE_MS = 60_000
BACKFILL_MS = 45 * _MINUTE_MS  # before the act that opens: how far what was seen is filled in
SETTLE_MS = _MINUTE_MS  # after an exit, and after a sale's own time: what belongs to it is still on its way
EXIT_AFTER_MS = 2 * _MINUTE_MS  # whoever identifies at the entrance is not leaving through it yet
LONGEST_MS = 8 * 60 * _MINUTE_MS
CORRECTED_MS = 6 * 60 * _MINUTE_MS  # after it was told
SCAN_EARLY_MS = 10_000  # the card comes before the first article
SALE_TAKES_MS = _MINUTE_MS  # where nobody says when the basket was opened
BASKET_MS = 20 * _MINUTE_MS
CASES_MOST = 5_000
_STAYS, _SALES, _ACTS, _KEYS, _CORRECTIONS = 64, 50, 40, 8, 5


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What `[visits]` says. Zones by name; lengths in ms."""

    idle_ms: int = 45 * _MINUTE_MS
    after_sale_ms: int = 15 * _MINUTE_MS
    exits: frozenset[str] = frozenset()
    fitting_rooms: frozenset[str] = frozenset()


class Stay(msgspec.Struct):
    """Time in a zone; `inside`: it has not ended yet."""

    zone: str
    from_ms: int
    to_ms: int
    inside: bool = False


class Bought(msgspec.Struct):
    """A sale of the visit, and what proves that it is."""

    transaction_id: str
    t_ms: int
    proof: str
    void: bool = False
    match: Match = Match()  # as it was known last: the tags' own book forgets sooner


class Done(msgspec.Struct):
    """An authenticated act. `sale`: the one that it was for."""

    t_ms: int
    how: str
    zone: str
    sale: str = ""


class Case(msgspec.Struct):
    """One person's visit, or what may become one. The newest sealed identifier stays, for the platform."""

    id: str
    keys: list[str]
    shopper: Shopper
    consents: list[str]
    state: State
    first_ms: int
    last_ms: int
    close_ms: int  # when it ends if nothing more happens
    skew_ms: int  # wall clock − timeline, at the last fact
    acts: list[Done] = []
    stays: list[Stay] = []
    bought: list[Bought] = []
    basket: bool = False
    points: bool = False
    exit_ms: int = 0
    told_ms: int = 0
    ends_ms: int = 0  # of a told one: what happened later is another visit, however late this is known
    revision: int = 0
    told: str = ""  # the visit's id as it was told last
    digest: str = ""
    changed: bool = False
    lane: str = ""


class Ended(msgspec.Struct, frozen=True):
    """A visit to be told."""

    case: str
    data: VisitClosed
    consent: str


class Counters(msgspec.Struct):
    """Since the start."""

    opened: int = 0
    closed: int = 0
    corrected: int = 0
    withdrawn: int = 0  # visits dropped because the consent was taken back meanwhile
    forgotten: int = 0  # persons who were only seen
    surplus: int = 0  # dropped because more than 5,000 people were followed at once


class Visits:
    """The machine. One thread uses it; `dirty` and `gone` say what to write down since they were emptied."""

    def __init__(self, rules: Rules, known: Callable[[str], str] = str) -> None:
        """`known`: the day key that stands for all of one person's, where the platform has said so."""
        self.counters = Counters()
        self.tags = TagBook()
        self.dirty: set[str] = set()
        self.gone: set[str] = set()
        self.fresh: list[Case] = []  # whose person has identified, since this was emptied
        self._rules = rules
        self._known = known
        self._cases: dict[str, Case] = {}
        self._by_key: dict[str, list[str]] = {}
        self._baskets: dict[str, int] = {}  # lane → when a basket was opened
        self._at_exit = False  # goods were, since the last tick
        self._told: dict[str, int] = {}  # case → revision, told before this machine knew of it

    # -- what happens

    def take(self, fact: Fact) -> None:
        """Take one fact, in the order of the journal."""
        if isinstance(fact, Tagged):
            self._tag(fact)
        elif isinstance(fact, Sold):
            self._sale(fact)
        elif isinstance(fact, Act):
            self._act(fact)
        elif isinstance(fact, Sighting):
            self._sighting(fact)
        elif isinstance(fact, Opened):
            if len(self._baskets) > 500:
                self._baskets.clear()
            self._baskets[fact.lane] = fact.when.t_ms
        else:
            self._withdrawal(fact)

    def tick(self, now_ms: int) -> list[Ended]:
        """What has ended by now, and what must be told anew."""
        ended: list[Ended] = []
        if self._at_exit:
            self._at_exit = False
            self._goods_left()
        for case in [case for case in self._cases.values() if case.close_ms <= now_ms or case.changed]:
            if case.state == "told":
                if case.changed and case.close_ms <= now_ms:
                    ended += self._tell(case, now_ms)
                elif now_ms - case.told_ms >= CORRECTED_MS:
                    self._drop(case)
            elif case.close_ms <= now_ms:
                if case.state == "open":
                    ended += self._tell(case, now_ms)
                else:
                    self.counters.forgotten += 1
                    self._drop(case)
        self.tags.expire(now_ms)
        return ended

    # -- what is taken back

    def withdraw(self, keys: Iterable[str]) -> int:
        """Drop what is under way of a person; told visits are the platform's to forget. Returns how many visits."""
        dropped = 0
        for name in {name for key in keys for name in self._by_key.get(key, ())}:
            case = self._cases[name]
            dropped += case.state == "open"
            self._drop(case)
        self.counters.withdrawn += dropped
        return dropped

    def unseal(self, keys: Iterable[str]) -> None:
        """The consent to match was taken back: the visit stays, what only the platform can open does not."""
        for name in {name for key in keys for name in self._by_key.get(key, ())}:
            case = self._cases[name]
            case.shopper = msgspec.structs.replace(case.shopper, sealed=None)
            self.dirty.add(name)

    def erase(self, matches: Callable[[str], bool]) -> None:
        """Forget everything of a person whose keys are being erased."""
        for case in list(self._cases.values()):
            words = [*case.keys, *case.consents, *([case.shopper.sealed] if case.shopper.sealed else [])]
            if any(matches(word) for word in words):
                self._drop(case)

    # -- going on after a start

    def remember(self, fact: Fact) -> None:
        """What was taken before this machine was made, as far as it matters to tags."""
        if isinstance(fact, Tagged):
            self._tag(fact)
        elif isinstance(fact, Sold):
            self._till(fact)

    def restore(self, case: Case) -> None:
        """A case that was written down."""
        self._cases[case.id] = case
        for key in case.keys:
            self._by_key.setdefault(key, []).append(case.id)

    def was_told(self, visit_id: str) -> None:
        """A visit that the journal tells already, while what was written down of it is lost: it is not told again."""
        name, _, revision = visit_id.removeprefix("v-").partition("-r")
        self._told[name] = max(self._told.get(name, 0), int(revision) if revision.isdigit() else 0)

    def case(self, name: str) -> Case | None:
        """One of them."""
        return self._cases.get(name)

    def under_way(self) -> list[Case]:
        """The visits that have not ended."""
        return [case for case in self._cases.values() if case.state == "open"]

    @property
    def open(self) -> int:
        """Visits under way."""
        return sum(case.state == "open" for case in self._cases.values())

    @property
    def followed(self) -> int:
        """How many visits are in memory, under way or told."""
        return len(self._cases)

    # -- facts

    def _tag(self, fact: Tagged) -> None:
        if not fact.gtin:
            return  # what is no article is in no basket
        self.tags.moved(fact.epc, fact.gtin, Move(fact.when.t_ms, fact.zone, fact.left))
        self._at_exit = self._at_exit or fact.zone in self._rules.exits

    def _act(self, fact: Act) -> None:
        points = fact.how == "points"
        case = self._case(fact.person, fact.when, fact.event, create=not points)
        if case is None or (points and case.state == "seen"):
            return
        if points:  # they go with a sale and say nothing of their own
            case.points = True
            self._touch(case, fact.person, fact.when)
            return
        if len(case.acts) < _ACTS:
            case.acts.append(Done(fact.when.t_ms, fact.how, fact.zone))
        case.lane = fact.zone or fact.device or case.lane
        self._open(case, fact.when)
        self._touch(case, fact.person, fact.when)
        if case.state == "open":
            self.fresh.append(case)
            case.exit_ms = case.exit_ms if case.exit_ms > fact.when.t_ms else 0
            case.close_ms = max(self._deadline(case), fact.when.now_ms + SETTLE_MS)

    def _sighting(self, fact: Sighting) -> None:
        case = self._case(fact.person, fact.when, fact.event, create=True)
        if case is None:
            return
        t_ms = fact.when.t_ms
        self._stay(case, fact)
        if fact.zone in self._rules.exits and case.state != "seen" and self._may_leave(case, t_ms):
            case.exit_ms = t_ms
        elif case.exit_ms and t_ms > case.exit_ms and case.state == "open":  # still here
            case.exit_ms = 0
        self._touch(case, fact.person, fact.when)
        if case.state == "seen":
            case.close_ms = max(case.close_ms, t_ms + BACKFILL_MS, fact.when.now_ms)
        elif case.state == "open":
            case.close_ms = max(self._deadline(case), fact.when.now_ms)

    def _sale(self, fact: Sold) -> None:
        if fact.kind == "void":
            for original in (fact.transaction_id, *fact.originals):
                self._void(original)
            return
        self._till(fact)
        if fact.person is not None:
            self._named_sale(fact, fact.person)
        elif fact.kind == "sale" and fact.zone:
            self._sale_after_scan(fact)

    def _till(self, fact: Sold) -> None:
        if fact.kind in ("sale", "exchange"):
            from_ms = fact.when.t_ms - (fact.took_ms or 3 * _MINUTE_MS)
            self.tags.sold(
                Basket(
                    transaction_id=fact.transaction_id, zone=fact.zone, from_ms=from_ms, t_ms=fact.when.t_ms,
                    wanted=dict(fact.wanted), named=fact.named,
                )
            )  # fmt: skip

    def _named_sale(self, fact: Sold, person: Person) -> None:
        pays = fact.kind in ("sale", "exchange")
        case = self._case(person, fact.when, fact.event, create=pays)
        if case is None:
            return
        if case.state == "seen":
            if not pays:
                return  # what was bought another day comes back; nothing says how long the person was here
            case.acts.append(Done(fact.when.t_ms, "paid_basket", fact.zone))
            self._open(case, fact.when)
            case.lane = fact.zone or fact.lane
            self.fresh.append(case)
        self._buy(case, fact, "paid_basket" if case.acts and case.acts[0].how == "paid_basket" else "sale_named")
        self._touch(case, person, fact.when)

    def _sale_after_scan(self, fact: Sold) -> None:
        """A sale that names nobody goes to whoever was scanned last at this till while its basket was open."""
        found: tuple[int, Case, Done] | None = None
        for case in self._cases.values():
            if case.state == "seen":
                continue
            for done in case.acts:
                if (
                    self._within(done, fact)
                    and done.how in ("loyalty_scan", "app_qr")
                    and (found is None or done.t_ms > found[0])
                ):
                    found = done.t_ms, case, done
        if found is not None and not found[2].sale:
            self._buy(found[1], fact, "sale_after_scan")

    def _buy(self, case: Case, fact: Sold, proof: str) -> None:
        if any(it.transaction_id == fact.transaction_id for it in case.bought) or len(case.bought) >= _SALES:
            return
        t_ms = fact.when.t_ms
        for done in case.acts:
            if self._within(done, fact):
                if proof != "sale_after_scan":  # the till's word comes before a guess that came before it
                    case.bought = [
                        it for it in case.bought if it.transaction_id != done.sale or it.proof != "sale_after_scan"
                    ]
                done.sale = fact.transaction_id
        case.bought.append(Bought(fact.transaction_id, t_ms, proof))
        case.lane = fact.zone or fact.lane
        opened_ms = self._baskets.get(fact.lane)
        if opened_ms is not None and 0 <= t_ms - opened_ms <= BASKET_MS:
            case.basket = True
            case.first_ms = min(case.first_ms, opened_ms)
        if fact.took_ms:
            case.first_ms = min(case.first_ms, t_ms - fact.took_ms)
        case.last_ms = max(case.last_ms, t_ms)
        case.skew_ms = fact.when.wall_ms - t_ms
        case.exit_ms = case.exit_ms if case.exit_ms >= t_ms else 0
        if case.state == "open":
            # Late facts come together: whatever the sale's own time, they have a moment to do so.
            case.close_ms = max(self._deadline(case), fact.when.now_ms + SETTLE_MS)
        self._mark(case, fact.when)

    def _within(self, done: Done, fact: Sold) -> bool:
        """Whether somebody identified at this till while the basket of this sale was open."""
        t_ms = fact.when.t_ms
        opened_ms = self._baskets.get(fact.lane)
        if fact.took_ms:
            from_ms = t_ms - fact.took_ms
        elif opened_ms is not None and 0 <= t_ms - opened_ms <= BASKET_MS:
            from_ms = opened_ms
        else:
            from_ms = t_ms - SALE_TAKES_MS
        return bool(fact.zone) and done.zone == fact.zone and from_ms - SCAN_EARLY_MS <= done.t_ms <= t_ms

    def _void(self, transaction_id: str) -> None:
        self.tags.take_back(transaction_id)
        for case in self._cases.values():
            for it in case.bought:
                if it.transaction_id == transaction_id and not it.void:
                    it.void = True
                    case.changed = case.state == "told"
                    self.dirty.add(case.id)

    def _withdrawal(self, fact: Withdrawn) -> None:
        if not fact.record or fact.record.startswith("assumed-") or not {"visits", "matching"} & set(fact.purposes):
            return
        keys = [key for case in self._cases.values() if fact.record in case.consents for key in case.keys]
        (self.withdraw if "visits" in fact.purposes else self.unseal)(keys)

    # -- cases

    def _case(self, person: Person, when: When, event: str, *, create: bool) -> Case | None:
        """The person's case that a moment belongs to."""
        t_ms = when.t_ms
        key = self._known(person.key)
        for name in reversed(self._by_key.get(key, ())):
            case = self._cases[name]
            if case.state != "told" and case.first_ms - BACKFILL_MS <= t_ms <= max(case.close_ms, case.last_ms):
                return self._alias(case, person)
            if case.state == "told" and case.first_ms - BACKFILL_MS <= t_ms <= case.ends_ms:
                return self._alias(case, person) if case.revision < _CORRECTIONS else None
        if not create:
            return None
        if len(self._cases) >= CASES_MOST:
            self.counters.surplus += 1
            self._drop(min(self._cases.values(), key=lambda it: (it.state == "open", it.last_ms)))
        name = blake2b(event.encode(), digest_size=12).hexdigest()
        case = Case(
            name, [key], person.shopper, [], "seen", t_ms, t_ms, max(t_ms + BACKFILL_MS, when.now_ms),
            when.wall_ms - t_ms,
        )  # fmt: skip
        self._cases[name] = case
        self._by_key.setdefault(key, []).append(name)
        return self._alias(case, person)

    def _alias(self, case: Case, person: Person) -> Case:
        if person.key not in case.keys and len(case.keys) < _KEYS:
            case.keys.append(person.key)
            self._by_key.setdefault(person.key, []).append(case.id)
        return case

    def _open(self, case: Case, when: When) -> None:
        if case.state != "seen":
            return
        case.state = "open"
        oldest_ms = when.t_ms - BACKFILL_MS
        case.stays = [stay for stay in case.stays if stay.inside or stay.to_ms >= oldest_ms]
        for stay in case.stays:
            stay.from_ms = max(stay.from_ms, oldest_ms)
        case.first_ms = min([when.t_ms, *(stay.from_ms for stay in case.stays)])
        case.close_ms = self._deadline(case)
        self.counters.opened += 1

    def _stay(self, case: Case, fact: Sighting) -> None:
        t_ms = fact.when.t_ms
        inside = next((it for it in reversed(case.stays) if it.inside and it.zone == fact.zone), None)
        if fact.left:
            from_ms = t_ms - fact.dwell_ms
            if inside is not None:
                inside.from_ms = min(inside.from_ms, from_ms)
                inside.to_ms, inside.inside = max(t_ms, inside.from_ms), False
            elif len(case.stays) < _STAYS:
                case.stays.append(Stay(fact.zone, from_ms, t_ms))
            case.first_ms = min(case.first_ms, from_ms)
        elif inside is None and len(case.stays) < _STAYS:
            case.stays.append(Stay(fact.zone, t_ms, t_ms, True))

    def _may_leave(self, case: Case, t_ms: int) -> bool:
        act_ms = case.acts[0].t_ms if case.acts else t_ms
        return bool(case.bought and t_ms >= case.bought[-1].t_ms) or t_ms - act_ms >= EXIT_AFTER_MS

    def _touch(self, case: Case, person: Person, when: When) -> None:
        if person.consent and person.consent not in case.consents and len(case.consents) < _KEYS:
            case.consents.append(person.consent)
        if case.shopper.sealed is None or person.shopper.scheme == "member":
            case.shopper = msgspec.structs.replace(
                person.shopper, sealed=person.shopper.sealed or case.shopper.sealed, day_key=person.key
            )
        case.first_ms = min(case.first_ms, when.t_ms)
        if when.t_ms >= case.last_ms:
            case.last_ms, case.skew_ms = when.t_ms, when.wall_ms - when.t_ms
        self._mark(case, when)

    def _mark(self, case: Case, when: When) -> None:
        self.dirty.add(case.id)
        if case.state == "told":
            case.changed = True
            case.close_ms = when.now_ms + SETTLE_MS  # what comes late comes together

    def _deadline(self, case: Case) -> int:
        """When it ends if nothing more happens. Whoever identifies again after paying goes on shopping."""
        if case.exit_ms:
            return case.exit_ms + SETTLE_MS
        act_ms = max(done.t_ms for done in case.acts)
        paid_ms = max((it.t_ms for it in case.bought), default=None)
        if paid_ms is not None and act_ms <= paid_ms + SETTLE_MS:
            ends_ms = paid_ms + self._rules.after_sale_ms
        else:
            ends_ms = max(act_ms, case.last_ms) + self._rules.idle_ms
        return min(ends_ms, min(done.t_ms for done in case.acts) + LONGEST_MS)

    def _drop(self, case: Case) -> None:
        del self._cases[case.id]
        for key in case.keys:
            names = self._by_key.get(key)
            if names is not None and case.id in names:
                names.remove(case.id)
                if not names:
                    del self._by_key[key]
        self.dirty.discard(case.id)
        self.gone.add(case.id)

    # -- telling

    def _tell(self, case: Case, now_ms: int) -> list[Ended]:
        case.changed = False
        self.dirty.add(case.id)
        revision = case.revision + 1 if case.told else 0
        data = self._data(case)
        digest = blake2b(msgspec.json.encode(data), digest_size=8).hexdigest()
        if case.told and digest == case.digest:
            return []
        first, case.digest = not case.told, digest
        if first:
            case.ends_ms, case.told_ms = self._deadline(case), now_ms
        case.state = "told"
        earlier = self._told.pop(case.id, None) if first else None
        if earlier is not None:  # told by whoever was here before; only what is new is told from now on
            case.revision, case.told = earlier, _visit_id(case.id, earlier)
            return []
        supersedes, case.revision, case.told = case.told or None, revision, _visit_id(case.id, revision)
        if first:
            self.counters.closed += 1
        else:
            self.counters.corrected += 1
        data = msgspec.structs.replace(data, visit_id=case.told, supersedes=supersedes)
        return [Ended(case.id, data, case.consents[0] if case.consents else "")]

    def _data(self, case: Case) -> VisitClosed:
        bought = [it for it in case.bought if not it.void]
        matches = {it.transaction_id: self._match(it) for it in bought}
        certain = [epc for match in matches.values() for epc in match.tags]
        left_ms = max(case.exit_ms, case.last_ms)
        zones = _zones(case.stays, left_ms)
        carried = self._carried(certain, bought, set(zones))
        evidence = [case.acts[0].how] if case.acts[0].how in PROVES else []
        evidence += [done.how for done in case.acts[1:]] + [it.proof for it in bought]
        evidence += ["points"] * case.points
        evidence += ["beacon"] * bool(case.stays) + ["basket"] * case.basket + ["exit"] * bool(case.exit_ms)
        evidence += _tag_words(matches.values())
        evidence += ["carried_tags"] * bool(carried)
        zones.update(carried)
        evidence += ["fitting_room"] * bool(self._rules.fitting_rooms & zones.keys())
        evidence = list(dict.fromkeys(evidence))
        counts = [f"tags_ambiguous:{m.ambiguous[0]}/{m.ambiguous[1]}" for m in matches.values() if m.ambiguous[0]]
        opener = case.acts[0].how
        first_ms = min(case.first_ms, left_ms)
        return VisitClosed(
            visit_id="", opened_by="app_qr" if opener == "app_qr" else "paid_basket" if opener == "paid_basket"
            else "loyalty_scan",
            entered_at=rfc3339_s((first_ms + case.skew_ms) / 1000), left_at=rfc3339_s((left_ms + case.skew_ms) / 1000),
            zones=tuple(ZoneStay(zone=zone, dwell_s=round(ms / 1000, 1)) for zone, ms in sorted(zones.items())),
            epcs=tuple(dict.fromkeys(certain)), transaction_ids=tuple(it.transaction_id for it in bought),
            evidence=tuple([*evidence, *counts][:32]), confidence=confidence(evidence), algorithm=ALGORITHM,
            shopper=case.shopper,
        )  # fmt: skip

    def _match(self, bought: Bought) -> Match:
        found = self.tags.match(bought.transaction_id)
        if found.tags or not bought.match.tags:
            bought.match = found
        return bought.match

    def _goods_left(self) -> None:
        """Whoever's goods went through the exit after they were paid has gone with them."""
        for case in self._cases.values():
            if case.state != "open" or not case.bought or case.exit_ms:
                continue
            last = case.bought[-1]
            through_ms = self.tags.left_by(self._match(last).tags, self._rules.exits, last.t_ms)
            if through_ms is not None and through_ms >= case.last_ms - SETTLE_MS:
                case.exit_ms = through_ms
                case.close_ms = self._deadline(case)
                self.dirty.add(case.id)

    def _carried(self, epcs: Iterable[str], bought: Iterable[Bought], besides: set[str]) -> dict[str, int]:
        """Where the goods were carried before they were paid: from a move into a zone to the next move, in ms."""
        paid_ms = max((it.t_ms for it in bought), default=0)
        longest: dict[str, int] = {}
        for epc in epcs:
            moves = [move for move in self.tags.moves(epc) if paid_ms - BACKFILL_MS <= move.t_ms <= paid_ms + BEFORE_MS]
            for here, after in pairwise(moves[1:]):  # the first is where it lay
                if not here.left and here.zone not in besides and here.zone not in self._rules.exits:
                    longest[here.zone] = max(longest.get(here.zone, 0), after.t_ms - here.t_ms)
        return longest


def _visit_id(case: str, revision: int) -> str:
    return f"v-{case}" if revision == 0 else f"v-{case}-r{revision}"


def _zones(stays: Iterable[Stay], left_ms: int) -> dict[str, int]:
    """Time in each zone, overlapping stays in one zone counted once."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for stay in stays:
        to_ms = left_ms if stay.inside else stay.to_ms
        spans.setdefault(stay.zone, []).append((stay.from_ms, max(stay.from_ms, to_ms)))
    total: dict[str, int] = {}
    for zone, parts in spans.items():
        end_ms, sum_ms = 0, 0
        for low, high in sorted(parts):
            sum_ms += max(0, high - max(low, end_ms))
            end_ms = max(end_ms, high)
        total[zone] = sum_ms
    return total


def _tag_words(matches: Iterable[Match]) -> list[str]:
    found = list(matches)
    return (
        ["tags_named"] * any(match.named for match in found)
        + ["tags_counted"] * any(match.counted for match in found)
        + ["tags_fewer"] * any(match.fewer for match in found)
    )
