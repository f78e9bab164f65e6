"""The uplink straight into NATS JetStream: for fleets whose platform stands on an existing log (extra `[nats]`).

Each stream of a store is one subject, `ev.{tenant}.{store}.{stream}`. Every message names the sequence that must be the
subject's last (`Nats-Expected-Last-Subject-Sequence`), so a repeated one is refused whatever time has passed; the
duplicate window of `Nats-Msg-Id` alone forgets. What the log has is read from its last message, which carries the
event's id. One gateway writes to a subject.

*Source*: docs/sync.md; NATS JetStream, "Message deduplication" and "Headers"; error 10071 (wrong last sequence).
"""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from gateway.errors import ConfigError
from gateway.event import Stream, event_id
from sync.uplink import Batch, BatchResult, EpochReason, Lane

T = TypeVar("T")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WRONG_LAST = 10071
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_ID = "Nats-Msg-Id"
_GAP = ".gap"
_NOT_A_TOKEN = re.compile(r"[^A-Za-z0-9_-]")


class NatsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`servers`: nats:// or tls:// addresses. `log`: the JetStream stream; made for `ev.>` when it is not there.

    `credentials`: path of a .creds file. `ca`, `certificate`, `key`: PEM files. `timeout_s`: of one acknowledgement.
    """

    servers: tuple[str, ...]
    tenant: str
    store: str
    log: str = "EVENTS"
    credentials: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    timeout_s: float = 5.0

    def check(self) -> None:
        """Refuse what must not be used.

        Raises:
            ConfigError: no server, an address of another kind, or an open connection to another machine.
        """
        if not self.servers:
            raise ConfigError("configure sync", "nats servers", "there is none", "e.g. tls://nats.example:4222")
        for server in self.servers:
            parts = urlsplit(server)
            if parts.scheme not in ("nats", "tls") or not parts.hostname or parts.username or parts.password:
                raise ConfigError(
                    "configure sync", "nats servers", "not an address like tls://host:4222",
                    "without a user and password: those go into a .creds file",
                )  # fmt: skip
            if parts.scheme == "nats" and parts.hostname not in _LOOPBACK:
                raise ConfigError("configure sync", server, "an open connection to another machine", "use tls://")
        for path in (self.credentials, self.ca, self.certificate, self.key):
            if path and not Path(path).is_file():
                raise ConfigError("configure sync", path, "there is no such file")
        if self.certificate:
            self.tls()

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context; None where no server is asked for with TLS.

        Raises:
            ConfigError: a PEM file cannot be used.
        """
        if not any(server.startswith("tls:") for server in self.servers):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                "configure sync", "nats certificates", str(error)[:200], "PEM files are needed"
            ) from error
        return context


class NatsUplink:
    """`Uplink` into JetStream. One thread uses it; the client's own loop runs on a second one until `close`."""

    def __init__(self, options: NatsOptions) -> None:
        """Store.

        Raises:
            ConfigError: the extra is not installed, or the options cannot be used.
        """
        try:
            import nats  # noqa: F401 - only to say so at the start
        except ImportError as error:
            raise ConfigError(
                "configure sync", "nats", "nats-py is not installed", "pip install storefront-gateway[nats]"
            ) from error
        options.check()
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self._jetstream: Any = None
        self._last: dict[Stream, int] = {}  # the subject's last sequence, as far as we know

    def greet(self, lane: Lane, reason: EpochReason, previous: str | None) -> BatchResult:
        """How far the log has this lane, from the subject's last message."""
        return self._run(self._greet(lane), 1)

    def send(self, batch: Batch) -> BatchResult:
        """Publish the events one after the other; what was acknowledged is taken."""
        return self._run(self._send(batch), len(batch.events))

    def declare_gap(self, lane: Lane, first: int, last: int, reason: str) -> BatchResult:
        """A message without an event says that a range will not come."""
        return self._run(self._gap(lane, first, last, reason), 1)

    def close(self) -> None:
        """Disconnect and end the loop."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        future = asyncio.run_coroutine_threadsafe(self._end(), loop)
        try:
            future.result(self._options.timeout_s)
        except (FutureTimeout, OSError):
            future.cancel()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(self._options.timeout_s)
        loop.close()

    # -- inside

    def _run(self, work: Coroutine[Any, Any, BatchResult], steps: int) -> BatchResult:
        from nats.errors import Error

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="sync.nats", daemon=True)
            self._thread.start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(self._options.timeout_s * (2 + steps / 50))
        except (Error, OSError, TimeoutError, FutureTimeout) as error:
            future.cancel()
            self._last.clear()
            return BatchResult(outcome="retry", reason=f"NATS: {type(error).__name__}: {str(error)[:200]}")

    async def _end(self) -> None:
        """Close the connection and let everything that was given up come to its end."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self) -> Any:
        import nats
        from nats.js.errors import NotFoundError

        if self._connection is None or self._connection.is_closed:
            options = self._options

            async def quiet(error: Exception) -> None:
                """Failures are the answers of the calls that met them."""

            self._connection = await nats.connect(
                servers=list(options.servers), connect_timeout=max(1, int(options.timeout_s)), allow_reconnect=False,
                user_credentials=options.credentials or None, tls=options.tls(), error_cb=quiet,
                name="storefront-gateway",
            )  # fmt: skip
            self._jetstream = self._connection.jetstream(timeout=options.timeout_s)
            try:
                await self._jetstream.stream_info(options.log)
            except NotFoundError:
                await self._jetstream.add_stream(name=options.log, subjects=["ev.>"])
        return self._jetstream

    async def _greet(self, lane: Lane) -> BatchResult:
        there, seq = await self._look(lane)
        # A log that keeps nothing of this subject (its retention) cannot say; then the gateway's own cursor counts.
        return BatchResult(outcome="taken", acked_through=seq if there else -1)

    async def _look(self, lane: Lane) -> tuple[bool, int]:
        """Whether the subject has a last message, and its number if it is of this lane (else 0)."""
        from nats.js.errors import NotFoundError

        jetstream = await self._connected()
        try:
            message = await jetstream.get_last_msg(self._options.log, self._subject(lane.stream))
        except NotFoundError:
            self._last[lane.stream] = 0
            return False, 0
        self._last[lane.stream] = int(message.seq or 0)
        name = (message.headers or {}).get(_ID, "").removesuffix(_GAP)
        number = name[-16:]
        mine = (
            number.isascii()
            and number.isdigit()
            and name == event_id(lane.gateway, lane.stream, lane.epoch, int(number))
        )
        return True, int(number) if mine else 0

    async def _send(self, batch: Batch) -> BatchResult:
        from nats.errors import Error

        lane, done = batch.lane, batch.first - 1
        if lane.stream not in self._last:
            done = min(max(done, (await self._look(lane))[1]), batch.last)
        duplicates = done - batch.first + 1
        try:
            for seq in range(done + 1, batch.last + 1):
                if not await self._publish(
                    lane, event_id(lane.gateway, lane.stream, lane.epoch, seq), batch.events[seq - batch.first]
                ):
                    break
                done = seq
        except (Error, OSError, TimeoutError):
            self._last.pop(lane.stream, None)  # whether it was stored is found out at the next try
            if done < batch.first:
                raise
        if done < batch.first:
            return BatchResult(outcome="retry", reason="another writer uses this subject, or a message came twice")
        return BatchResult(outcome="taken", acked_through=done, duplicates=duplicates)

    async def _gap(self, lane: Lane, first: int, last: int, reason: str) -> BatchResult:
        there, seq = await self._look(lane)
        if there and seq >= last:
            return BatchResult(outcome="taken")
        name = event_id(lane.gateway, lane.stream, lane.epoch, last) + _GAP
        body = msgspec.json.encode({"gap": {"first": first, "last": last, "reason": reason}})
        taken = await self._publish(lane, name, body)
        return BatchResult(outcome="taken" if taken else "retry", reason="" if taken else "another writer")

    async def _publish(self, lane: Lane, name: str, body: bytes) -> bool:
        """Publish behind what is known to be last; False when something else was."""
        from nats.js.errors import APIError

        jetstream = await self._connected()
        headers = {_ID: name, _EXPECTED: str(self._last[lane.stream]), "content-type": "application/cloudevents+json"}
        try:
            stored = await jetstream.publish(
                self._subject(lane.stream), body, headers=headers, timeout=self._options.timeout_s
            )
        except APIError as error:
            if error.err_code != _WRONG_LAST:
                raise
            self._last.pop(lane.stream, None)
            return False
        self._last[lane.stream] = int(stored.seq)
        return True

    def _subject(self, stream: Stream) -> str:
        tenant, store = (_NOT_A_TOKEN.sub("_", part) for part in (self._options.tenant, self._options.store))
        return f"ev.{tenant}.{store}.{stream}"
