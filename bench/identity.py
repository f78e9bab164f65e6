"""Persons: what naming one costs an event, and whether a known identifier can be found anywhere.

Identity work is everything between a reading with a member number and its event's subject: normalise, look the consent
up, key, seal. Measured on a journal with many consents, in three cases: a regular of the day, a person not seen today
(whose seal and row are not in memory), and one without a consent. Beside it, what looking through free text costs a
sale. All in CPU time of the calling thread. The canaries go through a whole gateway.
"""

from __future__ import annotations

import argparse
import json
import logging
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from bench.figures import Figure, print_figures
from config.settings import PrivacySettings
from gateway.clock import SystemClock
from gateway.event_types import Line, Totals
from gateway.intake.free_text import FreeText
from gateway.intake.reading import Identity, Sale
from gateway.journal.writer import JournalWriter
from gateway.shopper.consent import Consents, Terms
from gateway.shopper.day_keys import DayKeys
from gateway.shopper.key_ring import KeyRing
from gateway.shopper.sealing import key_to_text, new_key
from gateway.shopper.subjects import ShopperSubjects
from tests.gateway import canaries

T = TypeVar("T")
LIMIT_US = 250.0


class AtOnce:
    """A writing thread that needs no thread."""

    def __init__(self, writer: JournalWriter) -> None:
        self._writer = writer

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(self._writer.transact(work))
        return future


def cost(folder: Path, persons: int) -> dict[str, tuple[float, float]]:
    """Case → (mean, 99th percentile) in µs."""
    clock = SystemClock()
    writer = JournalWriter(folder / "journal.db", "gw01", clock)
    writer.open()
    _, public = new_key()
    privacy = PrivacySettings(seal_keys={"p1": key_to_text(public)}, notice_version="1", consent_rows=1_000_000)
    consents = Consents(folder / "journal.db", AtOnce(writer), folder / "consent.key", most_rows=1_000_000)
    keys = KeyRing(folder, privacy.seal_keys)
    subjects = ShopperSubjects(privacy, "CN", consents, DayKeys(folder), keys)
    at = clock.now()
    now_ms = int(at.wall_s * 1000)
    phones = [f"138{number:08d}" for number in range(persons)]
    for phone in phones:
        identifier = subjects.identifier("phone", phone)
        consents.grant(identifier, ("visits", "matching"), now_ms, now_ms * 2, Terms(record="r"), now_ms)
    consents._cache.clear()  # as after a start
    strangers = [f"139{number:08d}" for number in range(persons)]
    took = {
        "a person not seen today": [_one(subjects, phone) for phone in phones],
        "a regular of the day": [_one(subjects, phone) for phone in phones[-1000:] * 5],
        "a person without a consent": [_one(subjects, phone) for phone in strangers],
    }
    consents.close()
    writer.close()
    return {case: (statistics.fmean(times), statistics.quantiles(times, n=100)[98]) for case, times in took.items()}


def texts() -> dict[str, float]:
    """Mean µs of looking through what a till lets people type in a sale of 20 lines, each sale with its own numbers."""
    found = {}
    for case, description in (
        ("a sale of 20 lines", "Milk 1L whole"), ("a sale with a phone number typed in", "for Li 138 0013 8000")
    ):  # fmt: skip
        told, times = FreeText("CN"), []
        for number in range(2_000):
            lines = tuple(
                Line(seq=each, description=description if each == 1 else "Milk 1L whole", sku="5901234123457",
                     amount=Decimal(2)) for each in range(20)
            )  # fmt: skip
            name = f"0042-03-20261122-{number:06d}"
            sale = Sale(sequence=name, device_seq=name, lines=lines, totals=Totals(net=Decimal(40)))
            started_ns = time.thread_time_ns()
            told.cleaned(sale, lambda kind, value: "0" * 32)
            times.append((time.thread_time_ns() - started_ns) / 1000)
        found[case] = statistics.fmean(times)
    return found


def _one(subjects: ShopperSubjects, phone: str) -> float:
    at = SystemClock().now()
    started_ns = time.thread_time_ns()  # of this core, whoever else is on the machine
    subjects.subject((Identity("phone", phone),), at, at.wall_s)
    return (time.thread_time_ns() - started_ns) / 1000


def main() -> int:
    """Measure and print; 1 when a limit does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--persons", type=int, default=10_000, help="with a consent")
    parser.add_argument("--canaries", type=int, default=1000, help="identifiers through a whole gateway; 0: none")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for case, (mean_us, p99_us) in cost(Path(folder), arguments.persons).items():
            ours = f"{mean_us:.0f} µs, p99 {p99_us:.0f} µs"
            figures.append(Figure(f"Identity work, {case}", f"≤ {LIMIT_US:.0f} µs", "", ours, mean_us <= LIMIT_US))
    for case, mean_us in texts().items():
        figures.append(
            Figure(f"Free text, {case}", f"≤ {LIMIT_US:.0f} µs", "", f"{mean_us:.0f} µs", mean_us <= LIMIT_US)
        )
    if arguments.canaries:
        logging.disable(logging.NOTSET)
        with tempfile.TemporaryDirectory() as folder:
            found = canaries.run(Path(folder), arguments.canaries)
        print(
            f"canaries: {found.events:,} events, {found.subjects:,} with a subject, {found.quarantined:,} messages in "
            f"quarantine, {found.consents:,} consents; {found.searched_bytes >> 20} MiB searched"
        )
        for place, scheme, form in found.hits[:20]:
            print(f"  FOUND a {scheme} as {form} in {place}")
        figures.append(
            Figure(f"Privacy canaries, {found.canaries:,} identifiers: hits", "0", "", f"{len(found.hits)}",
                   not found.hits)
        )  # fmt: skip
    print_figures(figures)
    print(json.dumps({"figures": [figure.as_json() for figure in figures]}))
    return int(not all(figure.met for figure in figures))


if __name__ == "__main__":
    raise SystemExit(main())
