"""The verdict names one trouble for each cause, the worst first, and nothing when all is well."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.clock import FakeClock, Instant
from gateway.event import STREAMS, Stream
from gateway.intake.health import DeviceCondition, DeviceReport
from gateway.intake.inlet import LaneCounters
from gateway.journal.reader import StreamState
from gateway.runtime.worker import WorkerState
from gateway.shopper.coupons import CouponFigures
from gateway.status import words
from gateway.status.snapshot import (
    Facts,
    Identity,
    PlannedDevice,
    Rate,
    ReadModel,
    Sending,
    StorageFacts,
    buffer,
    not_healthy,
    snapshot,
)  # fmt: skip
from gateway.status.verdict import Trouble, troubles

CLOCK = FakeClock()
NOW = CLOCK.advance(1000.0)


def state(stream: Stream, accepted: int = 10, **more: Any) -> StreamState:
    values = {"acked": 0, "pending": accepted, "quarantined": 0, "expired": 0, "declared_lost": 0, **more}
    return StreamState(
        stream, accepted, values["acked"], values["pending"], values["quarantined"], values["expired"],
        values["declared_lost"], 1, "e", values.get("oldest_pending_ms"),
    )  # fmt: skip


def storage(**more: int) -> StorageFacts:
    values = {
        "quota_bytes": 1 << 30, "file_bytes": 10 << 20, "free_pages_bytes": 0, "wal_bytes": 0,
        "disk_free_bytes": 100 << 30, "kept": 10_000, **more,
    }  # fmt: skip
    return StorageFacts(refuse_share=0.85, **values)


def facts(**more: Any) -> Facts:
    values: dict[str, Any] = {
        "now": NOW, "started": Instant(NOW.wall_s - 900, NOW.mono_us - 900_000_000), "ready": True, "healthy": True,
        "identity": Identity(tenant="t", store="1", gateway="g", version="1", time_zone="UTC", language="en"),
        "clock_steps": 0, "admitted": STREAMS, "streams": tuple(state(stream) for stream in STREAMS),
        "storage": storage(), "rate": Rate(100, 600.0), "read_models": (), "quarantine_held": 0, **more,
    }  # fmt: skip
    return Facts(**values)


def found(**more: Any) -> list[Trouble]:
    return troubles(snapshot(facts(**more)))


def keys(**more: Any) -> list[str]:
    return [trouble.key for trouble in found(**more)]


def devices(
    condition: DeviceCondition, *names: str, worker: str = "mqtt-devices", sales: bool = False, **report: Any
) -> dict[str, Any]:
    return {
        "planned": tuple(PlannedDevice(name=it, driver="d", zone="z", worker=worker, sales=sales) for it in names),
        "reports": tuple(DeviceReport(name=it, driver="d", zone="z", condition=condition, **report) for it in names),
    }


def waiting(name: str, **more: Any) -> WorkerState:
    return WorkerState(name=name, state="waiting", stage=0, essential=False, reason="why", hint="do", **more)


def test_a_gateway_in_order_needs_no_hand_and_is_healthy() -> None:
    assert keys(**devices("live", "a", heard_s=1.0)) == []
    assert not_healthy(snapshot(facts())) == []


@pytest.mark.parametrize(
    ("condition", "sales", "key"),
    [
        ("faulted", False, "faulted"), ("faulted", True, "till_faulted"), ("stale", False, "stale"),
        ("stale", True, "till_stale"), ("never_seen", False, "never_seen"),
    ],
)  # fmt: skip
def test_each_condition_of_a_device_has_its_own_advice(condition: DeviceCondition, sales: bool, key: str) -> None:
    assert keys(**devices(condition, "a", sales=sales, reason="no port", heard_s=400.0)) == [key]


def test_coupons_near_the_shops_own_limit_are_told_before_one_is_refused() -> None:
    def standing(at_risk: str, limit: str = "100") -> CouponFigures:
        return CouponFigures(currency="CNY", at_risk=Decimal(at_risk), at_risk_limit=Decimal(limit))

    assert keys(coupons=None) == keys(coupons=standing("89")) == keys(coupons=standing("0", "0")) == []
    assert keys(coupons=standing("90")) == keys(coupons=standing("120")) == ["coupons_at_risk"]


def test_a_device_has_a_moment_after_the_start_before_it_counts_as_never_seen() -> None:
    early = Instant(NOW.wall_s - 30, NOW.mono_us - 30_000_000)
    assert keys(started=early, **devices("never_seen", "a")) == []
    quiet = devices("never_seen", "a")
    for stale_after_s, said in ((60.0, ["never_seen"]), (900.0, [])):  # one that may be silent for long has not failed
        planned = tuple(msgspec.structs.replace(it, stale_after_s=stale_after_s) for it in quiet["planned"])
        later = Instant(NOW.wall_s - 600, NOW.mono_us - 600_000_000)
        assert keys(started=later, **quiet | {"planned": planned}) == said


def test_a_device_that_its_worker_has_not_registered_is_never_seen() -> None:
    shown = snapshot(facts(planned=devices("live", "a")["planned"]))
    assert shown.devices[0].condition == "never_seen" and shown.devices[0].heard_s is None


def test_a_broker_that_is_away_is_one_trouble_whatever_hangs_on_it() -> None:
    behind = devices("faulted", "a", "b", "c", reason="connection refused")
    assert keys(**behind) == ["broker_away"]
    (trouble,) = found(**behind, workers=(waiting("mqtt-devices"),))
    assert trouble.key == "broker_away" and trouble.parameters["devices"] == "a, b, c" and trouble.detail == "why — do"


def test_a_line_that_waits_for_its_port_is_told_as_its_device() -> None:
    assert keys(**devices("faulted", "a", worker="line-a", reason="gone"), workers=(waiting("line-a"),)) == ["faulted"]


def test_a_part_that_waits_or_fails_is_told_once() -> None:
    failed = WorkerState(name="page", state="failed", stage=0, essential=False, reason="port taken")
    assert keys(workers=(waiting("broker"), failed)) == ["waiting", "failed"]


def test_a_part_that_hangs_is_critical_and_unhealthy() -> None:
    hangs = WorkerState(name="heartbeat", state="running", stage=0, essential=False, stuck=True)
    shown = snapshot(facts(workers=(hangs,), healthy=False))
    assert [it.key for it in troubles(shown)] == ["stuck"]
    assert not_healthy(shown) == ["worker heartbeat makes no progress"]


def test_a_filling_journal_says_which_streams_are_refused_and_is_unhealthy() -> None:
    shown = snapshot(facts(admitted=("transactions",)))
    (trouble,) = troubles(shown)
    assert (trouble.key, trouble.parameters) == ("journal_filling", {"streams": "measurements, observations"})
    assert len(not_healthy(shown)) == 2
    assert keys(admitted=()) == ["journal_full"]


def test_counts_that_do_not_add_up_are_said() -> None:
    streams = (state("transactions", 10, pending=9), state("measurements"), state("observations"))
    assert keys(streams=streams) == ["unbalanced"]


def test_a_journal_that_cannot_be_read_is_critical_after_a_while_and_no_number_is_made_up() -> None:
    shown = snapshot(facts(streams=None, storage=None, ready=False))
    assert [it.key for it in troubles(shown)] == ["journal_closed"]
    assert shown.delivery.total is None and shown.delivery.buffer.hours_left is None
    assert not_healthy(shown) == ["not ready: the journal is not open yet"]


def test_what_is_undelivered_for_an_hour_is_said_only_where_there_is_a_platform() -> None:
    old = int((NOW.wall_s - 7200) * 1000)
    streams = tuple(state(stream, oldest_pending_ms=old) for stream in STREAMS)
    identity = msgspec.structs.replace(facts().identity, platform=True)
    assert keys(streams=streams) == []
    (trouble,) = found(streams=streams, identity=identity)
    assert trouble.key == "not_delivering" and trouble.since_s == pytest.approx(7200)


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"now": Instant(NOW.wall_s, NOW.mono_us, "stepped")}, "clock_stepped"),
        ({"now": Instant(NOW.wall_s, NOW.mono_us, "unsynced")}, "clock_unsynced"),
        ({"quarantine_held": 3}, "quarantined"),
        ({"lanes": {"a": LaneCounters(dropped=2)}}, "dropped"),
        ({"storage": storage(wal_bytes=64 << 20)}, "wal_long"),
        ({"read_models": (ReadModel("sales", 50_000),)}, "catching_up"),
    ],
)
def test_lesser_things_are_notices(more: dict[str, Any], key: str) -> None:
    (trouble,) = found(**more)
    assert (trouble.severity, trouble.key) == ("notice", key)


def test_the_worst_comes_first() -> None:
    told = found(quarantine_held=1, admitted=(), **devices("stale", "a", worker="line-a", heard_s=1.0))
    assert [it.severity for it in told] == ["critical", "warning", "notice"]


def test_hours_of_buffer_follow_from_room_rate_and_size() -> None:
    left = buffer(storage(file_bytes=10_000_000, quota_bytes=100_000_000), Rate(1200, 120.0))
    assert left.bytes_per_event == 1000 and left.events_per_s == 10 and left.room_bytes == 75_000_000
    assert left.hours_left == pytest.approx(75_000_000 / 10_000 / 3600)
    (trouble,) = found(storage=storage(file_bytes=10_000_000, quota_bytes=100_000_000), rate=Rate(1200, 120.0))
    assert (trouble.key, trouble.severity) == ("buffer_short", "critical")


def test_a_disk_that_is_nearly_full_counts_before_the_quota() -> None:
    assert buffer(storage(disk_free_bytes=65 << 20), None).room_bytes == 1 << 20
    assert buffer(storage(disk_free_bytes=0), None).room_bytes == 0


@pytest.mark.parametrize(
    ("kept", "rate", "reason"),
    [(10, Rate(9, 60.0), "measuring"), (9_999, Rate(9_999, 119.0), "measuring"), (9_999, None, "measuring"),
     (9_999, Rate(0, 600.0), "quiet")],
)  # fmt: skip
def test_hours_nobody_can_know_are_null_with_a_reason(kept: int, rate: Rate | None, reason: str) -> None:
    left = buffer(storage(kept=kept), rate)
    assert (left.hours_left, left.reason) == (None, reason)


def test_a_platform_that_is_away_is_a_notice_with_its_reason_and_one_that_refuses_us_needs_a_hand() -> None:
    """Away: nothing to do, until an hour has passed; refused or closed: a warning; working: nothing."""
    identity = Identity(
        tenant="t", store="1", gateway="g", version="1", time_zone="UTC", language="en", platform=True
    )  # fmt: skip

    def found(condition: Any, age_s: float = 5.0) -> list[tuple[str, str, str]]:
        streams = tuple(state(stream, oldest_pending_ms=(NOW.wall_s - age_s) * 1000) for stream in STREAMS)
        sending = tuple(Sending(stream=stream, condition=condition, reason="why") for stream in STREAMS)
        return [
            (it.key, it.severity, it.detail)
            for it in troubles(snapshot(facts(identity=identity, streams=streams, sending=sending)))
        ]

    assert found("waiting") == [("platform_away", "notice", "why")]
    assert found("waiting", 7200.0) == [("not_delivering", "warning", "why")]
    assert found("unauthorised") == [("platform_unauthorised", "warning", "why")]
    assert found("closed") == [("platform_closed", "warning", "why")]
    assert found("live") == found("draining") == found("starting") == []


def test_every_trouble_has_words_and_every_word_a_trouble() -> None:
    source = Path(troubles.__code__.co_filename).read_text("utf-8")
    assert all(f'"{key}"' in source for key in words.TROUBLES)
