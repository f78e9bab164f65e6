"""The gateway's many lives: a process that has imported it once and forks a running `Gateway` for each life.

A start of the whole program costs half a second of imports, a fork a few milliseconds: that is what makes hundreds of
kills affordable. The process (`python -m tests.faults.lives CONFIG BROKER_PORT`) obeys lines on its standard input and
answers on its standard output:

    start CHEAT POINT  →  started PID, and later, from the child, `first` (its first commit); `-` for none
    reap               →  ended STATUS

`Lives` is the other end.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.patience import PATIENCE_S


class Lives:
    """Starts lives, and ends them as a power supply or systemd would."""

    def __init__(self, config: Path, broker_port: int, log: Path, environment: dict[str, str] | None = None) -> None:
        """`broker_port`: of an embedded broker that stands outside the lives; 0: what the configuration says."""
        self._command = [sys.executable, "-m", "tests.faults.lives", str(config), str(broker_port)]
        self._environment = {**os.environ, **(environment or {})}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self.pid = 0

    def __enter__(self) -> Lives:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=self._environment,
                cwd=Path(__file__).parents[2],
            )  # fmt: skip
        self._expect("ready", PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        if self.pid:
            self.kill()
        process.stdin.close()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait(30)
            process.stdout.close()

    def start(self, cheat: str = "", point: str = "") -> None:
        """Fork a life that cheats, or dies at a certain point, or neither (see `cheats`)."""
        self._tell(f"start {cheat or '-'} {point or '-'}")
        self.pid = int(self._expect("started", PATIENCE_S))

    def committed(self, timeout_s: float) -> bool:
        """Wait for the first commit of this life; False when it does not come."""
        try:
            self._expect("first", timeout_s)
        except TimeoutError:
            return False
        return True

    def gone(self, timeout_s: float) -> bool:
        """Wait for the life to end by itself; it still has to be reaped."""
        until_s = time.monotonic() + timeout_s
        stat = Path(f"/proc/{self.pid}/stat")
        while time.monotonic() < until_s:
            if stat.read_text().rpartition(") ")[2][:1] == "Z":
                return True
            time.sleep(0.005)
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send the life a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> int:
        """kill -9; returns how the life ended (negative: by that signal)."""
        self.signal(signal.SIGKILL)
        return self.reap()

    def reap(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for the end of the life; returns its exit code, negative for a signal."""
        self._tell("reap")
        status = int(self._expect("ended", timeout_s))
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def _tell(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _expect(self, word: str, timeout_s: float) -> str:
        """The rest of the next line that begins with `word`; other lines (a late `first`) are passed over."""
        assert self._process is not None and self._process.stdout is not None
        until_s = time.monotonic() + timeout_s
        while True:
            while b"\n" in self._rest:
                line, _, self._rest = self._rest.partition(b"\n")
                first, _, rest = line.decode().partition(" ")
                if first == word:
                    return rest
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not select.select([self._process.stdout], [], [], left_s)[0]:
                raise TimeoutError(f"no `{word}` within {timeout_s} s")
            data = os.read(self._process.stdout.fileno(), 4096)
            if not data:
                raise TimeoutError(f"ended before `{word}`")
            self._rest += data


class StandingBroker:
    """An embedded broker that somebody else keeps: it neither starts nor stops with a life."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.instance = b""

    def open(self) -> None:
        """It runs."""

    def revive(self) -> bool:
        """It never dies."""
        return False

    def close(self) -> None:
        """It stays."""


def _live(config: Path, broker_port: int, cheat: str, point: str) -> int:
    """One life, in the child."""
    from config.loader import load
    from gateway.app import Gateway
    from gateway.errors import StorefrontError
    from tests.faults.cheats import CHEATS, crash_at

    gateway = Gateway(load(config), config)
    if broker_port:
        gateway.broker.embedded = StandingBroker(broker_port)  # type: ignore[assignment]
    if cheat != "-":
        CHEATS[cheat].build(gateway)
    if point != "-":
        crash_at(gateway, point)
    said = threading.Thread(target=_tell_first, args=(gateway.commits,), daemon=True)
    said.start()
    try:
        gateway.run(threading.Event(), threading.Event())
    except StorefrontError as error:
        logging.getLogger("life").error("%s", error)
        return 74
    return 0


def _tell_first(commits: object) -> None:
    from gateway.journal.commit_loop import CommitLoop

    assert isinstance(commits, CommitLoop)
    while not commits.news.after(0, 1.0, threading.Event()):
        pass
    os.write(1, b"first\n")


def main() -> None:
    """Obey until standard input ends."""
    config, broker_port = Path(sys.argv[1]), int(sys.argv[2])
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(process)d %(relativeCreated)d %(message)s")
    # What a life imports, so that no life has to; a fork must not find a thread, and none is started here.
    import tests.faults.cheats  # noqa: F401 - brings the whole gateway with it

    gc.freeze()
    child = 0
    os.write(1, b"ready\n")
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "start":
            child = os.fork()
            if child == 0:
                code = 70
                try:
                    code = _live(config, broker_port, *rest.split())
                finally:
                    logging.shutdown()
                    os._exit(code)
            os.write(1, f"started {child}\n".encode())
        elif word == "reap":
            os.write(1, f"ended {os.waitpid(child, 0)[1]}\n".encode())


if __name__ == "__main__":
    main()
