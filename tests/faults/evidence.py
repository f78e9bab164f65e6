"""What the journal must show at the end, and what it showed on the way.

`Looks` reads the journal while it is written and keeps a digest of every event it saw under (epoch, seq): that pair
names the same bytes for ever. `examine` compares the whole journal with the publisher's ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import JournalError
from gateway.event import STREAMS, Stream
from gateway.journal.integrity import verify
from gateway.journal.reader import JournalReader, StoredEvent
from tests.faults.traffic import ANONYMOUS, KNOWN_BY_NUMBER, NUMBERED, Ledger, tally

_AGAIN = 200  # positions below the last one seen that are looked at again


class Findings(msgspec.Struct):
    """What was found wrong, and how much there was."""

    violations: list[str] = []
    lost: int = 0
    duplicated: int = 0
    renamed: int = 0  # (epoch, seq) that named two payloads, or was seen and is gone
    repeats: int = 0  # there twice because the broker forgot that they were acknowledged, and nothing else names them
    inversions: int = 0  # neighbours of one device in the wrong order
    events: int = 0

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return not self.violations

    def add(self, violation: str) -> None:
        """Note what is wrong; the first forty are kept."""
        if len(self.violations) < 40:
            self.violations.append(violation)


class Looks:
    """What a reader saw during the run."""

    def __init__(self, path: Path) -> None:
        """`path`: the journal."""
        self._path = path
        self._seen: dict[tuple[Stream, str, int], bytes] = {}
        self._upto: dict[Stream, int] = dict.fromkeys(STREAMS, 0)
        self.looks = 0

    def look(self, findings: Findings, *, whole: bool = False) -> None:
        """Read what is new and a little of what is not; with `whole` everything, and nothing seen may be missing."""
        if not self._path.exists():
            return
        met: set[tuple[Stream, str, int]] = set()
        with JournalReader(self._path) as reader:
            for stream in STREAMS:
                try:
                    self._look(reader, stream, findings, 0 if whole else max(0, self._upto[stream] - _AGAIN), met)
                except JournalError as error:
                    if "no such table" in str(error):  # its first moments: nothing is written yet
                        return
                    raise
        self.looks += 1
        if whole and (gone := self._seen.keys() - met):
            findings.renamed += len(gone)
            findings.add(f"{len(gone)} events were seen and are gone: {sorted(gone)[:3]}")

    def _look(
        self, reader: JournalReader, stream: Stream, findings: Findings, after: int, met: set[tuple[Stream, str, int]]
    ) -> None:
        for event in pages(reader, stream, after):
            name = (stream, event.epoch, event.seq)
            digest = blake2b(event.json, digest_size=16).digest()
            if self._seen.setdefault(name, digest) != digest:
                findings.renamed += 1
                findings.add(f"{stream} {event.epoch} {event.seq} names two payloads")
            met.add(name)
            self._upto[stream] = event.position

    @property
    def seen(self) -> int:
        """How many events were seen."""
        return len(self._seen)


def pages(reader: JournalReader, stream: Stream, after: int = 0) -> Iterator[StoredEvent]:
    """Every event of a stream above a position."""
    while batch := reader.read(stream, after, 1000):
        yield from batch
        after = batch[-1].position


def examine(
    path: Path,
    ledger: Ledger,
    findings: Findings,
    *,
    in_order: bool = True,
    epochs: int = 1,
    broker_forgets: bool = False,
) -> None:
    """Compare the journal with the ledger.

    Args:
        path: the journal; nobody writes it any more.
        ledger: what the publisher said.
        findings: what is wrong is added here.
        in_order: the broker delivers the messages of a device in order also after a connection was lost.
        epochs: how many epochs each stream must have.
        broker_forgets: the broker died too, and gives messages new packet ids when it repeats them: what carries no
            number of its own may then be there twice, which is counted; lost it may not be.
    """
    report = verify(path)
    if not report.ok:
        findings.add(f"verify: {report.findings}")
    met: Counter[tuple[str, int]] = Counter()
    nameless: Counter[str] = Counter()
    newest: dict[str, int] = {}
    with JournalReader(path) as reader:
        for stream in STREAMS:
            bases = {epoch.epoch: epoch.base for epoch in reader.epochs(stream)}
            if len(bases) != epochs:
                findings.add(f"{stream} has {len(bases)} epochs instead of {epochs}")
            before = 0
            for event in pages(reader, stream):
                findings.events += 1
                if event.position != before + 1 and not report.streams[STREAMS.index(stream)].explained:
                    findings.add(f"{stream} jumps from {before} to {event.position}")
                before = event.position
                fields = event.decode()
                if event.seq != event.position - bases[event.epoch] or int(fields["sequence"]) != event.seq:
                    findings.add(f"{stream} {event.position} has sequence {event.seq} and says {fields['sequence']}")
                for device, number in _meaning(fields):
                    kind = device.partition("-")[0]
                    if number is None:
                        nameless[device] += 1
                        continue
                    met[device.partition("-")[0], number] += 1
                    if number < newest.get(device, -1) and met[kind, number] == 1:
                        findings.inversions += 1
                    newest[device] = max(number, newest.get(device, -1))
            state = reader.state(stream)
            parts = state.acked + state.pending + state.quarantined + state.expired + state.declared_lost
            if state.accepted != parts:
                findings.add(f"conservation of {stream}: {state}")
        poisons = int(reader.query("SELECT count(*) AS n FROM quarantine")[0]["n"])
    _compare(ledger, findings, met, nameless, poisons, broker_forgets=broker_forgets)
    if in_order and findings.inversions:
        findings.add(f"{findings.inversions} events of a device are in the wrong order")


def _compare(
    ledger: Ledger,
    findings: Findings,
    met: Counter[tuple[str, int]],
    nameless: Counter[str],
    poisons: int,
    *,
    broker_forgets: bool,
) -> None:
    repeated = set(ledger.repeated)
    for kind in (*NUMBERED, "pairbutton"):
        said = kind.removesuffix("button")
        acked, unsure = set(ledger.acked.get(said, ())), set(ledger.unsure.get(said, ()))
        lost = sorted(number for number in acked if not met[kind, number])
        if lost:
            findings.lost += len(lost)
            findings.add(f"{kind}: {len(lost)} acknowledged and lost: {lost[:5]}")
        twice = sorted(
            number
            for (each, number), times in met.items()
            if each == kind and times > 1 and (number not in repeated or kind in KNOWN_BY_NUMBER)
        )
        if twice and broker_forgets and kind not in KNOWN_BY_NUMBER:
            findings.repeats += len(twice)
        elif twice:
            findings.duplicated += len(twice)
            findings.add(f"{kind}: {len(twice)} twice: {[(number, met[kind, number]) for number in twice[:5]]}")
        strange = sorted(number for each, number in met if each == kind and number not in acked | unsure)
        if strange:
            findings.add(f"{kind}: never sent: {strange[:5]}")
    for kind in ANONYMOUS:
        sure, unsure_count = tally(ledger.acked.get(kind, [])), tally(ledger.unsure.get(kind, []))
        again = tally([number for number in ledger.repeated if number in set(ledger.acked.get(kind, []))])
        for device in sure | unsure_count:
            if nameless[device] < sure[device]:
                findings.lost += sure[device] - nameless[device]
                findings.add(f"{device}: {nameless[device]} events of {sure[device]} acknowledged messages")
            most = sure[device] + unsure_count[device] + again[device]
            if nameless[device] > most and broker_forgets:
                findings.repeats += nameless[device] - most
            elif nameless[device] > most:
                findings.duplicated += nameless[device] - most
                findings.add(f"{device}: {nameless[device]} events of only {most} messages")
    if poisons < len(ledger.acked.get("poison", ())):
        findings.lost += 1
        findings.add(f"quarantine: {poisons} of {len(ledger.acked['poison'])} poison messages")


def _meaning(event: dict[str, Any]) -> list[tuple[str, int | None]]:
    """Which device said it, and the number of the message; None for a number where there is none in it."""
    data = event["data"]
    if "transaction_id" in data and "totals" in data:
        return [("sale-0", int(data["transaction_id"].rpartition("-")[2]))]
    if "basket_id" in data:
        return [] if data["basket_id"].startswith("probe") else [("basket-0", int(data["basket_id"][1:]))]
    if "sensor" in data:
        device = str(data["sensor"])
        if device == "probe":
            return []
        return [(device, None if device.startswith("same") else int(data["value"]))]
    if "button" in data:
        device = str(data["button"])
        if device.startswith("pair"):
            return [(device.replace("pair-", "pairbutton-"), int(data["value"][1:]))]
        return [(device, None)]
    return []  # of the gateway itself
