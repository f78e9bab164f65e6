"""Puts the way to the platform together from its configuration: credentials, syncers, commands, heartbeat.

The composition root calls it; nothing else does. Gives factories, since a worker that died is replaced by a fresh
object; what must outlive an object (counters, precedence, credentials, alarms) is made once, here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, Literal

import msgspec

from gateway.clock import Clock
from gateway.errors import ConfigError, Rejected
from gateway.event import STREAMS, Origin, Stream
from gateway.runtime.worker import Factory, Worker
from sync.commands import Command, Commands, Handler, PlaceFile
from sync.credentials import Bearer, ClientCertificate, ClientCredentials, Secret, Signature
from sync.enrolment import Identity, Renewal
from sync.heartbeat import Beats
from sync.http_client import ClientOptions, Credentials, HttpClient
from sync.http_uplink import Coding, HttpUplink
from sync.ledger import JournalLedger, Submits
from sync.pacing import BOOT_DELAY_S, Precedence
from sync.ports import Alarms, Emit
from sync.rates import Rates
from sync.syncer import SyncCounters, Syncer, SyncOptions, SyncState
from sync.uplink import Uplink

PATIENCE_S = 150.0
"""How long one step may take before the supervisor may call the worker stuck: two exchanges and a journal's answer."""


LAST_WORD_S = 0.9
"""How long delivery may go on once the gateway is asked to stop: what was just taken in should still go out."""


class PlatformOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[platform] options`: everything beside address, token and CA.

    `auth`: how to prove who we are; `token` of the table is the bearer token, the OAuth2 client secret, or the signing
    key itself (PEM), as the method needs. `token_url` and `client_id`: OAuth2. `certificate`, `key`: PEM files for
    mTLS. `key_id`: what the platform knows the signing key by; the gateway's name if empty.
    """

    auth: Literal["bearer", "oauth2", "mtls", "signature", "none"] = "bearer"
    token_url: str = ""
    client_id: str = ""
    scope: str = ""
    audience: str = ""
    certificate: str = ""
    key: str = ""
    key_id: str = ""
    proxy: str = ""
    coding: Coding = "gzip"
    interval_s: float = 2.0
    max_events: int = 2000
    max_bytes: int = 1 << 20
    boot_delay_s: float = BOOT_DELAY_S
    connect_s: float = 5.0
    read_s: float = 20.0
    total_s: float = 60.0
    poll_s: float = 25.0
    commands: bool = True


def platform_options(table: Mapping[str, Any]) -> PlatformOptions:
    """The options of a configuration table.

    Raises:
        ConfigError: an option is unknown or of the wrong type or size.
    """
    try:
        options = msgspec.convert(table, PlatformOptions)
    except msgspec.ValidationError as error:
        raise ConfigError("configure platform", "[platform] options", str(error), "see docs/sync.md") from error
    for name, least, most in (
        ("interval_s", 0.1, 3600.0), ("max_events", 1, 10_000), ("max_bytes", 1024, 16 << 20),
        ("boot_delay_s", 0.0, 3600.0), ("connect_s", 0.1, 60.0), ("read_s", 0.1, 300.0), ("total_s", 1.0, 600.0),
        ("poll_s", 0.0, 60.0),
    ):  # fmt: skip
        if not least <= getattr(options, name) <= most:
            raise ConfigError("configure platform", name, f"must be between {least:g} and {most:g}")
    return options


class Link:
    """The way to one platform: its syncers and its commands, as factories for the supervisor."""

    def __init__(
        self, url: str, secret: Secret, options: PlatformOptions, *, ca: Path | None, journal: Path, writer: Submits,
        origin: Origin, clock: Clock, alarms: Alarms, seal: Callable[[bytes], bytes] = bytes,
        log: Callable[[], Uplink] | None = None, rates: Path | None = None,
    ) -> None:  # fmt: skip
        """Check and build what outlives a worker; nothing is opened or connected.

        Args:
            url: the platform's base address; "" where there is only a log.
            secret: reads the token of `[platform]` each time anew; see `PlatformOptions.auth`.
            options: see there.
            ca: PEM bundle used instead of the public one.
            journal: the database file.
            writer: the commit loop.
            origin: this gateway.
            clock: time.
            alarms: where trouble is told.
            seal: encrypts what goes to quarantine.
            log: makes a way into a distributed log that takes the events instead.
            rates: file that remembers what `stream.rate` asked for; None: in memory only.

        Raises:
            ConfigError: the address must not be used, or a file or an option that the method needs is missing.
        """
        self.counters: dict[Stream, SyncCounters] = {stream: SyncCounters() for stream in STREAMS}
        self._options = options
        self._journal = journal
        self._writer = writer
        self._origin = origin
        self._clock = clock
        self._alarms = alarms
        self._seal = seal
        self._log = log
        self._rates = Rates(rates)
        self._precedence = Precedence(STREAMS)
        self._present: dict[Stream, Syncer] = {}
        self._client_options = ClientOptions(
            url=url, connect_s=options.connect_s, read_s=options.read_s, total_s=options.total_s, ca=ca,
            certificate=Path(options.certificate) if options.certificate else None,
            key=Path(options.key) if options.key else None, proxy=options.proxy or None,
        )  # fmt: skip
        self._credentials: Credentials | None = None
        if url or log is None:
            self._client_options.check()
            self._credentials = self._prove(secret)

    def factories(self) -> dict[str, Factory]:
        """A worker for each stream, by its name for the supervisor; each wants `PATIENCE_S`."""
        return {f"sync.{stream}": self._factory(stream) for stream in STREAMS}

    def commands(self, place: Path, handlers: Mapping[str, Handler], emit: Emit) -> Factory:
        """The worker for commands.

        Args:
            place: file that remembers how far the feed has been carried out.
            handlers: by kind; `journal.replay` and `stream.rate` are added here.
            emit: must return True only when the event is durable (`sync.alarms.committing`).
        """
        known = {"journal.replay": self.replay, "stream.rate": self.rate, **handlers}

        def make() -> Worker:
            client = HttpClient(self._client_options, self._credentials)
            commands = Commands(
                client, self._origin.gateway, self._origin, known, emit, PlaceFile(place), self._clock, _dice(),
                poll_s=self._options.poll_s, boot_delay_s=self._options.boot_delay_s,
            )  # fmt: skip
            return _Ended(commands, client, 0.0)

        return make

    def heartbeat(self, say: Callable[[], bytes]) -> Factory:
        """The worker that tells the platform once a minute that we are there; `say` gives a JSON object."""

        def make() -> Worker:
            client = HttpClient(self._client_options, self._credentials)
            return _Ended(Beats(client, self._origin.gateway, say, self._clock, _dice()), client, LAST_WORD_S)

        return make

    def renewal(self, identity: Identity) -> Factory:
        """The worker that renews the certificate of `storefront enrol` before it ends."""
        plain = msgspec.structs.replace(self._client_options, certificate=None, key=None)  # an expired one would bar it
        return lambda: Renewal(HttpClient(plain), identity, self._origin.gateway, self._clock, _dice())

    def states(self) -> list[SyncState]:
        """How delivery of every stream is now; those whose worker has not been made yet are left out."""
        return [self._present[stream].state() for stream in STREAMS if stream in self._present]

    def replay(self, command: Command) -> Mapping[str, Any]:
        """`journal.replay {stream, from}`: send from this sequence number of the present epoch on again.

        Raises:
            Rejected: there is no such stream or number.
        """
        stream, first = command.data.get("stream"), command.data.get("from")
        syncer = self._present.get(stream) if stream in STREAMS else None
        if syncer is None or not isinstance(first, int) or isinstance(first, bool) or first < 1:
            raise Rejected("replay", str(stream)[:40], "needs a stream and a sequence number `from`, at least 1")
        ledger = self._ledger()
        ledger.open()
        try:
            view = ledger.view(syncer.stream)
        finally:
            ledger.close()
        after = view.epochs[-1].base + first - 1
        if after > view.head:
            raise Rejected("replay", syncer.stream, f"the newest number is {view.head - view.epochs[-1].base}")
        syncer.replay(after)
        return {"stream": syncer.stream, "events": max(0, view.cursor - after)}

    def rate(self, command: Command) -> Mapping[str, Any]:
        """`stream.rate {stream, events_per_s}`: deliver a stream no faster than this; null: as fast as it goes.

        Raises:
            Rejected: there is no such stream, or it is no rate.
            Unavailable: it cannot be kept.
        """
        self._rates.set(command.data)
        return dict(command.data)

    def _factory(self, stream: Stream) -> Factory:
        def make() -> Worker:
            options = self._options
            ledger = self._ledger()
            client = HttpClient(self._client_options, self._credentials)
            uplink = self._log() if self._log is not None else HttpUplink(client, self._clock, options.coding)
            syncer = Syncer(
                stream, ledger, uplink, self._clock, _dice(), gateway=self._origin.gateway, alarms=self._alarms,
                precedence=self._precedence, counters=self.counters[stream],
                options=SyncOptions(
                    interval_s=options.interval_s, max_events=options.max_events, max_bytes=options.max_bytes,
                    boot_delay_s=options.boot_delay_s,
                ),
                open_ledger=ledger.open, close_ledger=ledger.close, rate=lambda: self._rates.of(stream),
            )  # fmt: skip
            self._present[stream] = syncer
            return _Ended(syncer, client, LAST_WORD_S)

        return make

    def _ledger(self) -> JournalLedger:
        return JournalLedger(self._journal, self._writer, self._origin.gateway, self._clock, self._seal)

    def _prove(self, secret: Secret) -> Credentials | None:
        options = self._options
        match options.auth:
            case "none":
                return None
            case "bearer":
                return Bearer(secret)
            case "mtls":
                if not options.certificate:
                    raise ConfigError("configure platform", "certificate", "mTLS needs one", "a PEM file, with `key`")
                return ClientCertificate(Path(options.certificate))
            case "oauth2":
                base, _, path = options.token_url.partition("://")
                host, slash, rest = path.partition("/")
                if not (host and options.client_id):
                    raise ConfigError("configure platform", "token_url", "OAuth2 needs token_url and client_id")
                server = msgspec.structs.replace(self._client_options, url=f"{base}://{host}")
                server.check()
                return ClientCredentials(
                    HttpClient(server), slash + rest or "/", options.client_id, secret, self._clock,
                    scope=options.scope, audience=options.audience,
                )  # fmt: skip
            case "signature":
                return Signature(_signing_key(secret()), options.key_id or self._origin.gateway, self._clock)


class _Ended:
    """A worker whose exchanges end soon after it is asked to stop, the long poll at once."""

    def __init__(self, worker: Worker, client: HttpClient, grace_s: float) -> None:
        self._worker = worker
        self._client = client
        self._grace_s = grace_s

    def open(self) -> None:
        self._worker.open()

    def step(self, stop: threading.Event) -> None:
        self._client.end_with(stop, self._grace_s)
        self._worker.step(stop)

    def close(self) -> None:
        self._worker.close()


def _signing_key(pem: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            "configure platform", "token", "is no private key in PEM form", "make an Ed25519 key"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("configure platform", "token", "the signing key is not Ed25519", "make an Ed25519 key")
    return key


def _dice() -> Random:
    return Random()  # noqa: S311 - spreads waits; nothing depends on nobody guessing it
