"""Mosquitto as the demo's broker, on machines for which there is no embedded one but Mosquitto is installed.

Starts the program on a loopback port with a folder of its own, set so that nothing acknowledged is lost when it stops.
It ends with this process, however that ends: a shell waits on a pipe that the kernel closes. Knows no client.

*Source*: mosquitto.conf(5), mosquitto(8); PROTOCOLS §9.2.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from gateway.errors import Unavailable

_READY_S = 10.0
_STOP_S = 5.0
_UNTIL_EOF = '"$0" -c "$1" & broker=$!; cat >/dev/null; kill $broker; wait $broker'
_HINT = "install the package mosquitto; no service of it needs to run"


def find_mosquitto() -> str | None:
    """Path of the program, also where only root's PATH has it; None where it is not installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"))
    return shutil.which("mosquitto", path=path)


class Mosquitto:
    """One Mosquitto process. One thread calls `open`, `close`, and both again."""

    def __init__(self, folder: Path, port: int) -> None:
        """`folder`: for configuration, log and messages, made by `open`; `port`: a free one on loopback."""
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    def open(self) -> None:
        """Start it and wait until it takes connections, 10 s at most.

        Raises:
            Unavailable: it is not installed, has no room, or does not come up.
        """
        program = find_mosquitto()
        if program is None:
            raise Unavailable("start broker", "mosquitto", "it is not installed", _HINT)
        config, log = self._folder / "mosquitto.conf", self._folder / "mosquitto.log"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            config.write_text(
                f"listener {self._port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
                f"persistence_location {self._folder}/\nautosave_on_changes true\nautosave_interval 1\n"
                "max_queued_messages 0\nset_tcp_nodelay true\n" + ("user root\n" if os.geteuid() == 0 else ""),
                # as root it would become another user, who cannot write the folder
                "utf-8",
            )
            with log.open("wb") as said:
                self._process = subprocess.Popen(  # noqa: S603 - a shell line of ours, a program that we looked up
                    ["/bin/sh", "-c", _UNTIL_EOF, program, str(config)],
                    stdin=subprocess.PIPE, stdout=said, stderr=said, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            hint = "the data directory must be writable"
            raise Unavailable("start broker", str(self._folder), error.strerror or str(error), hint) from error
        until_s = time.monotonic() + _READY_S
        while time.monotonic() < until_s:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1.0).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        self.close()
        raise Unavailable("start broker", "mosquitto", "it does not answer", f"see {log}")

    def close(self) -> None:
        """Stop it in order; what it acknowledged is kept in its folder. Safe to call twice."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)
