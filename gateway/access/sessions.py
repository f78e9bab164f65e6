"""Who is signed in: random tokens of 256 bits, of which only the hash is kept, in memory.

A session ends after 15 minutes without a request, after 8 hours, when its account changes, when it is revoked, and when
the gateway stops. Knows no cookie.
"""

from __future__ import annotations

import secrets
import threading
from hashlib import sha256

import msgspec

from gateway.access.accounts import Account, Accounts, Role
from gateway.clock import Clock

IDLE_S = 900.0
LONGEST_S = 28_800.0
MOST = 128
MOST_EACH = 8
_TOKEN_BYTES = 32
_LONGEST_TOKEN = 64


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One sign-in. `key` names it to people and cannot open it; times are monotonic, `began_ms` the wall's."""

    key: str
    account: str
    role: Role
    serial: int
    began_s: float
    seen_s: float
    began_ms: int
    browser: str = ""


class Sessions:
    """Any thread may use it."""

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        """Nobody is signed in."""
        self._accounts, self._clock = accounts, clock
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Session] = {}

    def begin(self, account: Account, browser: str = "") -> str:
        """Sign in; gives the token. The oldest session makes room where there are too many."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        now = self._clock.now()
        digest = sha256(token.encode()).digest()
        session = Session(
            key=digest[:6].hex(), account=account.name, role=account.role, serial=account.serial, began_s=now.mono_s,
            seen_s=now.mono_s, began_ms=int(now.wall_s * 1000), browser=browser,
        )  # fmt: skip
        with self._lock:
            self._prune()
            own = [key for key, it in self._sessions.items() if it.account == account.name]
            for key in own[: max(0, len(own) - MOST_EACH + 1)]:
                del self._sessions[key]
            while len(self._sessions) >= MOST:
                del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].seen_s)]
            self._sessions[digest] = session
        return token

    def find(self, token: str, *, touch: bool = True) -> Session | None:
        """The session of a token, while it is good. `touch`: somebody is at work; a page that refreshes is nobody.

        Raises:
            Unavailable: the accounts cannot be read.
        """
        if not token or len(token) > _LONGEST_TOKEN:
            return None
        digest = sha256(token.encode("utf-8", "replace")).digest()
        with self._lock:
            session = self._sessions.get(digest)
            if session is None:
                return None
            account = self._accounts.book().account(session.account)
            if self._over(session) or account is None or account.serial != session.serial:
                del self._sessions[digest]
                return None
            if touch:
                session = msgspec.structs.replace(session, seen_s=self._clock.now().mono_s)
                self._sessions[digest] = session
            return session

    def end(self, key: str, account: str = "") -> bool:
        """Revoke a session by its name (of that account only, if given); False when there is none."""
        with self._lock:
            for digest, session in list(self._sessions.items()):
                if session.key == key and account in ("", session.account):
                    del self._sessions[digest]
                    return True
        return False

    def all(self, account: str = "") -> list[Session]:
        """The sessions there are (of that account), newest first."""
        with self._lock:
            self._prune()
            return [it for it in reversed(self._sessions.values()) if account in ("", it.account)]

    def _prune(self) -> None:
        serials = {account.name: account.serial for account in self._accounts.book().accounts}
        for digest, session in list(self._sessions.items()):
            if self._over(session) or serials.get(session.account) != session.serial:
                del self._sessions[digest]

    def _over(self, session: Session) -> bool:
        now_s = self._clock.now().mono_s
        return now_s - session.seen_s >= IDLE_S or now_s - session.began_s >= LONGEST_S


def form_token(token: str) -> str:
    """What a session's forms carry, so that no other site can write them: follows from the token, does not give it."""
    return sha256(b"form\0" + token.encode("utf-8", "replace")).hexdigest()
