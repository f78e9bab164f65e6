"""`setup-code`, `account …` and `audit …`: who works at the page, from the box itself, whether the gateway runs or not.

Whoever may write the data directory may do this; it is how a manager who is locked out gets back in. Acts are noted
beside the accounts, and the running gateway puts them into the audit trail.
"""

from __future__ import annotations

import getpass
import sys
from datetime import UTC, datetime
from pathlib import Path

from config.loader import data_directory, journal_path
from gateway.access import pins
from gateway.access.accounts import Accounts, Role
from gateway.access.audit import newest, records, verify
from gateway.clock import SystemClock
from gateway.commands.common import print_json, settings_of
from gateway.commands.ownership import as_owner, become_owner
from gateway.errors import Rejected, Unavailable
from gateway.journal.reader import JournalReader

_REASONS = {
    "short": "the PIN is too short: six digits or more, or ten characters or more",
    "long": "the PIN is too long",
    "obvious": "the PIN is too easy to guess",
    "name": "the name will do with 1 to 32 letters, digits, dots, dashes and blanks",
    "taken": "that name is taken",
    "full": "there are too many accounts",
    "unknown": "there is no such account",
    "last": "the last manager stays one; make somebody else a manager first",
}
_FINDINGS = {
    "changed": "was changed: its hash is not its own",
    "broken": "does not follow the record before it",
    "missing": "is preceded by {missing} missing",
    "new_chain": "begins a new chain: the gateway had lost its place",
}


def setup_code(config: Path | None, *, as_json: bool) -> int:
    """Make and print a set-up code."""
    settings = settings_of(config)
    code = _accounts(config).new_setup_code()
    if as_json:
        print_json({"code": code})
    else:
        print(f"Set-up code: {code}")
        print(f"Enter it at /setup of the page (port {settings.page.port}). It replaces every earlier one.")
    return 0


def listing(config: Path | None, *, as_json: bool) -> int:
    """The accounts there are."""
    accounts = _accounts(config)
    rows = [
        {"name": it.name, "role": it.role, "locked_s": round(accounts.locked_s(it.name))}
        for it in accounts.book().accounts
    ]
    if as_json:
        print_json(rows)
        return 0
    for row in rows:
        locked = f"   locked for {row['locked_s']} s" if row["locked_s"] else ""
        print(f"{row['name']:<32} {row['role']}{locked}")
    if not rows:
        print("No accounts yet: storefront setup-code")
    return 0


def add(config: Path | None, name: str, role: Role) -> int:
    """A new account; asks for the PIN."""
    accounts = _accounts(config)
    pin = _ask()
    with _Plain():
        accounts.note("account.add", f"{name[:32]} {role}")
        accounts.add(name, role, pin)
    return 0


def reset(config: Path | None, name: str) -> int:
    """A new random PIN for an account, printed once; lifts its lock and ends its sessions."""
    accounts = _accounts(config)
    pin = pins.new_pin()
    with _Plain():
        accounts.note("account.reset", name[:32])
        accounts.set_pin(name, pin)
    print(f"New PIN of {name}: {pin}\nChange it after signing in.")
    return 0


def remove(config: Path | None, name: str) -> int:
    """Take an account away, also the last manager: the page is then to be set up again."""
    accounts = _accounts(config)
    with _Plain():
        accounts.note("account.remove", name[:32])
        accounts.remove(name, even_last=True)
    return 0


def audit_list(config: Path | None, limit: int, *, as_json: bool) -> int:
    """The newest records."""
    with JournalReader(journal_path(settings_of(config))) as reader:
        found = newest(reader, limit, looked_through=1_000_000)
    if as_json:
        print_json(found)
        return 0
    for it in found:
        who = f"{it.account or '-'} ({it.role or '-'})"
        print(f"{it.number:>6}  {it.at}  {who:<24} {it.act:<18} {it.outcome:<8} {it.subject}")
    if not found:
        print("The audit trail is empty.")
    return 0


def audit_verify(config: Path | None, *, as_json: bool) -> int:
    """Check the whole chain; 1 when something is wrong."""
    with JournalReader(journal_path(settings_of(config))) as reader:
        count, findings = verify(records(reader))
    if as_json:
        print_json({"ok": not findings, "records": count, "findings": findings})
    else:
        for finding in findings:
            print(f"record {finding.number} {_FINDINGS[finding.what].format(missing=finding.missing)}")
        print(f"{count} records, {'the chain is whole' if not findings else f'{len(findings)} faults'}")
    return int(bool(findings))


def tls_show(config: Path | None, *, as_json: bool) -> int:
    """The store's authority and what it has issued."""
    from gateway.access.certificates import StoreCa

    settings = settings_of(config)
    authority = StoreCa(data_directory(settings), settings.gateway.store, SystemClock())
    issued = {server: it for server in ("page", "feed") if (it := authority.present(server)) is not None}
    if as_json:
        print_json({"authority": authority.fingerprint(), "issued": issued})
        return 0
    if not authority.fingerprint():
        print("There is no authority of this store's own: it is made when page.host is not loopback.")
        return 0
    print(f"authority   SHA-256 {authority.fingerprint()}\n            {authority.certificate}")
    for server, it in issued.items():
        until = datetime.fromtimestamp(it.expires_s, UTC)
        print(f"{server:<11} until {until:%Y-%m-%d}  for {', '.join(it.names)}")
    return 0


def tls_export(config: Path | None, target: Path) -> int:
    """Copy the authority's certificate (never its key) to where a phone can fetch it."""
    settings = settings_of(config)
    directory = data_directory(settings)
    source = directory / "tls" / "ca.pem"
    if source.exists():
        with as_owner(directory):
            Accounts(directory, SystemClock()).note("tls.export", target.name)
    try:
        target.write_bytes(source.read_bytes())
    except OSError as error:
        raise Unavailable(
            "export authority", str(target), error.strerror or str(error),
            "the authority is made at the first start with page.host on the network",
        ) from error  # fmt: skip
    print(f"{target}: install it on the phones and computers of the staff as a trusted authority.")
    return 0


def _accounts(config: Path | None) -> Accounts:
    directory = data_directory(settings_of(config))
    become_owner(directory)
    return Accounts(directory, SystemClock())


def _ask() -> str:
    """The PIN, typed unseen, or the first line of what is piped in."""
    return getpass.getpass("PIN: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")


class _Plain:
    """Says a refusal in words instead of its key."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Rejected) and error.reason in _REASONS:
            raise Rejected(error.operation, error.subject, _REASONS[error.reason], error.hint) from error
