"""What an MQTT session may be set to."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.transports.mqtt_settings import MqttSettings, Tls, broker_address, distinct_filters, valid_filter
from gateway.errors import ConfigError


@pytest.mark.parametrize(
    ("topics", "left"),
    [
        (["a/#", "a/b", "a", "b/c"], ("a/#", "b/c")),
        (["a/+/c", "a/b/c", "a/b"], ("a/+/c", "a/b")),
        (["#", "a", "$SYS/x"], ("#", "$SYS/x")),
        (["+/x", "$SYS/x"], ("+/x", "$SYS/x")),
        (["a/+", "+/b"], ("a/+", "+/b")),
        (["a/+", "a/#"], ("a/#",)),
        (["a", "a"], ("a",)),
        ([], ()),
    ],
)
def test_a_filter_that_another_covers_is_left_out(topics: list[str], left: tuple[str, ...]) -> None:
    """No message matches two filters because one contains the other; filters for $ topics are never contained in #."""
    assert distinct_filters(topics) == left


@pytest.mark.parametrize("topic", ["a/#/b", "a+", "a/b#", "", "x\0y", "x" * 65536])
def test_what_is_no_filter_is_refused(topic: str) -> None:
    """A wildcard stands alone in its level, # is last, and length and NUL are as the standard says."""
    assert not valid_filter(topic)
    with pytest.raises(ConfigError):
        MqttSettings(client_id="gw", topics=(topic,)).check()


@pytest.mark.parametrize("topic", ["#", "+", "a/+/b/#", "/", "a//b", "$SYS/#", "门/+"])
def test_filters_of_every_kind_are_taken(topic: str) -> None:
    """What the standard allows is allowed."""
    MqttSettings(client_id="gw", topics=(topic,)).check()


@pytest.mark.parametrize(
    "wrong", [{"client_id": ""}, {"client_id": "x", "port": 0}, {"client_id": "x", "receive_maximum": 0}]
)
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    """An empty client id or an impossible number is a configuration error."""
    with pytest.raises(ConfigError):
        MqttSettings(**wrong).check()  # type: ignore[arg-type]


def test_the_password_is_not_in_the_text() -> None:
    """Settings can be logged."""
    assert "secret" not in repr(MqttSettings(client_id="gw", username="u", password="secret"))


def test_a_missing_certificate_is_a_configuration_error(tmp_path: Path) -> None:
    """The file is named."""
    settings = MqttSettings(client_id="gw", tls=Tls(ca=str(tmp_path / "ca.pem")))
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        settings.ssl_context()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", ("broker", 1883, False)),
        ("mqtts://broker", ("broker", 8883, True)),
        ("mqtt://[::1]:99/", ("::1", 99, False)),
    ],
)
def test_an_address_is_read(url: str, expected: tuple[str, int, bool]) -> None:
    """Host, port and TLS, with the usual ports."""
    assert broker_address(url) == expected


@pytest.mark.parametrize("url", ["broker", "http://x", "mqtt://", "mqtt://u:p@x", "mqtt://x:99999", "mqtt://x/y"])
def test_a_wrong_address_is_refused_without_repeating_a_secret(url: str) -> None:
    """What is no broker's address is a configuration error; credentials in it are neither taken nor shown."""
    with pytest.raises(ConfigError) as caught:
        broker_address(url)
    assert "u:p" not in str(caught.value)
