"""The shop's broker: the gateway's own, kept running by a worker, or somebody else's; and how a session reaches it.

Composition of `[broker]`. Knows no device and no topic's meaning.
"""

from __future__ import annotations

import threading
from pathlib import Path

from config.loader import resolve_secret
from config.settings import Settings
from devices.transports.broker import Broker
from devices.transports.mqtt_settings import MqttSettings, Tls, broker_address
from gateway.errors import Unavailable
from gateway.runtime.supervisor import Supervisor
from gateway.workers.stages import BROKER

_LOOK_S = 0.5


class ShopBroker:
    """Which broker there is. `start` on the main thread, `session` on any."""

    def __init__(self, settings: Settings, directory: Path, supervisor: Supervisor) -> None:
        """`directory`: of the embedded broker's store."""
        self.embedded = Broker(directory, settings.broker.port)
        self.up = threading.Event()  # while the embedded one serves
        self._settings = settings
        self._supervisor = supervisor
        self._started = False

    @property
    def mode(self) -> str:
        """`embedded`, `external` or `none`."""
        return self._settings.broker.mode

    @property
    def present(self) -> bool:
        """Whether there is a broker in the shop now."""
        return self._started or self.mode == "external"

    def instance(self) -> bytes:
        """Which run of the embedded broker this is, see `devices.source.delivery_key`."""
        return self.embedded.instance

    def start(self) -> bool:
        """Run the embedded broker once somebody needs it; from then on it stays, for devices may hold messages back.

        Returns:
            True when it was added now.
        """
        if self.mode != "embedded" or self._started:
            return False
        self._started = True
        self._supervisor.add("broker", lambda: BrokerWorker(self.embedded, self.up), patience_s=30.0, stage=BROKER)
        return True

    def session(self, name: str, topics: tuple[str, ...] = ()) -> MqttSettings:
        """How a session of the gateway reaches the broker.

        Raises:
            Unavailable: the embedded broker has not come up yet.
        """
        broker, gateway = self._settings.broker, self._settings.gateway
        base = broker.client_id or f"storefront-{gateway.store}-{gateway.name}"
        client_id = f"{base}-{name.removeprefix('mqtt-')}"
        prefix = f"store/{gateway.store}/gateway/{gateway.name}/{name}"
        if broker.mode == "embedded":
            if not self.up.is_set():
                raise Unavailable("connect", "embedded broker", "it is not up yet", "see worker `broker`")
            return MqttSettings(
                client_id=client_id, topics=topics, port=self.embedded.port, prefix=prefix, protocol="3.1.1",
                max_payload_bytes=broker.max_message_bytes,
            )  # fmt: skip
        host, port, secure = broker_address(broker.url)
        tls = Tls(ca=broker.ca_file or None, cert=broker.cert_file or None, key=broker.key_file or None)
        return MqttSettings(
            client_id=client_id, topics=topics, host=host, port=port, prefix=prefix,
            username=broker.username or None, password=resolve_secret(broker.password, "broker.password") or None,
            tls=tls if secure else None, max_payload_bytes=broker.max_message_bytes,
        )  # fmt: skip


class BrokerWorker:
    """Starts the broker, starts it again when it has died, stops it last of all."""

    def __init__(self, broker: Broker, up: threading.Event) -> None:
        """`broker` outlives this object, with its port and store; `up` is set while it serves."""
        self._broker = broker
        self._up = up

    def open(self) -> None:
        """Start it.

        Raises:
            Unavailable: no broker on this platform, or its port is taken.
        """
        self._broker.open()
        self._up.set()

    def step(self, stop: threading.Event) -> None:
        """Look after it twice a second."""
        self._broker.revive()
        stop.wait(_LOOK_S)

    def close(self) -> None:
        """Stop it."""
        self._up.clear()
        self._broker.close()
