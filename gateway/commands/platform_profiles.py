"""`platform import`, `rebuild` and `segments`: the reference platform's profiles from the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from config.loader import state_directory
from gateway.clock import SystemClock
from gateway.commands.common import print_json
from gateway.errors import ConfigError, Unavailable
from sync.platform.campaigns import repeat
from sync.platform.history import import_file, spelling
from sync.platform.profiles import Profiles
from sync.platform.segments import churn, clusters, purchases, rfm
from sync.platform.store import PlatformStore

_SHOWN = 20


def import_files(database: Path | None, files: list[Path], region: str, *, as_json: bool) -> int:
    """Import files in the order given; 1 when a row of one was refused.

    Raises:
        ConfigError: a file cannot be read, or its header fits no kind.
    """
    with _profiles(database, make=True) as profiles:
        reports = [import_file(profiles.book, path, spelling(region)) for path in files]
    if as_json:
        print_json(reports)
    else:
        for path, report in zip(files, reports, strict=True):
            print(f"{path.name}: {report.kind}, {report.rows} rows: {report.taken} taken, {report.known} known, "
                  f"{report.refused} refused")  # fmt: skip
            for it in report.problems[:_SHOWN]:
                print(f"  line {it.line}: {it.column + ' ' if it.column else ''}{it.reason}")
            if report.refused > _SHOWN:
                print(f"  … and {report.refused - _SHOWN} more")
    return int(any(report.refused for report in reports))


def rebuild(database: Path | None, *, as_json: bool) -> int:
    """Fold every event again. The platform may run; it goes on where this ends."""
    with _profiles(database) as profiles:
        profiles.fold.rebuild()
        folded = profiles.fold.catch_up()
    if as_json:
        print_json({"events": folded})
    else:
        print(f"{folded:,} events folded")
    return 0


def segments(database: Path | None, model: str, horizon_days: int, *, as_json: bool) -> int:
    """Print RFM, clusters and churn; the last two say what they need when it is not there."""
    with _profiles(database) as profiles:
        profiles.fold.catch_up()
        now_ms = round(SystemClock().now().wall_s * 1000)
        bought = purchases(profiles.book, now_ms)
    report, again = rfm(bought, now_ms), repeat(bought)
    missing = ""
    try:
        groups, risk = clusters(bought, now_ms), churn(bought, now_ms, horizon_days=horizon_days, model=model)
    except Unavailable as error:
        groups, risk, missing = (), None, str(error)
    if as_json:
        print_json({"rfm": report, "repeat": again, "clusters": groups, "churn": risk, "missing": missing})
        return 0
    print(f"{again.persons:,} persons bought something; came again: "
          + ("not told below 5 persons" if again.share is None else f"{again.share:.1%}"))  # fmt: skip
    print(f"RFM thresholds: days {report.recency_days}, purchases {report.frequency}, money {report.money}")
    for name, count in report.sizes.items():
        print(f"  {name:<12} {count:>7,}")
    if missing:
        print(f"clusters and churn: {missing}")
    for it in groups:
        print(f"cluster of {it.persons:,}: {it.recency_days:.0f} days ago, {it.frequency:.1f} purchases, "
              f"{it.money:,.2f} in all, {it.online_share:.0%} online")  # fmt: skip
    if risk is not None:
        print(f"churn ({risk.model}, {risk.horizon_days} days): learned from {risk.learned_from:,}, tested on "
              f"{risk.tested_on:,} later: AUC {risk.auc:.3f}, Brier {risk.brier:.3f} (base rate alone "
              f"{risk.brier_base:.3f}); gone {risk.base_rate:.1%}")  # fmt: skip
        for step in risk.calibration:
            print(f"  said {step.said:.2f}  came true {step.true:.2f}  ({step.persons:,} persons)")
        for key, share in risk.risks[:10]:
            print(f"  {key}  {share:.2f}")
    return 0


@contextlib.contextmanager
def _profiles(database: Path | None, *, make: bool = False) -> Iterator[Profiles]:
    path = database or state_directory() / "platform.db"
    if not make and not path.exists():
        raise ConfigError("open platform", str(path), "there is no such database", "--database names it")
    store = PlatformStore(path)
    store.open()
    profiles = Profiles(store, SystemClock())
    try:
        profiles.open(follow=False)
        yield profiles
    finally:
        profiles.close()
        store.close()
