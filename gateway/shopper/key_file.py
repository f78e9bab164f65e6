"""A secret of this machine in a file of its own: 32 random bytes, mode 0600, whole or not there at all.

In no backup, never on the wire. Knows what none of them is for.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from gateway.durable_file import create_file
from gateway.errors import Unavailable

_BYTES = 32


def load_or_make(path: Path) -> bytes:
    """The secret, made when it is not there yet.

    A file of another length is set aside as `….damaged` and made anew: what hung on it is lost, as after a wipe.

    Raises:
        Unavailable: it can neither be read nor made.
    """
    try:
        if path.exists():
            key = path.read_bytes()
            if len(key) == _BYTES:
                return key
            path.replace(path.with_name(path.name + ".damaged"))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        create_file(path, secrets.token_bytes(_BYTES))  # when another process was first, its key is the key
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(
            "use key", path.name, error.strerror or type(error).__name__,
            "the data directory must be writable and have room",
        ) from error  # fmt: skip
