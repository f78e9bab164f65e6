"""A real gateway with a page, a camera that draws people, and a file that may be edited: what setting up needs."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from config.loader import load
from gateway.access.audit import newest
from gateway.app import Gateway
from gateway.event_types import AuditRecorded
from gateway.journal.reader import JournalReader
from gateway.status.server import StatusServer
from tests.patience import until

TEXT = """# written by hand
[gateway]
store = "0042"
[storage]
directory = "{folder}/data"
[page]
port = 0
[broker]
mode = "none"

[[devices]]
name = "cards"
driver = "rdm6300"  # the old one
address = "tcp://127.0.0.1:9"
"""
CAMERA = """
[[cameras]]
name = "door"
source = "synthetic:top:3:30"
options = { fps = 4, warm_up_s = 2, lines = [{ name = "main", start = [0.5, 0.05], end = [0.5, 0.95] }] }
"""


class RealShop:
    """A context manager; the page answers when it is entered."""

    def __init__(self, folder: Path, *, camera: bool = False) -> None:
        self.file = folder / "gateway.toml"
        self.file.write_text(TEXT.format(folder=folder) + (CAMERA if camera else ""), "utf-8")
        self.gateway = Gateway(load(self.file), self.file)
        self._pages: list[StatusServer] = []
        made = self.gateway._page
        self.gateway._page = lambda: self._pages.append(made()) or self._pages[-1]  # type: ignore[method-assign,func-returns-value,return-value]
        self._stop = threading.Event()
        self._running = threading.Thread(target=self.gateway.run, args=(self._stop,))

    def __enter__(self) -> RealShop:
        self._running.start()
        until(lambda: self._pages and self._pages[-1].port and self.gateway.supervisor.ready())
        self.base = f"http://127.0.0.1:{self._pages[-1].port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._running.join(60)
        assert not self._running.is_alive()

    def signed_in(self, role: Any = "manager", name: str = "Ann") -> dict[str, Any]:
        """A session of somebody, as a new browser's `storage_state`."""
        door = self._pages[-1].door
        account = door.accounts.book().account(name) or door.accounts.add(name, role, "482915")
        cookie = {
            "name": "storefront_session", "value": door.sessions.begin(account), "domain": "127.0.0.1", "path": "/",
            "expires": -1, "httpOnly": True, "secure": False, "sameSite": "Strict",
        }  # fmt: skip
        return {"cookies": [cookie], "origins": []}

    def acts(self) -> list[AuditRecorded]:
        """What the audit trail says, newest first."""
        with closing(JournalReader(self.gateway.journal_path)) as reader:
            reader.open()
            return newest(reader, 200)

    def text(self) -> str:
        """The file."""
        return self.file.read_text("utf-8")
