"""What lies across a socket: the broker, the platform, the page. Only the platform's door is knocked at."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from config.loader import resolve_secret
from devices.transports.broker import find_broker
from devices.transports.dial import why
from devices.transports.mqtt_settings import MqttSettings, Tls, broker_address
from gateway.access.accounts import Accounts
from gateway.access.server_tls import LOOPBACK
from gateway.clock import SystemClock
from gateway.commands.checks.finding import BROKER, PAGE, PLATFORM, Finding, fine, note, problem, warning
from gateway.commands.checks.mqtt_probe import visit
from gateway.commands.checks.scene import Scene
from gateway.errors import ConfigError, Unavailable

_PATIENCE_S = 4.0
_EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not bound to


def broker(scene: Scene) -> list[Finding]:
    """Reachable, credentials accepted, topics granted."""
    settings = scene.settings.broker
    topics = tuple(dict.fromkeys(topic for plan in scene.plans for topic in plan.topics))
    if settings.mode == "none" or not topics:
        if topics:
            return [
                problem("broker", BROKER, "Devices need MQTT, but broker.mode is none.", 'set broker.mode = "embedded"')
            ]
        return []
    try:
        link = _embedded(scene, topics) if settings.mode == "embedded" else _external(scene, topics)
        if isinstance(link, Finding):
            return [link]
        tls = link.ssl_context()
    except ConfigError as error:
        return [
            problem("broker", BROKER, f"The broker's settings are wrong: {error.subject}: {error.reason}.", error.hint)
        ]
    said = visit(link, tls, _PATIENCE_S)
    if not said.reached:
        return [
            problem("broker", BROKER, f"The broker at {link.address} does not answer: {said.trouble}.", _wake(scene))
        ]
    if not said.accepted:
        what = "check broker.username and broker.password, and the user at the broker (mosquitto_passwd)"
        return [
            problem(
                "broker", BROKER, f"The broker at {link.address} refuses: {said.trouble}.",
                what if said.credentials else _wake(scene),
            )
        ]  # fmt: skip
    if said.trouble or said.refused:
        trouble = said.trouble or f"it does not grant {', '.join(said.refused)}"
        return [
            problem(
                "broker",
                BROKER,
                f"The broker at {link.address}: {trouble}.",
                "correct the broker's access list (mosquitto.acl)",
            )
        ]
    return [fine("broker", f"{link.address} takes us and {len(topics)} topics")]


def _embedded(scene: Scene, topics: tuple[str, ...]) -> MqttSettings | Finding:
    port = scene.settings.broker.port or _chosen_port(scene.directory)
    try:
        find_broker()
    except Unavailable as error:
        return problem("broker", BROKER, f"There is no embedded broker here: {error.reason}.", error.hint)
    if not scene.running:
        if port and _open(port, "127.0.0.1"):
            return problem(
                "broker", BROKER, f"Another program has port {port}, where the embedded broker would be.",
                'is it Mosquitto? Use it: broker.mode = "external", url = "mqtt://127.0.0.1:1883"',
            )  # fmt: skip
        return fine("broker", "the embedded broker is there to be started")
    return MqttSettings(client_id="doctor", topics=topics, port=port or 1883)


def _external(scene: Scene, topics: tuple[str, ...]) -> MqttSettings | Finding:
    settings = scene.settings.broker
    host, port, secure = broker_address(settings.url)
    tls = Tls(ca=settings.ca_file or None, cert=settings.cert_file or None, key=settings.key_file or None)
    try:
        password = resolve_secret(settings.password, "broker.password") or None
    except ConfigError as error:
        return note("broker", BROKER, f"The broker cannot be tried from here: {error.reason}.", error.hint)
    return MqttSettings(
        client_id="doctor", topics=topics, host=host, port=port, username=settings.username or None, password=password,
        tls=tls if secure else None,
    )  # fmt: skip


def platform(scene: Scene) -> list[Finding]:
    """The platform's address answers, with TLS where it has it. Nothing is said to it."""
    url = scene.settings.platform.url
    if not url and (log := scene.settings.platform.log).kind:
        return [fine("platform", f"events go into {log.kind}: {', '.join(log.servers)}")]
    if not url:
        return [note("platform", 0, "No platform is configured: events wait in the journal.", "platform.url")]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        if not host or parts.scheme not in ("http", "https"):
            return [problem("platform", PLATFORM, "platform.url is no address.", "https://platform.example/")]
        with socket.create_connection((host, port), timeout=_PATIENCE_S) as raw:
            if parts.scheme == "https":
                context = ssl.create_default_context(cafile=scene.settings.platform.ca_file or None)
                context.wrap_socket(raw, server_hostname=host).close()
    except (OSError, ValueError) as error:
        severity = problem if isinstance(error, ssl.SSLError) else warning
        return [
            severity(
                "platform", PLATFORM, f"The platform does not answer: {why(error)}.",
                "check the shop's internet line and its firewall; nothing is lost, events wait in the journal",
            )
        ]  # fmt: skip
    return [fine("platform", f"{host}:{port} answers")]


def way_to_broker(scene: Scene) -> list[Finding]:
    """What anybody on the way to an external broker could read or write."""
    settings = scene.settings.broker
    if settings.mode != "external":
        return []
    try:
        host, _, secure = broker_address(settings.url)
    except ConfigError:  # told by `broker`
        return []
    if host in LOOPBACK or (secure and (settings.username or settings.cert_file)):
        return []
    lacks = [] if secure else ["TLS (mqtts://)"]
    lacks += [] if settings.username or settings.cert_file else ["a user name and password"]
    return [
        warning(
            "broker", BROKER, f"The way to the broker at {host} lacks {' and '.join(lacks)}.",
            "whoever is on that network can read and forge what devices say: see docs/security.md",
        )
    ]  # fmt: skip


def page(scene: Scene) -> list[Finding]:
    """The page's port is free, or is ours."""
    settings = scene.settings.page
    if not settings.enabled or settings.port == 0:
        return []
    host = "127.0.0.1" if settings.host in _EVERYWHERE else settings.host
    secure = bool(settings.cert_file) or settings.host not in LOOPBACK
    address = f"{'https' if secure else 'http'}://{host}:{settings.port}"
    taken = _open(settings.port, host)
    if taken and not (scene.running and _ours(host, settings.port, secure=secure)):
        return [
            problem(
                "page", PAGE, f"Another program has the page's port {settings.port}.",
                f"end it (fuser {settings.port}/tcp names it), or set page.port",
            )
        ]  # fmt: skip
    if scene.running and not taken:
        return [warning("page", PAGE, f"The page at {address} does not answer.", "look at the log for worker=page")]
    return [fine("page", address if taken else f"port {settings.port} is free"), *_people(scene)]


def _people(scene: Scene) -> list[Finding]:
    """Whether somebody can sign in."""
    try:
        book = Accounts(scene.directory, SystemClock()).book()
    except Unavailable as error:
        return [problem("accounts", PAGE, f"Nobody can sign in at the page: {error.reason}.", error.hint)]
    if book.set_up:
        return []
    return [note("accounts", PAGE, "Nobody has set the page up yet.", "storefront setup-code, then /setup of the page")]


def _ours(host: str, port: int, *, secure: bool) -> bool:
    """Whether what answers there, on this machine, is a gateway's page, well or not; whatever its certificate."""
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=_PATIENCE_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE_S)  # unlike urllib, never through a proxy
    try:
        connection.request("GET", "/healthz")
        said = json.loads(connection.getresponse().read(65536))
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return isinstance(said, dict) and "ok" in said and "reasons" in said


def _open(port: int, host: str) -> bool:
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _chosen_port(directory: Path) -> int:
    """The port that the embedded broker took; 0 when nobody knows."""
    try:
        return int(json.loads((directory / "broker" / "broker.conf").read_text("utf-8"))["mqtt"]["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _wake(scene: Scene) -> str:
    if scene.settings.broker.mode == "embedded":
        return "restart the gateway; its log says why the broker does not come up (worker=broker)"
    return "is it running (systemctl status mosquitto), and is broker.url right?"
