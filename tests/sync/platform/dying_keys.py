"""A platform that dies while it makes its keys, once before each thing it does to its files; run as a program.

    python -m tests.sync.platform.dying_keys DIRECTORY

Forks, so it must be a process of its own. Prints what happened as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from gateway.clock import FakeClock
from sync.platform.enrolments import Enrolments
from sync.platform.platform_keys import keys_beside
from sync.platform.store import PlatformStore

LENGTHS = {"seal.key": 32, "issuer.key": 32, "vault.key": 64}


def make(database: Path) -> tuple[str, str, bytes, bytes]:
    """Whatever is secret, made where it is not there: something of each."""
    keys = keys_beside(database)
    authority = Enrolments(PlatformStore(database), database.with_name("authority"), FakeClock()).authority()
    return keys.seal_public, keys.issuer_public, keys.vault.mark("member", "1"), authority.fingerprint(_sha256())


def _sha256() -> object:
    from cryptography.hazmat.primitives.hashes import SHA256

    return SHA256()


def _die_before(number: int, home: str) -> None:
    seen = 0

    def look(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in ("open", "os.link", "os.rename", "os.remove", "os.mkdir") and home in str(arguments[0]):
            seen += 1
            if seen > number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def main() -> None:
    """Every moment at which it can die, each in a directory of its own."""
    root = Path(sys.argv[1])
    deaths, wrong = 0, []
    for number in range(1000):
        home = root / f"death-{number}"
        home.mkdir()
        child = os.fork()
        if not child:
            _die_before(number, str(home))
            make(home / "platform.db")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        left = {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.suffix != ".new"}
        wrong += [
            f"{number}: {name} has {len(left[name])}"
            for name in LENGTHS
            if len(left.get(name, b"")) not in (0, LENGTHS[name])
        ]
        first = make(home / "platform.db")
        kept = {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.suffix != ".new"}
        wrong += [f"{number}: {name} was replaced" for name, content in left.items() if kept[name] != content]
        if make(home / "platform.db") != first:
            wrong.append(f"{number}: other keys at the next start")
        if not os.WIFSIGNALED(status):
            break
        deaths += 1
    print(json.dumps({"deaths": deaths, "wrong": wrong}))


if __name__ == "__main__":
    main()
