"""How events leave: the syncers of the three streams, the command feed, and the feed for those who pull.

Composition only: it turns `[platform]` and `[feed]` into objects of the sync room and hands them the journal, the inlet
and the clock. Knows no wire.
"""

from __future__ import annotations

import threading
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import msgspec
from starlette.applications import Starlette

from config.loader import resolve_secret
from config.settings import FeedSettings, Settings
from gateway.access.accounts import Accounts
from gateway.access.server_tls import ServerTls
from gateway.clock import Clock, rfc3339_s
from gateway.errors import Unavailable
from gateway.event import STREAMS, Origin
from gateway.intake.inlet import Inlet
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.erasure import held
from gateway.journal.quarantine import PayloadSeal
from gateway.journal.reader import JournalReader
from gateway.platform_commands.handlers import handlers
from gateway.runtime.worker import Factory, Worker
from gateway.shopper.consent import Consents
from gateway.shopper.coupons import CouponDesk
from gateway.shopper.key_file import load_or_make
from gateway.shopper.key_ring import KeyRing
from gateway.shopper.platform_consents import ConsentDesk
from gateway.shopper.subjects import ShopperSubjects
from gateway.shopper.visit_book import VisitDesk
from gateway.status.connection import Limits
from gateway.status.http_server import LOOK_AFTER_S, HttpServer
from sync.alarms import EventAlarms, committing, offering
from sync.assembly import PATIENCE_S, Link, platform_options
from sync.enrolment import Identity
from sync.epcis import exporter
from sync.event_log import event_log
from sync.feed import Feed, FeedToken, token_digest
from sync.feed_journal import JournalFeed, JournalOffsets
from sync.feed_routes import FeedRoutes

_FEED_EACH = 100  # connections of one consumer's address
_FEED_MOST = 300

__all__ = ["PATIENCE_S", "FeedServer", "Gateway", "link", "workers"]


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
    coupons: CouponDesk | None
    subjects: ShopperSubjects
    key_ring: KeyRing
    consents: Consents
    visits: VisitDesk | None
    accounts: Accounts

    def consent_desk(self) -> ConsentDesk:
        """See `gateway.app.Gateway`."""
        ...

    file: Path | None

    def check(self, settings: Settings) -> None:
        """See `gateway.app.Gateway`."""
        ...

    def ask_reload(self) -> None:
        """See `gateway.app.Gateway`."""
        ...


def link(gateway: Gateway) -> Link:
    """The way to the platform of `[platform]`.

    Raises:
        ConfigError: the address or the credentials cannot be used.
    """
    platform = gateway.settings.platform
    options = platform_options(
        {
            "auth": platform.auth, "token_url": platform.token_url, "client_id": platform.client_id,
            "scope": platform.scope, "certificate": platform.cert_file, "key": platform.key_file,
            "key_id": platform.key_id, "proxy": platform.proxy, "coding": platform.coding,
            "interval_s": platform.interval_s, "boot_delay_s": platform.boot_delay_s, "commands": platform.commands,
        }
    )  # fmt: skip
    return Link(
        platform.url, lambda: resolve_secret(platform.token, "platform.token"), options,
        ca=Path(platform.ca_file) if platform.ca_file else None, journal=gateway.journal_path, writer=gateway.commits,
        origin=gateway.origin, clock=gateway.clock,
        alarms=EventAlarms(offering(gateway.inlet), gateway.origin, gateway.clock), seal=gateway.seal.seal,
        rates=gateway.directory / "rates.json",
        log=event_log(platform.log, gateway.origin) if platform.log.kind else None,
    )  # fmt: skip


def workers(gateway: Gateway, way: Link) -> dict[str, Factory]:
    """Everything that talks to the platform, by its name for the supervisor; each wants `PATIENCE_S`."""
    made = {name: _once_open(gateway, factory) for name, factory in way.factories().items()}
    if not gateway.settings.platform.url:
        return made
    made["heartbeat-post"] = way.heartbeat(lambda: _beat(gateway))
    if gateway.settings.platform.commands:
        place = gateway.directory / "commands.json"
        made["commands"] = _once_open(gateway, way.commands(place, handlers(gateway), committing(gateway.inlet)))
    identity = Identity(gateway.directory.absolute() / "keys")
    if Path(gateway.settings.platform.cert_file).absolute() == identity.certificate:  # got by `storefront enrol`
        made["certificate"] = way.renewal(identity)
    return made


def _once_open(gateway: Gateway, factory: Factory) -> Factory:
    """A factory that waits for the journal."""

    def make() -> Worker:
        _readable(gateway, "deliver")
        return factory()

    return make


def _readable(gateway: Gateway, operation: str) -> None:
    """Nobody outside reads the journal before it is open, nor while it holds what was erased before.

    Raises:
        Unavailable: not yet.
    """
    if not gateway.commits.is_open:
        raise Unavailable(operation, "journal", "it is not open yet")
    with JournalReader(gateway.journal_path) as reader:
        if reader.look(held):
            raise Unavailable(operation, "journal", "a person who was erased is being erased once more")


def _beat(gateway: Gateway) -> bytes:
    with JournalReader(gateway.journal_path) as reader:
        streams = {state.stream: state for state in reader.states()}
    now = gateway.clock.now()
    key_id, public = gateway.key_ring.own_public()  # the platform seals persons in commands to it
    return msgspec.json.encode(
        {"version": version("storefront-gateway"), "clock": now.quality, "sent_at": rfc3339_s(now.wall_s),
         "seal_key": {"id": key_id, "public_key": public}, "time_zone": gateway.settings.gateway.time_zone,
         "streams": streams}
    )  # fmt: skip


class FeedServer:
    """Worker: serves the feed on a port of its own."""

    def __init__(self, gateway: Gateway) -> None:
        """Store."""
        self._gateway = gateway
        self._settings: FeedSettings = gateway.settings.feed
        self._source = JournalFeed(gateway.journal_path)
        tls = ServerTls(
            "feed", self._settings.host, (), (self._settings.cert_file, self._settings.key_file), gateway.directory,
            gateway.settings.gateway.store, gateway.clock,
        )  # fmt: skip
        self._server = HttpServer(
            "feed", self._settings.host, self._settings.port, tls, Limits(each=_FEED_EACH), most=_FEED_MOST
        )

    def open(self) -> None:
        """Open the journal and serve.

        Raises:
            Unavailable: the journal is not open yet, or must not be read yet; the port is taken.
            ConfigError: a consumer's token cannot be read.
        """
        gateway, settings = self._gateway, self._settings
        _readable(gateway, "serve feed")
        tokens = [
            FeedToken(
                consumer.name, token_digest(resolve_secret(consumer.token, f"feed.consumers.{consumer.name}.token")),
                tuple(consumer.streams), consumer.required,
            )
            for consumer in settings.consumers
        ]  # fmt: skip
        self._source.open()
        feed = Feed(
            self._source,
            JournalOffsets(gateway.commits, gateway.clock),
            load_or_make(gateway.directory / "keys" / "feed.key"),
            len(STREAMS),
        )
        exports = {"epcis": exporter(gateway.settings.gateway.time_zone, gateway.clock)}
        self._server.open(Starlette(routes=FeedRoutes(feed, tokens, exports=exports).routes()))

    def step(self, stop: threading.Event) -> None:
        """Look after the server.

        Raises:
            Unavailable: it has ended.
        """
        self._server.look_after()
        stop.wait(LOOK_AFTER_S)

    def close(self) -> None:
        """End the server, release the journal."""
        self._server.close()
        self._source.close()
