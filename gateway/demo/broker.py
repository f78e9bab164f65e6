"""The demo's broker, and the outlets of those in the shop who publish: the till, and the sensors.

It belongs to the shop, not to the gateway, and so it goes on when the gateway is killed. Knows no message.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final, Literal

from devices.catalogue import load
from devices.simulator.checkout import ANSWERS
from devices.simulator.mosquitto import Mosquitto, find_mosquitto
from devices.transports.broker import Broker, find_broker
from devices.transports.publisher import Publisher
from gateway.errors import Unavailable

Kind = Literal["auto", "mosquitto", "none"]
_SESSION: Final = "store/0001/gateway/gw01/{}/status"  # where a gateway's MQTT session says online


class DemoBroker:
    """The broker and the outlets. Used on the demo's thread; an outlet's `publish` on the shop's."""

    def __init__(self, kind: Kind, folder: Path, *, coupons: bool) -> None:
        """Store.

        Args:
            kind: `auto` takes the embedded one, else Mosquitto, else none.
            folder: of its store.
            coupons: whether tills ask the gateway about coupons.
        """
        self._kind, self._folder = kind, folder
        self._broker: Broker | Mosquitto | None = None
        self._outlets: list[Publisher] = []
        sales = {"mqtt-sales"} if load("pos_json").cls.sales else set()  # tills may have a session of their own
        asked = {"mqtt-coupons"} if coupons else set()
        self._sessions = tuple(_SESSION.format(name) for name in {"mqtt-devices"} | sales | asked)

    @property
    def port(self) -> int:
        """Where it serves; 0 without one."""
        return self._broker.port if self._broker is not None else 0

    @property
    def till(self) -> Publisher | None:
        """The till's outlet; None without a broker."""
        return self._outlets[0] if self._outlets else None

    @property
    def sensors(self) -> Publisher | None:
        """The outlet of all others; None without a broker."""
        return self._outlets[1] if self._outlets else None

    def open(self) -> bool:
        """Start it and connect the outlets; False where there can be none.

        Raises:
            Unavailable: it does not start.
        """
        kind = _found() if self._kind == "auto" else self._kind
        if kind == "none":
            return False
        self._broker = (Mosquitto if kind == "mosquitto" else Broker)(self._folder, _free_port())
        self._broker.open()
        for name, status in (("till-1", "store/0001/pos/till/till-1/status"), ("sensors", "")):
            outlet = Publisher(
                f"demo-{name}", "127.0.0.1", self._broker.port, status_topic=status,
                watch=(ANSWERS,) if status else self._sessions,
            )  # fmt: skip
            outlet.open()
            self._outlets.append(outlet)
        return True

    def connected(self) -> bool:
        """True when the gateway's sessions have subscribed: what is published before is heard by nobody."""
        sensors = self.sensors
        return sensors is None or all(sensors.heard(topic) == b"online" for topic in self._sessions)

    def fail(self) -> None:
        """The broker dies; the outlets keep what they have to say."""
        if self._broker is not None:
            self._broker.close()

    def revive(self) -> None:
        """It comes back, with what it had kept."""
        if self._broker is not None:
            self._broker.open()

    def flush(self, timeout_s: float) -> None:
        """Let every outlet get rid of what it has to say."""
        for outlet in self._outlets:
            outlet.flush(timeout_s)

    def close(self) -> None:
        """Close the outlets, then the broker."""
        for outlet in self._outlets:
            outlet.close()
        if self._broker is not None:
            self._broker.close()


def _found() -> Kind:
    """`auto` where there is the embedded broker, else what there is."""
    try:
        find_broker()
    except Unavailable:
        return "mosquitto" if find_mosquitto() else "none"
    return "auto"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
