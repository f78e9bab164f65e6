"""Visits: a pure state machine from what consented shoppers did to visits that have ended.

    (seen) ──an authenticated act──▶ open ──exit · sale + 15 min · idle 45 min──▶ told ──late evidence──▶ corrected

A person who is only seen has no visit and is forgotten after the back-fill window. An act opens one, what was seen of
the same person before is filled in, and it closes by whatever comes first. What a person proves theirs in one act is
of one visit. What was told stays for some hours, so that a sale which a till sends late makes a corrected visit that
supersedes. Nothing here reads a clock: facts and `tick` bring the time, of `visit_facts.Timeline`. A door count is no
fact of this machine. Knows no storage, no event's form.

*Source*: EVENTS.md, `store.visit.closed.v1`; docs/visits.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import blake2b

import msgspec

from gateway.event_types import VisitClosed
from gateway.shopper.basket_tags import Basket, Move, TagBook
from gateway.shopper.visit_account import account, match_of, visit_id
from gateway.shopper.visit_case import ACTS_MOST, BACKFILL_MS, KEYS_MOST, SALES_MOST, Bought, Case, Cases, Done, Rules
from gateway.shopper.visit_facts import Act, Fact, Linked, Opened, Person, Sighting, Sold, Tagged, When, Withdrawn

_MINUTE_MS = 60_000
SETTLE_MS = _MINUTE_MS  # after an exit, and after a sale's own time: what belongs to it is still on its way
EXIT_AFTER_MS = 2 * _MINUTE_MS  # whoever identifies at the entrance is not leaving through it yet
LONGEST_MS = 8 * 60 * _MINUTE_MS
CORRECTED_MS = 6 * 60 * _MINUTE_MS  # after it was told
SCAN_EARLY_MS = 10_000  # the card comes before the first article
SALE_TAKES_MS = _MINUTE_MS  # where nobody says when the basket was opened
BASKET_MS = 20 * _MINUTE_MS
CASES_MOST = 5_000
_CORRECTIONS = 5


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
    withdrawn: int = 0  # visits dropped because the consent was taken back, or ended, meanwhile
    joined: int = 0  # visits under way that turned out to be another's of the same person
    forgotten: int = 0  # persons who were only seen
    surplus: int = 0  # dropped because more than 5,000 people were followed at once


class Visits:
    """The machine; one thread uses it."""

    def __init__(
        self, rules: Rules, known: Callable[[str], str] = str,
        ended: Callable[[Sequence[str]], Collection[str]] = lambda records: (),
    ) -> None:  # fmt: skip
        """Store.

        Args:
            rules: what `[visits]` says.
            known: the day key that stands for all of one person's, where the platform has said so.
            ended: the purposes that whoever gave these consents allows no more, now.
        """
        self.counters = Counters()
        self.tags = TagBook()
        self.cases = Cases()
        self.fresh: list[Case] = []  # whose person has identified, since this was emptied
        self._rules = rules
        self._known = known
        self._ended = ended
        self._shared: set[str] = set()  # keys that two persons have proved theirs; a restart finds out again
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
        elif isinstance(fact, Linked):
            self._link(fact)
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
        for case in [case for case in self.cases if case.close_ms <= now_ms or case.changed]:
            if case.state == "told":
                if case.changed and case.close_ms <= now_ms:
                    ended += self._tell(case, now_ms)
                elif now_ms - case.told_ms >= CORRECTED_MS:
                    self.cases.drop(case)
            elif case.close_ms <= now_ms:
                if case.state == "open":
                    ended += self._tell(case, now_ms)
                else:
                    self.counters.forgotten += 1
                    self.cases.drop(case)
        self.tags.expire(now_ms)
        return ended

    # -- what is taken back

    def withdraw(self, keys: Iterable[str]) -> int:
        """Drop what is under way of a person; told visits are the platform's to forget. Returns how many visits."""
        dropped = 0
        for case in self.cases.of_any(keys):
            dropped += case.state == "open"
            self.cases.drop(case)
        self.counters.withdrawn += dropped
        return dropped

    def review(self) -> None:
        """Ask of all that are followed whether the consents still hold."""
        for case in self.cases:
            self._holds(case)

    def unseal(self, keys: Iterable[str]) -> None:
        """The consent to match was taken back: the visit stays, what only the platform can open does not."""
        for case in self.cases.of_any(keys):
            case.shopper = msgspec.structs.replace(case.shopper, sealed=None)
            self.cases.dirty.add(case.id)

    def erase(self, matches: Callable[[str], bool]) -> None:
        """Forget everything of a person whose keys are being erased."""
        for case in self.cases:
            words = [*case.keys, *case.consents, *([case.shopper.sealed] if case.shopper.sealed else [])]
            if any(matches(word) for word in words):
                self.cases.drop(case)

    # -- going on after a start

    def remember(self, fact: Fact) -> None:
        """What was taken before this machine was made, as far as it matters to tags."""
        if isinstance(fact, Tagged):
            self._tag(fact)
        elif isinstance(fact, Sold):
            self._till(fact)

    def was_told(self, visit_id: str) -> None:
        """A visit that the journal tells already, while what was written down of it is lost: it is not told again."""
        name, _, revision = visit_id.removeprefix("v-").partition("-r")
        self._told[name] = max(self._told.get(name, 0), int(revision) if revision.isdigit() else 0)

    def under_way(self) -> list[Case]:
        """The visits that have not ended."""
        return [case for case in self.cases if case.state == "open"]

    @property
    def open(self) -> int:
        """Visits under way."""
        return sum(case.state == "open" for case in self.cases)

    @property
    def followed(self) -> int:
        """How many visits are in memory, under way or told."""
        return len(self.cases)

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
        if len(case.acts) < ACTS_MOST:
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
        case.stayed(fact.zone, t_ms, left=fact.left, dwell_ms=fact.dwell_ms)
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
        for case in self.cases:
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
        if any(it.transaction_id == fact.transaction_id for it in case.bought) or len(case.bought) >= SALES_MOST:
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
        for case in self.cases:
            for it in case.bought:
                if it.transaction_id == transaction_id and not it.void:
                    it.void = True
                    case.changed = case.state == "told"
                    self.cases.dirty.add(case.id)

    def _withdrawal(self, fact: Withdrawn) -> None:
        if not fact.record or fact.record.startswith("assumed-") or not {"visits", "matching"} & set(fact.purposes):
            return
        keys = [key for case in self.cases if fact.record in case.consents for key in case.keys]
        (self.withdraw if "visits" in fact.purposes else self.unseal)(keys)

    def _link(self, fact: Linked) -> None:
        mine = self._case(fact.person, fact.when, fact.event, create=True)
        if mine is None or fact.key in mine.keys or fact.key in self._shared:
            return
        theirs = self.cases.of(fact.key)
        if any(len(case.keys) > 1 for case in theirs):  # a household's: it says nothing about either of them
            if len(self._shared) >= CASES_MOST:
                self._shared.clear()
            self._shared.add(fact.key)
            for case in theirs:
                if len(case.keys) > 1:
                    self.cases.part(case, fact.key)
            return
        self._touch(mine, fact.person, fact.when)
        for other in [case for case in theirs if case.state != "told"] if mine.state != "told" else []:
            mine = self._join(mine, other, fact.when)
        self.cases.alias(mine, fact.key)

    def _join(self, one: Case, two: Case, when: When) -> Case:
        """One visit of two of the same person; the one that began first stays."""
        stays, goes = sorted((one, two), key=lambda it: (it.state != "open", it.first_ms))
        self.counters.joined += goes.state == "open"
        self.cases.drop(goes)
        stays.absorb(goes)
        for key in goes.keys:
            self.cases.alias(stays, key)
        self.cases.dirty.add(stays.id)
        if stays.state == "open":
            stays.close_ms = max(self._deadline(stays), when.now_ms + SETTLE_MS)
            self.fresh.append(stays)
        return stays

    # -- cases

    def _case(self, person: Person, when: When, event: str, *, create: bool) -> Case | None:
        """The person's case that a moment belongs to."""
        t_ms = when.t_ms
        key = self._known(person.key)
        for case in self.cases.of(key):
            told = case.state == "told"
            if case.first_ms - BACKFILL_MS <= t_ms <= (case.ends_ms if told else max(case.close_ms, case.last_ms)):
                if told and case.revision >= _CORRECTIONS:
                    return None
                self.cases.alias(case, person.key)
                return case
        if not create:
            return None
        if len(self.cases) >= CASES_MOST:
            self.counters.surplus += 1
            self.cases.drop(min(self.cases, key=lambda it: (it.state == "open", it.last_ms)))
        name = blake2b(event.encode(), digest_size=12).hexdigest()
        before = self.cases.of(key)  # earlier this day: what was proved then still holds
        keys = [key, *(other for case in before[:1] for other in case.keys if other != key)]
        case = Case(
            name, keys, person.shopper, [], "seen", t_ms, t_ms, max(t_ms + BACKFILL_MS, when.now_ms),
            when.wall_ms - t_ms,
        )  # fmt: skip
        self.cases.add(case)
        self.cases.alias(case, person.key)
        return case

    def _open(self, case: Case, when: When) -> None:
        if case.state != "seen":
            return
        case.opened(when.t_ms)
        case.close_ms = self._deadline(case)
        self.counters.opened += 1

    def _may_leave(self, case: Case, t_ms: int) -> bool:
        act_ms = case.acts[0].t_ms if case.acts else t_ms
        return bool(case.bought and t_ms >= case.bought[-1].t_ms) or t_ms - act_ms >= EXIT_AFTER_MS

    def _touch(self, case: Case, person: Person, when: When) -> None:
        if person.consent and person.consent not in case.consents and len(case.consents) < KEYS_MOST:
            case.consents.append(person.consent)
        case.named(person.shopper)
        case.first_ms = min(case.first_ms, when.t_ms)
        if when.t_ms >= case.last_ms:
            case.last_ms, case.skew_ms = when.t_ms, when.wall_ms - when.t_ms
        self._mark(case, when)

    def _mark(self, case: Case, when: When) -> None:
        self.cases.dirty.add(case.id)
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

    # -- telling

    def _holds(self, case: Case) -> bool:
        """Whether the consents still allow the visit; what they do not allow any more goes."""
        ended = self._ended(case.consents)
        if "visits" in ended:
            self.counters.withdrawn += case.state == "open"
            self.cases.drop(case)
            return False
        if "matching" in ended and case.shopper.sealed is not None:
            case.shopper = msgspec.structs.replace(case.shopper, sealed=None)
            self.cases.dirty.add(case.id)
        return True

    def _tell(self, case: Case, now_ms: int) -> list[Ended]:
        if not self._holds(case):
            return []
        case.changed = False
        self.cases.dirty.add(case.id)
        revision = case.revision + 1 if case.told else 0
        data = account(case, self.tags, self._rules)
        digest = blake2b(msgspec.json.encode(data), digest_size=8).hexdigest()
        if case.told and digest == case.digest:
            return []
        first, case.digest = not case.told, digest
        if first:
            case.ends_ms, case.told_ms = self._deadline(case), now_ms
        case.state = "told"
        earlier = self._told.pop(case.id, None) if first else None
        if earlier is not None:  # told by whoever was here before; only what is new is told from now on
            case.revision, case.told = earlier, visit_id(case.id, earlier)
            return []
        supersedes, case.revision, case.told = case.told or None, revision, visit_id(case.id, revision)
        if first:
            self.counters.closed += 1
        else:
            self.counters.corrected += 1
        data = msgspec.structs.replace(data, visit_id=case.told, supersedes=supersedes)
        return [Ended(case.id, data, case.consents[0] if case.consents else "")]

    def _goods_left(self) -> None:
        """Whoever's goods went through the exit after they were paid has gone with them."""
        for case in self.cases:
            if case.state != "open" or not case.bought or case.exit_ms:
                continue
            last = case.bought[-1]
            through_ms = self.tags.left_by(match_of(last, self.tags).tags, self._rules.exits, last.t_ms)
            if through_ms is not None and through_ms >= case.last_ms - SETTLE_MS:
                case.exit_ms = through_ms
                case.close_ms = self._deadline(case)
                self.cases.dirty.add(case.id)
