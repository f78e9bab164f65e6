"""The profiles beside a running platform: ingest does not wait for them, and when they stop, that is said."""

from __future__ import annotations

import threading
from pathlib import Path

from gateway.clock import FakeClock
from sync.platform.platform_keys import keys_beside
from sync.platform.profile_fold import ProfileFold
from sync.platform.profiles import Profiles
from sync.platform.store import PlatformStore
from sync.uplink import Lane
from tests.patience import until
from tests.sync.platform.platform_parts import EPOCH, T0, Log, Readable, World


def test_ingest_does_not_wait_for_matching_and_matching_catches_up(tmp_path: Path) -> None:
    store = PlatformStore(tmp_path / "platform.db", durable=False)
    store.open()
    profiles = Profiles(store, FakeClock(), durable=False)
    profiles.open()
    log = Log()

    class Told:
        pass

    told = Told()
    told.log = log  # type: ignore[attr-defined]
    World.sells(told, "s1", T0)  # type: ignore[arg-type]
    lane = Lane("gw01", "transactions", EPOCH)
    store.open_epoch(lane, "fresh", None)
    try:
        with profiles.book.transaction():  # matching is busy, and stays so
            assert store.consume(lane, 1, 1, b"[" + log.rows[0][1] + b"]").fresh == 1

        def folded() -> bool:
            with profiles.book.reading() as connection:
                return connection.execute("SELECT ref FROM touch").fetchall() == [("s1",)]

        until(folded)
        assert not profiles.stopped
    finally:
        profiles.close()
        store.close()


def test_a_fold_that_fails_is_told_and_ends() -> None:
    class Broken:
        def events(self, after: int, limit: int) -> list[tuple[int, bytes]]:
            raise OSError("gone")

    class Book:
        def reading(self) -> object:
            import contextlib

            class Empty:
                def execute(self, *_: object) -> Empty:
                    return self

                def fetchone(self) -> None:
                    return None

            return contextlib.nullcontext(Empty())

    heard: list[BaseException] = []
    ProfileFold(Book(), Broken(), Readable()).run(threading.Event(), heard.append)  # type: ignore[arg-type]
    assert [type(error) for error in heard] == [OSError]


def test_keys_are_made_once_and_read_by_nobody_else(tmp_path: Path) -> None:
    first, again = keys_beside(tmp_path / "p.db"), keys_beside(tmp_path / "p.db")
    assert (first.seal_id, first.seal_public, first.issuer_public) == (
        again.seal_id, again.seal_public, again.issuer_public,
    )  # fmt: skip
    assert first.vault.mark("member", "x") == again.vault.mark("member", "x") != first.vault.mark("phone", "x")
    assert again.vault.unboxed(first.vault.boxed("value")) == "value"
    files = sorted((tmp_path / "p.db.keys").iterdir())
    assert [path.name for path in files] == ["issuer.key", "seal.key", "vault.key"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
