"""The snapshot as Prometheus metrics. A number that nobody knows is left out, never 0."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.status.snapshot import Snapshot

_CONDITIONS = ("live", "stale", "never_seen", "faulted", "disabled")


def exposition(snapshot: Snapshot) -> tuple[bytes, str]:
    """The text of `/metrics` and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(snapshot))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Snapshot(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        snapshot = self._snapshot
        identity = snapshot.identity
        yield InfoMetricFamily(
            "storefront_gateway", "Which gateway this is.",
            {name: getattr(identity, name) for name in ("tenant", "store", "gateway", "version")},
        )  # fmt: skip
        yield _gauge("storefront_ready", "1 when events are taken.", float(snapshot.ready))
        yield _gauge("storefront_healthy", "1 when no worker hangs.", float(snapshot.healthy))
        yield from _streams(snapshot)
        yield from _devices(snapshot)
        yield from _intake(snapshot)
        yield from _coupons(snapshot)
        yield from _workers(snapshot)
        yield from _system(snapshot)


def _streams(snapshot: Snapshot) -> Iterable[Metric]:
    lines = snapshot.delivery.streams or ()
    for name, meaning in (
        ("accepted", "Events accepted."),
        ("delivered", "Events that the platform has."),
        ("quarantined", "Events that the platform refused."),
        ("expired", "Events given up by retention."),
        ("lost", "Events declared lost."),
    ):
        counter = CounterMetricFamily(f"storefront_stream_{name}", meaning, labels=["stream"])
        for line in lines:
            counter.add_metric([line.stream], getattr(line, name))
        yield counter
    waiting = GaugeMetricFamily("storefront_stream_waiting", "Events not yet delivered.", labels=["stream"])
    oldest = GaugeMetricFamily(
        "storefront_stream_oldest_waiting_seconds", "Age of the oldest event not yet delivered.", labels=["stream"]
    )
    admitted = GaugeMetricFamily("storefront_stream_admitted", "1 when there is room for it.", labels=["stream"])
    for line in lines:
        waiting.add_metric([line.stream], line.waiting)
        admitted.add_metric([line.stream], float(line.admitted))
        if line.oldest_waiting_s is not None:
            oldest.add_metric([line.stream], line.oldest_waiting_s)
    yield from (waiting, oldest, admitted)
    if snapshot.delivery.buffer.hours_left is not None:
        yield _gauge(
            "storefront_buffer_left_seconds", "How long events can still wait here.",
            snapshot.delivery.buffer.hours_left * 3600,
        )  # fmt: skip


def _devices(snapshot: Snapshot) -> Iterable[Metric]:
    state = GaugeMetricFamily("storefront_device_state", "1 for the state a device is in.", labels=["device", "state"])
    heard = GaugeMetricFamily("storefront_device_silent_seconds", "Since it was last heard.", labels=["device"])
    readings = CounterMetricFamily("storefront_device_readings", "Statements since the start.", labels=["device"])
    bad = CounterMetricFamily("storefront_device_bad_frames", "Broken frames since the start.", labels=["device"])
    for device in snapshot.devices:
        for condition in _CONDITIONS:
            state.add_metric([device.name, condition], float(device.condition == condition))
        if device.heard_s is not None:
            heard.add_metric([device.name], device.heard_s)
        readings.add_metric([device.name], device.readings)
        bad.add_metric([device.name], device.bad)
    yield from (state, heard, readings, bad)


def _intake(snapshot: Snapshot) -> Iterable[Metric]:
    intake = snapshot.intake
    for name, meaning in (
        ("offered", "Events offered by a source."),
        ("taken", "Events taken from a source."),
        ("dropped", "Events lost because the source's lane was full."),
    ):
        counter = CounterMetricFamily(f"storefront_inlet_{name}", meaning, labels=["source"])
        for source, lane in intake.lanes.items():
            counter.add_metric([source], getattr(lane, name))
        yield counter
    yield _gauge("storefront_inlet_waiting", "Events waiting for a commit.", intake.waiting)
    for name, meaning, value in (
        ("commits", "Commits.", intake.commits),
        ("events", "Events committed.", intake.events),
        ("duplicates", "Repeats recognised.", intake.duplicates),
        ("poison", "Messages set aside.", intake.poison),
        ("full", "Commits that found no room.", intake.full),
    ):
        counter = CounterMetricFamily(f"storefront_journal_{name}", meaning)
        counter.add_metric([], value)
        yield counter
    for area, meaning in (
        ("subjects", "Readings that named a person, by what became of them; dropped: all that name nobody now."),
        ("consents", "Consents by what became of them."),
        ("visits", "Visits of consented shoppers by what became of them."),
    ):
        counter = CounterMetricFamily(f"storefront_{area}", meaning, labels=["outcome"])
        for name, count in intake.persons.items():
            if name.startswith(f"{area}_"):
                counter.add_metric([name.removeprefix(f"{area}_")], count)
        yield counter
    if intake.worst_commit_ms is not None:
        yield _gauge(
            "storefront_journal_worst_commit_seconds", "Longest commit since the start.", intake.worst_commit_ms / 1000
        )


def _coupons(snapshot: Snapshot) -> Iterable[Metric]:
    """Money is in the store's currency."""
    coupons = snapshot.coupons
    if coupons is None:
        return
    for name, meaning, value in (
        ("at_risk", "Money that would be lost if every coupon on the shop's own risk were used elsewhere.",
         coupons.at_risk),
        ("at_risk_limit", "Most that may be at risk.", coupons.at_risk_limit),
        ("held", "Coupons held for a basket.", coupons.held),
        ("known", "Coupons that the platform issued to this store.", coupons.issued),
        ("worst_answer_seconds", "Longest time to an answer since the start.", coupons.worst_ms / 1000),
    ):  # fmt: skip
        yield _gauge(f"storefront_coupons_{name}", meaning, float(value))
    for name, meaning, count in (
        ("redeemed", "Uses of coupons since the book began.", coupons.redeemed),
        ("doubled", "Sales that gave a discount no use was left for, since the book began.", coupons.doubled),
        ("answered", "Questions of tills answered since the start.", coupons.answered),
        ("refused", "Of these, those that were refused.", coupons.refused),
    ):
        counter = CounterMetricFamily(f"storefront_coupons_{name}", meaning)
        counter.add_metric([], count)
        yield counter


def _workers(snapshot: Snapshot) -> Iterable[Metric]:
    running = GaugeMetricFamily("storefront_worker_running", "1 when it runs.", labels=["worker"])
    stuck = GaugeMetricFamily("storefront_worker_stuck", "1 when it makes no progress.", labels=["worker"])
    crashes = CounterMetricFamily("storefront_worker_crashes", "Crashes since the start.", labels=["worker"])
    for worker in snapshot.workers:
        running.add_metric([worker.name], float(worker.state == "running"))
        stuck.add_metric([worker.name], float(worker.stuck))
        crashes.add_metric([worker.name], worker.crashes)
    yield from (running, stuck, crashes)
    behind = GaugeMetricFamily("storefront_read_model_behind", "Events not yet counted.", labels=["model"])
    for model in snapshot.read_models or ():
        behind.add_metric([model.name], model.behind)
    yield behind


def _system(snapshot: Snapshot) -> Iterable[Metric]:
    system = snapshot.system
    for name, meaning, value in (
        ("uptime_seconds", "Since the start.", system.uptime_s),
        ("resident_bytes", "Memory.", system.rss_bytes),
        ("journal_bytes", "Size of the journal.", system.journal_bytes),
        ("wal_bytes", "Size of its log.", system.wal_bytes),
        ("quota_bytes", "Most that the journal may take.", system.quota_bytes),
        ("disk_free_bytes", "Free on its disk.", system.disk_free_bytes),
    ):
        if value is not None:
            yield _gauge(f"storefront_{name}", meaning, value)
    synced = GaugeMetricFamily("storefront_clock_quality", "1 for the clock's present quality.", labels=["quality"])
    synced.add_metric([system.clock], 1.0)
    yield synced


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)
