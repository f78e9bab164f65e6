"""`platform` and `conformance`: the reference platform, and the questions it has to answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import uvicorn

from config.loader import resolve_secret, state_directory
from gateway.clock import SystemClock
from gateway.commands.common import print_json
from gateway.errors import ConfigError
from gateway.event import STREAMS
from sync.conformance import Check, check
from sync.credentials import Bearer
from sync.feed import FeedToken, token_digest
from sync.http_client import ClientOptions, HttpClient
from sync.platform.app import Guard, platform_app
from sync.platform.client_certificates import ServerTls
from sync.platform.enrolments import Enrolments
from sync.platform.platform_keys import keys_beside

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def platform(
    database: Path | None, host: str, port: int, guards: list[str], readers: list[str], enrol: list[str],
    admin: str = "", region: str = "CN", certificate: Path | None = None, key: Path | None = None,
    time_zone: str = "Asia/Shanghai",
) -> int:  # fmt: skip
    """Serve the reference platform until Ctrl-C.

    Args:
        database: its SQLite file; None: beside the gateway's data.
        host, port: where to listen.
        guards: `gateway=REFERENCE` of the token each gateway must show; none: every gateway on loopback.
        readers: `consumer=REFERENCE` of the token of each reader of its feed.
        admin: reference of the token for profiles and commands; without it, and with guards, nobody sees profiles.
        region: where a phone number without a country code is from.
        time_zone: of the times on its pages, IANA.
        enrol: gateways for which a claim code is printed; with it, only who has a token or has enrolled may write.
        certificate, key: PEM files: serve HTTPS, where a gateway's certificate of its enrolment is proof, too.
    """
    if (certificate is None) != (key is None):
        raise ConfigError("start platform", "--certificate", "HTTPS needs both --certificate and --key")
    if not (guards or enrol or admin) and host not in _LOOPBACK:
        raise ConfigError(
            "start platform", host, "without tokens everybody could write", "name them: --gateway gw01=file:/path"
        )
    if time_zone not in available_timezones():
        raise ConfigError("start platform", time_zone[:64], "there is no such time zone", "as in Asia/Shanghai")
    path = database or state_directory() / "platform.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    app = platform_app(
        path,
        guards=[Guard(name, token_digest(secret)) for name, secret in map(_named, guards)],
        tokens=[FeedToken(name, token_digest(secret), STREAMS) for name, secret in map(_named, readers)],
        enrolled_only=bool(enrol),
        admin=token_digest(resolve_secret(admin, "--admin")) if admin else None,
        started=lambda enrolments: _invite(enrolments, enrol),
        profiles=True,
        region=region,
        time_zone=time_zone,
    )
    scheme = "https" if certificate else "http"
    print(f"Reference platform: {scheme}://{host}:{port}  data: {path}  (not for production)", flush=True)
    print(f"  profiles: {scheme}://{host}:{port}/profiles", flush=True)
    keys = keys_beside(path)
    print(f'  for [privacy] of the shops: seal_keys = {{ "{keys.seal_id}" = "{keys.seal_public}" }}', flush=True)
    options: dict[str, Any] = {"host": host, "port": port, "log_level": "warning", "server_header": False}
    if certificate is None or key is None:
        uvicorn.run(app, **options)
        return 0
    try:
        served = ServerTls(app, certificate, key, app.state.enrolments.authority_text(), **options)
    except OSError as error:  # also what ssl raises
        raise ConfigError("start platform", str(certificate), str(error)[:200], "PEM files that fit") from error
    uvicorn.Server(served).run()
    return 0


def conformance(url: str, gateway: str, token: str, ca: Path | None, *, as_json: bool) -> int:
    """Ask a platform every question of the contract and print the report; 1 when one answer is wrong."""
    options = ClientOptions(url=url, ca=ca)
    options.check()
    credentials = Bearer(lambda: resolve_secret(token, "--token")) if token else None
    client = HttpClient(options, credentials)

    try:
        report = check(client, url, SystemClock(), gateway, lambda answer: None if as_json else _dot(answer))
    finally:
        client.close()
    if as_json:
        print_json(report)
    else:
        print("\n" + report.render())
    return 0 if report.passed else 1


def _invite(enrolments: Enrolments, gateways: list[str]) -> None:
    for gateway in gateways:
        print(f"  claim code of {gateway}: {enrolments.invite(gateway)}", flush=True)


def _dot(answer: Check) -> None:
    """Progress on a terminal: one mark a question."""
    if sys.stderr.isatty():
        print({"pass": ".", "fail": "F", "skip": "s"}[answer.verdict], end="", file=sys.stderr, flush=True)


def _named(text: str) -> tuple[str, str]:
    name, mark, reference = text.partition("=")
    if not mark or not name:
        raise ConfigError("read option", text, "not NAME=REFERENCE", "as in gw01=file:/etc/storefront/gw01.token")
    return name, resolve_secret(reference, name)
