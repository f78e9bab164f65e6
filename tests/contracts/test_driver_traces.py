"""The contract of every driver: it says the same however its bytes are cut, and it knows nothing but its device.

Each driver of the catalogue must have a trace: a directory `tests/traces/<driver>/<case>/`. A serial case whose driver
must find its way past rubbish has a `splits.toml` with `frame_lines = true`: each line of its `input.hex` is then one
whole frame, and rubbish (its list `garbage`, hex; or the usual) goes between the lines.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import random
import sys
import tomllib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from devices import catalogue
from devices.driver import Driver, Message
from devices.transports.replay import Silence, Step, outcome_json, read_options, read_steps, replay
from gateway.clock import FakeClock
from gateway.errors import Rejected

ROOT = Path(__file__).parents[2]
TRACES = ROOT / "tests" / "traces"
NAMES = catalogue.names()
MAX_SPLITS = 150  # of one trace; longer traces are sampled, always at the same places
FUZZ_TRIALS = 10_000  # of one trace
GARBAGE = ("00", "FF", "7E", "BB0222", "02", "DDAA0001", "13 00 01 03", "A5" * 9)


def cases(name: str) -> list[Path]:
    folder = TRACES / name
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


CASES = [(name, case) for name in NAMES for case in cases(name)]
SERIAL = [(name, case) for name, case in CASES if (case / "input.hex").is_file()]
MQTT = [(name, case) for name, case in CASES if (case / "input.jsonl").is_file()]
FRAMED = [(name, case) for name, case in SERIAL if (case / "splits.toml").is_file()]
with_case = {"ids": lambda value: value.name if isinstance(value, Path) else str(value)}


def _bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_drivers", ROOT / "bench" / "drivers.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def fresh(name: str, case: Path) -> Driver:
    cls = catalogue.load(name).cls
    return cls(read_options(case / "options.toml", cls.options_type), "trace")


def expected(case: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (case / "expected.jsonl").read_text("utf-8").split("\n") if line.strip()]


def assert_says(driver: Driver, steps: Iterable[Step], case: Path, clock: FakeClock | None = None) -> None:
    said = [outcome_json(outcome) for outcome in replay(driver, steps, clock=clock)]
    wanted = expected(case)
    for outcome, want in zip(said, wanted, strict=False):
        if want.get("type") == "rejected":
            assert outcome["type"] == "rejected"
            assert want["reason_contains"] in outcome["reason"]
        else:
            assert outcome == want
    assert len(said) == len(wanted), (said[len(wanted) :], wanted[len(said) :])


def runs(steps: Iterable[Step]) -> list[Step]:
    """Steps with neighbouring bytes joined: what arrived without a silence."""
    joined: list[Step] = []
    for step in steps:
        if isinstance(step, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += step
        else:
            joined.append(step)
    return joined


def splits(steps: list[Step]) -> Iterator[list[Step]]:
    """The trace with one run of bytes cut in two, at every place (at `MAX_SPLITS` places if there are more)."""
    places = [(at, cut) for at, step in enumerate(steps) if isinstance(step, bytes) for cut in range(1, len(step))]
    if len(places) > MAX_SPLITS:
        places = sorted(random.Random(1).sample(places, MAX_SPLITS))
    for at, cut in places:
        run = steps[at]
        assert isinstance(run, bytes)
        yield [*steps[:at], run[:cut], run[cut:], *steps[at + 1 :]]


@pytest.mark.parametrize("name", NAMES)
def test_a_driver_has_a_trace_that_says_something(name: str) -> None:
    """A driver without a recorded case, or with cases that expect nothing at all, is not finished."""
    found = cases(name)
    assert found, f"no case in tests/traces/{name}/"
    assert any(expected(case) for case in found)
    for case in found:
        inputs = [file for file in ("input.hex", "input.jsonl") if (case / file).is_file()]
        assert len(inputs) == 1, f"{case} needs one input.hex (serial) or input.jsonl (mqtt)"
        assert (inputs[0] == "input.hex") == (catalogue.load(name).cls.wire == "serial")
        assert (case / "SOURCE.md").read_text("utf-8").strip(), f"{case} does not say where its bytes come from"


@pytest.mark.parametrize(("name", "case"), CASES, **with_case)
def test_a_trace_is_read_as_expected(name: str, case: Path) -> None:
    """Whole runs of bytes, or message by message, give the expected readings and counters."""
    driver = fresh(name, case)
    assert_says(driver, runs(read_steps(case, driver.wire)), case)
    counters = case / "expected_counters.json"
    if counters.is_file():
        wanted = json.loads(counters.read_text("utf-8"))
        assert {field: getattr(driver.counters, field) for field in wanted} == wanted
    assert min(msgspec.structs.astuple(driver.counters)) >= 0


@pytest.mark.parametrize(("name", "case"), SERIAL, **with_case)
def test_bytes_one_at_a_time_say_the_same(name: str, case: Path) -> None:
    """A line that gives one byte a read changes nothing, not even the counters."""
    driver, whole = fresh(name, case), fresh(name, case)
    steps = read_steps(case, "serial")
    single = [part for s in steps for part in ([bytes((b,)) for b in s] if isinstance(s, bytes) else [s])]
    assert_says(driver, single, case)
    list(replay(whole, runs(steps)))
    assert driver.counters == whole.counters


@pytest.mark.parametrize(("name", "case"), SERIAL, **with_case)
def test_a_cut_anywhere_says_the_same(name: str, case: Path) -> None:
    """A read that ends anywhere in the stream changes nothing."""
    for steps in splits(runs(read_steps(case, "serial"))):
        assert_says(fresh(name, case), steps, case)


@pytest.mark.parametrize(("name", "case"), FRAMED, **with_case)
def test_rubbish_between_frames_changes_nothing(name: str, case: Path) -> None:
    """Bytes that are no frame, before, between and after frames, neither hide a frame nor make one."""
    declared = tomllib.loads((case / "splits.toml").read_text("utf-8"))
    assert declared.pop("frame_lines") is True
    rubbish = [bytes.fromhex(text) for text in declared.pop("garbage", GARBAGE)]
    assert not declared, f"unknown keys in {case}/splits.toml"
    steps = read_steps(case, "serial")
    rng = random.Random(2)
    rubbish += [rng.randbytes(rng.randint(1, 12)) for _ in range(20)]
    for piece in rubbish:
        dirty: list[Step] = [piece]
        for step in steps:
            dirty += [step, piece] if isinstance(step, bytes) else [step]
        assert_says(fresh(name, case), dirty, case)
    mixed = [part for step in steps for part in (rng.choice(rubbish), step)]
    assert_says(fresh(name, case), mixed, case)


@pytest.mark.parametrize("name", NAMES)
def test_a_framing_driver_is_tried_with_rubbish(name: str) -> None:
    """A driver that finds frames by length and check has a case with rubbish between its frames."""
    if "devices.framing" in _imports(f"devices.drivers.{name}"):
        assert any(driver == name for driver, _ in FRAMED), f"no splits.toml in tests/traces/{name}/*/"


@pytest.mark.parametrize("name", _bench().CHECKSUMMED)
def test_noise_makes_no_identity(name: str) -> None:
    """Random cuts, insertions and a flipped bit never make a tag or card that was not there."""
    bench = _bench()
    entry = catalogue.load(name)
    assert cases(name)
    for case in cases(name):
        assert bench.fuzz(entry, case, FUZZ_TRIALS) == (0, set()), case.name


def test_the_noise_is_noise() -> None:
    """The damaged stream differs from the clean one nearly always, and a reader without a check would be fooled."""
    bench = _bench()
    clean = [b"0123456789" * 4, Silence(0.1), b"abcdef"]
    rng = random.Random(3)
    damaged = [runs(bench.noisy(clean, rng)) for _ in range(200)]
    assert sum(steps != clean for steps in damaged) > 190
    assert any(len(b"".join(s for s in steps if isinstance(s, bytes))) > 46 for steps in damaged)
    assert all(Silence(0.1) in steps for steps in damaged)


@pytest.mark.parametrize("name", sorted({name for name, _ in SERIAL}))
def test_a_serial_driver_never_raises(name: str) -> None:
    """Any bytes at all are counted and survived, and what is kept of them is bounded."""
    rng = random.Random(4)
    driver, clock = fresh(name, cases(name)[0]), FakeClock()
    for round_number in range(300):
        at = clock.advance(0.001)
        list(driver.feed(rng.randbytes(rng.choice((1, 7, 64, 700))), at))
        if round_number % 10 == 0:
            list(driver.tick(clock.advance(0.2)))
        assert len(driver.outgoing(clock.now())) <= 4096
    kept = [len(value) for value in vars(driver).values() if isinstance(value, bytes | bytearray | list | set | dict)]
    assert max(kept, default=0) <= 1 << 20


def _partial(driver: Driver, message: Message, clock: FakeClock) -> tuple[list[object], Rejected | None]:
    """What a driver said before it refused; a list grown by an iterator keeps what came before the exception."""
    said: list[object] = []
    try:
        said.extend(driver.feed(message, clock.now()))
    except Rejected as error:
        return said, error
    return said, None


POISON = [b"", b"{", b"\xff\xfe\x00", b"null", b"[]", b'""', b"1e999", b"[" * 100_000, b'{"a":' * 50_000, b"9" * 70_000,
          b'{"a": NaN}', "{\"\ud800\": 1}".encode("utf-8", "surrogatepass"), b"\x00" * 300_000]  # fmt: skip


@pytest.mark.parametrize(("name", "case"), MQTT, **with_case)
def test_a_poison_message_is_rejected_whole(name: str, case: Path) -> None:
    """Whatever the payload, a driver says something or raises Rejected with nothing said before; the next is read."""
    driver = fresh(name, case)
    topics = {step.topic for step in read_steps(case, "mqtt") if isinstance(step, Message)}
    clock = FakeClock()
    rejected = 0
    for message in [Message(topic, payload) for topic in sorted(topics) for payload in POISON]:
        clock.advance(0.1)
        said, error = _partial(driver, message, clock)
        if error is not None:
            rejected += 1
            assert error.reason
            assert not said
    assert rejected or driver.counters.ignored
    assert_says(driver, read_steps(case, "mqtt"), case, clock)


@pytest.mark.parametrize(("name", "case"), MQTT, **with_case)
def test_a_rejected_message_has_said_nothing(name: str, case: Path) -> None:
    """A driver does not yield half a message and then refuse it."""
    driver, clock = fresh(name, case), FakeClock()
    for step in read_steps(case, "mqtt"):
        if isinstance(step, Silence):
            clock.advance(step.seconds)
        elif isinstance(step, Message):
            said, error = _partial(driver, step, clock)
            assert error is None or not said


def _stanza(manual: str) -> str:
    """The indented TOML block of a manual that begins with `[[devices]]`."""
    lines = manual.split("\n")
    first = next((at for at, line in enumerate(lines) if line.strip() == "[[devices]]"), None)
    assert first is not None, "the manual has no [[devices]] stanza"
    indent = len(lines[first]) - len(lines[first].lstrip())
    assert indent, "the stanza must be indented"
    block = []
    for line in lines[first:]:
        if line.strip() and len(line) - len(line.lstrip()) < indent:
            break
        block.append(line[indent:])
    return "\n".join(block)


@pytest.mark.parametrize("name", NAMES)
def test_the_manual_shows_how_to_configure_it(name: str) -> None:
    """The docstring's TOML names this driver and loads into its options."""
    entry = catalogue.load(name)
    (device,) = tomllib.loads(_stanza(entry.manual))["devices"]
    assert device["driver"] == name
    assert device["name"]
    assert msgspec.convert(device.get("options", {}), entry.cls.options_type)
    assert entry.summary.endswith((".", ":")) or len(entry.summary) > 20


VOCABULARY = {"devices.driver", "gateway.intake.reading", "gateway.errors", "gateway.clock"}
OUTSIDE = {
    "asyncio", "builtins", "concurrent", "ctypes", "fcntl", "glob", "http", "importlib", "io", "logging",
    "mmap", "multiprocessing", "os", "pathlib", "queue", "sched", "select", "selectors", "shutil", "signal", "socket",
    "socketserver", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "termios", "threading", "time", "tty", "urllib",
}  # fmt: skip
PURE = {"biip", "epcpy", "msgspec"}


def _tree(module: str) -> ast.Module:
    return ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8"))


def _imports(module: str) -> Iterator[str]:
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            if node.module in ("devices", "gateway", "gateway.intake"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def _reached(module: str) -> set[str]:
    """A driver and the formats it shares with others (`devices.<format>`), which are held to the same rule."""
    found, new = {module}, [module]
    while new:
        for used in _imports(new.pop()):
            if used.startswith("devices.") and used not in VOCABULARY | found:
                found.add(used)
                new.append(used)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_driver_knows_nothing_but_its_device(name: str) -> None:
    """No I/O, no thread, no clock and no other driver: only the vocabulary, a shared format, a parser, the stdlib."""
    own = f"devices.drivers.{name}"
    for module in _reached(own):
        assert module == own or module.count(".") == 1, f"{name} reaches {module}"
        for used in _imports(module):
            root = used.partition(".")[0]
            if root in ("gateway", "devices", "vision", "sync", "config"):
                assert used in VOCABULARY or used.startswith("devices."), f"{module} imports {used}"
            else:
                pure = root in PURE or (root in sys.stdlib_module_names and root not in OUTSIDE)
                assert pure, f"{module} imports {used}"


@pytest.mark.parametrize("name", NAMES)
def test_a_driver_asks_nothing_of_the_world(name: str) -> None:
    """No file is opened, nothing is printed, and the time comes from the caller."""
    for module in _reached(f"devices.drivers.{name}"):
        for node in ast.walk(_tree(module)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"open", "print", "input", "exec", "eval", "compile", "__import__"}, called
                assert called.rpartition(".")[2] not in {"now", "utcnow", "today", "sleep"}, called


def test_the_sampled_places_are_always_the_same() -> None:
    """The sampled splits of a long trace are always the same."""
    long = [bytes(range(256)) * 4]
    first, second = list(splits(long)), list(splits(long))
    assert first == second
    assert len(first) == MAX_SPLITS
    assert all(b"".join(s for s in steps if isinstance(s, bytes)) == long[0] for steps in first)
    assert all(len(a[0]) < len(b[0]) for a, b in pairwise(first))  # type: ignore[arg-type]
