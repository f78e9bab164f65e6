"""The uplink into Kafka against librdkafka's mock cluster: order, headers, what is repeated and what must not be."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.clock import FakeClock
from gateway.errors import ConfigError
from sync.uplink import Batch, Lane
from tests.sync.sync_parts import Bench, Store

kafka = pytest.importorskip("confluent_kafka", reason="the extra [kafka] is not installed")

from sync.kafka_uplink import KafkaOptions, KafkaUplink  # noqa: E402 - after the check for the extra

LANE = Lane("gw01", "observations", "a" * 32)


class Cluster:
    """A mock broker inside a producer that does nothing else."""

    def __init__(self) -> None:
        self.host: Any = kafka.Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0})
        (broker,) = self.host.list_topics(timeout=30).brokers.values()
        self.server = f"{broker.host}:{broker.port}"
        self.host.list_topics("storefront.events", timeout=30)  # the mock makes a topic that is asked for

    def stop(self) -> None:
        self.host = None
        gc.collect()

    def stored(self) -> list[Any]:
        """Every message, partition by partition in order."""
        consumer = kafka.Consumer(
            {"bootstrap.servers": self.server, "group.id": "test", "enable.partition.eof": True, "log_level": 0}
        )
        partitions = consumer.list_topics("storefront.events", timeout=30).topics["storefront.events"].partitions
        consumer.assign([kafka.TopicPartition("storefront.events", number, 0) for number in partitions])
        found, ended, deadline_s = [], set(), time.monotonic() + 60
        while len(ended) < len(partitions):
            assert time.monotonic() < deadline_s
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error() is None:
                found.append(message)
            elif message.error().code() == kafka.KafkaError._PARTITION_EOF:
                ended.add(message.partition())
        consumer.close()
        return sorted(found, key=lambda message: (message.partition(), message.offset()))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "journal.db", FakeClock()).open()
    yield store
    store.close()


def uplink(server: str, timeout_s: float = 5.0, **properties: str) -> KafkaUplink:
    return KafkaUplink(
        KafkaOptions(
            servers=(server,), tenant="t1", store="0042", timeout_s=timeout_s,
            properties={"log_level": "0", **properties},
        )
    )  # fmt: skip


def numbers(messages: list[Any]) -> list[int]:
    return [msgspec.json.decode(message.value())["n"] for message in messages]


def test_events_arrive_in_order_in_one_partition_over_restarts(cluster: Cluster, store: Store) -> None:
    """The gateway's cursor says where to go on; one key, one partition."""
    for start in (0, 30):
        bench = Bench(store, uplink(cluster.server))
        store.add(30, start=start)
        bench.drain()
        bench.close()
    stored = cluster.stored()
    assert numbers(stored) == list(range(60))
    assert {message.key() for message in stored} == {b"t1/0042/observations"}
    assert len({message.partition() for message in stored}) == 1


def test_a_message_is_a_cloudevent_in_binary_mode(cluster: Cluster) -> None:
    """Attributes are headers, text as it is and numbers in digits; data is the value; null attributes are left out."""
    event = {"specversion": "1.0", "id": "i-1", "source": "//t1/门",
             "type": "store.x.v1", "monous": 12, "replayed": True,
             "subject": None, "data": {"price": "1.50"}}  # fmt: skip
    up = uplink(cluster.server)
    assert up.send(Batch(LANE, 1, (msgspec.json.encode(event),))).acked_through == 1
    up.close()
    (message,) = cluster.stored()
    assert dict(message.headers()) == {
        "content-type": b"application/json", "ce_specversion": b"1.0", "ce_id": b"i-1", "ce_source": "//t1/门".encode(),
        "ce_type": b"store.x.v1", "ce_monous": b"12", "ce_replayed": b"true",
    }  # fmt: skip
    assert message.value() == b'{"price":"1.50"}'


def test_an_erased_event_is_no_tombstone(cluster: Cluster) -> None:
    """A message without a value would erase the key where the log compacts."""
    up = uplink(cluster.server)
    up.send(Batch(LANE, 1, (b'{"specversion":"1.0","id":"i","data":null}',)))
    up.close()
    (message,) = cluster.stored()
    assert message.value() == b"null"


def test_a_gap_is_a_message_and_the_stream_goes_on(cluster: Cluster, store: Store) -> None:
    """What will not come is said in the log."""
    bench = Bench(store, uplink(cluster.server))
    store.add(6)
    store.writer.transact(lambda connection: connection.execute("DELETE FROM observations WHERE position IN (3, 4)"))
    bench.drain()
    bench.close()
    stored = cluster.stored()
    kinds = [dict(message.headers())["ce_type"] for message in stored]
    assert kinds.index(b"storefront.sync.gap") == 2 and len(kinds) == 5
    gap = msgspec.json.decode(stored[2].value())
    assert (gap["first"], gap["last"]) == (3, 4)


def test_a_cluster_that_goes_away_costs_nothing_but_time(store: Store) -> None:
    """A failure, no exception; the cursor stays; the backlog goes to the cluster that is there later."""
    first = Cluster()
    bench = Bench(store, uplink(first.server, timeout_s=1.5))
    store.add(10)
    bench.drain()
    first.stop()
    store.add(10, start=10)
    bench.step()
    assert bench.cursor == 10
    bench.close()
    second = Cluster()
    again = Bench(store, uplink(second.server))
    again.drain()
    again.close()
    assert numbers(second.stored()) == list(range(10, 20))
    second.stop()


def test_nobody_there_is_a_failure_and_not_an_exception() -> None:
    """For greeting, sending and declaring alike; closing twice is safe."""
    up = uplink("127.0.0.1:9", timeout_s=1.0)
    assert up.greet(LANE, "fresh", None).outcome == "retry"
    assert up.send(Batch(LANE, 1, (b'{"id":"i","data":1}',))).outcome == "retry"
    assert up.declare_gap(LANE, 1, 2, "retention").outcome == "retry"
    up.close()
    up.close()


def test_an_event_that_is_too_large_or_none_is_found_and_the_prefix_is_kept(cluster: Cluster) -> None:
    """What is before it is taken; alone it is refused with its reason."""
    up = uplink(cluster.server, **{"message.max.bytes": "2000"})
    good, large, none = b'{"id":"i","data":{"n":1}}', b'{"id":"i","data":"' + b"x" * 4000 + b'"}', b"[1]"
    assert up.greet(LANE, "fresh", None).acked_through == -1
    assert up.send(Batch(LANE, 1, (good, large, good))).acked_through == 1
    assert up.send(Batch(LANE, 2, (large, good))).outcome == "too_large"
    assert up.send(Batch(LANE, 3, (good, none))).acked_through == 3
    assert up.send(Batch(LANE, 4, (none,))).outcome == "bisect"
    up.close()
    assert [message.value() for message in cluster.stored()] == [b'{"n":1}'] * 2


def test_only_this_machine_may_be_reached_in_the_clear() -> None:
    """TLS to every other, with or without a password; a setting cannot switch it off."""
    options = KafkaOptions(servers=("kafka.example:9092",), tenant="t1", store="1")
    assert options.settings()["security.protocol"] == "ssl"
    named = msgspec.structs.replace(options, username="gw01").settings("secret")
    assert (named["security.protocol"], named["sasl.password"]) == ("sasl_ssl", "secret")
    with pytest.raises(ConfigError, match="open connection"):
        KafkaUplink(msgspec.structs.replace(options, properties={"security.protocol": "plaintext"}))
    for servers in ((), ("kafka",)):
        with pytest.raises(ConfigError, match="host:port"):
            KafkaUplink(msgspec.structs.replace(options, servers=servers))
