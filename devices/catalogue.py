"""Which drivers there are: every file of `devices/drivers/` is one. Imports a driver only when it is asked for."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from devices import drivers
from devices.driver import DriverEntry, _registered
from gateway.errors import ConfigError


def names() -> list[str]:
    """Names of all drivers, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(drivers.__path__))


def load(name: str) -> DriverEntry:
    """The driver of that name.

    Raises:
        ConfigError: there is none; the hint lists those there are.
    """
    known = names()
    if name not in known:
        raise ConfigError("find driver", name, "there is no such driver", f"choose one of: {', '.join(known)}")
    module = importlib.import_module(f"devices.drivers.{name}")
    manual = inspect.cleandoc(module.__doc__ or "")
    return DriverEntry(name, _registered[name], manual, manual.partition("\n")[0])
