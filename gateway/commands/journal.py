"""`journal verify | salvage | stats | backup`: is the journal whole, make it so, how big is it, a copy of it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from config.loader import data_directory, journal_path
from gateway.commands.common import journal_of, print_json, settings_of
from gateway.commands.ownership import become_owner
from gateway.commands.progress import bar
from gateway.errors import JournalError
from gateway.journal import disk, integrity
from gateway.journal.diagnosis import assess
from gateway.journal.integrity import VerifyReport
from gateway.journal.salvage import SalvageReport
from gateway.journal.salvage import salvage as recover


def verify(config: Path | None, *, as_json: bool) -> int:
    """Read every row and say what is wrong; 1 when something is."""
    with bar("checking") as progress:
        report = integrity.verify(journal_of(config), progress)
    if as_json:
        print_json(report)
    else:
        _print_verify(report)
    return 0 if report.ok else 1


def salvage(config: Path | None, *, force: bool, as_json: bool) -> int:
    """Set a damaged journal aside and recover what is whole; one that is in order is left alone without `force`."""
    settings = settings_of(config)
    path = journal_path(settings)
    if not any(path.with_name(path.name + end).exists() for end in ("", "-wal", ".salvage")):
        raise JournalError(
            "salvage journal", str(path), "there is no journal here", "say where it is with --config"
        )  # fmt: skip
    become_owner(data_directory(settings))
    _refuse_when_in_use(path)
    if not force and (report := _sound(path)) is not None:
        if as_json:
            print_json({"salvaged": False, "verify": report})
        else:
            print(f"{path}: in order, nothing was done (--force salvages it all the same)")
        return 0
    with bar("salvaging") as progress:
        done = recover(
            path, progress, gateway=settings.gateway.name, max_bytes=settings.storage.max_mib << 20,
            now_ms=int(time.time() * 1000),
        )  # fmt: skip
    if as_json:
        print_json({"salvaged": True, "report": done})
    else:
        _print_salvage(path, done)
    return 0


def stats(config: Path | None, *, as_json: bool) -> int:
    """Sizes, conservation lines and cursors."""
    settings = settings_of(config)
    found = integrity.stats(journal_path(settings))
    quota_bytes = settings.storage.max_mib << 20
    share = (found.database_bytes - found.free_bytes) / quota_bytes
    if as_json:
        print_json({**msgspec.to_builtins(found), "quota_bytes": quota_bytes, "fill_share": round(share, 6)})
        return 0
    print(found.path)
    print(
        f"  {_size(found.database_bytes)} in the database ({_size(found.free_bytes)} of it free again), "
        f"{_size(found.wal_bytes)} in the log, {share:.1%} of the quota of {_size(quota_bytes)}"
    )
    print(
        f"\n  {'stream':<14}{'accepted':>12}{'acked':>12}{'pending':>12}{'quarantined':>12}{'expired':>12}{'lost':>12}"
    )
    for state in found.states:
        print(
            f"  {state.stream:<14}{state.accepted:>12}{state.acked:>12}{state.pending:>12}{state.quarantined:>12}"
            f"{state.expired:>12}{state.declared_lost:>12}"
        )
    print()
    for state in found.states:
        if state.oldest_pending_ms is not None:
            at = datetime.fromtimestamp(state.oldest_pending_ms / 1000, UTC)
            print(f"  {state.stream}: the oldest event that waits was kept at {at:%Y-%m-%d %H:%M:%S} UTC")
    for cursor in found.cursors:
        kind = "required" if cursor.required else "optional"
        print(f"  cursor {cursor.name:<24}{cursor.stream:<14}{cursor.position:>12}  {kind}")
    print(f"  {found.quarantine_held} messages in quarantine, {found.losses} declared losses, {found.epochs} epochs")
    return 0


def backup(config: Path | None, target: Path, *, as_json: bool) -> int:
    """Copy the journal, verified, while the gateway runs or not."""
    with bar("copying") as progress:
        report = integrity.backup(journal_of(config), target, progress)
    if as_json:
        print_json({"target": str(target), "bytes": target.stat().st_size, "verify": report})
        return 0
    rows = sum(stream.rows for stream in report.streams)
    print(f"{target}: {rows} events, {_size(target.stat().st_size)}, verified")
    print("  It is no secret store: keys lie apart and are not in it. To restore it, see docs/operations.md.")
    return 0


def _refuse_when_in_use(path: Path) -> None:
    """Raises JournalError while a gateway has the journal: looking closely is for when nobody writes."""
    if path.parent.is_dir():
        try:
            os.close(disk.take_lock(path))
        except OSError as error:
            raise JournalError(
                "salvage journal", str(path), error.strerror or str(error),
                "run the command as the gateway's user: sudo -u storefront storefront …",
            ) from error  # fmt: skip


def _sound(path: Path) -> VerifyReport | None:
    """The report of a journal that needs no salvage; None when it does."""
    if not path.exists() or assess(path) is not None:
        return None
    try:
        with bar("checking") as progress:
            report = integrity.verify(path, progress)
    except JournalError:
        return None
    return report if report.ok else None


def _print_verify(report: VerifyReport) -> None:
    print(f"{report.path}: {'in order' if report.ok else 'NOT in order'} ({report.elapsed_s:.1f} s)")
    print(f"  structure      {report.structure}")
    for stream in report.streams:
        kept = f"{stream.oldest} to {stream.head}" if stream.rows else "nothing kept"
        print(
            f"  {stream.stream:<14} {stream.rows} events ({kept}), {stream.bad_rows} damaged, "
            f"{stream.missing} missing, {stream.explained} declared lost"
        )
    for finding in report.findings:
        print(f"  ! {finding}")
    if not report.ok:
        print(
            "  what to do: restart the gateway; a damaged journal is set aside and salvaged at the start. "
            "Or stop it and run `storefront journal salvage`."
        )


def _print_salvage(path: Path, report: SalvageReport) -> None:
    print(f"{path}: salvaged in {report.elapsed_s:.1f} s; the damaged files are kept as {report.set_aside}")
    for stream in report.streams:
        print(
            f"  {stream.stream:<14} {stream.by_sql + stream.by_scan} events recovered "
            f"({stream.by_scan} from raw pages), {stream.lost} undelivered ones lost"
        )
        for first, last in stream.ranges[:20]:
            print(f"    gone: {first} to {last}")
    if not report.cursors_recovered:
        print("  The uplink's place was lost: it starts again from the last one known, and the platform drops repeats.")
    if report.tables_lost:
        print(f"  Tables that could not be read: {', '.join(report.tables_lost)}")


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
