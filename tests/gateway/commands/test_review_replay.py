"""Requests that cannot be done are answered all the same, and the next one is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.loader import load
from devices.driver import Driver, driver
from devices.plan import plan
from gateway.clock import FakeClock
from gateway.errors import Unavailable
from gateway.intake.inlet import Poison
from gateway.journal.quarantine import PayloadSeal
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter
from gateway.shopper.day_keys import DayKeys
from gateway.shopper.key_file import load_or_make
from gateway.workers.replay_requests import Request, Retry, Spool, WriterBook

BEACONS = '[[devices]]\nname = "ble"\ndriver = "beacon_gateway"\ntopics = ["ble/#"]\n'


@driver("broken_for_replay", wire="mqtt", topics=("x",))
class Broken(Driver):
    """A driver with a mistake in it."""

    def feed(self, data: Any, at: Any) -> Any:
        raise IndexError


def test_no_number_and_no_driver_makes_a_request_fail_for_ever(shop: Any, storefront: Any) -> None:
    """A number beyond any database and a driver with a mistake in it are outcomes, not crashes."""
    shop.configure(BEACONS)
    shop.keep(poison=(Poison("ble", "beacon_gateway", "why", b"{}", "ble/x"),))
    settings = load(shop.config)
    plans = [msgspec.structs.replace(it, driver=Broken) for it in plan(settings, "test")]
    keys = shop.journal.parent / "keys"
    seal = PayloadSeal(keys / "quarantine.key")
    writer = JournalWriter(shop.journal, settings.gateway.name, FakeClock(), seal=seal.seal)
    writer.open()
    with JournalReader(shop.journal) as reader:
        retry = Retry(settings, lambda: plans, reader, seal, DayKeys(keys), FakeClock())
        outcomes = retry.serve(Request("r", (1, 1 << 70, -1)), WriterBook(writer))
    writer.close()
    assert outcomes is not None
    assert [(one.outcome, one.events) for one in outcomes] == [("rejected", 0)] * 3
    assert "IndexError" in outcomes[0].reason
    assert storefront("quarantine", "show", str(1 << 70), "--config", shop.config).code == 65


def test_a_damaged_answer_is_said_and_taken_away(shop: Any) -> None:
    """Half an answer is an outage with a hint, and not a traceback."""
    spool = Spool(load(shop.config))
    request = spool.put([1])
    (spool.folder / f"{request.name}.answer").write_bytes(b'[{"id":')
    with pytest.raises(Unavailable):
        spool.answered(request)
    assert spool.answered(request) is None


def test_a_feed_secret_that_a_power_cut_has_emptied_is_made_anew(tmp_path: Path) -> None:
    """Signing with an empty key would let anybody make up a cursor; a whole one is kept."""
    path = tmp_path / "keys" / "feed.key"
    path.parent.mkdir()
    path.write_bytes(b"")
    secret = load_or_make(path)
    assert len(secret) == 32 and load_or_make(path) == secret
    assert sorted(it.name for it in path.parent.iterdir()) == ["feed.key", "feed.key.damaged"]
