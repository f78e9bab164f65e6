"""The alerts' state as one small file, whole at every moment; a file that cannot be read is set aside, not trusted."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from gateway.alerts.book import State
from gateway.durable_file import replace_file
from gateway.errors import Unavailable

log = logging.getLogger(__name__)
_MOST_BYTES = 4 << 20
_decode = msgspec.json.Decoder(State).decode


def read_state(path: Path) -> State:
    """What was kept; a fresh state where nothing was, or where the file is none of ours.

    Raises:
        Unavailable: the file cannot be read.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise msgspec.DecodeError("too long")
        return _decode(path.read_bytes())
    except FileNotFoundError:
        return State()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("alerts=begun_anew file=%s reason=%r", path.name, str(error)[:200])
        try:
            path.replace(path.with_suffix(".broken"))
        except OSError as kept:
            raise _unreachable(path, kept) from kept
        return State()
    except OSError as error:
        raise _unreachable(path, error) from error


def write_state(path: Path, state: State) -> None:
    """Keep it: the old file or the new one is there, whatever happens.

    Raises:
        Unavailable: it cannot be written.
    """
    try:
        replace_file(path, msgspec.json.encode(state))
    except OSError as error:
        raise _unreachable(path, error) from error


def _unreachable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(
        "keep alerts", str(path), error.strerror or str(error), "the data directory must be writable and have room"
    )
