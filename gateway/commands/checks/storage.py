"""The data directory, its disk and the journal: is there room, is it ours, is it whole, does it keep up?"""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from gateway.commands.checks.finding import (
    DISK,
    JOURNAL,
    NOT_RUNNING,
    PERMISSION,
    PLATFORM,
    SILENT,
    Finding,
    fine,
    note,
    problem,
    warning,
)
from gateway.commands.checks.scene import Scene, ago
from gateway.errors import JournalError
from gateway.journal import disk
from gateway.journal.diagnosis import assess
from gateway.journal.integrity import JournalStats, stats, verify
from gateway.journal.schema import WAL_LIMIT_BYTES
from gateway.journal.writer import REFUSE_ABOVE
from gateway.workers.housekeeping import salvage_under_way

MIB = 1 << 20
_LOW_BYTES = 64 * MIB
_FEW_FILES = 100
_SCANT_BYTES = 512 * MIB
_WHOLE_BYTES = 64 * MIB  # up to this size the whole journal is read; beyond it `journal verify` does that
_STUCK_S = 180.0
_BACKLOG_S = 3600.0


def running(scene: Scene) -> list[Finding]:
    """Is there a gateway, since when, and does it make progress?"""
    holder, beat_s = scene.holder, scene.record.heartbeat_s
    if holder is None:
        when = f" It last wrote {ago(scene.record.newest_s, scene.now)}." if scene.record.newest_s else ""
        return [
            warning(
                "running",
                NOT_RUNNING,
                f"No gateway is running on {scene.directory}.{when}",
                "start it: systemctl start storefront, or `storefront run --config FILE`",
            )
        ]
    since = f" for {ago(holder.since_s, scene.now).removesuffix(' ago')}" if holder.since_s else ""
    who = f"process {holder.pid}" if holder.pid else "another process"
    up_s = scene.now.wall_s - holder.since_s if holder.since_s else _STUCK_S
    if up_s >= _STUCK_S and (beat_s is None or scene.now.wall_s - beat_s > _STUCK_S):
        told = f"its last heartbeat was {ago(beat_s, scene.now)}" if beat_s else "it never wrote a heartbeat"
        return [
            problem(
                "running",
                NOT_RUNNING,
                f"The gateway ({who}{since}) has the journal but writes nothing: {told}.",
                "look at its log (journalctl -u storefront -n 50); is the disk full? Then restart it",
            )
        ]
    return [fine("running", f"the gateway runs{since} ({who})")]


def directory(scene: Scene) -> list[Finding]:
    """There, writable by the gateway's user, with room."""
    folder = scene.directory
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    found: list[Finding] = []
    if folder.exists() and not folder.is_dir():
        found.append(problem("disk", DISK, f"{folder} is no directory.", "correct storage.directory"))
        return found
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        found.append(
            problem(
                "disk",
                DISK,
                f"The disk of {folder} is read-only.",
                "dmesg says why; a worn SD card turns read-only for good: replace it",
            )
        )
    elif scene.user == os.geteuid() and not os.access(there, os.W_OK | os.X_OK):
        found.append(
            problem(
                "disk",
                PERMISSION,
                f"{there} cannot be written by the gateway's user.",
                f"chown {_name(scene.user)} {there}, or give another storage.directory",
            )
        )
    if foreign := _foreign(scene):
        found.append(
            problem(
                "disk",
                PERMISSION,
                f"{', '.join(foreign)} in {folder}: not the gateway user's.",
                f"chown -R {_name(scene.user)}: {folder}",
            )
        )
    found += _room(scene, there)
    return found


def journal(scene: Scene) -> list[Finding]:
    """Whole, within its quota, read by others, delivered."""
    path = scene.journal
    try:
        there = path.exists()
    except OSError as error:
        says = f"The journal in {scene.directory} cannot be looked at: {error.strerror}."
        return [problem("journal", PERMISSION, says, "run this as root or as the gateway's user")]
    if not there:
        return [note("journal", 0, f"There is no journal yet in {scene.directory}.")]
    found: list[Finding] = []
    if not scene.running and salvage_under_way(path):
        found.append(
            _damaged(
                "A salvage of the journal was begun and not finished.", "start the gateway: it goes on where it stopped"
            )
        )
    elif (noted := disk.suspicion(path)) is not None:
        found.append(
            _damaged(
                f"Damage was seen in the journal: {noted}.", "restart the gateway: it checks, and salvages what it must"
            )
        )
    elif not scene.running and (complaint := assess(path)) is not None:
        return [_damaged(f"The journal is damaged: {complaint}.", "start the gateway: it is set aside and salvaged")]
    try:
        facts = stats(path)
        found += _quick(scene, facts)
        found += _measures(scene, facts)
    except JournalError as error:
        found.append(_damaged(f"The journal cannot be read: {error.reason}.", error.hint))
    if aside := sorted(each.name for each in scene.directory.glob(f"{path.name}.damaged-*")):
        found.append(
            note(
                "journal",
                JOURNAL,
                f"Files of an earlier salvage are kept: {', '.join(aside[-3:])}.",
                "check the disk and the power supply; delete them when nobody wants to look at them any more",
            )
        )
    return found


def _quick(scene: Scene, facts: JournalStats) -> list[Finding]:
    if facts.database_bytes <= _WHOLE_BYTES:
        report = verify(scene.journal, structure_s=5.0)
        wrong = report.findings[0] if report.findings else "its structure is damaged"
        if not report.ok:
            return [
                _damaged(
                    f"The journal is damaged: {wrong}.",
                    "restart the gateway; a damaged journal is salvaged at the start",
                )
            ]
        rows = sum(stream.rows for stream in report.streams)
        return [fine("journal", f"every one of its {rows} events is whole")]
    if scene.record.damage:
        return [
            _damaged(
                f"The journal is damaged: {scene.record.damage}.", "restart the gateway; it is salvaged at the start"
            )
        ]
    return [fine("journal", "its newest events are whole (all of it: storefront journal verify)")]


def _measures(scene: Scene, facts: JournalStats) -> list[Finding]:
    found: list[Finding] = []
    quota_bytes = scene.settings.storage.max_mib * MIB
    share = (facts.database_bytes - facts.free_bytes) / quota_bytes
    waiting = sum(state.pending for state in facts.states)
    platform = scene.settings.platform.configured
    refused = [stream for stream, above in REFUSE_ABOVE.items() if share > above]
    if refused:
        found.append(
            problem(
                "journal",
                DISK,
                f"The quota is {share:.0%} full: {' and '.join(refused)} are refused.",
                "let the backlog reach the platform, or raise storage.max_mib where the disk has room",
            )
        )
    elif share > 0.7:
        found.append(
            warning(
                "journal",
                DISK,
                f"The quota is {share:.0%} full, {waiting} events wait.",
                "does the platform answer? Else raise storage.max_mib",
            )
        )
    if facts.wal_bytes > 2 * WAL_LIMIT_BYTES:
        found.append(
            warning(
                "journal",
                JOURNAL,
                f"The journal's log has {facts.wal_bytes // MIB} MiB: a program reads it and does not let go.",
                f"end that program; this names it: fuser -v {scene.journal}",
            )
        )
    oldest = [state.oldest_pending_ms for state in facts.states if state.oldest_pending_ms is not None]
    if platform and oldest and scene.now.wall_s - min(oldest) / 1000 > _BACKLOG_S:
        found.append(
            warning(
                "platform",
                PLATFORM,
                f"{waiting} events wait for the platform, the oldest from {ago(min(oldest) / 1000, scene.now)}.",
                "see what is said about the platform here; nothing is lost while the quota has room",
            )
        )
    if facts.quarantine_held:
        found.append(
            warning(
                "devices",
                SILENT,
                f"{facts.quarantine_held} messages in quarantine could not be understood.",
                "storefront quarantine list says why; after a correction: storefront quarantine replay --all",
            )
        )
    if facts.losses:
        lost = sum(state.expired + state.declared_lost for state in facts.states)
        found.append(
            note(
                "journal",
                JOURNAL,
                f"{lost} events were given up undelivered ({facts.losses} declared ranges).",
                "see store.loss.declared.v1 events",
            )
        )
    found.append(fine("journal", f"{share:.1%} of the quota used, {waiting} events wait"))
    return found


def _room(scene: Scene, there: Path) -> list[Finding]:
    try:
        free_bytes = shutil.disk_usage(there).free
        inodes = os.statvfs(there)
    except OSError as error:
        return [problem("disk", DISK, f"The disk of {there} does not answer: {error.strerror}.", "dmesg says why")]
    found: list[Finding] = []
    if inodes.f_files and inodes.f_favail < _FEW_FILES:
        found.append(
            problem(
                "disk",
                DISK,
                f"The disk can hold only {inodes.f_favail} more files, though {free_bytes // MIB} MiB are free.",
                f"remove files: df -i {there} shows how many there are",
            )
        )
    elif free_bytes < _LOW_BYTES:
        found.append(
            problem(
                "disk",
                DISK,
                f"The disk is full: {free_bytes // MIB} MiB free.",
                "free space (journalctl --vacuum-size=100M, old files); sales go on as long as any is left",
            )
        )
    elif free_bytes < _SCANT_BYTES:
        found.append(
            warning(
                "disk",
                DISK,
                f"The disk has only {free_bytes // MIB} MiB free.",
                "free space, or lower storage.max_mib",
            )
        )
    else:
        found.append(fine("disk", f"{scene.directory}: {free_bytes // MIB} MiB free"))
    ballast = disk.ballast_path(scene.journal)
    if scene.running and scene.settings.storage.ballast_mib and not ballast.exists():
        found.append(
            warning(
                "disk",
                DISK,
                "The disk was full: the space held back for that has been given up.",
                "free space; the gateway lays it down again by itself",
            )
        )
    return found


def _foreign(scene: Scene) -> list[str]:
    """Files of the journal that another user owns; root's are the usual trap, after a command run with sudo."""
    if not scene.directory.is_dir() or scene.user == 0:
        return []
    try:
        files = [scene.directory, *scene.directory.glob("journal.db*")]
        return [file.name for file in files if file.stat().st_uid != scene.user]
    except OSError:
        return []


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _damaged(says: str, do: str) -> Finding:
    return problem("journal", JOURNAL, says, do)
