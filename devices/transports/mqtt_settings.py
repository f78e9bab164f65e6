"""What an MQTT connection is made with: the broker, the session's name, the topics, the credentials.

Knows the grammar of topic filters. Must not know paho, sockets or what any topic means.

*Source*: OASIS MQTT 5.0 §4.7 (topic names and filters); PROTOCOLS §9.2.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from gateway.errors import ConfigError


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paths of PEM files. The broker's certificate and name are always verified."""

    ca: str | None = None  # the store's own CA; None: the system's
    cert: str | None = None  # our certificate, where the broker asks for one
    key: str | None = None


class MqttSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One MQTT session. `client_id` names it at the broker: fixed for a gateway and used by no other client."""

    client_id: str
    topics: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 1883
    prefix: str = ""  # `<prefix>/status` says online or offline, retained; "": nothing is said
    username: str | None = None
    password: str | None = None
    tls: Tls | None = None
    protocol: Literal["auto", "5", "3.1.1"] = "auto"  # auto: 5, and 3.1.1 where the broker refuses 5
    keepalive_s: int = 30
    session_expiry_s: int = 14 * 86400  # how long the broker keeps messages for a gateway that is away (MQTT 5)
    receive_maximum: int = 500  # messages under way without an acknowledgement (MQTT 5)
    max_payload_bytes: int = 262_144  # a longer payload arrives cut, with `Delivery.fault`

    def __repr__(self) -> str:
        """The settings without user name and password, for logs."""
        return f"MqttSettings({self.address}, client_id={self.client_id!r}, topics={self.topics!r})"

    @property
    def address(self) -> str:
        """The broker as a URL, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    @property
    def status_topic(self) -> str:
        """Where online and offline are published; "" for nowhere."""
        return f"{self.prefix.rstrip('/')}/status" if self.prefix else ""

    def check(self) -> None:
        """Find what can never work.

        Raises:
            ConfigError: a value out of range, or a filter that is none.
        """
        if not self.client_id:
            raise ConfigError("check mqtt", "client_id", "is empty", "a fixed name, one for each gateway")
        if not 0 < self.port < 65536:
            raise ConfigError("check mqtt", "port", f"no such port: {self.port}", "1883 is usual, 8883 with TLS")
        if not 0 < self.receive_maximum < 65536 or not 0 < self.keepalive_s < 65536 or self.max_payload_bytes < 1:
            raise ConfigError("check mqtt", self.address, "receive_maximum and keepalive_s lie between 1 and 65535")
        for topic in (*self.topics, self.prefix or "x"):
            if not valid_filter(topic):
                raise ConfigError(
                    "check mqtt", topic, "not a topic filter", "# only as the last level, + as a whole one"
                )

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context, or None without TLS.

        Raises:
            ConfigError: a certificate or key file is missing or unusable.
        """
        if self.tls is None:
            return None
        try:
            context = ssl.create_default_context(cafile=self.tls.ca)
            if self.tls.cert is not None:
                context.load_cert_chain(self.tls.cert, self.tls.key)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            files = ", ".join(name for name in (self.tls.ca, self.tls.cert, self.tls.key) if name)
            hint = "PEM files that the gateway's user may read; the key must belong to the certificate"
            raise ConfigError("load certificates", files, str(error), hint) from error
        return context


def broker_address(url: str) -> tuple[str, int, bool]:
    """Host, port and whether to use TLS, from `mqtt://host[:port]` or `mqtts://host[:port]`.

    Raises:
        ConfigError: not such an address, or one with credentials (they belong into secrets, not into an address).
    """
    hint = "mqtt://host:1883 or mqtts://host:8883"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError("read broker address", "broker", str(error), hint) from error
    if parts.scheme not in ("mqtt", "mqtts") or not host or parts.path.strip("/"):
        raise ConfigError("read broker address", "broker", "not a broker's address", hint)
    if parts.username or parts.password:
        raise ConfigError("read broker address", host, "holds credentials", "set user name and password by themselves")
    secure = parts.scheme == "mqtts"
    return host, port or (8883 if secure else 1883), secure


def valid_filter(topic: str) -> bool:
    """True when `topic` is a topic filter: wildcards stand alone in their level, # is last, 1–65535 bytes, no NUL."""
    levels = topic.split("/")
    return (
        0 < len(topic.encode("utf-8", "replace")) < 65536
        and "\0" not in topic
        and all(level in ("+", "#") or not {"+", "#"} & set(level) for level in levels)
        and "#" not in levels[:-1]
    )


def distinct_filters(topics: Iterable[str]) -> tuple[str, ...]:
    """The filters without those that another one covers, in order.

    Brokers may deliver a message once for each filter that matches it, so `a/#` beside `a/b` would count twice.
    """
    unique = tuple(dict.fromkeys(topics))
    return tuple(
        topic for topic in unique if not any(other != topic and _covers(other, topic) for other in unique)
    )  # two different filters never cover each other


def _covers(wide: str, narrow: str) -> bool:
    """True when every topic that `narrow` matches is matched by `wide` too."""
    if wide[0] in "+#" and narrow.startswith("$"):
        return False
    levels, below = wide.split("/"), narrow.split("/")
    for depth, level in enumerate(levels):
        if level == "#":
            return True
        if depth >= len(below) or below[depth] == "#" or level not in ("+", below[depth]):
            return False
    return len(levels) == len(below)
