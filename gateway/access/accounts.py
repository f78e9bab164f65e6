"""Who works here: accounts with their PINs and roles, the set-up code, and the tries that went wrong.

One file in the data directory's `keys`, mode 0600, replaced whole and durably at every change, under a lock that the
daemon and the commands share; so a lock-out outlives a restart, a salvage of the journal and a full journal. A try is
written down *before* the PIN is looked at: pulling the plug gives nobody another one. Knows no HTTP.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args

import msgspec

from gateway.access import pins
from gateway.clock import Clock
from gateway.durable_file import replace_file
from gateway.errors import Rejected, Unavailable

Role = Literal["viewer", "staff", "manager"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may

TRIES = 5
LOCK_S = 900.0
MOST_ACCOUNTS = 64
_MOST_ATTEMPTS = 1024
_MOST_NOTES = 256
_SUBJECT = 120
_LOCK_WAIT_S = 5.0
_NAME = re.compile(r"^[\w.-][\w .-]{0,30}[\w.-]$|^\w$")
SETUP = "setup"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One person. `serial` changes with the PIN and the role: sessions that began before it end."""

    name: str
    role: Role
    secret: str
    serial: int = 1


class Attempts(msgspec.Struct, frozen=True):
    """Tries that went wrong, and when the last of them was (milliseconds since 1970)."""

    failures: int
    last_ms: int


class Note(msgspec.Struct, frozen=True):
    """An act at the box itself, to be put into the audit trail by the running gateway."""

    act: str
    subject: str
    at_ms: int


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    accounts: tuple[Account, ...] = ()
    setup: str = ""  # of the set-up code, as of a PIN
    attempts: dict[str, Attempts] = {}
    notes: tuple[Note, ...] = ()
    serial: int = 0  # the highest ever given: one who comes back is not who was

    @property
    def set_up(self) -> bool:
        """Whether there is a manager."""
        return any(account.role == "manager" for account in self.accounts)

    def account(self, name: str) -> Account | None:
        """The account of that name, however it is written."""
        wanted = pins.normal(name).casefold()
        return next((account for account in self.accounts if account.name.casefold() == wanted), None)


class Verdict(msgspec.Struct, frozen=True):
    """What became of a try: the account, or why not. `wait_s`: until the next try counts; `locked`: by this one."""

    account: Account | None = None
    reason: Literal["", "wrong", "locked"] = ""
    wait_s: float = 0.0
    locks: bool = False


class Accounts:
    """Any thread and any process may use it; every change is durable when it returns."""

    def __init__(self, directory: Path, clock: Clock, *, most_attempts: int = _MOST_ATTEMPTS) -> None:
        """`directory`: the gateway's data directory; `most_attempts`: how many accounts and addresses are watched."""
        self._most_attempts = most_attempts
        self._file = directory / "keys" / "accounts.json"
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._book = Book()
        self._tried_s: dict[str, float] = {}  # monotonic: a step of the wall clock opens and closes no lock

    def book(self) -> Book:
        """The present file; an empty book where there is none.

        Raises:
            Unavailable: it cannot be read. Nobody is let in then, and nothing is set up again.
        """
        try:
            stat = self._file.stat()
        except FileNotFoundError:
            return Book()
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if stamp != self._stamp:
            if stat.st_mode & 0o077:
                raise self._unusable("others may read or write it", "chmod 600 it")
            try:
                self._book = msgspec.json.decode(self._file.read_bytes(), type=Book)
            except (OSError, msgspec.MsgspecError) as error:
                raise self._unusable(str(error)) from error
            self._stamp = stamp
        return self._book

    @property
    def set_up(self) -> bool:
        """Whether the shop has a manager; before that, only the set-up code opens anything."""
        return self.book().set_up

    # -- set-up

    def new_setup_code(self) -> str:
        """A fresh one-time code; an earlier one is worth nothing from now on.

        Raises:
            Rejected: the gateway is set up already.
        """
        code = pins.new_code()
        kept = pins.hashed(pins.normal_code(code))

        def change(book: Book) -> Book:
            if book.set_up:
                raise Rejected(
                    "make set-up code", "page", "the page is set up already",
                    "a manager who is locked out: storefront account reset NAME",
                )  # fmt: skip
            return msgspec.structs.replace(book, setup=kept)

        self._change(change)
        return code

    def try_code(self, code: str, address: str) -> Verdict:
        """Whether this is the set-up code; it stays good until the first manager is made."""
        return self._try(SETUP, address, lambda book: (book.setup, None), pins.normal_code(code))

    def found(self, code: str, name: str, pin: str, address: str) -> Verdict:
        """Use up the set-up code and make the first manager.

        Raises:
            Rejected: the name or the PIN will not do; the code can be used again.
        """
        verdict = self.try_code(code, address)
        if verdict.reason:
            return verdict
        _check(name, pin)
        return Verdict(self._add(name, "manager", pin, founding=True))

    # -- accounts

    def add(self, name: str, role: Role, pin: str) -> Account:
        """A new account.

        Raises:
            Rejected: the name is taken or will not do, the PIN is too easy, or there are too many.
        """
        _check(name, pin)
        return self._add(name, role, pin, founding=False)

    def _add(self, name: str, role: Role, pin: str, *, founding: bool) -> Account:
        kept = pins.hashed(pin)
        made: list[Account] = []

        def change(book: Book) -> Book:
            if founding and book.set_up:
                raise Rejected("set up", "page", "taken", "somebody was faster: sign in")
            if book.account(name) is not None:
                raise Rejected("add account", name, "taken", "choose another name")
            if len(book.accounts) >= MOST_ACCOUNTS:
                raise Rejected("add account", name, "full", f"{MOST_ACCOUNTS} accounts are the most")
            account = Account(name=pins.normal(name), role=role, secret=kept, serial=book.serial + 1)
            made.append(account)
            return msgspec.structs.replace(
                book, accounts=(*book.accounts, account), serial=account.serial,
                setup="" if role == "manager" else book.setup,
            )  # fmt: skip

        self._change(change)
        return made[0]

    def set_pin(self, name: str, pin: str) -> Account:
        """Another PIN; the account's sessions end, its lock is lifted. Raises Rejected: see `add`."""
        _check(name, pin)
        kept = pins.hashed(pin)
        return self._replace(name, lambda account: msgspec.structs.replace(account, secret=kept))

    def set_role(self, name: str, role: Role) -> Account:
        """Another role; the account's sessions end. Raises Rejected: the last manager must stay one."""
        return self._replace(name, lambda account: msgspec.structs.replace(account, role=role))

    def unlock(self, name: str) -> Account:
        """Lift an account's lock."""
        return self._replace(name, lambda account: account)

    def remove(self, name: str, *, even_last: bool = False) -> None:
        """Take an account away; its sessions end. Raises Rejected: the last manager, unless `even_last`."""

        def change(book: Book) -> Book:
            account = _known(book, name)
            left = tuple(each for each in book.accounts if each is not account)
            if not even_last:
                _keeps_a_manager(book, left, name)
            return _forgotten(msgspec.structs.replace(book, accounts=left), f"account:{account.name.casefold()}")

        self._change(change)

    def _replace(self, name: str, work: Callable[[Account], Account]) -> Account:
        made: list[Account] = []

        def change(book: Book) -> Book:
            account = _known(book, name)
            fresh = work(account)
            if fresh != account:
                fresh = msgspec.structs.replace(fresh, serial=book.serial + 1)
            accounts = tuple(fresh if each is account else each for each in book.accounts)
            _keeps_a_manager(book, accounts, name)
            made.append(fresh)
            book = msgspec.structs.replace(book, accounts=accounts, serial=max(book.serial, fresh.serial))
            return _forgotten(book, f"account:{account.name.casefold()}")

        self._change(change)
        self._tried_s.pop(f"account:{pins.normal(name).casefold()}", None)
        return made[0]

    # -- trying

    def try_pin(self, name: str, pin: str, address: str) -> Verdict:
        """Whether this is that person. Five wrong tries lock the account, and the address, for a quarter of an hour."""

        def secret(book: Book) -> tuple[str, Account | None]:
            account = book.account(name)
            return ("", None) if account is None else (account.secret, account)

        known = self.book().account(name)
        key = None if known is None else f"account:{known.name.casefold()}"
        return self._try(key, address, secret, pin)

    def locked_s(self, name: str) -> float:
        """How long an account's lock still holds, in seconds; 0.0: it is open."""
        book = self.book()
        return self._locked_s(book, f"account:{pins.normal(name).casefold()}")

    def _try(
        self, key: str | None, address: str, secret: Callable[[Book], tuple[str, Account | None]], text: str
    ) -> Verdict:
        place = f"address:{network(address)}"
        keys = [place] if key is None else [key, place]
        wait_s, locks = 0.0, False

        def count(book: Book) -> Book:
            nonlocal wait_s, locks
            wait_s = max(self._locked_s(book, each) for each in keys)
            if wait_s:
                return book
            attempts = dict(book.attempts)
            for each in keys:
                old = attempts.pop(each, None)
                failures = 1 if old is None or self._age_s(each, old) >= LOCK_S else old.failures + 1
                locks = locks or failures >= TRIES
                attempts[each] = Attempts(failures, int(self._clock.now().wall_s * 1000))
                self._tried_s[each] = self._clock.now().mono_s
            return msgspec.structs.replace(book, attempts=self._pruned(attempts))

        book = self._change(count)
        if wait_s:
            return Verdict(reason="locked", wait_s=wait_s)
        kept, account = secret(book)
        if not pins.matches(kept, text):
            return Verdict(reason="wrong", wait_s=LOCK_S if locks else 0.0, locks=locks)

        def clear(book: Book) -> Book:
            return _forgotten(book, *keys)

        self._change(clear)
        for each in keys:
            self._tried_s.pop(each, None)
        return Verdict(account)

    def _locked_s(self, book: Book, key: str) -> float:
        attempts = book.attempts.get(key)
        if attempts is None or attempts.failures < TRIES:
            return 0.0
        return max(0.0, LOCK_S - self._age_s(key, attempts))

    def _age_s(self, key: str, attempts: Attempts) -> float:
        """How long ago the last try was: by the wall clock when this process hears of it first, steadily from there."""
        now = self._clock.now()
        if key not in self._tried_s:
            self._tried_s[key] = now.mono_s - max(0.0, now.wall_s - attempts.last_ms / 1000)
        return now.mono_s - self._tried_s[key]

    def _pruned(self, attempts: dict[str, Attempts]) -> dict[str, Attempts]:
        """Without what is over; a lock that holds is never pushed out.

        Raises:
            Unavailable: too many addresses are locked at once.
        """
        if len(attempts) > self._most_attempts:
            attempts = {key: it for key, it in attempts.items() if self._age_s(key, it) < LOCK_S}
            self._tried_s = {key: at for key, at in self._tried_s.items() if key in attempts}
        open_ = [key for key, it in attempts.items() if it.failures < TRIES]
        for key in open_[: max(0, len(attempts) - self._most_attempts)]:
            del attempts[key]
        if len(attempts) > self._most_attempts:
            raise Unavailable("sign in", "page", "too many addresses are locked out", "wait a quarter of an hour")
        return attempts

    # -- notes of acts at the box

    def note(self, act: str, subject: str) -> None:
        """Write down an act for the audit trail. Raises Unavailable when too many wait already."""
        at_ms = int(self._clock.now().wall_s * 1000)

        subject = subject[:_SUBJECT]

        def change(book: Book) -> Book:
            if len(book.notes) >= _MOST_NOTES:
                raise Unavailable("note act", act, "too many acts wait for the audit trail", "start the gateway")
            return msgspec.structs.replace(book, notes=(*book.notes, Note(act, subject, at_ms)))

        self._change(change)

    def noted(self, count: int) -> None:
        """The oldest `count` notes are in the audit trail."""
        self._change(lambda book: msgspec.structs.replace(book, notes=book.notes[count:]))

    # -- the file

    def _change(self, work: Callable[[Book], Book]) -> Book:
        with self._lock, self._alone():
            old = self.book()
            fresh = work(old)
            if fresh != old:
                self._write(msgspec.json.encode(fresh))
            return fresh

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock that this process shares with others."""
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        try:
            until_s = time.monotonic() + _LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until_s:
                        raise self._unusable("another process holds it") from None
                    time.sleep(0.01)
            yield
        finally:
            os.close(fd)

    def _write(self, data: bytes) -> None:
        try:
            replace_file(self._file, data)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error

    def _unusable(
        self, reason: str, hint: str = "see `storefront doctor`; nobody can sign in until then"
    ) -> Unavailable:
        return Unavailable("use accounts", str(self._file), reason, hint)


def network(address: str) -> str:
    """What counts as one address: IPv4 whole, IPv6 its /64, for a visitor has all of those."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return str(parsed)


def at_least(role: Role, wanted: Role) -> bool:
    """Whether `role` may do what `wanted` may."""
    return ROLES.index(role) >= ROLES.index(wanted)


def _check(name: str, pin: str) -> None:
    if not _NAME.match(pins.normal(name)):
        raise Rejected("check account", name[:40], "name", "1 to 32 letters, digits, dots, dashes and blanks")
    if weak := pins.weakness(pin, name):
        raise Rejected("check PIN", name[:40], weak, "six digits or more, not a row; or ten characters or more")


def _known(book: Book, name: str) -> Account:
    account = book.account(name)
    if account is None:
        raise Rejected("find account", name[:40], "unknown", "see `storefront account list`")
    return account


def _keeps_a_manager(book: Book, left: tuple[Account, ...], name: str) -> None:
    if book.set_up and not any(account.role == "manager" for account in left):
        raise Rejected("change account", name[:40], "last", "make somebody else a manager first")


def _forgotten(book: Book, *keys: str) -> Book:
    return msgspec.structs.replace(book, attempts={key: it for key, it in book.attempts.items() if key not in keys})
