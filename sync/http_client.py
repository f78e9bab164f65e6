"""One HTTP exchange with the platform: bounded in time and size, never redirected, always verified.

Turns whatever `requests` can raise into `Unavailable`, and whatever a server can send into a `Reply`. Proxies, CA and
client certificate come from the configuration, never from the environment or a .netrc that somebody left behind. Knows
no event and no meaning of a status.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3

from gateway.errors import ConfigError, Unavailable
from sync.answer import Reply
from sync.deadline import DeadlineAdapter, Ending, Lifeline

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Outgoing(msgspec.Struct, frozen=True):
    """A request as credentials see it: header names in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]


class Credentials(Protocol):
    """Who we are. Shared by the threads of the streams, so each method may be called from several at once."""

    def headers(self, outgoing: Outgoing) -> dict[str, str]:
        """Headers that prove it for this very request.

        Raises:
            Unavailable: the proof itself must be fetched, and cannot be now.
        """
        ...

    def refresh(self, reply: Reply) -> bool:
        """The platform said 401 or 403: get a new proof; True when another try may end otherwise."""
        ...


class ClientOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the platform.

    `connect_s`, `read_s`: time-outs of one connect and one read; `total_s`: of a whole exchange. `ca`: a PEM bundle
    used instead of the public one. `certificate`, `key`: PEM files of the client (mTLS). `proxy`: an http(s) URL.
    """

    url: str
    connect_s: float = 5.0
    read_s: float = 20.0
    total_s: float = 60.0
    max_answer_bytes: int = 4 << 20
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    proxy: str | None = None
    allow_plain_http: bool = False

    def check(self) -> None:
        """Refuse what must not be used.

        Raises:
            ConfigError: not an absolute URL, or plain HTTP to another machine.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(
                "configure sync", self.url, "not an absolute http(s) URL", "e.g. https://platform.example"
            )
        if parts.username or parts.password:
            raise ConfigError("configure sync", parts.hostname, "credentials in the URL", "use sync.auth")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not self.allow_plain_http:
            raise ConfigError("configure sync", self.url, "plain HTTP to another machine", "use https")


class HttpClient:
    """A session with one platform. `open` first, `close` last; one thread at a time uses it."""

    def __init__(self, options: ClientOptions, credentials: Credentials | None = None) -> None:
        """Store; nothing is connected before the first `call`."""
        self._options = options
        self._credentials = credentials
        self._lifeline = Lifeline()
        self._session: requests.Session | None = None
        self.requests = 0
        self.sent_bytes = 0
        self.received_bytes = 0

    def end_with(self, stop: threading.Event, grace_s: float) -> None:
        """From now on, exchanges fail `grace_s` after `stop` is set, all of them together."""
        if self._lifeline.ending is None or self._lifeline.ending.stop is not stop:
            self._lifeline.ending = Ending(stop, grace_s)

    def close(self) -> None:
        """Drop every connection; a later `call` connects anew."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None,
        *, wait_s: float = 0.0, again: bool = True,
    ) -> Reply:  # fmt: skip
        """One exchange; after a 401 or 403 the credentials are refreshed and it is made once more.

        Args:
            method: HTTP method.
            path: from the platform's base URL, beginning with "/".
            body: as it goes over the wire.
            headers: beside those of the credentials.
            wait_s: how long the platform may take on purpose (long poll), beside the time-outs.
            again: whether 401 and 403 may be answered by fresh credentials.

        Raises:
            Unavailable: no complete answer came in time, or it was larger than allowed.
        """
        url = self._options.url.rstrip("/") + path
        fields = {"accept": "application/json, application/problem+json", "accept-encoding": "identity"}
        fields.update({name.lower(): value for name, value in (headers or {}).items()})
        if self._credentials is not None:
            fields.update(self._credentials.headers(Outgoing(method, url, fields)))
        reply = self._exchange(method, url, body, fields, wait_s)
        if again and reply.status in (401, 403) and self._credentials is not None and self._credentials.refresh(reply):
            self.close()  # a renewed certificate is read when a connection is made
            return self.call(method, path, body, headers, wait_s=wait_s, again=False)
        return reply

    def _exchange(self, method: str, url: str, body: bytes, headers: dict[str, str], wait_s: float) -> Reply:
        options = self._options
        session = self._session or self._connect()
        self.requests += 1
        try:
            with (
                self._lifeline.limit(options.total_s + wait_s),
                session.request(
                    method, url, data=body or None, headers=headers, stream=True, allow_redirects=False,
                    timeout=(options.connect_s, options.read_s + wait_s),
                ) as response,
            ):  # fmt: skip
                content = self._read(response)
                if self._lifeline.cut:  # an end inside the header looks like the end of the header
                    raise requests.exceptions.ReadTimeout("cut off")
                reply = Reply(
                    response.status_code, {name.lower(): value for name, value in response.headers.items()}, content
                )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            self.close()
            reason = f"no complete answer in {options.total_s + wait_s:g} s" if self._lifeline.cut else _reason(error)
            raise Unavailable("reach platform", _origin(url), reason, _hint(error)) from error
        self.sent_bytes += len(body)
        self.received_bytes += len(content)
        return reply

    def _read(self, response: requests.Response) -> bytes:
        """The whole body, never more than allowed, and all that Content-Length promised."""
        limit = self._options.max_answer_bytes
        chunks: list[bytes] = []
        size = 0
        for chunk in response.raw.stream(65536, decode_content=True):
            size += len(chunk)
            if size > limit:
                raise requests.exceptions.ContentDecodingError(f"the answer is larger than {limit} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def _connect(self) -> requests.Session:
        options = self._options
        session = requests.Session()
        session.trust_env = False
        session.headers.clear()
        session.headers["user-agent"] = "storefront-gateway"
        adapter = DeadlineAdapter(self._lifeline)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        session.verify = str(options.ca) if options.ca else True
        if options.certificate is not None:
            session.cert = (str(options.certificate), str(options.key)) if options.key else str(options.certificate)
        if options.proxy is not None:
            session.proxies = {"http": options.proxy, "https": options.proxy}
        self._session = session
        return session


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _reason(error: Exception) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return f"TLS refused ({_innermost(error)})"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return str(error)
    return _innermost(error)


def _innermost(error: BaseException) -> str:
    seen: BaseException = error
    for _ in range(10):
        deeper = getattr(seen, "reason", None) or seen.__cause__ or seen.__context__
        if not isinstance(deeper, BaseException):
            break
        seen = deeper
    return f"{type(seen).__name__}: {str(seen)[:200]}"


def _hint(error: Exception) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "check the certificates (platform's, sync.ca, sync.certificate) and this machine's clock"
    return "events are kept and sent when the platform answers again"
