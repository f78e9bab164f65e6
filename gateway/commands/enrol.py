"""`enrol`: get this gateway's certificate from the platform with a claim code, and say what to write into the file."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from config.loader import data_directory
from gateway.access.accounts import Accounts
from gateway.clock import SystemClock
from gateway.commands.common import print_json, settings_of
from sync.enrolment import Identity, KeyKind, enrol, platform_table
from sync.http_client import ClientOptions, HttpClient


class _Told(msgspec.Struct):
    gateway: str
    not_after: str
    platform: dict[str, str]


def run(config: Path | None, url: str, code: str, ca: Path | None, kind: KeyKind, *, as_json: bool) -> int:
    """Make a key beside the gateway's data, get a certificate for it, print the `[platform]` table to use.

    Args:
        config: says who the gateway is and where its data lies.
        url: the platform's address.
        code: the claim code; "-" reads it from standard input.
        ca: certificate authority of the platform's own address, PEM; None: the public ones.
        kind: of the key, if there is none yet.

    Raises:
        ConfigError, Rejected, Unavailable: see `sync.enrolment.enrol`.
    """
    settings = settings_of(config)
    options = ClientOptions(url=url, ca=ca)
    options.check()
    identity = Identity(data_directory(settings).absolute() / "keys")
    # Before it is done, without the code: whoever enrols a gateway decides who reads its shop.
    Accounts(data_directory(settings), SystemClock()).note("gateway.enrol", urlsplit(url).hostname or "")
    client = HttpClient(options)
    try:
        done = enrol(client, identity, settings.gateway.name, sys.stdin.readline() if code == "-" else code, kind)
    finally:
        client.close()
    table = platform_table(url, ca, identity, done)
    if as_json:
        print_json(_Told(done.gateway, done.not_after, table))
        return 0
    print(f"Gateway {done.gateway} is enrolled until {done.not_after}; the running gateway renews in time.\n")
    print("[platform]")
    for name, value in table.items():
        print(f"{name} = {msgspec.json.encode(value).decode()}")
    return 0
