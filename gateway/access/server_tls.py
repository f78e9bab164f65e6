"""When a server of ours speaks TLS, and with which certificate: on any address but loopback always, with the one that
was given or one of the store's own authority; renewed under the running server. Knows no HTTP.
"""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path

from gateway.clock import Clock
from gateway.errors import ConfigError, StorefrontError, Unavailable

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EVERY_S = 60.0
_MAKING = threading.Lock()  # page and feed share one authority
_PATIENCE_S = 10.0


class ServerTls:
    """One server's certificate. Its worker's thread uses it."""

    def __init__(
        self, name: str, host: str, names: tuple[str, ...], given: tuple[str, str], directory: Path, store: str,
        clock: Clock,
    ) -> None:  # fmt: skip
        """Store.

        Args:
            name: of the server; part of its certificate's file name.
            host: the address that it listens on.
            names: further names that it is asked for under.
            given: certificate and key files; empty: none were given.
            directory: the data directory, where the authority lies.
            store: named in the certificates.
            clock: dates them.
        """
        self._name, self._host, self._names, self._given = name, host, names, given
        self._directory, self._store, self._clock = directory, store, clock
        self._context: ssl.SSLContext | None = None
        self._loaded: object = None
        self._looked_s = 0.0

    @property
    def needed(self) -> bool:
        """False on loopback without a given certificate."""
        return bool(self._given[0]) or self._host not in LOOPBACK

    def context(self) -> ssl.SSLContext:
        """A fresh server context with the certificate loaded; TLS 1.2 and newer.

        Raises:
            ConfigError: the given certificate cannot be used.
            Unavailable: the store's own cannot be made.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self._loaded = None
        self._load(context)
        self._context = context
        self._looked_s = self._clock.now().mono_s
        return context

    def renew(self) -> bool:
        """Once a minute: load a certificate that is new; connections that are open go on. True when there was one.

        What fails is logged and leaves the present certificate in use.
        """
        now_s = self._clock.now().mono_s
        if self._context is None or now_s - self._looked_s < _EVERY_S:
            return False
        self._looked_s = now_s
        try:
            return self._load(self._context)
        except StorefrontError as error:
            log.warning("certificate=kept server=%s reason=%r", self._name, error.reason)
            return False

    def _load(self, context: ssl.SSLContext) -> bool:
        certificate, key = map(Path, self._given) if self._given[0] else self._own()
        try:
            version = certificate.stat().st_mtime_ns, key.stat().st_mtime_ns
            if version == self._loaded:
                return False
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                "load certificate", str(certificate), getattr(error, "strerror", None) or str(error),
                f"check {self._name}.cert_file and {self._name}.key_file: PEM, and belonging together",
            ) from error  # fmt: skip
        if self._loaded is not None:
            log.info("certificate=renewed server=%s", self._name)
        self._loaded = version
        return True

    def _own(self) -> tuple[Path, Path]:
        from gateway.access.certificates import StoreCa, own_names  # cryptography's X.509, only where it is needed

        if not _MAKING.acquire(timeout=_PATIENCE_S):
            raise Unavailable("make certificate", self._name, "another one is being made")
        try:
            issued = StoreCa(self._directory, self._store, self._clock).leaf(
                own_names(self._host, self._names), self._name
            )
        finally:
            _MAKING.release()
        return issued.certificate, issued.key
