"""What the drivers do with a bad line, and how fast they are.

    python -m bench.drivers [--trials 10000] [--json]

Fuzz: every trace of every checksummed serial driver is cut at random, gets rubbish inserted and a bit flipped, and is
replayed. A tag or card that is not in the trace's expected set is bogus; the figure to hold is 0. The last column shows
what five flipped bits at once do, which no 8-bit check can hold off: it is there to be known, not held.

Speed: frames a second against what the driver's line can carry, EPC decodes and presence observations a second.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from devices import catalogue
from devices.driver import Driver, DriverEntry
from devices.transports.replay import Step, read_options, read_steps, replay
from gateway.clock import Instant
from gateway.intake import epc, presence
from gateway.intake.reading import CardRead, TagRead

TRACES = Path(__file__).parent.parent / "tests" / "traces"
CHECKSUMMED = ("rdm6300", "uhf_m100", "uhf_reader18")
SEED = 20_261_122
FUZZ_IDLE_S = 1.0  # long enough for every idle end of these drivers


def noisy(steps: Iterable[Step], rng: random.Random, *, flips: int = 1) -> Iterator[Step]:
    """A trace as a bad line gives it: cut at random; then rubbish inserted, bits flipped, or both.

    The rubbish is one run of 1 to 8 bytes; `flips` bits are flipped anywhere in the trace. Silences stay.
    """
    steps = list(steps)
    sizes = [len(step) if isinstance(step, bytes) else 0 for step in steps]
    total = sum(sizes)
    what = rng.randrange(3)
    insert_at = rng.randrange(total + 1) if what != 1 else -1
    flip_at = [rng.randrange(total * 8) for _ in range(flips)] if what != 0 and total else []
    start = 0
    for step, size in zip(steps, sizes, strict=True):
        if not isinstance(step, bytes):
            yield step
            continue
        data = bytearray(step)
        for bit in flip_at:
            if start <= bit // 8 < start + size:
                data[bit // 8 - start] ^= 1 << bit % 8
        if start <= insert_at < start + size or insert_at == total == start + size:
            here = insert_at - start
            data[here:here] = rng.randbytes(rng.randint(1, 8))
        start += size
        at = 0
        while at < len(data):
            cut = at + rng.randint(1, 40)
            yield bytes(data[at:cut])
            at = cut


def identities(readings: Iterable[object]) -> set[str]:
    """EPCs and card numbers among the readings."""
    return {r.epc if isinstance(r, TagRead) else str(r.number) for r in readings if isinstance(r, TagRead | CardRead)}


def expected_identities(case: Path) -> set[str]:
    """EPCs and card numbers that a case's `expected.jsonl` names."""
    lines = [json.loads(line) for line in (case / "expected.jsonl").read_text("utf-8").splitlines() if line.strip()]
    return {str(line.get("epc", line.get("number"))) for line in lines if line["type"] in ("tag_read", "card_read")}


def fuzz(entry: DriverEntry, case: Path, trials: int, *, flips: int = 1) -> tuple[int, set[str]]:
    """Replays `trials` damaged copies of a case: how many gave something bogus, and which; (0, empty) is wanted."""
    rng = random.Random(f"{SEED}/{entry.name}/{case.name}/{flips}")
    steps = read_steps(case, "serial")
    options = read_options(case / "options.toml", entry.cls.options_type)
    expected = expected_identities(case)
    fooled, bogus = 0, set[str]()
    for _ in range(trials):
        driver = entry.cls(options, "fuzz")
        readings = replay(driver, noisy(steps, rng, flips=flips), end_idle_s=FUZZ_IDLE_S)
        wrong = identities(readings) - expected
        fooled += bool(wrong)
        bogus |= wrong
    return fooled, bogus


def cases(name: str) -> list[Path]:
    """Trace cases of a driver, sorted."""
    return sorted(path for path in (TRACES / name).iterdir() if path.is_dir())


def driver_speed(name: str, case: str) -> tuple[float, float]:
    """Readings a second and bytes a second of one driver fed with 4 KiB chunks of a case's bytes, repeated."""
    entry = catalogue.load(name)
    data = b"".join(step for step in read_steps(TRACES / name / case, "serial") if isinstance(step, bytes))
    driver: Driver = entry.cls(read_options(TRACES / name / case / "options.toml", entry.cls.options_type), "bench")
    data *= 1 + 400_000 // len(data)
    count, start = 0, time.perf_counter()
    for at in range(0, len(data), 4096):
        count += len(list(driver.feed(data[at : at + 4096], Instant(0.0, at))))
    took_s = time.perf_counter() - start
    return count / took_s, len(data) / took_s


def epc_speed() -> tuple[float, float]:
    """SGTIN-96 decodes a second: every EPC new, and 500 EPCs again and again."""
    fresh = [f"3034257BF7194E4{serial:09X}" for serial in range(100_000)]
    start = time.perf_counter()
    for text in fresh:
        epc.decode(text)
    cold = len(fresh) / (time.perf_counter() - start)
    few = fresh[:500] * 200
    start = time.perf_counter()
    for text in few:
        epc.decode(text)
    return cold, len(few) / (time.perf_counter() - start)


def presence_speed() -> float:
    """Observations a second: 2,000 tags, four antennas."""
    engine: presence.Presence[str] = presence.Presence()
    places = [presence.Spot("gate", antenna, f"zone{antenna}") for antenna in (1, 2, 3, 4)]
    rng = random.Random(SEED)
    reads = [
        (f"tag{rng.randrange(2000)}", rng.choice(places), float(rng.randint(-70, -40)), Instant(i / 5e3, i * 200))
        for i in range(200_000)
    ]
    start = time.perf_counter()
    for key, place, rssi, at in reads:
        for _ in engine.observe(key, place, rssi, at):
            pass
        if at.mono_us % 1_000_000 == 0:
            list(engine.expire(at))
    return len(reads) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    for name in CHECKSUMMED:
        entry = catalogue.load(name)
        for case in cases(name):
            bogus, _ = fuzz(entry, case, given.trials)
            hard, _ = fuzz(entry, case, given.trials // 10, flips=5)
            rows.append({"trace": f"{name}/{case.name}", "trials": given.trials, "bogus": bogus, "five_flips": hard})
            if not given.json:
                print(
                    f"{rows[-1]['trace']:42} limit 0   ours {bogus} of {given.trials}"
                    f"   (five flips: {hard} of {given.trials // 10})"
                )
    speeds = {}
    for name, case in (("uhf_m100", "multi_poll"), ("uhf_reader18", "288_captured"), ("rdm6300", "held_then_swapped")):
        readings_s, bytes_s = driver_speed(name, case)
        line_s = catalogue.load(name).cls.baud / 10
        speeds[name] = {"readings_s": readings_s, "bytes_s": bytes_s, "line_bytes_s": line_s}
        if not given.json:
            print(f"{name:42} line {line_s:,.0f} B/s   ours {bytes_s:,.0f} B/s = {bytes_s / line_s:,.0f}×")
    cold, warm = epc_speed()
    observations = presence_speed()
    if given.json:
        figures = {"fuzz": rows, "drivers": speeds, "epc_s": {"new": cold, "known": warm}, "presence_s": observations}
        print(json.dumps(figures))
        return
    print(f"{'EPC decodes a second':42} limit 50,000   ours {cold:,.0f} new, {warm:,.0f} known")
    print(f"{'presence observations a second':42} limit 100,000   ours {observations:,.0f}")


if __name__ == "__main__":
    main()
