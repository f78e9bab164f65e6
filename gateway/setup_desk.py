"""Setting the shop up from the page: the configuration file as it stands, changes to it, and a certificate for a code.

Every change goes through `config.edit`: checked whole, written in one step, comments kept. A change says what it was
made for (`mark`), so that what somebody else has written meanwhile is never overwritten unseen. Any thread. Knows no
HTTP; the roles and the audit trail are the page's.
"""

from __future__ import annotations

import re
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from config.edit import LIVE, digest_of, edit, restart_needed
from config.fields import Field, fields_of
from config.loader import data_directory, parse
from config.settings import Settings
from gateway.errors import ConfigError, Rejected
from gateway.status.setup_values import Certificate, Conflict, DriverLine, NotTaken, Now, mark_of

_TRIES = 3  # another thing in the file may be edited between our look and our edit
_PLACE = re.compile(r"^(?P<place>[a-z_]+(?:\[\d+\])?(?:\.[^:\s]+)?): (?P<what>.*)$", re.DOTALL)
_DRAWN = ("lines", "zones", "masks", "person_size")
_LINE_FIELDS = ("baud", "bytesize", "parity")


class Gateway(Protocol):
    """What is needed of `gateway.app.Gateway`."""

    settings: Settings
    file: Path | None

    def check(self, settings: Settings) -> None:
        """Look at what the loader cannot know; raises ConfigError."""
        ...

    def ask_reload(self) -> None:
        """Have the file read again soon."""
        ...


class SetupDesk:
    """See `gateway.status.setup_values.SetupDesk`."""

    def __init__(self, gateway: Gateway) -> None:
        """Store."""
        self._gateway = gateway
        self._one = threading.Lock()  # of this page's changes at a time; other editors are met by the file's digest

    def now(self) -> Now:
        """The file as it stands, and what of it does not run yet.

        Raises:
            ConfigError: it cannot be read, or somebody has broken it.
        """
        file, running = self._gateway.file, self._gateway.settings
        if file is None:
            return Now(tables=_plain(running), writable=False)
        text = _read(file)
        fresh = parse(text, file.name)
        return Now(
            tables=tomllib.loads(text), writable=True, restart=restart_needed(running, fresh),
            pending=any(getattr(running, name) != getattr(fresh, name) for name in LIVE),
        )  # fmt: skip

    def drivers(self) -> list[DriverLine]:
        """All drivers there are."""
        from devices import catalogue  # all of them are loaded: only when somebody looks

        found = [catalogue.load(name) for name in catalogue.names()]
        return [DriverLine(it.name, it.cls.wire, it.summary, it.manual, it.cls.topics) for it in found]

    def driver_fields(self, name: str) -> tuple[Field, ...]:
        """A driver's own options.

        Raises:
            ConfigError: there is no such driver.
        """
        from devices.catalogue import load
        from devices.plan import LineOptions

        entry = load(name)
        own = fields_of(entry.cls.options_type, "options.", manual=entry.manual)
        if entry.cls.wire != "serial":
            return own
        have = {field.key for field in own}
        usual = {key: str(getattr(entry.cls, key)) for key in _LINE_FIELDS}
        line = [field for field in fields_of(LineOptions, "options.") if field.key not in have]
        return own + tuple(msgspec.structs.replace(field, default=usual[field.key]) for field in line)

    def camera_fields(self) -> tuple[Field, ...]:
        """A camera's options but what is drawn in its picture."""
        from gateway.counting.camera_plan import CameraOptions

        return fields_of(CameraOptions, "options.", leave_out=_DRAWN)

    def save(self, changes: Mapping[str, Any], below: str, mark: str | None) -> None:
        """Write changes and have the gateway take over what it can while it runs.

        Raises:
            Conflict: somebody has changed the same entry since the visitor saw it.
            NotTaken: the file would be wrong; it says where.
            Rejected, ConfigError: there is no file, or it is broken already.
            Unavailable: the file cannot be written.
        """
        file = self._gateway.file
        if file is None:
            raise Rejected("save", below, "this gateway runs without a file", "start it with --config")
        with self._one:
            for attempt in range(_TRIES):
                digest = digest_of(file)
                now = self.now()
                if mark is not None and mark != mark_of(now, below):
                    raise Conflict("save", below, "somebody has changed it meanwhile", "look at what is there now")
                try:
                    edit(file, changes, expected=digest, check=self._gateway.check)
                    break
                except ConfigError as error:
                    raise _not_taken(error, below, now) from error
                except Rejected:
                    if attempt + 1 == _TRIES or digest_of(file) == digest:
                        raise
        self._gateway.ask_reload()

    def enrol(self, url: str, code: str, ca_file: str) -> str:
        """Get a certificate from the platform and write `[platform]`.

        Raises:
            Rejected: the platform does not take the code.
            ConfigError: the address cannot be used, or the files cannot.
            Unavailable: no answer; the same code may be tried again.
        """
        from sync.enrolment import Identity, enrol, platform_table
        from sync.http_client import ClientOptions, HttpClient

        if not self.now().writable:  # looked at before the code is used up
            raise Rejected("enrol", "platform", "this gateway runs without a file", "start it with --config")
        settings = self._gateway.settings
        ca = Path(ca_file) if ca_file else None
        if ca is not None and not ca.is_file():
            raise ConfigError("enrol", ca_file[:200], "there is no such file", "the authority's certificate, PEM")
        options = ClientOptions(url=url, ca=ca, connect_s=4.0, read_s=10.0, total_s=15.0)
        options.check()
        identity = Identity(data_directory(settings).absolute() / "keys")
        client = HttpClient(options)
        try:
            done = enrol(client, identity, settings.gateway.name, code)
        finally:
            client.close()
        table = platform_table(url, ca, identity, done)
        self.save({f"platform.{key}": value for key, value in table.items()}, "platform", None)
        return done.not_after

    def certificate(self) -> Certificate | None:
        """The certificate that the file names, else the one that enrolment left here; None without."""
        from cryptography import x509
        from cryptography.x509.oid import NameOID

        settings = self._gateway.settings
        path = Path(settings.platform.cert_file or data_directory(settings) / "keys" / "platform.pem")
        if not path.exists() and not settings.platform.cert_file:
            return None
        try:
            found = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as error:
            return Certificate(problem=str(error)[:200])
        names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return Certificate(
            name=str(names[0].value) if names else "", since_ms=int(found.not_valid_before_utc.timestamp() * 1000),
            until_ms=int(found.not_valid_after_utc.timestamp() * 1000),
        )  # fmt: skip


def _not_taken(error: ConfigError, below: str, now: Now) -> NotTaken:
    """The error with its place told from the entry, as in `options.power_dbm`."""
    found = _PLACE.match(error.reason)
    if found is None:
        return NotTaken("", error.reason, error.hint)
    table, _, name = below.partition(".")
    place, what = found["place"], found["what"]
    if place.endswith(".options") and (own_check := _PLACE.match(what)):  # a driver's own check names its option first
        place, what = f"{place}.{own_check['place']}", own_check["what"]
    if name:
        names = [one.get("name") for one in now.tables.get(table, ())]
        index = names.index(name) if name in names else len(names)
        own = f"{table}[{index}]"
        place = place.removeprefix(own).lstrip(".") if place.startswith(own) else ""
    return NotTaken(place, what if place else error.reason, error.hint)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("read configuration", file.name, str(error)[:200], "look at the file on the box") from error


def _plain(settings: Settings) -> dict[str, Any]:
    plain = msgspec.to_builtins(settings)
    assert isinstance(plain, dict)
    return plain
