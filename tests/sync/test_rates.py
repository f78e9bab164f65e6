"""A cap on a stream's delivery: kept, obeyed, taken away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import FakeClock
from gateway.errors import Rejected, Unavailable
from sync.rates import Rates
from tests.sync.sync_parts import Bench, FakeUplink, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "journal.db", FakeClock()).open()
    yield store
    store.close()


def test_a_cap_is_kept_over_a_restart_and_goes_with_null(tmp_path: Path) -> None:
    """What is said once holds until something else is said; a damaged file is no cap."""
    path = tmp_path / "rates.json"
    Rates(path).set({"stream": "observations", "events_per_s": 5})
    assert Rates(path).of("observations") == 5.0
    assert Rates(path).of("transactions") is None
    Rates(path).set({"stream": "observations", "events_per_s": None})
    assert Rates(path).of("observations") is None
    path.write_bytes(b'{"observations": "fast"')
    assert Rates(path).of("observations") is None


@pytest.mark.parametrize(
    "data",
    [
        {}, {"stream": "observations"}, {"stream": "sales", "events_per_s": 1}, {"stream": "observations", "x": 1},
        {"stream": "observations", "events_per_s": 0}, {"stream": "observations", "events_per_s": -1},
        {"stream": "observations", "events_per_s": 1e12}, {"stream": "observations", "events_per_s": "fast"},
    ],
)  # fmt: skip
def test_no_rate_is_refused(tmp_path: Path, data: dict[str, Any]) -> None:
    """Nothing stops a stream altogether, and nothing is kept of what is refused."""
    with pytest.raises(Rejected):
        Rates(tmp_path / "rates.json").set(data)
    assert not (tmp_path / "rates.json").exists()


def test_a_disk_that_does_not_take_it_changes_nothing(tmp_path: Path) -> None:
    """The command is asked for again."""
    rates = Rates(tmp_path / "nowhere" / "rates.json")
    with pytest.raises(Unavailable):
        rates.set({"stream": "observations", "events_per_s": 5})
    assert rates.of("observations") is None


def test_a_capped_stream_keeps_to_it(store: Store) -> None:
    """Over a backlog the platform sees no more than the cap, in batches of some seconds; without it, all at once."""
    cap: list[float | None] = [10.0]
    uplink = FakeUplink()
    bench = Bench(store, uplink, rate=lambda: cap[0])
    store.add(400)
    start_s = store.clock.now().mono_s
    bench.drain()
    assert store.clock.now().mono_s - start_s >= (400 - 50) / 10.0
    assert max(len(batch.events) for batch in uplink.sent) == 50
    cap[0] = None
    store.add(400, start=400)
    start_s = store.clock.now().mono_s
    bench.drain()
    assert store.clock.now().mono_s - start_s < 20.0
    bench.close()


def test_the_last_try_at_a_stop_sends_what_waits_only_while_all_is_well(store: Store) -> None:
    """Not before anything was ever delivered, and not against a cap."""
    uplink = FakeUplink()
    bench = Bench(store, uplink)
    store.add(5)
    bench.drain()
    store.add(5, start=5)
    bench.stop.set()
    bench.close()
    assert [n for batch in uplink.sent for n in range(batch.first, batch.last + 1)] == list(range(1, 11))
    never = Bench(store, fresh := FakeUplink())
    store.add(5, start=10)
    never.stop.set()
    never.close()
    assert not fresh.sent
