"""The paho client as this gateway uses it, and the one place that reaches into it.

Must not know connections in time (`mqtt_session`) or what is done with a message.

*Source*: PROTOCOLS §9.2; paho-mqtt 2.1 and 2.2.
"""

from __future__ import annotations

import ssl
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from devices.transports.mqtt_settings import MqttSettings
from devices.transports.mqtt_wire import Wire

_PUBLISHES = 1000  # that paho keeps until the broker has them
_CONNECT_S = 5.0


class WireClient(paho.Client):
    """A paho client whose socket is our `Wire`.

    `_create_socket` is paho's seam for its own websocket wrapper. For a paho without it (`fits` is False) the session
    lets paho connect by itself and works through `on_message` and `ack`.
    """

    next_wire: Wire | None = None

    def _create_socket(self) -> Any:
        wire, self.next_wire = self.next_wire, None
        if wire is None:
            raise ConnectionError("no connection was prepared")
        return wire

    @staticmethod
    def fits() -> bool:
        """Whether this paho has the seam."""
        return hasattr(paho.Client, "_create_socket")


def new_client(
    settings: MqttSettings, v5: bool, tls: ssl.SSLContext | None, client_type: type[paho.Client]
) -> paho.Client:
    """A client with its session's name, Will and credentials, that has not connected.

    Args:
        settings: the session.
        v5: speak MQTT 5, else 3.1.1.
        tls: for a client that makes its own connection.
        client_type: `WireClient` or `paho.Client`.
    """
    client = client_type(
        CallbackAPIVersion.VERSION2,
        client_id=settings.client_id,
        clean_session=None if v5 else False,
        protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.suppress_exceptions = True
    client.max_queued_messages_set(_PUBLISHES)
    client.connect_timeout = _CONNECT_S
    if settings.username is not None:
        client.username_pw_set(settings.username, settings.password)
    if settings.status_topic:
        client.will_set(settings.status_topic, b"offline", 1, True)
    if tls is not None:
        client.tls_set_context(tls)
    properties = None
    if v5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = settings.session_expiry_s
        properties.ReceiveMaximum = settings.receive_maximum
    client.connect_async(settings.host, settings.port, settings.keepalive_s, clean_start=False, properties=properties)
    return client
