"""The end of a gateway: its keys and data are destroyed, and a receipt says what there was.

Keys go first, since what they guard is worth nothing without them; then everything else in the data directory is
overwritten once and removed. A note in the directory, written before anything is touched, makes a wipe that was cut
short go on where it stopped and holds the receipt's facts meanwhile. Only a directory that a gateway has used is
touched, links are removed and never followed. Knows no event.

*Source*: design of the project, PRIVACY_SECURITY.md, S14; NIST SP 800-88 Rev. 1, "Clear" and cryptographic erase.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from gateway.clock import rfc3339_s
from gateway.durable_file import sync_directory
from gateway.errors import JournalError, Rejected, Unavailable
from gateway.event import STREAMS, Origin
from gateway.journal import disk
from gateway.journal.reader import JournalReader

Progress = Callable[[int, int], None]
"""Told bytes overwritten and bytes there are."""

_NOTE = ".wiping"
_KEYS = "keys"
_OURS = ("journal.db", _KEYS, _NOTE)
_BLOCK = 1 << 20


class Lane(msgspec.Struct, frozen=True):
    """How far a stream was. `undelivered` events are lost with it."""

    stream: str
    epoch: str
    last_seq: int
    undelivered: int


class Receipt(msgspec.Struct, frozen=True):
    """What was destroyed. `digest`: SHA-256 of everything else here, to be written down."""

    tenant: str
    store: str
    gateway: str
    began_at: str
    directory: str
    keys: int
    files: int
    bytes: int
    lanes: tuple[Lane, ...]
    journal: str  # "read", "unreadable" or "none"
    ended_at: str = ""
    digest: str = ""

    @property
    def undelivered(self) -> int:
        """Events that the platform never got."""
        return sum(lane.undelivered for lane in self.lanes)


def survey(directory: Path, origin: Origin, now_s: float, spare: Iterable[Path] = ()) -> Receipt:
    """What a wipe would destroy; or, when one was cut short, what that one began with.

    Args:
        directory: the data directory.
        origin: whose it is.
        now_s: wall time, seconds since 1970.
        spare: files that stay, such as the configuration.

    Raises:
        Rejected: no gateway has used this directory.
        Unavailable: it cannot be read.
    """
    directory = directory.resolve()
    if directory == Path(directory.anchor) or directory == Path.home().resolve():
        raise Rejected("wipe", str(directory), "this is no data directory", "say where it is with --config")
    if not any((directory / name).exists() for name in _OURS):
        raise Rejected("wipe", str(directory), "no gateway has used this directory", "say where it is with --config")
    try:
        return msgspec.json.decode((directory / _NOTE).read_bytes(), type=Receipt)
    except (OSError, msgspec.DecodeError):
        pass  # nothing was begun; a note that is not whole was not synced, so nothing was touched either
    found = _files(directory, spare)
    keys = [path for path in found if path.is_relative_to(directory / _KEYS)]
    lanes, journal = _lanes(directory / "journal.db")
    return Receipt(
        origin.tenant, origin.store, origin.gateway, rfc3339_s(now_s), str(directory), len(keys), len(found),
        sum(path.lstat().st_size for path in found), lanes, journal,
    )  # fmt: skip


def wipe(
    directory: Path, receipt: Receipt, ended: Callable[[], float], spare: Iterable[Path] = (),
    progress: Progress | None = None,
) -> Receipt:  # fmt: skip
    """Destroy everything in the directory; the directory itself stays, empty but for what is spared.

    Args:
        directory: the data directory.
        receipt: of `survey`.
        ended: gives the wall time at the end, seconds since 1970.
        spare: as for `survey`.
        progress: see `Progress`.

    Raises:
        JournalError: a gateway runs there.
        Unavailable: something cannot be overwritten or removed; call again.
    """
    directory = directory.resolve()
    lock: int | None = None
    try:
        lock = disk.take_lock(directory / "journal.db")
        note = directory / _NOTE
        if not note.exists():
            _write(note, msgspec.json.encode(receipt))
        found = [path for path in _files(directory, spare) if path != note and path.name != "journal.db.lock"]
        found.sort(key=lambda path: (not path.is_relative_to(directory / _KEYS), str(path)))
        total, done = sum(path.lstat().st_size for path in found), 0
        for path in found:
            done = _destroy(path, done, total, progress)
        for folder in sorted((path for path in directory.rglob("*") if path.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        note.unlink()
        (directory / "journal.db.lock").unlink()
        sync_directory(directory)
    except OSError as error:
        raise Unavailable(
            "wipe", error.filename or str(directory), error.strerror or str(error),
            "run the command as the gateway's user or as root, and again: it goes on where it stopped",
        ) from error  # fmt: skip
    finally:
        if lock is not None:
            os.close(lock)
    finished = msgspec.structs.replace(receipt, ended_at=rfc3339_s(ended()))
    return msgspec.structs.replace(finished, digest=hashlib.sha256(msgspec.json.encode(finished)).hexdigest())


def _files(directory: Path, spare: Iterable[Path]) -> list[Path]:
    """Every file, link and socket below; directories that are linked to are not looked into."""
    spared = {path.resolve() for path in spare}
    found: list[Path] = []
    try:
        for folder, folders, names in os.walk(directory, onerror=_raise):
            here = Path(folder)
            found += [here / name for name in names if (here / name).resolve() not in spared]
            found += [here / name for name in folders if (here / name).is_symlink()]
    except OSError as error:
        raise Unavailable("wipe", str(error.filename), error.strerror or str(error)) from error
    return found


def _raise(error: OSError) -> None:
    raise error


def _lanes(journal: Path) -> tuple[tuple[Lane, ...], str]:
    if not journal.exists():
        return (), "none"
    try:
        with JournalReader(journal) as reader:
            lanes = []
            for stream in STREAMS:
                state, epoch = reader.state(stream), reader.epochs(stream)[-1]
                lanes.append(Lane(stream, epoch.epoch, state.accepted - epoch.base, state.pending))
            return tuple(lanes), "read"
    except (JournalError, IndexError):
        return (), "unreadable"


def _destroy(path: Path, done: int, total: int, progress: Progress | None) -> int:
    """Overwrite a regular file once, sync, remove it; returns how many bytes are done now."""
    facts = path.lstat()
    if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(fd, "wb", buffering=0) as file:  # noqa: PTH123 - wraps the descriptor
            left = facts.st_size
            while left > 0:
                left -= file.write(bytes(min(_BLOCK, left)))
                if progress is not None:
                    progress(done + facts.st_size - left, total)
            os.fsync(fd)
    path.unlink()
    return done + facts.st_size


def _write(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:  # noqa: PTH123 - wraps the descriptor opened with the narrow mode
        file.write(content)
        file.flush()
        os.fsync(fd)
    sync_directory(path.parent)
