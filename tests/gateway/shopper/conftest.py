"""A shop's consent book on a real journal, written at once where the daemon has a thread for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest

from config.settings import PrivacySettings
from gateway.clock import FakeClock
from gateway.errors import JournalError
from gateway.journal.writer import JournalWriter
from gateway.shopper.consent import Consents
from gateway.shopper.day_keys import DayKeys
from gateway.shopper.key_ring import KeyRing
from gateway.shopper.sealing import Opener, key_to_text, new_key
from gateway.shopper.subjects import ShopperSubjects

T = TypeVar("T")


class AtOnce:
    """The writing thread of a test: does what it is handed before it answers, or fails as told."""

    def __init__(self, writer: JournalWriter) -> None:
        self.writer = writer
        self.failure: JournalError | None = None

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        future: Future[T] = Future()
        try:
            if self.failure is not None:
                raise self.failure
            future.set_result(self.writer.transact(work))
        except (sqlite3.Error, JournalError) as error:
            future.set_exception(error)
        return future


class Shop:
    """Everything between a reading with a person and an event with a subject."""

    def __init__(self, folder: Path, **privacy: Any) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.writer = JournalWriter(folder / "journal.db", "gw01", self.clock)
        self.writer.open()
        self.writing = AtOnce(self.writer)
        self.private, self.public = new_key()
        self.opener = Opener({"p1": self.private})
        privacy.setdefault("seal_keys", {"p1": key_to_text(self.public)})
        privacy.setdefault("notice_version", "2026-10")
        self.privacy = PrivacySettings(**privacy)
        self.begin()

    def begin(self) -> None:
        """As after a start: nothing in memory."""
        keys = self.folder / "keys"
        self.consents = Consents(
            self.folder / "journal.db",
            self.writing,
            keys / "consent.key",
            most_rows=self.privacy.consent_rows,
            keep_withdrawn=bool(self.privacy.assumed_purposes),
        )
        self.ring = KeyRing(keys, self.privacy.seal_keys, self.privacy.seal_with)
        self.subjects = ShopperSubjects(self.privacy, "CN", self.consents, DayKeys(keys, "Asia/Shanghai"), self.ring)

    def close(self) -> None:
        self.consents.close()
        self.writer.close()


@pytest.fixture
def make_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    shops: list[Shop] = []

    def make(**privacy: Any) -> Shop:
        folder = tmp_path / f"shop{len(shops)}"
        folder.mkdir()
        shops.append(Shop(folder, **privacy))
        return shops[-1]

    yield make
    for shop in shops:
        shop.close()


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop()
