"""What every check may look at: the settings, the place of the data, who holds the journal, what it last said."""

from __future__ import annotations

import contextlib
import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from config.settings import Settings
from devices.plan import DevicePlan
from gateway.clock import Instant
from gateway.errors import JournalError
from gateway.event import STREAMS
from gateway.journal.reader import JournalReader

_NEWEST = 2_000  # events of a stream that are looked through


class Holder(msgspec.Struct, frozen=True):
    """The process that has the journal; None where the system does not tell."""

    pid: int | None = None
    uid: int | None = None
    since_s: float | None = None  # seconds since 1970


class Record(msgspec.Struct, frozen=True):
    """What the journal's newest events tell. Times are seconds since 1970; nothing of what a device said is here."""

    last_s: dict[str, float] = {}  # by `driver/name`
    newest_s: float | None = None
    heartbeat_s: float | None = None
    heartbeat_clock: str = ""
    conditions: dict[str, str] = {}  # device → condition, by the newest heartbeat
    damage: str = ""  # why the reading stopped, if it did


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """One visit of the doctor."""

    config: Path | None
    settings: Settings
    plans: tuple[DevicePlan, ...]
    directory: Path
    journal: Path
    now: Instant
    holder: Holder | None = None
    record: Record = Record()

    @property
    def running(self) -> bool:
        """True while a gateway has the journal."""
        return self.holder is not None

    @property
    def user(self) -> int:
        """The user id that the gateway runs as, or would: of its process, else of its directory, else ours."""
        if self.holder is not None and self.holder.uid is not None:
            return self.holder.uid
        return self.directory.stat().st_uid if self.directory.exists() else os.geteuid()


class _Event(msgspec.Struct):
    source: str = ""
    type: str = ""
    recordedtime: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Beat(msgspec.Struct):
    clock: str = ""
    devices: dict[str, str] = {}


def holder_of(journal: Path) -> Holder | None:
    """Who holds the journal's lock; None when nobody does. Holding on to nothing itself."""
    lock = journal.with_name(journal.name + ".lock")
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return _by_proc(lock)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _by_proc(lock) or Holder()
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def _by_proc(lock: Path) -> Holder | None:
    """The lock's holder by the kernel's list (proc(5), /proc/locks)."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        inode = str(lock.stat().st_ino)
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode and int(fields[4]) > 0:
                process = psutil.Process(int(fields[4]))
                return Holder(process.pid, process.uids().effective, process.create_time())
    return None


def record_of(journal: Path) -> Record:
    """Read the newest events of every stream."""
    last_s: dict[str, float] = {}
    newest_s: float | None = None
    beat_s, beat = None, _Beat()
    try:
        if not journal.exists():
            return Record()
        with JournalReader(journal) as reader:
            for stream in STREAMS:
                for event in reader.read(stream, max(0, reader.head(stream) - _NEWEST), _NEWEST, 1 << 26):
                    told = msgspec.json.decode(event.json, type=_Event)
                    at_s = _seconds(told.recordedtime)
                    newest_s = max(newest_s or 0.0, at_s)
                    path = "/".join(told.source.rsplit("/", 2)[-2:])
                    last_s[path] = max(last_s.get(path, 0.0), at_s)
                    if told.type == "store.gateway.heartbeat.v1":
                        beat_s, beat = at_s, msgspec.json.decode(told.data, type=_Beat)
    except (JournalError, OSError, msgspec.DecodeError) as error:
        reason = error.reason if isinstance(error, JournalError) else getattr(error, "strerror", "an event is no JSON")
        return Record(last_s, newest_s, beat_s, beat.clock, beat.devices, reason)
    return Record(last_s, newest_s, beat_s, beat.clock, beat.devices)


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except ValueError:
        return 0.0


def ago(then_s: float, now: Instant) -> str:
    """How long ago, in words for a person."""
    seconds = now.wall_s - then_s
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{max(0, round(seconds / unit))} {name} ago"
    return f"{round(seconds / 86_400)} days ago"
