"""The platform's key files: whole or not there, whenever it dies, and never made twice."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.clock import FakeClock
from sync.platform.enrolments import Enrolments
from sync.platform.platform_keys import keys_beside
from sync.platform.store import PlatformStore


def test_whenever_the_platform_dies_its_keys_are_whole_or_not_there_and_stay_what_they_were(tmp_path: Path) -> None:
    """Killed before every single act on its files; the next start completes them and replaces none."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sync.platform.dying_keys", str(tmp_path)],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    assert report["deaths"] > 20


def test_platforms_that_start_together_have_the_same_keys(tmp_path: Path) -> None:
    """Nobody's key is replaced by a key that was made a moment later."""

    def start(_: int) -> tuple[str, str, bytes, object]:
        keys = keys_beside(tmp_path / "platform.db")
        clock, store = FakeClock(), PlatformStore(tmp_path / "platform.db")
        authority = Enrolments(store, tmp_path / "authority", clock).authority()
        return keys.seal_public, keys.issuer_public, keys.vault.mark("member", "1"), authority.serial_number

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(16)))) == 1


def test_key_files_are_for_nobody_else(tmp_path: Path) -> None:
    """Mode 0600, in a directory that only the platform may enter."""
    keys_beside(tmp_path / "platform.db")
    directory = tmp_path / "platform.db.keys"
    assert directory.stat().st_mode & 0o077 == 0
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
