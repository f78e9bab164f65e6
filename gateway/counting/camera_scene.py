"""Drawing a camera's lines, zones, masks and clicked people: into the configuration file, and at work within a second.

One edit of the file through `config.edit`, checked whole before it is written, so a drawing that cannot count anything
changes nothing. Knows the file and the camera's options; no HTTP and no running camera.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from config.edit import digest_of, edit
from config.settings import Settings
from gateway.counting.camera_plan import CameraOptions, LineOptions, Point, ZoneOptions
from gateway.errors import ConfigError, Rejected
from vision.person_size import PersonClick

_MOST = 32  # lines, zones or masks of one camera
_Mask = Annotated[tuple[Point, ...], Meta(min_length=3, max_length=64)]


class Drawing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is drawn in a camera's picture, as shares of it. As a change: what is left out stays as it is."""

    lines: Annotated[tuple[LineOptions, ...], Meta(max_length=_MOST)] | msgspec.UnsetType = msgspec.UNSET
    zones: Annotated[tuple[ZoneOptions, ...], Meta(max_length=_MOST)] | msgspec.UnsetType = msgspec.UNSET
    masks: Annotated[tuple[_Mask, ...], Meta(max_length=_MOST)] | msgspec.UnsetType = msgspec.UNSET
    person_size: Annotated[tuple[PersonClick, ...], Meta(max_length=2)] | msgspec.UnsetType = msgspec.UNSET


class Drawn(msgspec.Struct, frozen=True):
    """A drawing as it stands in the file; `digest` names the file's content: give it back with the next change."""

    drawing: Drawing
    digest: str


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


class SceneDrawings:
    """Reads and changes them. Any thread."""

    def __init__(self, gateway: Gateway) -> None:
        """Store."""
        self._gateway = gateway

    def read(self, camera: str, options: CameraOptions) -> Drawn:
        """The drawing that the camera works by, and the file's digest ("" without a file)."""
        drawing = Drawing(
            lines=options.lines, zones=options.zones, masks=options.masks, person_size=options.person_size
        )
        return Drawn(drawing, "" if self._gateway.file is None else digest_of(self._gateway.file))

    def change(self, camera: str, text: str, digest: str = "") -> Drawn:
        """Write what is new; the camera takes it over within a second, without a restart.

        Args:
            camera: its name.
            text: a `Drawing` as JSON.
            digest: of the file that the drawing was made for; "": whatever it is.

        Raises:
            Rejected: not understood, it cannot count anything, or the file was edited meanwhile.
            Unavailable: the file cannot be written.
        """
        file = self._gateway.file
        if file is None:
            raise Rejected("draw", camera, "this gateway runs without a file", "start it with --config")
        try:
            drawing = msgspec.json.decode(text, type=Drawing)
        except msgspec.DecodeError as error:
            raise Rejected("draw", camera, f"not understood: {error}", "see docs/cameras.md") from error
        plain: dict[str, Any] = {
            name: _without_defaults(value)
            for name in Drawing.__struct_fields__
            if (value := getattr(drawing, name)) is not msgspec.UNSET
        }
        changes = {f"cameras.{camera}.options.{name}": value for name, value in plain.items()}
        try:
            done = edit(file, changes, expected=digest or None, check=self._gateway.check)
        except ConfigError as error:
            raise Rejected("draw", camera, error.reason, error.hint) from error
        self._gateway.ask_reload()
        return Drawn(drawing, done.digest)


def _without_defaults(items: tuple[Any, ...]) -> list[Any]:
    """As a person would write it into the file."""
    found = []
    for item in items:
        plain = msgspec.to_builtins(item)
        if isinstance(item, LineOptions | ZoneOptions):
            usual = {field.name: field.default for field in msgspec.structs.fields(item)}
            plain = {name: value for name, value in plain.items() if value != usual[name]}
        found.append(_lists(plain))
    return found


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lists(inner) for name, inner in value.items()}
    return [_lists(inner) for inner in value] if isinstance(value, list | tuple) else value
