"""The configuration: every option is shown, every mistake is named with its place and a way out."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from config.loader import EXAMPLE, load, parse, resolve_secret
from config.settings import CameraSettings, DeviceSettings, Settings
from devices.plan import plan
from gateway.errors import ConfigError


def test_the_example_loads_and_its_devices_can_be_planned() -> None:
    """What we show to people is a configuration that works."""
    settings = load(EXAMPLE)
    assert [device.name for device in plan(settings, "example")] == ["gate", "till-1"]


def test_the_example_shows_every_option_with_its_default() -> None:
    """A section that is spelled out whole equals the built-in one, and no key of a table is missing."""
    settings, built_in = load(EXAMPLE), Settings()
    for name in ("gateway", "storage", "broker", "page", "presence", "platform", "feed", "log"):
        assert getattr(settings, name) == getattr(built_in, name)
    text = EXAMPLE.read_text("utf-8")

    def keys(struct: type[msgspec.Struct]) -> set[str]:
        return {field.encode_name for field in msgspec.structs.fields(struct)}

    sections = [type(getattr(built_in, name)) for name in ("gateway", "storage", "broker", "page", "presence")]
    for struct in (*sections, type(built_in.storage.retention), DeviceSettings, CameraSettings):
        missing = {key for key in keys(struct) if not re.search(rf"^\[*(\w+\.)?{key}\b", text, re.MULTILINE)}
        assert not missing, f"{struct.__name__}: {missing}"


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("[gatewy]", "gatewy: unknown key", "did you mean gateway?"),
        ('[gateway]\nstor = "1"', "gateway.stor: unknown key", "did you mean store?"),
        ('[[devices]]\nname = "a"\ndriver = "x"\nzonne = "b"', "devices[0].zonne: unknown key", "did you mean zone?"),
        ('[[devices]]\nname = "a"', "devices[0].driver: missing", "required"),
        ('[[devices]]\nname = "a"\ndriver = "x"\nstale_after_s = "5"', "devices[0].stale_after_s: expected float", ""),
        ("[storage]\nmax_mib = 1", "storage.max_mib: expected int >= 8", ""),
        ('[storage]\nprofile = "ram"', "storage.profile: invalid enum value 'ram'", ""),
        ('[gateway]\ntime_zone = "Mars/Olympus"', "gateway.time_zone: unknown time zone", "IANA"),
        ('[gateway]\nname = "a/b"', "gateway.name: expected str matching regex", ""),
        ('[broker]\nmode = "external"', "broker.url: missing", "mqtt://"),
        ('[broker]\nmode = "external"\nurl = "http://x"', "broker.url: it is no broker address", "mqtt"),
        ('[broker]\npassword = "hunter2"', "broker.password: a secret stands", "file:/path"),
        (
            '[[devices]]\nname = "a"\ndriver = "x"\n[[devices]]\nname = "a"\ndriver = "y"',
            "devices[1].name: 'a' is the name of devices[0] already", "its own",
        ),
        ("x = = 1", "not valid TOML", "line"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place_and_a_hint(text: str, place: str, hint: str) -> None:
    """Whoever wrote the file sees which key is wrong and what to write instead."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "shop.toml")
    assert caught.value.subject == "shop.toml"
    assert place in caught.value.reason
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("device", "place"),
    [
        ('driver = "uhf_m1000"\naddress = "/dev/x"', "devices[0].driver: 'uhf_m1000' is unknown"),
        ('driver = "uhf_m100"', "devices[0].address: missing"),
        ('driver = "rdm6300"\naddress = "/dev/x"\noptions = { baud = "fast" }', "devices[0].options.baud: expected int"),  # noqa: E501
        ('driver = "rdm6300"\naddress = "/dev/x"\noptions = { bauds = 1 }', "devices[0].options.bauds: unknown key"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_devices_options_has_the_full_path(device: str, place: str) -> None:
    """Options belong to the driver, yet the error speaks of the file."""
    settings = parse(f'[[devices]]\nname = "a"\n{device}', "shop.toml")
    with pytest.raises(ConfigError) as caught:
        plan(settings, "shop.toml")
    assert place in caught.value.reason
    assert "| null" not in caught.value.reason


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    """A wrong --config is told as such."""
    with pytest.raises(ConfigError, match="nowhere"):
        load(tmp_path / "nowhere.toml")


def test_secrets_come_by_reference_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that others can read, a missing variable and a literal secret are refused; references resolve."""
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        resolve_secret(f"file:{secret}", "broker.password")
    secret.chmod(0o600)
    assert resolve_secret(f"file:{secret}", "broker.password") == "s3cret"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert resolve_secret("credential:password", "broker.password") == "s3cret"
    monkeypatch.setenv("MQTT_PASSWORD", "from-env")
    assert resolve_secret("env:MQTT_PASSWORD", "broker.password") == "from-env"
    assert resolve_secret("", "broker.password") == ""
    with pytest.raises(ConfigError, match="has no NO_SUCH"):
        resolve_secret("env:NO_SUCH", "broker.password")
    with pytest.raises(ConfigError, match="stands in the configuration"):
        resolve_secret("hunter2", "broker.password")
