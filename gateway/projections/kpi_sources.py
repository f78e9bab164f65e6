"""The sources of key figures by the configuration: whether anything counts people, and which devices are tills."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from config.settings import DeviceSettings, Settings
from gateway.projections.kpi import Sources
from gateway.projections.opening import opening


class Driven(Protocol):
    """A driver's class, as far as asked here."""

    @property
    def sales(self) -> bool:
        """Whether it speaks for a till."""
        ...


class Plan(Protocol):
    """A device's plan (`devices.plan.DevicePlan`)."""

    @property
    def settings(self) -> DeviceSettings:
        """Its table of the configuration."""
        ...

    @property
    def driver(self) -> Driven:
        """Its driver's class."""
        ...


def sells(plan: Plan) -> bool:
    """Whether the device is a till: its driver says so, or belongs to the family of tills."""
    return bool(plan.driver.sales) or plan.settings.driver.startswith("pos_")


def sources_of(settings: Settings, plans: Iterable[Plan]) -> Sources:
    """The sources of the shop.

    Raises:
        ConfigError: the opening hours are none.
    """
    return Sources(
        counter=any(camera.enabled for camera in settings.cameras),
        tills=tuple(plan.settings.name for plan in plans if sells(plan)),
        currency=settings.gateway.currency,
        opening=opening(settings.gateway.opening_hours),
    )
