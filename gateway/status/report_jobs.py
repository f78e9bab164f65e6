"""Reports in the making: two at once, a few that wait, each a process that ends when nobody waits for it any more.

Lives on the loop of the page's server. Knows no request; what a report says is the reports' room.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from gateway.errors import Unavailable
from gateway.reports.making import Line, Order
from gateway.status.session import Busy

AT_ONCE = 2
WAITING = 4
LONGEST_S = 90.0
_TICK_S = 0.3
_MOST_BYTES = 32 << 20
_KEPT_S = 120.0
_KEPT = 4
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "VIRTUAL_ENV", "HOME", "TZDIR", "PYTHONTZPATH")
"""What the process sees of ours: no secret is passed on."""


class Made(msgspec.Struct, frozen=True):
    """A file. `empty`: nothing is known of that time, and the file says so."""

    name: str
    media_type: str
    content: bytes
    empty: bool


class ReportJobs:
    """One for a server; used on its loop's thread."""

    def __init__(self) -> None:
        """Nothing is in the making."""
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._asked = 0
        self._made: dict[str, tuple[str, float, Made]] = {}

    async def make(self, order: Order, gone: Callable[[], Awaitable[bool]]) -> AsyncIterator[float | Made]:
        """How much is done (0–1), again and again, and last the file; nothing more once `gone` says that nobody waits.

        Raises:
            Busy: too many are in the making.
            Unavailable: it failed or took too long.
        """
        if self._asked >= AT_ONCE + WAITING:
            raise Busy("make report", order.day, "too many reports are in the making", "try again in a minute")
        self._asked += 1
        try:
            yield 0.0
            while self._slots.locked():
                if await gone():
                    return
                await asyncio.sleep(_TICK_S)
            async with self._slots:
                async for step in _run(order, gone):
                    yield step
        finally:
            self._asked -= 1

    def keep(self, made: Made, owner: str) -> str:
        """Keep a file for a moment, for its owner; gives its token."""
        self._sweep()
        while len(self._made) >= _KEPT:
            del self._made[next(iter(self._made))]
        token = secrets.token_urlsafe(16)
        self._made[token] = owner, time.monotonic(), made
        return token

    def take(self, token: str, owner: str) -> Made | None:
        """The file, once; None when it is not there, or another's."""
        self._sweep()
        if token not in self._made or self._made[token][0] != owner:
            return None
        return self._made.pop(token)[2]

    def _sweep(self) -> None:
        old_s = time.monotonic() - _KEPT_S
        for token in [token for token, (_, at_s, _made) in self._made.items() if at_s < old_s]:
            del self._made[token]


async def _run(order: Order, gone: Callable[[], Awaitable[bool]]) -> AsyncIterator[float | Made]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.reports.making", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    until_s = time.monotonic() + LONGEST_S
    try:
        process.stdin.write(msgspec.json.encode(order))
        process.stdin.close()
        while (line := await _patient(process.stdout.readline(), until_s, gone)) is not None:
            try:
                told = msgspec.json.decode(line, type=Line)
            except msgspec.DecodeError:
                raise _failed(order, "it ended before it was ready") from None
            if told.error:
                raise _failed(order, told.error)
            if told.size_bytes < 0:
                yield told.done
                continue
            if told.size_bytes > _MOST_BYTES:
                raise _failed(order, "it is too large")
            content = await _patient(process.stdout.readexactly(told.size_bytes), until_s, gone)
            if content is not None:
                yield Made(told.name, told.media_type, content, told.empty)
            return
    except TimeoutError:
        raise _failed(order, "it takes too long") from None
    except (asyncio.IncompleteReadError, ConnectionError):
        raise _failed(order, "it ended before it was ready") from None
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.shield(process.wait())


async def _patient(reading: Awaitable[bytes], until_s: float, gone: Callable[[], Awaitable[bool]]) -> bytes | None:
    """What is read; None once nobody waits for it.

    Raises:
        TimeoutError: it did not come.
    """
    task = asyncio.ensure_future(reading)
    try:
        while not task.done():
            if time.monotonic() > until_s:
                raise TimeoutError
            if await gone():
                return None
            await asyncio.wait({task}, timeout=_TICK_S)
        return task.result()
    finally:
        task.cancel()


def _failed(order: Order, reason: str) -> Unavailable:
    return Unavailable("make report", order.day, reason, "try again in a moment")
