"""Who the gateway is, in the four ways of the contract: bearer token, OAuth2 client credentials, client certificate,
Ed25519 signatures. Secrets come as callables that read them where they are kept; none is stored, logged or shown here.

*Source*: docs/sync.md; RFC 6749 §4.4 (client credentials), RFC 9421 (signatures).
"""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.clock import Clock
from gateway.errors import Unavailable
from sync.answer import Reply
from sync.http_client import HttpClient, Outgoing
from sync.signing import sign

Secret = Callable[[], str]
"""Reads a secret from where it is kept, each time anew, so that a rotated one is found without a restart."""

_EARLY_S = 30.0  # a token is renewed so long before it ends
_SHORTEST_S = 10.0


class Bearer:
    """A static token."""

    def __init__(self, secret: Secret) -> None:
        """`secret`: reads the token."""
        self._secret = secret
        self._used = ""

    def headers(self, outgoing: Outgoing) -> dict[str, str]:
        """The token."""
        self._used = self._secret().strip()
        return {"authorization": f"Bearer {self._used}"}

    def refresh(self, reply: Reply) -> bool:
        """True when the secret has been rotated since."""
        return self._secret().strip() != self._used


class _Token(msgspec.Struct):
    access_token: str
    token_type: str = "bearer"  # noqa: S105 - the kind of token
    expires_in: float | None = None


class ClientCredentials:
    """OAuth2: a short-lived token fetched with the client's id and secret. Its age is monotonic time."""

    def __init__(
        self, client: HttpClient, path: str, client_id: str, secret: Secret, clock: Clock, *, scope: str = "",
        audience: str = "",
    ) -> None:  # fmt: skip
        """Store.

        Args:
            client: reaches the authorisation server; has no credentials of its own.
            path: of the token endpoint, beginning with "/".
            client_id: who asks.
            secret: reads the client's secret.
            clock: monotonic time.
            scope, audience: asked for when not empty.
        """
        self._client = client
        self._path = path
        self._client_id = client_id
        self._secret = secret
        self._clock = clock
        self._form = {"grant_type": "client_credentials"}
        if scope:
            self._form["scope"] = scope
        if audience:
            self._form["audience"] = audience
        self._lock = threading.Lock()
        self._token = ""
        self._until_s = 0.0
        self._fetched_s = -_SHORTEST_S

    def headers(self, outgoing: Outgoing) -> dict[str, str]:
        """The token, fetched when there is none or it is about to end.

        Raises:
            Unavailable: the authorisation server gives none.
        """
        with self._lock:
            now_s = self._clock.now().mono_s
            if not self._token or now_s >= self._until_s:
                self._fetch(now_s)
            return {"authorization": f"Bearer {self._token}"}

    def refresh(self, reply: Reply) -> bool:
        """Drop the token, unless it is quite new: then another would be refused as well."""
        with self._lock:
            if self._clock.now().mono_s - self._fetched_s < _SHORTEST_S:
                return False
            self._token = ""
            return True

    def _fetch(self, now_s: float) -> None:
        # RFC 6749 §2.3.1: id and secret are form-encoded before they become Basic credentials.
        pair = f"{quote(self._client_id, safe='')}:{quote(self._secret().strip(), safe='')}"
        headers = {
            "authorization": f"Basic {b64encode(pair.encode()).decode()}",
            "content-type": "application/x-www-form-urlencoded",
            "accept": "application/json",
        }
        reply = self._client.call("POST", self._path, urlencode(self._form).encode(), headers)
        try:
            if reply.status != 200:
                raise ValueError(f"HTTP {reply.status}")
            token = msgspec.json.decode(reply.body, type=_Token)
            if token.token_type.lower() != "bearer" or not token.access_token.isprintable():
                raise ValueError("not a bearer token")
        except ValueError as error:
            raise Unavailable(
                "fetch access token", self._client_id, str(error)[:200],
                "check sync.auth: token address, client id and secret",
            ) from error  # fmt: skip
        self._token = token.access_token
        self._fetched_s = now_s
        lasts_s = token.expires_in if token.expires_in and token.expires_in > 0 else 300.0
        self._until_s = now_s + max(_SHORTEST_S, lasts_s - _EARLY_S)


class ClientCertificate:
    """mTLS: the connection proves who we are; this only notices that the certificate's file was renewed."""

    def __init__(self, certificate: Path) -> None:
        """`certificate`: the PEM file that `ClientOptions` names too."""
        self._certificate = certificate
        self._seen: tuple[int, int] | None = None

    def headers(self, outgoing: Outgoing) -> dict[str, str]:
        """None needed."""
        if self._seen is None:
            self._seen = _stamp(self._certificate)
        return {}

    def refresh(self, reply: Reply) -> bool:
        """True when the file was renewed since."""
        seen, self._seen = self._seen, _stamp(self._certificate)
        return seen != self._seen


class Signature:
    """RFC 9421: every request is signed with the gateway's own key.

    A signature says when it was made. Where this machine's clock is wrong the platform refuses it; its `Date` then
    tells by how much, and the next signature is made in the platform's time.
    """

    def __init__(self, key: Ed25519PrivateKey, key_id: str, clock: Clock) -> None:
        """`key_id`: what the platform knows the key by."""
        self._key = key
        self._key_id = key_id
        self._clock = clock
        self._ahead_s = 0.0  # how far the platform's clock is ahead of ours

    def headers(self, outgoing: Outgoing) -> dict[str, str]:
        """`Signature-Input` and `Signature`."""
        created_s = int(self._clock.now().wall_s + self._ahead_s)
        return sign(self._key, self._key_id, created_s, outgoing.method, outgoing.url, outgoing.headers)

    def refresh(self, reply: Reply) -> bool:
        """True when the platform's clock tells that ours was wrong."""
        try:
            theirs_s = parsedate_to_datetime(reply.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError, OverflowError):
            return False
        ahead_s = theirs_s - self._clock.now().wall_s
        changed = abs(ahead_s - self._ahead_s) > 30.0
        self._ahead_s = ahead_s if changed else self._ahead_s
        return changed


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_ino)
