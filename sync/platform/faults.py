"""Scripted misbehaviour of the reference platform, for tests and demos: what the next requests get for an answer."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from random import Random
from typing import Any, Literal

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Kind = Literal["status", "lose_request", "lose_answer", "truncate", "slow", "garbage"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault. `path`: a regular expression that the request's path must contain; `times`: how often.

    `status`: answer at once with `status`, `headers` and `body`. `lose_request`: nothing is done. `lose_answer`: it is
    done, and nobody is told. `truncate`: the answer stops in the middle. `slow`: a byte every `delay_s`. `garbage`: 200
    with `body`.
    """

    kind: Kind
    path: str = "/events"
    times: int = 1
    status: int = 503
    headers: Mapping[str, str] = {}
    body: bytes = b""
    delay_s: float = 0.0


class FaultyLine:
    """ASGI middleware that plays a script of faults, then lets everything through."""

    def __init__(self, app: ASGIApp, script: tuple[Fault, ...] = (), *, loss: Mapping[Kind, float] | None = None,
                 rng: Random | None = None) -> None:  # fmt: skip
        """`script`: played in order; `loss`: afterwards, the share of requests that meet a fault of a kind."""
        self.app = app
        self._script = deque(fault for fault in script for _ in range(fault.times))
        self._loss = dict(loss or {})
        self._rng = rng or Random(1)  # noqa: S311 - a test's dice
        self.played = 0

    def add(self, *faults: Fault) -> None:
        """Put more faults at the end of the script."""
        self._script.extend(fault for fault in faults for _ in range(fault.times))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or spoil it."""
        fault = self._next(scope["path"]) if scope["type"] == "http" else None
        if fault is None:
            await self.app(scope, receive, send)
            return
        self.played += 1
        if fault.kind in ("status", "garbage"):
            await _drain(receive)
            await _answer(send, 200 if fault.kind == "garbage" else fault.status, fault.headers, fault.body)
        elif fault.kind == "lose_request":
            await _break(send)
        else:
            messages: list[Message] = []

            async def keep(message: Message) -> None:
                messages.append(message)

            await self.app(scope, receive, keep)
            if fault.kind == "lose_answer":
                await _break(send)
            else:
                await _mangle(send, messages, fault)

    def _next(self, path: str) -> Fault | None:
        if self._script and re.search(self._script[0].path, path):
            return self._script.popleft()
        if not self._script:
            dice = self._rng.random()
            for kind, share in self._loss.items():
                dice -= share
                if dice < 0:
                    if kind == "status":
                        status = self._rng.choice((429, 503))
                        return Fault(kind=kind, status=status, headers={"retry-after": "0"})
                    return Fault(kind=kind)
        return None


async def _drain(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass


async def _answer(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    fields: dict[str, Any] = {"content-length": str(len(body)), **headers}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), str(value).encode()) for name, value in fields.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def _break(send: Send) -> None:
    """Promise a body and never send it: the server closes the connection, and the client has no answer."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000000")]})


async def _mangle(send: Send, messages: list[Message], fault: Fault) -> None:
    body = b"".join(message.get("body", b"") for message in messages[1:])
    await send(messages[0])
    if fault.kind == "truncate":
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        return
    for index in range(len(body)):
        await send({"type": "http.response.body", "body": body[index : index + 1], "more_body": True})
        await asyncio.sleep(fault.delay_s)
    await send({"type": "http.response.body", "body": b""})
