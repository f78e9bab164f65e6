"""`storefront journal`: verify, salvage, stats and backup, on a journal that is whole, damaged, missing or in use."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from gateway.event import STREAMS, Draft
from gateway.journal.disk import take_lock


def damage(path: Path) -> None:
    """Overwrite a page in the middle."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 512 * 512)
        file.write(b"\xa5" * 512)


def test_verify_says_that_a_whole_journal_is_in_order(storefront, shop):
    """A whole journal: exit code 0, every row counted, in text and in JSON."""
    shop.some(30)
    text = storefront("journal", "verify", "--config", shop.config)
    assert text.code == 0
    assert "in order" in text.out
    assert "30 events (1 to 30)" in text.out
    data = storefront("journal", "verify", "--config", shop.config, "--json").json
    assert data["ok"] is True
    assert {stream["stream"]: stream["rows"] for stream in data["streams"]} == {
        "transactions": 0, "measurements": 0, "observations": 30
    }  # fmt: skip


def test_verify_ends_with_1_and_says_what_to_do(storefront, shop):
    """A damaged journal: exit code 1, what is wrong, and what to do."""
    shop.some(300)
    damage(shop.journal)
    said = storefront("journal", "verify", "--config", shop.config)
    assert said.code == 1
    assert "NOT in order" in said.out
    assert "what to do" in said.out
    assert storefront("journal", "verify", "--config", shop.config, "--json").json["findings"]


@pytest.mark.parametrize("command", [("verify",), ("stats",), ("salvage",), ("backup", "copy.db")])
def test_no_journal_is_said_in_a_sentence(storefront, shop, command):
    """Without a journal a command ends with 74 and a hint, never with a traceback."""
    said = storefront("journal", *command, "--config", shop.config)
    assert said.code == 74
    assert "there is no journal here" in said.err
    assert "what to do" in said.err


def test_salvage_recovers_and_keeps_the_damaged_file(storefront, shop):
    """What is whole comes back, the damaged file stays, and a new journal verifies."""
    shop.some(300)
    damage(shop.journal)
    said = storefront("journal", "salvage", "--config", shop.config, "--json")
    assert said.code == 0
    report = said.json["report"]
    observations = next(one for one in report["streams"] if one["stream"] == "observations")
    assert 0 < observations["by_sql"] + observations["by_scan"] <= 300
    assert (shop.directory / report["set_aside"]).exists()
    assert storefront("journal", "verify", "--config", shop.config).code == 0


def test_salvage_leaves_a_whole_journal_alone(storefront, shop):
    """A journal in order keeps its epoch; only --force begins a new one."""
    shop.some(5)
    before = storefront("journal", "stats", "--config", shop.config, "--json").json["epochs"]
    said = storefront("journal", "salvage", "--config", shop.config)
    assert said.code == 0
    assert "nothing was done" in said.out
    assert storefront("journal", "stats", "--config", shop.config, "--json").json["epochs"] == before
    assert storefront("journal", "salvage", "--config", shop.config, "--force", "--json").json["salvaged"] is True
    assert storefront("journal", "stats", "--config", shop.config, "--json").json["epochs"] == before + len(STREAMS)


def test_salvage_is_refused_while_the_gateway_holds_the_journal(storefront, shop):
    """With the lock held, salvage ends with 74, says whose it is, and touches nothing."""
    shop.some(300)
    damage(shop.journal)
    lock = take_lock(shop.journal)
    before = sorted(path.name for path in shop.directory.iterdir())
    try:
        said = storefront("journal", "salvage", "--config", shop.config)
    finally:
        os.close(lock)
    assert said.code == 74
    assert "another gateway process" in said.err
    assert sorted(path.name for path in shop.directory.iterdir()) == before


def test_stats_while_the_gateway_runs(storefront, shop):
    """Sizes and conservation lines, with a writer open on the same file."""
    writer = shop.writer()
    writer.open()
    try:
        writer.append([Draft("observations", "store.test.v1", b'{"source":"//t1/x","data":{}}')])
        said = storefront("journal", "stats", "--config", shop.config)
        data = storefront("journal", "stats", "--config", shop.config, "--json").json
    finally:
        writer.close()
    assert said.code == 0
    assert "of the quota of 64.0 MiB" in said.out
    assert data["quota_bytes"] == 64 << 20
    assert [state["stream"] for state in data["states"]] == list(STREAMS)


def test_backup_is_a_whole_copy_and_never_overwrites(storefront, shop, tmp_path):
    """The copy holds every event; a second backup to the same name is refused and leaves the first alone."""
    shop.some(40)
    target = tmp_path / "copy.db"
    said = storefront("journal", "backup", target, "--config", shop.config, "--json")
    assert said.code == 0
    assert said.json["bytes"] == target.stat().st_size
    with sqlite3.connect(target) as copy:
        assert copy.execute("SELECT count(*) FROM observations").fetchone()[0] == 40
    copy.close()
    before = target.read_bytes()
    again = storefront("journal", "backup", target, "--config", shop.config)
    assert again.code == 74
    assert "exists already" in again.err
    assert target.read_bytes() == before


def test_without_config_the_default_directory_is_used(storefront, shop, monkeypatch, tmp_path):
    """Without --config the commands look where `storefront run` keeps its data."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    said = storefront("journal", "stats")
    assert said.code == 74
    assert str(tmp_path / "home" / "storefront" / "journal.db") in said.err
