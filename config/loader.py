"""Reads TOML into `Settings`, and says precisely what is wrong with it: file, path of the key, what was expected.

Secrets are never in the file, only references to them (`file:`, `env:`, `credential:`). Knows no driver.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from config.settings import AlertSettings, PrivacySettings, Settings
from gateway.errors import ConfigError

T = TypeVar("T")

HERE = Path(__file__).parent
EXAMPLE = HERE / "gateway.example.toml"
DEMO = HERE / "demo.toml"

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`")


def state_directory() -> Path:
    """Where the gateway keeps its data unless told otherwise: the user's state directory."""
    base = os.environ.get("STATE_DIRECTORY", "").split(":")[0]  # set by systemd
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "storefront"


def data_directory(settings: Settings) -> Path:
    """The directory of the journal and everything beside it."""
    directory = settings.storage.directory
    return Path(directory).expanduser() if directory else state_directory()


def journal_path(settings: Settings) -> Path:
    """The journal's database file."""
    return data_directory(settings) / "journal.db"


def load(path: Path) -> Settings:
    """Read and check a configuration file.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or says something it may not; every such error names the
            file, the key and what to write instead.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(
            "read configuration", str(path), error.strerror or str(error), "give the right file with --config"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("read configuration", str(path), "it is not UTF-8 text", "save it as UTF-8") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Settings:
    """Check configuration text; `name` stands in errors where the file's name would.

    Raises:
        ConfigError: see `load`.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("read configuration", name, f"not valid TOML: {error}", "see the line it names") from error
    except (RecursionError, ValueError) as error:  # what tomllib does with a number or a nesting beyond all bounds
        reason = "nested too deep" if isinstance(error, RecursionError) else "a number has too many digits"
        raise ConfigError("read configuration", name, reason, "is it the right file? no option needs this") from error
    settings = convert(tables, Settings, name)
    _check(settings, name)
    return settings


def convert(table: object, into: type[T], file: str, prefix: str = "") -> T:
    """Convert plain TOML values into a struct.

    Args:
        table: what tomllib gave.
        into: the struct.
        file: named in errors.
        prefix: where `table` stands in the file, as in `devices[2].options`.

    Raises:
        ConfigError: with the full path of the offending key and what was expected there.
    """
    try:
        return msgspec.convert(table, into, strict=True)
    except msgspec.ValidationError as error:
        match = _AT.match(str(error))
        what, path = (match["what"], match["path"] or "$") if match else (str(error), "$")
        place = (prefix + path.removeprefix("$")).lstrip(".")
        hint = ""
        if unknown := _UNKNOWN.search(what):
            place = f"{place}.{unknown['name']}".lstrip(".")
            what, hint = "unknown key", _suggest(unknown["name"], into, path)
        elif missing := _MISSING.search(what):
            place = f"{place}.{missing['name']}".lstrip(".")
            what, hint = "missing", "this key is required"
        else:
            what = what[:1].lower() + what[1:].replace("`", "").replace(" | null", "")
        raise ConfigError("read configuration", file, f"{place or 'file'}: {what}", hint) from error


def resolve_secret(reference: str, where: str) -> str:
    """The secret that a reference names; "" for an empty reference.

    Args:
        reference: `file:/path` (mode 0600 or narrower), `env:NAME`, or `credential:NAME` (systemd LoadCredential).
        where: path of the key, for the error.

    Raises:
        ConfigError: it is not a reference, or what it names is missing or readable by others.
    """
    if not reference:
        return ""
    kind, _, name = reference.partition(":")
    if kind == "env":
        if (value := os.environ.get(name)) is None:
            raise ConfigError("read secret", where, f"the environment has no {name}", f"set {name} before the start")
        return value
    if kind == "credential":
        directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
        if not directory:
            raise ConfigError(
                "read secret", where, "no credentials were passed", f"add LoadCredential={name}:… to the systemd unit"
            )
        return _read_secret(Path(directory) / name, where, check_mode=False)
    if kind == "file":
        return _read_secret(Path(name), where, check_mode=True)
    raise ConfigError(
        "read secret", where, "the secret itself stands in the configuration",
        "write a reference: file:/path, env:NAME or credential:NAME",
    )  # fmt: skip


def _read_secret(path: Path, where: str, *, check_mode: bool) -> str:
    try:
        if check_mode and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError("read secret", where, f"{path} can be read by others", f"chmod 600 {path}")
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise ConfigError("read secret", where, f"{path}: {error.strerror}", "create the file, mode 0600") from error


def _check(settings: Settings, name: str) -> None:
    """What types cannot say."""
    for place, problem, hint in _problems(settings):
        raise ConfigError("read configuration", name, f"{place}: {problem}", hint)


def _problems(settings: Settings) -> Iterator[tuple[str, str, str]]:
    try:
        ZoneInfo(settings.gateway.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: `Asia` is a directory of zones
        yield (
            "gateway.time_zone",
            f"unknown time zone {settings.gateway.time_zone[:64]!r}",
            "use an IANA name: Asia/Shanghai",
        )
    if settings.broker.mode == "external" and not settings.broker.url:
        yield "broker.url", "missing", "external brokers need one: mqtt://host:1883 or mqtts://host:8883"
    if settings.broker.url and not re.match(r"^mqtts?://[^/\s]+$", settings.broker.url):
        yield (
            "broker.url",
            "it is no broker address",  # not quoted: it may hold a password
            "write mqtt://host:1883 or mqtts://host:8883; user name and password stand by themselves",
        )
    names = {
        "devices": [device.name for device in settings.devices],
        "cameras": [camera.name for camera in settings.cameras],
    }
    for kind, entries in names.items():
        seen: dict[str, int] = {}
        for index, entry in enumerate(entries):
            if entry in seen:
                yield (
                    f"{kind}[{index}].name", f"{entry!r} is the name of {kind}[{seen[entry]}] already",
                    "give each its own",
                )  # fmt: skip
            seen[entry] = index
    for index, camera in enumerate(settings.cameras):
        if camera.name in names["devices"]:
            yield f"cameras[{index}].name", f"{camera.name!r} is the name of a device already", "give each its own"
    secrets = {
        "broker.password": settings.broker.password,
        "platform.token": settings.platform.token,
        "platform.log.password": settings.platform.log.password,
        **{f"cameras[{index}].password": camera.password for index, camera in enumerate(settings.cameras)},
        **{f"feed.consumers[{index}].token": it.token for index, it in enumerate(settings.feed.consumers)},
        **{f"coupons.tills[{index}].token": it.token for index, it in enumerate(settings.coupons.tills)},
        **{f"alerts.webhooks[{index}].url": it.url for index, it in enumerate(settings.alerts.webhooks)},
        **{f"alerts.webhooks[{index}].secret": it.secret for index, it in enumerate(settings.alerts.webhooks)},
    }
    for place, value in secrets.items():
        if value and value.partition(":")[0] not in ("file", "env", "credential"):
            yield (
                place, "a secret stands in the configuration",
                "write a reference: file:/path, env:NAME or credential:NAME",
            )  # fmt: skip
    yield from _privacy_problems(settings.privacy)
    platform, feed = settings.platform, settings.feed
    missing = {"none": "", "mtls": "cert_file"}.get(platform.auth, "token")
    if platform.url and missing and not getattr(platform, missing):
        yield f"platform.{missing}", "missing", f'auth = "{platform.auth}" needs it; auth = "none" suits a demo only'
    if platform.log.kind and not platform.log.servers:
        yield "platform.log.servers", "missing", "name some of the log's servers"
    for place, server in (("page", settings.page), ("feed", feed)):
        if bool(server.cert_file) != bool(server.key_file):
            yield f"{place}.{'key_file' if server.cert_file else 'cert_file'}", "missing", "give both, or neither"
    yield from _coupon_problems(settings)
    yield from _alert_problems(settings.alerts)
    for index, prefix in enumerate(settings.interaction.prefixes):
        if not prefix.endswith(("/", ":", "=", "?", "#")) or not prefix.isascii() or not prefix.isprintable():
            yield (
                f"interaction.prefixes[{index}]", "it could be the beginning of somebody else's address",
                "end it where the campaign begins, as in https://shop.example/q/",
            )  # fmt: skip


def _coupon_problems(settings: Settings) -> Iterator[tuple[str, str, str]]:
    coupons = settings.coupons
    for kind, names in (("keys", [key.id for key in coupons.keys]), ("tills", [till.name for till in coupons.tills])):
        for index, name in enumerate(names):
            if name in names[:index]:
                yield f"coupons.{kind}[{index}]", f"{name!r} is there already", "give each its own"
    if not coupons.enabled:
        return
    if coupons.http and coupons.host not in ("127.0.0.1", "::1", "localhost"):
        if not coupons.cert_file:
            yield (
                "coupons.cert_file",
                "missing",
                "coupons travel in the shop encrypted only: give cert_file and key_file",
            )
        if not coupons.tills:
            yield "coupons.tills", "missing", "on any address but loopback every till needs a token of its own"
    if coupons.mqtt and settings.broker.mode == "none" and not coupons.http:
        yield "coupons.mqtt", "there is no broker", "set broker.mode, or coupons.http"


def _alert_problems(alerts: AlertSettings) -> Iterator[tuple[str, str, str]]:
    causes, hooks = [rule.cause for rule in alerts.rules], [hook.name for hook in alerts.webhooks]
    for place, names in (("rules", causes), ("webhooks", hooks)):
        for index, name in enumerate(names):
            if name in names[:index]:
                yield f"alerts.{place}[{index}]", f"{name!r} is there already", "one table each"
    for index, hook in enumerate(alerts.webhooks):
        if not hook.url:
            yield (
                f"alerts.webhooks[{index}].url",
                "missing",
                "write a reference: file:/path, env:NAME or credential:NAME",
            )


def _privacy_problems(privacy: PrivacySettings) -> Iterator[tuple[str, str, str]]:
    for key, text in privacy.seal_keys.items():
        try:
            length = len(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            length = 0
        if length != 32:
            yield (
                f"privacy.seal_keys.{key}", "it is no X25519 public key",
                "32 bytes in base64, 44 characters, as the platform gives them out",
            )  # fmt: skip
    if privacy.seal_with and privacy.seal_with not in privacy.seal_keys:
        yield "privacy.seal_with", "there is no such key in privacy.seal_keys", "name one of them, or leave it empty"
    for name in privacy.scheme_names:
        if not name.strip() or len(name) > 64:
            yield "privacy.scheme_names", "a name is empty or longer than 64 characters", "write what the till says"


def _suggest(name: str, into: type[Any], path: str) -> str:
    """`did you mean …` for a key that is nearly one of the struct's at `path`."""
    target: Any = into
    for part in re.findall(r"\.(\w+)", path):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(target)}
        target = _struct_in(fields.get(part))
        if target is None:
            return ""
    known = [field.encode_name for field in msgspec.structs.fields(target)]
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"


def _struct_in(annotation: Any) -> Any:
    """The struct inside an annotation such as `tuple[Struct, ...]`, or None."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _struct_in(inner)) is not None:
            return found
    return None
