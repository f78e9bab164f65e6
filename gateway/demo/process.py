"""The gateway of a demo as a process: its configuration file, its start, its end, and the line to its standard input.

It runs in a session of its own, so that Ctrl-C reaches the demo alone, which then closes the shop first. Knows no
device and no fault.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from config.loader import DEMO
from gateway.errors import Unavailable

log = logging.getLogger(__name__)

_STOP_S: Final = 10.0
_SERIAL_ONLY: Final = "# ---- on the broker"
_PAGE: Final = "enabled = true                    # *\nport"
_COUPONS: Final = "enabled = true                    # *\nhttp"
_NO_KEY: Final = "p-00000000"
_NO_PUBLIC: Final = "A" * 43
_STAND_IN: Final = "/var/lib/storefront"  # where config/demo.toml says that the data is


class GatewayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from config/demo.toml. `broker_port`, `page_port`, `platform_port` 0: there is none."""

    data: Path
    page_port: int
    broker_port: int
    platform_port: int = 0
    seal_key: tuple[str, str] = ("", "")  # of the platform: id and public key; "": it has none, or there is none
    issuer_key: tuple[str, str] = ("", "")  # who signs coupons, likewise
    camera: str = "synthetic:top:1:36"
    zone: str = "Asia/Shanghai"
    quota_mib: int = 2048

    def toml(self) -> str:
        """The configuration file."""
        text = DEMO.read_text("utf-8")
        if not self.broker_port:
            text = text.partition(_SERIAL_ONLY)[0].replace('mode = "external"', 'mode = "none"')
        directory = json.dumps(str(self.data), ensure_ascii=False)[1:-1]  # TOML's basic strings are escaped alike
        url = f"mqtt://127.0.0.1:{self.broker_port}" if self.broker_port else ""
        platform = f"http://127.0.0.1:{self.platform_port}" if self.platform_port else ""
        seal = f'"{self.seal_key[0]}" = "{self.seal_key[1]}"' if self.seal_key[0] else ""
        for old, new in (
            (f'seal_keys = {{ "{_NO_KEY}" = "{_NO_PUBLIC}=" }}', f"seal_keys = {{ {seal} }}"),
            (_NO_KEY, self.issuer_key[0] or _NO_KEY),
            (f'"{_NO_PUBLIC}"', f'"{self.issuer_key[1].rstrip("=") or _NO_PUBLIC}"'),
            ('source = "synthetic:top:1:36" ', f'source = "{self.camera}" '),
            ('"Asia/Shanghai"', f'"{self.zone}"'),
            (f'"{_STAND_IN}', f'"{directory}'),
            ("max_mib = 2048 ", f"max_mib = {self.quota_mib} "),
            ('url = "mqtt://127.0.0.1:1883"', f'url = "{url}"'),
            ('url = "http://127.0.0.1:8090"', f'url = "{platform}"'),
            (_COUPONS, _COUPONS.replace("true", "true" if self.broker_port and self.issuer_key[0] else "false")),
            (_PAGE, _PAGE.replace("true", "true" if self.page_port else "false")),
            ("port = 8080 ", f"port = {self.page_port} "),
        ):
            text = text.replace(old, new)
        return text


class GatewayProcess:
    """One gateway after the other, never two. One thread uses it."""

    def __init__(self, config: Path) -> None:
        """`config`: where its configuration file is written."""
        self._config = config
        self._process: subprocess.Popen[str] | None = None
        self.spawned_s = 0.0  # monotonic
        self.expected = False  # its end is wanted: by a fault, or because the demo ends

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs or before the first start."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        """Its process id; 0 before the first start."""
        return 0 if self._process is None else self._process.pid

    def spawn(self, plan: GatewayPlan) -> None:
        """Write the configuration and start.

        Raises:
            Unavailable: the file cannot be written or the process not be started.
        """
        self._hang_up()
        try:
            self._config.write_text(plan.toml(), "utf-8")
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "gateway", "demo-gateway", str(self._config)],
                stdin=subprocess.PIPE, text=True, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(
                "start gateway", str(self._config), error.strerror or str(error), "give a directory with --data"
            ) from error
        self.spawned_s, self.expected = time.monotonic(), False

    def order(self, text: str) -> None:
        """Say something to it; a gateway that has just died hears nothing."""
        process = self._process
        if process is not None and process.stdin is not None:
            try:
                process.stdin.write(text + "\n")
                process.stdin.flush()
            except OSError:
                log.warning("demo order=%r lost=gateway_gone", text)

    def kill(self) -> None:
        """SIGKILL, as a power cut or the kernel out of memory would."""
        self.expected = True
        if self._process is not None:
            self._process.kill()

    def terminate(self) -> None:
        """Ask it to end in order; does not wait."""
        self.expected = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """End it in order, by force after 10 s. May be called again, and before the first start."""
        self.terminate()
        if self._process is not None:
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(_STOP_S)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:  # what was said last and never read
                log.debug("demo order lost=gateway_gone")
