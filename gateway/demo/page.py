"""The gateway's page in a demo: its port, a manager to sign in as, and whether it answers yet.

Knows no shop and says nothing to anybody.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import socket
from pathlib import Path
from typing import Final

from gateway.access.accounts import Accounts
from gateway.access.pins import new_pin
from gateway.clock import SystemClock
from gateway.errors import ConfigError, Rejected, StorefrontError

MANAGER: Final = "demo"


class DemoPage:
    """Life: `let_in` before the gateway starts, `lock` when it has ended."""

    def __init__(self, port: int, data: Path) -> None:
        """`port` 0: no page. `data`: the gateway's directory."""
        self.port = port if importlib.util.find_spec("gateway.status.server") is not None else 0
        self.pin = ""  # while there is the manager
        self._accounts = Accounts(data, SystemClock())

    def check(self) -> None:
        """Look at the port before anything is begun.

        Raises:
            ConfigError: another program has it.
        """
        if self.port:
            try:
                with socket.create_server(("127.0.0.1", self.port)):
                    pass
            except OSError as error:
                raise ConfigError(
                    "start demo", f"port {self.port}", "the page's port is taken by another program",
                    f"is a demo running already? Else take another port: --port {self.port + 1}",
                ) from error  # fmt: skip

    def let_in(self) -> None:
        """A manager of this demo's own, with a PIN of this run's own; there is none once it is over."""
        if self.port:
            self.pin = new_pin()
            with contextlib.suppress(Rejected):  # left by a demo that was killed
                self._accounts.remove(MANAGER, even_last=True)
            self._accounts.add(MANAGER, "manager", self.pin)

    def lock(self) -> None:
        """Remove the manager."""
        if self.pin:
            with contextlib.suppress(StorefrontError):
                self._accounts.remove(MANAGER, even_last=True)

    def answers(self) -> bool:
        """True when the page answers, whatever it says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=0.5)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True
