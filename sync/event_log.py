"""Which distributed log takes the events, from `[platform.log]`: NATS JetStream or Kafka behind the same `Uplink`.

The only module that knows both; their libraries are extras and are loaded when one is chosen.

*Source*: docs/sync.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from config.loader import resolve_secret
from config.settings import EventLogSettings
from gateway.errors import ConfigError
from gateway.event import Origin
from sync.uplink import Uplink


def event_log(settings: EventLogSettings, origin: Origin) -> Callable[[], Uplink]:
    """A maker of ways into the log, checked now: one for each worker.

    Raises:
        ConfigError: the extra is not installed, or an option cannot be used.
    """
    make = _LOGS.get(settings.kind)
    if make is None:
        raise ConfigError("configure sync", "platform.log.kind", f"{settings.kind!r} is none", ", ".join(_LOGS))
    made = make(settings, origin)
    made().close()
    return made


def _nats(settings: EventLogSettings, origin: Origin) -> Callable[[], Uplink]:
    from sync.nats_uplink import NatsOptions, NatsUplink

    options = NatsOptions(
        servers=settings.servers, tenant=origin.tenant, store=origin.store, log=settings.name or "EVENTS",
        credentials=settings.credentials_file, ca=settings.ca_file, certificate=settings.cert_file,
        key=settings.key_file,
    )  # fmt: skip
    return lambda: NatsUplink(options)


def _kafka(settings: EventLogSettings, origin: Origin) -> Callable[[], Uplink]:
    from sync.kafka_uplink import KafkaOptions, KafkaUplink

    options = KafkaOptions(
        servers=settings.servers, tenant=origin.tenant, store=origin.store, topic=settings.name or "storefront.events",
        username=settings.username, ca=_path(settings.ca_file), certificate=_path(settings.cert_file),
        key=_path(settings.key_file),
    )  # fmt: skip
    return lambda: KafkaUplink(options, lambda: resolve_secret(settings.password, "platform.log.password"))


def _path(text: str) -> Path | None:
    return Path(text) if text else None


_LOGS: dict[str, Callable[[EventLogSettings, Origin], Callable[[], Uplink]]] = {"nats": _nats, "kafka": _kafka}
