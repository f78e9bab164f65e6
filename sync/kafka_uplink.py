"""The uplink straight into Kafka: for fleets whose platform stands on an existing log (extra `[kafka]`).

Every event is one message in CloudEvents binary mode, under the key `{tenant}/{store}/{stream}`, so that a stream of a
store stays in one partition and in order. The producer is idempotent for as long as it lives; a log cannot be asked
what it has of a key, so after a restart or a lost answer the last messages may come again, and a consumer takes only
the number that follows the last one of its lane. A message that fails takes those behind it with it: no holes.

*Source*: docs/sync.md; CloudEvents 1.0, Kafka protocol binding §3.2 (binary mode); librdkafka, INTRODUCTION.md
"Idempotent Producer" and CONFIGURATION.md.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import ConfigError
from gateway.event import event_id
from sync.credentials import Secret
from sync.uplink import Batch, BatchResult, EpochReason, Lane, Outcome

log = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_GAP_TYPE = "storefront.sync.gap"
_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw])
Headers = list[tuple[str, bytes]]


class KafkaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`servers`: host:port of some brokers; TLS to every machine but this one.

    `username` with the password that `send` reads: SCRAM-SHA-512 over TLS. `ca`, `certificate`, `key`: PEM files.
    `timeout_s`: of one batch, 1–300. `properties`: further settings of librdkafka, which win.
    """

    servers: tuple[str, ...]
    tenant: str
    store: str
    topic: str = "storefront.events"
    username: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    timeout_s: float = 10.0
    properties: Mapping[str, str] = {}

    def settings(self, password: str = "") -> dict[str, Any]:
        """For librdkafka.

        Args:
            password: of `username`.

        Raises:
            ConfigError: no server, or a password that would cross a network in the clear.
        """
        if not all(server.rpartition(":")[0] for server in self.servers) or not self.servers:
            raise ConfigError("configure sync", "kafka servers", "each must be host:port")
        if not 1.0 <= self.timeout_s <= 300.0:
            raise ConfigError("configure sync", "kafka timeout_s", "must be between 1 and 300")
        timeout_ms = int(self.timeout_s * 1000)
        here = all(server.rpartition(":")[0] in _LOOPBACK for server in self.servers)
        made: dict[str, Any] = {
            "bootstrap.servers": ",".join(self.servers), "client.id": "storefront-gateway",
            "security.protocol": "plaintext" if here else "ssl",
            "enable.idempotence": True, "enable.gapless.guarantee": True, "partitioner": "murmur2",
            "compression.type": "zstd", "message.timeout.ms": timeout_ms,
            "request.timeout.ms": max(1000, timeout_ms // 2),
            "socket.timeout.ms": max(1000, timeout_ms // 2), "queue.buffering.max.messages": 20_000,
            "queue.buffering.max.kbytes": 32 * 1024, "allow.auto.create.topics": False,
        }  # fmt: skip
        if self.username:
            made |= {
                "security.protocol": "sasl_plaintext" if here else "sasl_ssl", "sasl.mechanisms": "SCRAM-SHA-512",
                "sasl.username": self.username, "sasl.password": password,
            }  # fmt: skip
        for name, path in (
            ("ssl.ca.location", self.ca), ("ssl.certificate.location", self.certificate), ("ssl.key.location", self.key)
        ):  # fmt: skip
            if path is not None:
                made[name] = str(path)
        made |= self.properties
        if "plaintext" in str(made["security.protocol"]) and not here:
            raise ConfigError("configure sync", self.servers[0], "an open connection to another machine", "use TLS")
        return made


class KafkaUplink:
    """`Uplink` into a topic. One thread uses it; librdkafka's own threads live until `close`."""

    def __init__(self, options: KafkaOptions, password: Secret = lambda: "") -> None:
        """Store.

        Args:
            options: see there.
            password: reads the password of `options.username`, each time a producer is made.

        Raises:
            ConfigError: the extra is not installed, or the options cannot be used.
        """
        try:
            import confluent_kafka  # noqa: F401 - only to say so at the start
        except ImportError as error:
            raise ConfigError(
                "configure sync", "kafka", "confluent-kafka is not installed",
                "pip install storefront-gateway[kafka]",
            ) from error  # fmt: skip
        options.settings()
        self._options = options
        self._password = password
        self._producer: Any = None

    def greet(self, lane: Lane, reason: EpochReason, previous: str | None) -> BatchResult:
        """Whether the topic is there. The log cannot say how far the lane is: the gateway's own cursor counts."""
        from confluent_kafka import KafkaException

        try:
            found = self._connected().list_topics(self._options.topic, timeout=self._options.timeout_s)
        except KafkaException as error:
            return self._failed(error.args[0])
        if (trouble := found.topics[self._options.topic].error) is not None:
            return self._failed(trouble)
        return BatchResult(outcome="taken", acked_through=-1)

    def send(self, batch: Batch) -> BatchResult:
        """Write the events; what all in-sync replicas have, without a hole before it, is taken."""
        lane = batch.lane
        messages = []
        try:
            for event in batch.events:
                messages.append(_message(event))  # noqa: PERF401 - the prefix counts when one cannot be read
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if not messages:
                return BatchResult(outcome="bisect", reason=f"no event: {error}")
        return self._write(lane, batch.first, messages)

    def declare_gap(self, lane: Lane, first: int, last: int, reason: str) -> BatchResult:
        """A message of type `storefront.sync.gap` says that a range will not come."""
        options = self._options
        headers: Headers = [
            ("ce_specversion", b"1.0"), ("ce_type", _GAP_TYPE.encode()),
            ("ce_id", f"{event_id(lane.gateway, lane.stream, lane.epoch, last)}.gap".encode()),
            ("ce_source", f"//{options.tenant}/stores/{options.store}/{lane.gateway}/sync".encode()),
            ("content-type", b"application/json"),
        ]  # fmt: skip
        body = msgspec.json.encode({"first": first, "last": last, "reason": reason})
        result = self._write(lane, last, [(headers, body)])
        return BatchResult(outcome="taken") if result.outcome == "taken" else result

    def close(self) -> None:
        """Give up what is not written and end librdkafka's threads; safe to call twice."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(1.0)

    # -- inside

    def _connected(self) -> Any:
        from confluent_kafka import KafkaException, Producer

        if self._producer is None:
            settings = self._options.settings(self._password().strip() if self._options.username else "")
            try:
                self._producer = Producer(settings, logger=log)
            except KafkaException as error:
                raise ConfigError("configure sync", "kafka", str(error)[:200], "see docs/sync.md") from error
        return self._producer

    def _write(self, lane: Lane, first: int, messages: list[tuple[Headers, bytes]]) -> BatchResult:
        from confluent_kafka import KafkaError, KafkaException

        options = self._options
        key = f"{options.tenant}/{options.store}/{lane.stream}".encode()
        told: dict[int, Any] = {}
        trouble: Any = None
        producer = self._connected()
        for place, (headers, body) in enumerate(messages):
            try:
                producer.produce(options.topic, body, key, headers=headers, on_delivery=partial(_note, told, place))
            except BufferError:
                break  # what is in the queue is enough for now
            except KafkaException as error:
                trouble = error.args[0]
                break
        left = producer.flush(options.timeout_s + 2.0)
        done = 0
        while done in told and told[done] is None:
            done += 1
        trouble = trouble or told.get(done)
        if left or any(error is not None for error in told.values()):
            self.close()  # what else it holds must not be written behind the next try
        if done:
            return BatchResult(outcome="taken", acked_through=first + done - 1)
        return self._failed(trouble or KafkaError(KafkaError._MSG_TIMED_OUT))

    def _failed(self, error: Any) -> BatchResult:
        from confluent_kafka import KafkaError

        meaning: dict[int, Outcome] = {
            KafkaError.MSG_SIZE_TOO_LARGE: "too_large",
            KafkaError.TOPIC_AUTHORIZATION_FAILED: "unauthorised",
            KafkaError.CLUSTER_AUTHORIZATION_FAILED: "unauthorised",
            KafkaError.SASL_AUTHENTICATION_FAILED: "unauthorised",
            KafkaError._AUTHENTICATION: "unauthorised",
        }
        outcome = meaning.get(error.code(), "retry")
        if outcome != "too_large":
            self.close()
        return BatchResult(outcome=outcome, reason=f"Kafka: {error.name()}: {error.str()[:200]}")


def _note(told: dict[int, Any], place: int, error: Any, message: Any) -> None:
    told[place] = error


def _message(event: bytes) -> tuple[Headers, bytes]:
    """CloudEvents binary mode: attributes as `ce_…` headers, data as the value; erased data stays JSON's null, since a
    message without a value would be Kafka's own way to erase a key.

    Raises:
        msgspec.DecodeError: the bytes are no event.
    """
    parts = _attributes.decode(event)
    data = bytes(parts.pop("data", msgspec.Raw(b"null")))
    headers: Headers = [("content-type", b"application/json")]
    for name, raw in parts.items():
        value = bytes(raw)
        if value[:1] == b'"':
            value = msgspec.json.decode(value, type=str).encode()
        if value != b"null":
            headers.append((f"ce_{name}", value))
    return headers, data
