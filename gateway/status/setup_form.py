"""A form of the set-up pages: which fields it has, what was written into them, and what is wrong with which.

Values only, made from a table of the file or from what a visitor sent. Knows no request, no page and no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from config.fields import Field, field_at, fields_of, texts
from config.settings import CameraSettings, DeviceSettings, GatewaySettings, PrivacySettings
from gateway.errors import StorefrontError
from gateway.status.setup_values import Conflict, NotTaken

_ABOUT_PRIVACY = ("controller", "contact")
NAME_FIELD = Field(name="name", kind="text", required=True)

STORE_FIELDS = (
    *fields_of(GatewaySettings, "gateway.", leave_out=("tenant",)),
    *(it for it in fields_of(PrivacySettings, "privacy.") if it.key in _ABOUT_PRIVACY),
)
DEVICE_FIELDS = fields_of(DeviceSettings, leave_out=("name", "driver", "options"))
CAMERA_FIELDS = fields_of(CameraSettings, leave_out=("name", "options"))
NOT_ON = {"serial": ("topics",), "mqtt": ("address", "antenna_zones")}
_RARE = ("antenna_zones", "depart_after_s", "stale_after_s", "policy", "keep_text")


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with a field: `key` of `setup_words.WRONG`, else the loader's own `reason`, with its `hint`."""

    key: str = ""
    reason: str = ""
    hint: str = ""


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A form as it is shown. `theirs`: what stands in the file now, where somebody has changed it meanwhile."""

    fields: tuple[Field, ...]
    values: Mapping[str, str]
    mark: str = ""
    wrong: Mapping[str, Problem] = {}
    theirs: Mapping[str, str] = {}
    problem: Problem | None = None
    edited: bool = False

    def has_options(self) -> bool:
        """Whether some are the driver's own."""
        return any(it.name.startswith("options.") for it in self.fields)

    def main(self) -> list[Field]:
        """Those that most devices need."""
        return [it for it in self.fields if it not in self.rare()]

    def rare(self) -> list[Field]:
        """The others; one that is wrong is among the first."""
        return [it for it in self.fields if it.key in _RARE and not it.required and it.name not in self.wrong]


def shown(wanted: tuple[Field, ...], table: Mapping[str, Any], mark: str) -> Form:
    """The form of what stands in a table."""
    return Form(fields=wanted, values=texts(wanted, table), mark=mark)


def given_values(wanted: Sequence[Field], given: Mapping[str, str]) -> dict[str, str]:
    """What was written into the fields; "" where nothing was."""
    return {field.name: given.get(field.name, "") for field in wanted}


def marked(form: Form, error: StorefrontError) -> Form:
    """The form with the loader's error at its field, or on top."""
    problem = Problem(reason=error.reason, hint=error.hint)
    name = field_at(error.place, form.fields) if isinstance(error, NotTaken) else ""
    if name:
        return msgspec.structs.replace(form, wrong={name: problem})
    return msgspec.structs.replace(form, problem=problem)


def problem_of(error: StorefrontError | None) -> Problem | None:
    """What to say on top of a form; None without an error."""
    if error is None:
        return None
    if isinstance(error, Conflict):
        return Problem("edited")
    place = f"{error.place}: " if isinstance(error, NotTaken) and error.place else ""
    return Problem(reason=place + error.reason, hint=error.hint)


def status_of(form: Form) -> int:
    """The answer's HTTP status."""
    return 409 if form.edited else 400 if form.wrong or form.problem else 200
