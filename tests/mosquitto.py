"""A real Mosquitto for tests, set up as the architecture says, that can be killed and started again on its port."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.faults.traffic import connect
from tests.patience import until
from tests.ports import free_port


def mosquitto_program() -> str | None:
    """Where Mosquitto is, or None."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Mosquitto:
    """Started and stopped by hand, or as a context manager."""

    name = "mosquitto"

    def __init__(self, folder: Path, extra: str = "") -> None:
        """`folder`: for its configuration and messages; `extra`: lines of configuration for its listener.

        The test is skipped where Mosquitto is not installed.
        """
        program = mosquitto_program()
        if program is None:
            pytest.skip("mosquitto is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._log = folder / "mosquitto.log"
        self._store = folder / "mosquitto.db"
        self._speaks_tls = "certfile" in extra
        user = "user root\n" if os.geteuid() == 0 else ""  # else it becomes a user who may not write here
        config = folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n"
            "autosave_on_changes true\nautosave_interval 1\nmax_queued_messages 100000\nset_tcp_nodelay true\n"
            f"sys_interval 1\n{user}{extra}"
        )
        self._command = [program, "-c", str(config)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The `[broker]` table that reaches it."""
        return f'mode = "external"\nurl = "mqtt://127.0.0.1:{self.port}"'

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until(self._answers, every_s=0.02)

    start_again = start

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> None:
        """End it in order, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(30)

    def saved(self, *texts: bytes, without: bytes | None = None) -> None:
        """Wait until its file, which outlives a kill, holds payloads or topics with these texts and not that one."""

        def so() -> bool:
            kept = self._store.read_bytes() if self._store.exists() else b""
            return all(text in kept for text in texts) and (without is None or without not in kept)

        until(so, every_s=0.02)

    def _answers(self) -> bool:
        """Whether it answers a CONNECT: its port is open before it has taken over SIGTERM."""
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        with contextlib.suppress(OSError):
            if self._speaks_tls:
                socket.create_connection(("127.0.0.1", self.port), timeout=30).close()
            else:
                connect(self.port, "hello").close()
            return True
        return False
