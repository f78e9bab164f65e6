"""How events leave: the syncers of the three streams, the command feed, and the feed for those who pull.

Composition only: it turns `[platform]` and `[feed]` into objects of the sync room and hands them the journal, the inlet
and the clock. Knows no wire.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Protocol

import uvicorn
from starlette.applications import Starlette

from config.loader import resolve_secret
from config.settings import FeedSettings, PlatformSettings, Settings
from gateway import event_types as types
from gateway.clock import Clock
from gateway.errors import ConfigError, Unavailable
from gateway.event import STREAMS, Draft, Origin, Stream, draft
from gateway.intake.inlet import Inlet, Item
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.quarantine import PayloadSeal
from gateway.runtime.worker import Worker
from sync.commands import Commands, PlaceFile
from sync.credentials import Bearer, ClientCertificate, ClientCredentials, Signature
from sync.feed import Feed, FeedToken, token_digest
from sync.feed_journal import JournalFeed, JournalOffsets
from sync.feed_routes import FeedRoutes
from sync.http_client import ClientOptions, Credentials, HttpClient
from sync.http_uplink import HttpUplink
from sync.ledger import JournalLedger
from sync.pacing import Precedence
from sync.syncer import Syncer, SyncOptions

_LANE = "sync"
_OFFER_S = 2.0


class Gateway(Protocol):
    """What delivery needs of `gateway.app.Gateway`."""

    settings: Settings
    origin: Origin
    clock: Clock
    inlet: Inlet
    commits: CommitLoop
    directory: Path
    journal_path: Path
    seal: PayloadSeal


class Delivery:
    """Makes the workers that deliver; made once, each worker may be made again and again."""

    def __init__(self, gateway: Gateway) -> None:
        """Check the settings.

        Raises:
            ConfigError: the platform's address or credentials cannot be used.
        """
        self._gateway = gateway
        self._settings = gateway.settings.platform
        self._options = _client_options(self._settings)
        self._options.check()
        self._precedence = Precedence(STREAMS)
        self._alarms = InletAlarms(gateway.origin, gateway.clock, gateway.inlet)
        self._rng = Random()  # noqa: S311 - waits, not secrets
        self._credentials = _credentials(self._settings, self._options, gateway.clock)

    def syncer(self, stream: Stream) -> Worker:
        """The worker that sends one stream.

        Raises:
            Unavailable: the journal is not open yet.
        """
        gateway, settings = self._gateway, self._settings
        if not gateway.commits.is_open:
            raise Unavailable("deliver", stream, "the journal is not open yet")
        name = gateway.settings.gateway.name
        ledger = JournalLedger(gateway.journal_path, gateway.commits, name, gateway.clock, gateway.seal.seal)
        uplink = HttpUplink(HttpClient(self._options, self._credentials), gateway.clock, settings.compression)
        options = SyncOptions(interval_s=settings.interval_s, boot_delay_s=settings.boot_delay_s)
        return Syncer(
            stream, ledger, uplink, gateway.clock, self._rng, gateway=name, alarms=self._alarms,
            precedence=self._precedence, options=options, open_ledger=ledger.open, close_ledger=ledger.close,
        )  # fmt: skip

    def commands(self) -> Worker:
        """The worker that asks for commands. No kind has a handler yet: each is answered with that."""
        gateway = self._gateway
        return Commands(
            HttpClient(self._options, self._credentials), gateway.settings.gateway.name, gateway.origin, {},
            lambda result: gateway.inlet.offer(_LANE, Item([result]), _OFFER_S),
            PlaceFile(gateway.directory / "commands.json"), gateway.clock, self._rng,
            boot_delay_s=self._settings.boot_delay_s,
        )  # fmt: skip


class InletAlarms:
    """The sync room's alarms as events: one when trouble begins, one when it is over."""

    def __init__(self, origin: Origin, clock: Clock, inlet: Inlet) -> None:
        """Store."""
        self._origin, self._clock, self._inlet = origin, clock, inlet
        self._up: set[str] = set()
        self._lock = threading.Lock()

    def raised(self, what: str, hint: str, *, critical: bool = False) -> None:
        """Something needs a hand."""
        with self._lock:
            if what in self._up:
                return
            severity = types.AlarmRaised(what=what, severity="critical" if critical else "warning", hint=hint or None)
            if self._inlet.offer(_LANE, Item([self._draft(severity)]), _OFFER_S):
                self._up.add(what)

    def cleared(self, what: str) -> None:
        """It is in order again."""
        with self._lock:
            if what in self._up and self._inlet.offer(_LANE, Item([self._draft(types.AlarmCleared(what=what))])):
                self._up.discard(what)

    def _draft(self, data: types.EventData) -> Draft:
        entry = types.type_of(data)
        return draft(entry.stream, entry.name, data, source=self._origin.source("sync"), at=self._clock.now())


class FeedServer:
    """Worker: serves the feed on a port of its own."""

    def __init__(self, gateway: Gateway) -> None:
        """Store."""
        self._gateway = gateway
        self._settings: FeedSettings = gateway.settings.feed
        self._source = JournalFeed(gateway.journal_path)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._failed = ""

    def open(self) -> None:
        """Open the journal and serve.

        Raises:
            Unavailable: the journal is not open yet.
            ConfigError: a consumer's token cannot be read.
        """
        gateway, settings = self._gateway, self._settings
        if not gateway.commits.is_open:
            raise Unavailable("serve feed", "journal", "it is not open yet")
        tokens = [
            FeedToken(
                consumer.name, token_digest(resolve_secret(consumer.token, f"feed.consumers.{consumer.name}.token")),
                tuple(consumer.streams), consumer.required,
            )
            for consumer in settings.consumers
        ]  # fmt: skip
        self._source.open()
        feed = Feed(
            self._source, JournalOffsets(gateway.commits, gateway.clock), _secret_file(gateway.directory), len(STREAMS)
        )
        app = Starlette(routes=FeedRoutes(feed, tokens).routes())
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, host=settings.host, port=settings.port, loop="asyncio", http="h11", ws="none", lifespan="off",
                log_config=None, access_log=False, server_header=False, proxy_headers=False, limit_concurrency=300,
                ssl_certfile=settings.cert_file or None, ssl_keyfile=settings.key_file or None,
                timeout_graceful_shutdown=1,
            )
        )  # fmt: skip
        self._thread = threading.Thread(target=self._serve, name="feed-http", daemon=True)
        self._thread.start()

    def step(self, stop: threading.Event) -> None:
        """Look after the server.

        Raises:
            Unavailable: it has ended; its port is taken, most likely.
        """
        if self._thread is not None and not self._thread.is_alive():
            address = f"{self._settings.host}:{self._settings.port}"
            raise Unavailable("serve feed", address, self._failed or "the server has ended", "is the port taken?")
        stop.wait(0.5)

    def close(self) -> None:
        """End the server, release the journal."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(3.0)
        self._source.close()

    def _serve(self) -> None:
        assert self._server is not None
        try:
            asyncio.run(self._server.serve())
        except SystemExit:  # uvicorn's way to say that it cannot listen
            self._failed = "it cannot listen there"


def _client_options(settings: PlatformSettings) -> ClientOptions:
    def path(name: str) -> Path | None:
        return Path(name).expanduser() if name else None

    return ClientOptions(
        url=settings.url, ca=path(settings.ca_file), certificate=path(settings.cert_file), key=path(settings.key_file),
        proxy=settings.proxy or None,
    )  # fmt: skip


def _credentials(settings: PlatformSettings, options: ClientOptions, clock: Clock) -> Credentials | None:
    """Who we are, by `platform.auth`. Secrets are read when they are used, so a rotated one needs no restart."""

    def bearer() -> Credentials:
        return Bearer(lambda: resolve_secret(settings.token, "platform.token"))

    def oauth2() -> Credentials:
        return ClientCredentials(
            HttpClient(options), settings.token_path, settings.client_id,
            lambda: resolve_secret(settings.client_secret, "platform.client_secret"), clock, scope=settings.scope,
        )  # fmt: skip

    def certificate() -> Credentials:
        assert options.certificate is not None  # the loader has asked for it
        return ClientCertificate(options.certificate)

    makers: dict[str, Callable[[], Credentials]] = {
        "bearer": bearer,
        "oauth2": oauth2,
        "certificate": certificate,
        "signature": lambda: _signature(settings, clock),
    }
    return makers[settings.auth]() if settings.auth in makers else None


def _signature(settings: PlatformSettings, clock: Clock) -> Credentials:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # only where it is used
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = resolve_secret(settings.signing_key, "platform.signing_key").encode()
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise ConfigError("read secret", "platform.signing_key", "it is no private key in PEM", str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            "read secret", "platform.signing_key", "it is no Ed25519 key", "openssl genpkey -algorithm ed25519"
        )
    return Signature(key, settings.signing_key_id or settings.url, clock)


def _secret_file(directory: Path) -> bytes:
    """The secret of the feed's cursors, made when first needed, readable by the gateway alone."""
    path = directory / "keys" / "feed.key"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:  # noqa: PTH123 - wraps the descriptor opened with the narrow mode
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
    return path.read_bytes()
