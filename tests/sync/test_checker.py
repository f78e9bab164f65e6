"""Nothing is lost and nothing repeated over five hundred kills and a lossy line — and the checker can tell."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def checked(*arguments: str) -> dict[str, Any]:
    """The report of a checker in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.sync.checker", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=400,
        check=False,
    )  # fmt: skip
    assert ran.stdout, ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout)
    assert ran.returncode == (1 if report["wrong"] else 0)
    return report


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_five_hundred_kills_over_a_lossy_line_lose_and_repeat_nothing() -> None:
    """0 missing, 0 twice, 0 out of order, 0 altered; every poison event in quarantine with its first verdict."""
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(checked, "--kills", "255", "--seed", "11"),
            pool.submit(checked, "--kills", "255", "--seed", "12", "--restore"),
        ]
        reports = [run.result() for run in runs]
    for report in reports:
        assert report["wrong"] == {}, report
        assert report["acknowledged"] > 3000
        assert report["poison"] > 10
        assert report["looks"] > 150
    assert sum(sum(report["kills"].values()) for report in reports) >= 500


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_the_checker_catches_every_seeded_fault() -> None:
    """A cursor moved on any 200, events dropped on 4xx, lost verdicts, a kept epoch, early acknowledgements."""
    seeded = {
        "any-200": ("settled-early", ("--kills", "40", "--portal", "0.25")),
        "drop-4xx": ("settled-early", ("--kills", "24")),
        "verdict-lost": ("verdict", ("--kills", "40")),
        "epoch-kept": ("missing", ("--kills", "18", "--restore")),
        "ack-before-commit": ("missing", ("--kills", "30")),
    }
    with ThreadPoolExecutor(2) as pool:
        runs = {fault: pool.submit(checked, "--seed-fault", fault, *how) for fault, (_, how) in seeded.items()}
        for fault, (expected, _) in seeded.items():
            assert expected in runs[fault].result()["wrong"], (fault, runs[fault].result())
