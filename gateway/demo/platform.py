"""The platform of a demo: the reference platform on loopback, a line to it that can be cut, and what it has at the end.

It lives on a thread of the demo's own process, so a gateway that is killed does not take it along, and nothing of it
outlives the demo. Its port is bound before anything of it is loaded: a gateway that is faster waits for the answer.
Knows the platform's room and the journal's reader; no device and no fault's rhythm.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.demo.books import Line
from gateway.errors import JournalError, Unavailable
from gateway.event import STREAMS, Stream
from gateway.journal.reader import UPLINK, JournalReader, StreamState
from gateway.redaction import is_redacted

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp, Receive, Scope, Send

    from sync.platform.profiles import Profiles

_STOP_S: Final = 5.0
_PAGE: Final = 500
_UNTOLD: Final = 3 * 500  # events of an earlier run that the platform may hold unknown to the journal: a batch a stream
_URL_SAFE: Final = str.maketrans("+/", "-_")
_ANSWERS_LOST: Final = 0.3  # of the requests on a cut line this share arrives, and only the answer is lost


class Place(msgspec.Struct, frozen=True):
    """Where delivery stood when the demo began: the journal's cursors, and the platform's newest event."""

    cursors: dict[Stream, int]
    states: dict[Stream, StreamState]  # empty without a journal
    held: int


class CutLine:
    """ASGI middleware: lets everything through, or, while `cut`, no request and its answer."""

    def __init__(self, app: ASGIApp) -> None:
        """Store."""
        from sync.platform.faults import FaultyLine

        dice = Random(1)  # noqa: S311 - which of the two is lost
        loss = {"lose_answer": _ANSWERS_LOST, "lose_request": 1.0 - _ANSWERS_LOST}
        self._whole = app
        self._broken = FaultyLine(app, loss=loss, rng=dice)  # type: ignore[arg-type]
        self.cut = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or lose it."""
        await (self._broken if self.cut and scope["type"] == "http" else self._whole)(scope, receive, send)


class DemoPlatform:
    """`open` once, `cut` and `mend` as often as wanted, `close` once. One thread uses it."""

    def __init__(self, database: Path) -> None:
        """`database`: its SQLite file, kept from demo to demo."""
        self.database = database
        self.port = 0
        self._socket: socket.socket | None = None
        self._line: CutLine | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._profiles: Profiles | None = None
        self._cut = self._closing = False
        self.seal_key = self.issuer_key = ("", "")  # id and public key, once open; for the gateway's configuration

    def open(self) -> None:
        """Make its keys, listen on a free port and begin to load; answers follow in a second or so.

        Raises:
            Unavailable: there is no loopback, or the keys can be neither read nor made.
        """
        from sync.platform.platform_keys import keys_beside

        keys = keys_beside(self.database)
        self.seal_key = keys.seal_id, keys.seal_public
        self.issuer_key = keys.issuer.id, keys.issuer_public.translate(_URL_SAFE)
        try:
            self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        except OSError as error:
            raise Unavailable("start platform", "127.0.0.1", error.strerror or str(error)) from error
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="demo-platform", daemon=True)
        self._thread.start()

    @property
    def profiles(self) -> Profiles | None:
        """Its persons, once it serves."""
        return self._profiles if self._server is not None and self._server.started else None

    @property
    def broken(self) -> bool:
        """True when it has ended by itself."""
        return self._thread is not None and not self._closing and not self._thread.is_alive()

    def cut(self) -> None:
        """Let no request and its answer through any more."""
        self._cut = True
        if self._line is not None:
            self._line.cut = True

    def mend(self) -> None:
        """The line is whole again."""
        self._cut = False
        if self._line is not None:
            self._line.cut = False

    def close(self) -> None:
        """End it. May be called again, and before `open`."""
        self._closing = True
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_STOP_S)
        if self._socket is not None:
            self._socket.close()

    def _serve(self) -> None:
        import uvicorn  # loaded here: the shop and the gateway start meanwhile

        from sync.platform.app import platform_app

        app = platform_app(self.database, profiles=True)
        self._profiles = app.state.profiles
        self._line = CutLine(app)
        self._line.cut = self._cut
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._line, loop="asyncio", http="h11", ws="none", log_config=None, log_level="critical",
                access_log=False, server_header=False, timeout_graceful_shutdown=1,
            )
        )  # fmt: skip
        if not self._closing and self._socket is not None:
            asyncio.run(self._server.serve([self._socket]))


def place(journal: Path, database: Path) -> Place:
    """Where delivery stands now, before a demo begins."""
    cursors, states = dict.fromkeys(STREAMS, 0), {}
    if journal.exists():
        try:
            with JournalReader(journal) as reader:
                cursors, states = _cursors(reader), {state.stream: state for state in reader.states()}
        except JournalError:  # begun and not migrated, or damaged: the gateway will see to it
            cursors, states = dict.fromkeys(STREAMS, 0), {}
    return Place(cursors, states, _newest(database))


def waiting(journal: Path) -> int:
    """How many events of all streams have yet to be delivered.

    Raises:
        JournalError: the journal cannot be read.
    """
    with JournalReader(journal) as reader:
        return sum(state.pending for state in reader.states())


def delivered(journal: Path, database: Path, since: Place) -> Line:
    """What the platform holds beside what the journal calls acked, event by event, since `since`; neither must run.

    Missing: acked, but neither held with the same bytes nor refused by the platform. Extra: held twice, or never
    written. An event may be held and not acked: its answer was lost on the cut line. Of events that the journal has
    let go since, being delivered, only the number is compared.

    Raises:
        JournalError: the journal or the platform's database cannot be read.
    """
    acked = held = missing = extra = pending = 0
    apart: list[str] = []
    with JournalReader(journal) as reader:
        ends = _cursors(reader)
        for stream in STREAMS:
            before, state = since.states.get(stream), reader.state(stream)
            theirs, known = _bodies(database, stream, since.held)
            gone = max(0, (state.oldest or ends[stream] + 1) - 1 - since.cursors[stream])
            gone = max(0, gone - (state.expired - before.expired if before else state.expired))
            here = lost = twice = 0
            after = since.cursors[stream]
            while batch := reader.read(stream, after):
                after = batch[-1].position
                for event in batch:
                    times = theirs.pop(_digest(event.json), 0)
                    held += times
                    twice += max(0, times - 1)
                    if event.position <= ends[stream]:
                        here += 1
                        lost += times == 0
            left = sum(times for digest, times in theirs.items() if digest not in known)
            refused = state.quarantined - (before.quarantined if before else 0)
            lost = max(0, lost + max(0, gone - left) - refused)
            twice += max(0, left - gone)
            if lost or twice:
                apart.append(f"{stream}: {lost} missing, {twice} too many")
            acked, held, pending = acked + here + gone - refused, held + left, pending + state.pending
            missing, extra = missing + lost, extra + twice
    note = ["; ".join(apart) or "each once, the same bytes"]
    if pending:
        note.append(f"{pending:,} still wait here")
    if held > acked:
        note.append(f"{held - acked:,} more arrived, but their answer was lost")
    return Line("deliveries", held, acked, missing, extra, "; ".join(note), ("platform", "acked"))


def _cursors(reader: JournalReader) -> dict[Stream, int]:
    rows = reader.query("SELECT stream, position FROM cursor WHERE name = ?", (UPLINK,))
    return dict.fromkeys(STREAMS, 0) | {row["stream"]: int(row["position"]) for row in rows}


def _newest(database: Path) -> int:
    from sync.platform.store import PlatformStore

    if not database.exists():
        return 0
    store = PlatformStore(database)
    store.open()
    try:
        return store.bounds()[1]
    finally:
        store.close()


def _bodies(database: Path, stream: Stream, held: int) -> tuple[Counter[bytes], set[bytes]]:
    """How often each event of a stream is there by its digest, and those that were there before."""
    from sync.platform.store import PlatformStore

    found: Counter[bytes] = Counter()
    known: set[bytes] = set()
    store, after = PlatformStore(database), max(0, held - _UNTOLD)
    store.open()
    try:
        while rows := store.events(after, _PAGE, (stream,)):
            after = rows[-1][0]
            found.update(_digest(body) for _, body in rows)
            known.update(_digest(body) for position, body in rows if position <= held)
    finally:
        store.close()
    return found, known


def _digest(body: bytes) -> bytes:
    """Names an event by its bytes; one that was redacted by its id, for each side redacts for itself."""
    if is_redacted(body):
        body = b"redacted " + msgspec.json.decode(body, type=_Named).id.encode()
    return hashlib.sha256(body).digest()[:16]


class _Named(msgspec.Struct):
    id: str
