"""Gateways that prove themselves by the certificate they enrolled with: TLS that asks for one, and where it is found.

The connection is refused when a certificate is shown that the platform's authority has not signed or that has expired;
none at all is let through to whoever asks for another proof. uvicorn tells an application nothing of the connection's
certificate, so the protocol puts it into the scope. Knows no gateway.

*Source*: RFC 8446 §4.4.2 (client certificates); docs/sync.md, "Enrolment".
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_SCOPE = "storefront.client_certificate"


class ServerTls(uvicorn.Config):
    """A server's configuration with TLS of its own; everything else as `uvicorn.Config`."""

    def __init__(self, app: Any, certificate: Path, key: Path, authority: str, **options: Any) -> None:
        """Store.

        Args:
            app: the application.
            certificate, key: the server's own, PEM files.
            authority: certificate that gateways' certificates must be signed with, PEM.
            options: for `uvicorn.Config`.

        Raises:
            OSError: a file cannot be read.
            ssl.SSLError: it is no certificate or key, or they do not belong together.
        """
        super().__init__(app, http=CertificateProtocol, **options)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.load_cert_chain(certificate, key)
        self._context.load_verify_locations(cadata=authority)
        self._context.verify_mode = ssl.CERT_OPTIONAL

    def load(self) -> None:
        """As uvicorn's, then our TLS."""
        super().load()
        self.ssl = self._context


class CertificateProtocol(H11Protocol):
    """HTTP/1.1 whose requests carry the client's certificate in their scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Look once a connection; the handshake is over by now."""
        super().connection_made(transport)
        line = transport.get_extra_info("ssl_object")
        shown = None if line is None else line.getpeercert(binary_form=True)
        if shown is not None:
            self.app = cast("Any", _Shown(cast("ASGIApp", self.app), shown))


class _Shown:
    def __init__(self, app: ASGIApp, certificate: bytes) -> None:
        self._app = app
        self._certificate = certificate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_SCOPE] = self._certificate
        await self._app(scope, receive, send)


def certificate_of(scope: Scope) -> bytes | None:
    """The certificate that the client of this request has shown and that was verified, DER; None: none."""
    shown = scope.get(_SCOPE)
    return shown if isinstance(shown, bytes) else None
