"""The notice lists what is switched on, and nothing else."""

from __future__ import annotations

import pytest

from config.settings import CameraSettings, DeviceSettings, PlatformSettings, PrivacySettings, Settings
from devices import catalogue
from gateway.status.notice import notice_of
from gateway.status.setup_words import PURPOSES, SENSES


def test_only_what_is_switched_on_is_listed_with_its_own_days() -> None:
    settings = Settings(
        devices=(
            DeviceSettings(name="a", driver="pos_json"), DeviceSettings(name="b", driver="rdm6300", personal=True),
            DeviceSettings(name="c", driver="uhf_m100", enabled=False),
        ),
        cameras=(CameraSettings(name="d", source="usb:0"), CameraSettings(name="e", source="usb:1", enabled=False)),
    )  # fmt: skip
    notice = notice_of(settings)
    assert [(it.key, it.count, it.days) for it in notice.senses] == [
        ("camera", 1, 60),
        ("till", 1, 90),
        ("cards", 1, 14),
    ]
    assert notice.purposes == ("visits",) and notice.host == ""


def test_nothing_is_said_of_persons_where_nothing_could_name_one() -> None:
    notice = notice_of(Settings(cameras=(CameraSettings(name="d", source="usb:0"),)))
    assert not notice.named and notice.purposes == ()


@pytest.mark.parametrize("driver", [*catalogue.names(), "one_of_tomorrow"])
@pytest.mark.parametrize("personal", [False, True])
def test_every_driver_is_named_in_words(driver: str, personal: bool) -> None:
    notice = notice_of(Settings(devices=(DeviceSettings(name="a", driver=driver, personal=personal),)))
    assert {it.key for it in notice.senses} <= set(SENSES) and notice.senses


def test_the_platform_is_named_by_its_host_alone() -> None:
    platform = PlatformSettings(url="https://hq.example:8443/x", auth="none")
    till = (DeviceSettings(name="a", driver="pos_json"),)
    notice = notice_of(Settings(platform=platform, devices=till, privacy=PrivacySettings(contact="<b>")))
    assert notice.host == "hq.example" and set(notice.purposes) == set(PURPOSES) and notice.contact == "<b>"
