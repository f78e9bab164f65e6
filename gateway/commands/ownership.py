"""Root works on the journal as its owner: what root leaves in the data directory would stop the gateway."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from gateway.errors import Unavailable


def become_owner(directory: Path) -> None:
    """Give up root for the user whom the data directory belongs to; nothing happens for anybody else.

    Raises:
        Unavailable: the system does not let us.
    """
    if os.geteuid() != 0 or not directory.exists():
        return
    owner = directory.stat()
    if owner.st_uid == 0:
        return
    with _acting_for(directory):
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


@contextlib.contextmanager
def as_owner(directory: Path) -> Iterator[None]:
    """Root writes something in the data directory as its owner, and is root again; nothing happens for anybody else.

    Raises:
        Unavailable: the system does not let us.
    """
    owner = directory.stat() if os.geteuid() == 0 and directory.exists() else None
    if owner is None or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    with _acting_for(directory):
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


@contextlib.contextmanager
def _acting_for(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            "act for the gateway's user", str(directory), error.strerror or str(error),
            "run the command as that user: sudo -u storefront storefront …",
        ) from error  # fmt: skip
