"""`storefront wipe`: nothing without the store's name, everything with it, a receipt, and no other directory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from gateway.access.accounts import Accounts
from gateway.clock import SystemClock
from gateway.errors import Rejected, Unavailable
from gateway.event import Origin
from gateway.journal.disk import take_lock
from gateway.wipe import Receipt, survey, wipe

ORIGIN = Origin("t1", "0001", "gw01")


def fill(shop) -> Path:
    """Keys, a backup in a folder, a link to somewhere else."""
    shop.some(30)
    directory = shop.journal.parent
    (directory / "keys").mkdir(exist_ok=True)
    (directory / "keys" / "2026-11-22.daykey").write_bytes(b"k" * 32)
    (directory / "old").mkdir()
    (directory / "old" / "journal.db").write_bytes(b"x" * 5000)
    outside = directory.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("stays")
    (directory / "link").symlink_to(outside)
    return directory


def test_without_the_stores_name_nothing_is_done(storefront, shop):
    """It says what there is and what would be lost; the exit code is 1."""
    directory = fill(shop)
    before = sorted(path for path in directory.rglob("*"))
    said = storefront("wipe", "--config", shop.config)
    assert said.code == 1
    assert "30 events have not reached the platform" in said.out
    assert storefront("wipe", "--config", shop.config, "--yes", "9999").code != 0
    assert storefront("wipe", "--config", shop.config, "--json").json["wiped"] is False
    assert sorted(path for path in directory.rglob("*") if not path.name.endswith(("-shm", "-wal"))) == before


def test_with_it_everything_is_destroyed_and_the_receipt_says_what_there_was(storefront, shop, tmp_path):
    """Only the configuration and what a link points to stay; the digest covers the receipt."""
    directory = fill(shop)
    store = storefront("wipe", "--config", shop.config, "--json").json["would_destroy"]["store"]
    kept = tmp_path / "receipt.json"
    done = storefront("wipe", "--config", shop.config, "--yes", store, "--receipt", kept, "--json").json
    assert done["wiped"] is True
    left = [path for path in directory.rglob("*") if path.resolve() != Path(shop.config).resolve()]
    assert left == []
    assert (directory.parent / "outside" / "precious").read_text() == "stays"
    receipt = msgspec.json.decode(kept.read_bytes(), type=Receipt)
    assert receipt.undelivered == 30
    assert receipt.keys >= 1
    assert receipt.journal == "read"
    bare = msgspec.structs.replace(receipt, digest="")
    assert hashlib.sha256(msgspec.json.encode(bare)).hexdigest() == receipt.digest
    assert storefront("wipe", "--config", shop.config, "--yes", store).code != 0  # nothing is left to be wiped


def test_a_running_gateway_is_not_wiped(storefront, shop):
    """Whoever has the journal open keeps it."""
    directory = fill(shop)
    lock = take_lock(shop.journal)
    store = storefront("wipe", "--config", shop.config, "--json").json["would_destroy"]["store"]
    said = storefront("wipe", "--config", shop.config, "--yes", store)
    os.close(lock)
    assert said.code != 0
    notes = Accounts(directory, SystemClock()).book().notes
    assert [(note.act, note.subject) for note in notes] == [("gateway.wipe", store)]  # for the trail of who runs there
    assert (directory / "keys" / "2026-11-22.daykey").exists()


def test_cut_short_it_goes_on_and_the_receipt_is_the_first_one(shop, monkeypatch):
    """A file that cannot be removed stops it; the next call ends it, and counts what there was at the beginning."""
    directory = fill(shop)
    plan = survey(directory, ORIGIN, 0.0)
    (directory / "zz").mkdir()
    (directory / "zz" / "late").write_bytes(b"1")
    seen: list[int] = []

    def stumble(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 3:
            raise OSError(5, "unplugged")

    with pytest.raises(Unavailable, match="unplugged"):
        wipe(directory, plan, lambda: 1.0, progress=stumble)
    assert not (directory / "keys" / "2026-11-22.daykey").exists()  # keys went first
    again = survey(directory, ORIGIN, 99.0)
    assert again == plan
    receipt = wipe(directory, again, lambda: 2.0)
    assert receipt.files == plan.files
    assert list(directory.iterdir()) == []


def test_other_directories_are_left_alone(tmp_path):
    """A directory that no gateway has used, the root and a home are refused."""
    (tmp_path / "photos").mkdir()
    for directory in (tmp_path / "photos", Path("/"), Path.home(), tmp_path / "missing"):
        with pytest.raises(Rejected):
            survey(directory, ORIGIN, 0.0)
