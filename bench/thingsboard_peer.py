"""ThingsBoard IoT Gateway as a contender: from the package index, in an environment of its own, with SQLite storage.

A second loopback broker stands in for its server. The settings are those it ships with, except where a line says why.
*Source*: package `thingsboard-gateway` 3.8.5, its `config` folder, `tb_client` and `tb_device_mqtt`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from bench.contenders import CHECKOUT, SCRATCH, Child, Message
from bench.mqtt_link import mosquitto

PACKAGE = "thingsboard-gateway"
STORE_DRIVER = CHECKOUT / "bench" / "thingsboard_store.py"
_SESSION_S = 3600


class NotInstallable(Exception):
    """The peer cannot be had here; says why."""


def venv_python() -> Path:
    """The interpreter of the peer's own environment."""
    return SCRATCH / "thingsboard-venv" / "bin" / "python"


def install() -> str:
    """Install the peer once, from the configured package index, and return its version.

    Raises:
        NotInstallable: the index does not answer, or has no wheel for this machine.
    """
    python = venv_python()
    if not (python.parent.parent / ".ready").exists():
        SCRATCH.mkdir(exist_ok=True)
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(python.parent.parent)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            if done.returncode:
                raise NotInstallable((done.stderr.strip().splitlines() or ["no reason given"])[-1])
        (python.parent.parent / ".ready").touch()
    asked = f"import importlib.metadata as m; print(m.version({PACKAGE!r}))"
    return subprocess.run(
        [str(python), "-c", asked], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def site_packages() -> Path:
    """Where the peer is installed."""
    return next((venv_python().parent.parent / "lib").glob("python3*/site-packages"))


class StandIn:
    """A broker in the place of the peer's server: grants what it subscribes to, tells it that there are no limits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: set[Message] = set()
        self._stack = contextlib.ExitStack()
        self._subscribed = threading.Event()
        self.port = 0

    def __enter__(self) -> StandIn:
        self._folder.mkdir(parents=True)
        self.port = self._stack.enter_context(mosquitto(self._folder))
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="stand-in")
        client.on_message = self._on_message
        client.on_connect = lambda c, *_: c.subscribe(
            [("v1/gateway/telemetry", 1), ("v1/devices/me/rpc/request/+", 1), ("v1/devices/me/attributes/request/+", 1)]
        )
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        self._stack.callback(client.loop_stop)
        self._stack.callback(client.disconnect)
        self._stack.callback(self.go_on)
        self._subscribed.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def received(self) -> set[Message]:
        """What has arrived."""
        return self._seen.copy()

    def forget(self) -> None:
        """Begin with an empty list of what has arrived."""
        self._seen.clear()

    def fall_silent(self) -> None:
        """Answer nothing any more, with every connection left standing."""
        self._broker().suspend()

    def go_on(self) -> None:
        """Answer again."""
        self._broker().resume()

    def _broker(self) -> psutil.Process:
        return next(
            child for child in psutil.Process().children() if str(self._folder / "mosquitto.conf") in child.cmdline()
        )

    def _on_message(self, client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if message.topic == "v1/gateway/telemetry":
            for device, items in json.loads(message.payload).items():
                self._seen.update((device, int(value)) for item in items for value in item["values"].values())
            return
        number = message.topic.rsplit("/", 1)[1]
        if "/rpc/" in message.topic:
            limits: dict[str, Any] = {"maxPayloadSize": 65_536, "maxInflightMessages": 0, "rateLimits": {}}
            client.publish(f"v1/devices/me/rpc/response/{number}", json.dumps(limits), 1)
        else:
            client.publish(f"v1/devices/me/attributes/response/{number}", "{}", 1)


class ThingsBoard(Child):
    """ThingsBoard IoT Gateway with SQLite storage; its server is a broker that answers as far as it asks."""

    name = "thingsboard"

    def __init__(self, folder: Path, port: int, server_port: int, *, apart: bool = False) -> None:
        """`apart`: give every message a key of its own.

        With one key, what a device sent within one millisecond by the gateway's clock is folded into one value before
        it goes to the server, and then nobody can say which messages got there.
        """
        super().__init__(folder)
        self.client_id = f"peer-{folder.name}"
        self.topics: tuple[str, ...] = ("bench/+",)
        self._folder = folder
        self._data = folder / "data"
        config = folder / "config"
        config.mkdir()
        shipped = site_packages() / "thingsboard_gateway" / "config"
        main = json.loads((shipped / "tb_gateway.json").read_text("utf-8"))
        main["thingsboard"] |= {
            "host": "127.0.0.1",
            "port": server_port,
            "remoteConfiguration": False,  # no server to ask
            "statistics": {"enable": False},  # its own telemetry would be counted as messages
        }
        main["storage"] = {"type": "sqlite", "data_file_path": f"{self._data}/"}
        main["connectors"] = [{"type": "mqtt", "name": "sensors", "configuration": "mqtt.json"}]
        (config / "tb_gateway.json").write_text(json.dumps(main))
        shipped_mqtt = json.loads((shipped / "mqtt.json").read_text("utf-8"))["broker"]
        mqtt = {
            # The session must outlive the connection, or QoS 1 would mean nothing over a restart.
            "broker": shipped_mqtt
            | {"port": port, "clientId": self.client_id, "cleanSession": False, "cleanStart": False}
            | {"sessionExpiryInterval": _SESSION_S},
            "mapping": [
                {
                    "topicFilter": "bench/+",
                    "subscriptionQos": 1,
                    "converter": {
                        "type": "json",
                        "deviceInfo": {
                            "deviceNameExpressionSource": "topic",
                            "deviceNameExpression": "(?<=bench/).*",
                            "deviceProfileExpressionSource": "constant",
                            "deviceProfileExpression": "default",
                        },
                        "timeout": 60000,
                        "attributes": [],
                        "timeseries": [{"type": "integer", "key": "${n}" if apart else "n", "value": "${n}"}],
                    },
                }
            ],
            "requestsMapping": {},
        }
        (config / "mqtt.json").write_text(json.dumps(mqtt))
        shutil.copy(shipped / "logs.json", config)

    def start(self) -> None:
        """Start the process; returns at once."""
        environment = os.environ | {
            "TB_GW_CONFIG_DIR": str(self._folder / "config"),
            # It asks for updates at every start and installs packages while it runs: not here.
            "https_proxy": "http://127.0.0.1:9",
            "PIP_NO_INDEX": "1",
        }
        self._spawn([str(venv_python()), "-m", "thingsboard_gateway.tb_gateway"], self._folder, environment)

    def stored(self) -> int:
        """Rows ever written: the counter behind AUTOINCREMENT, which outlives what was sent and deleted."""
        with contextlib.suppress(sqlite3.OperationalError):  # before the table is made
            return sum(row[0] or 0 for row in self._rows("SELECT max(seq) FROM sqlite_sequence"))
        return 0

    def waiting(self) -> bool:
        """True while a row waits to be sent."""
        return any(row[0] for row in self._rows("SELECT EXISTS (SELECT 1 FROM messages)"))

    def kept(self) -> set[Message]:
        """Every message in its storage now."""
        found: set[Message] = set()
        for (text,) in self._rows("SELECT message FROM messages"):
            event = json.loads(text)
            telemetry = event["telemetry"]
            for item in telemetry if isinstance(telemetry, list) else [telemetry]:
                found.update((event["deviceName"], int(value)) for value in item["values"].values())
        return found

    def _rows(self, sql: str) -> list[Any]:
        rows: list[Any] = []
        for path in sorted(self._data.glob("*.db")):
            # Not read-only: after a kill the log has to be recovered before anything can be seen.
            connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=5)
            try:
                rows += connection.execute(sql).fetchall()
            finally:
                connection.close()
        return rows
