"""How configuration points into a message: key paths into JSON and patterns over MQTT topics. Pure.

    key path   a.b[0].c    "a.b"."c d"[2]    switch:0.temperature.tC    items[*].id    $.a (from the root)    $
    topic      store/{store}/shelf/{shelf}/state    tele/+/LWT    axis/{serial}/Device1Scenario{n}    z2m/{name#}

Knows no reading, no driver and no device.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

Step = str | int | None  # a key, an index, or None for [*]

_TOKEN = re.compile(r'\.?(?:"([^"]+)"|([^.\[\]"$*]+))|\[(\d{1,6}|\*)\]')
_CAPTURE = re.compile(r"\{(\w+)(#?)\}")
MAX_LEVELS = 32


class Missing:
    """The type of `MISSING`: there is nothing at that path, or null."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


class KeyPath(msgspec.Struct, frozen=True):
    """A compiled key path. `text` as configured; `from_root`: written with a leading `$`."""

    text: str
    steps: tuple[Step, ...]
    from_root: bool

    @classmethod
    def parse(cls, text: str) -> KeyPath:
        """Compile a path.

        Raises:
            ValueError: it is empty, too long or not of the form above; says where.
        """
        from_root = text.startswith("$")
        at = 1 if from_root else 0
        steps: list[Step] = []
        while at < len(text):
            token = _TOKEN.match(text, at)
            dotted = text[at] == "."
            if (
                token is None
                or (text[at] not in ".[" and (steps or from_root))
                or (dotted and not steps and not from_root)
            ):
                raise ValueError(f'not a key path at {text[at:]!r}; write a.b[0] or "odd.key".b')
            quoted, plain, index = token.groups()
            if index is not None:
                steps.append(None if index == "*" else int(index))
            else:
                steps.append(quoted or plain)
            at = token.end()
        if not steps and not from_root:
            raise ValueError("an empty key path; `$` is the whole message")
        if len(steps) > MAX_LEVELS:
            raise ValueError(f"more than {MAX_LEVELS} steps")
        return cls(text, tuple(steps), from_root)

    @property
    def many(self) -> bool:
        """True if the path has a `[*]`."""
        return None in self.steps

    def find(self, value: object) -> object:
        """What is there; `MISSING` where a key, an index or the container for it is absent, or where it is null."""
        for step in self.steps:
            if isinstance(step, str):
                value = value.get(step, MISSING) if isinstance(value, dict) else MISSING
            elif isinstance(value, list) and step is not None and step < len(value):
                value = value[step]
            else:
                return MISSING
        return MISSING if value is None else value

    def find_all(self, value: object) -> list[tuple[str, object]]:
        """Every value that a path with `[*]` meets, each with the place where it is (`$.data[2]`).

        Raises:
            TypeError: something stands where the path expects an array; says where.
        """
        here: list[tuple[str, object]] = [("$", value)]
        for step in self.steps:
            further: list[tuple[str, object]] = []
            for place, each in here:
                if isinstance(step, str):
                    if isinstance(each, dict) and each.get(step) is not None:
                        further.append((f"{place}.{step}", each[step]))
                elif not isinstance(each, list):
                    raise TypeError(f"expected an array - at `{place}`")
                elif step is None:
                    further.extend((f"{place}[{index}]", element) for index, element in enumerate(each))
                elif step < len(each):
                    further.append((f"{place}[{step}]", each[step]))
            here = further
        return here


class TopicPattern(msgspec.Struct, frozen=True):
    """An MQTT topic filter with named captures. `captures`: their names, in order."""

    text: str
    levels: tuple[re.Pattern[str] | Literal["+", "#"], ...]
    captures: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> TopicPattern:
        """Compile a filter: `+` one level, `#` the rest, `{name}` (part of) one level, `{name#}` the rest as a name.

        Raises:
            ValueError: it is empty, a wildcard is not alone or not last, or a capture has no name of its own.
        """
        if not text:
            raise ValueError("an empty topic")
        levels: list[re.Pattern[str] | Literal["+", "#"]] = []
        names: list[str] = []
        parts = text.split("/")
        for place, part in enumerate(parts):
            if part == "+":
                levels.append("+")
            elif part == "#":
                levels.append("#")
            else:
                captures = list(_CAPTURE.finditer(part))
                rest = _CAPTURE.sub("", part)
                if len(captures) > 1:
                    raise ValueError(f"level {part!r}: one capture a level")
                if any(sign in rest for sign in "+#{}"):
                    raise ValueError(f"level {part!r}: `+` and `#` stand alone, a capture is {{name}}")
                levels.append(_level(part, captures))
                names.extend(found[1] for found in captures)
            if place < len(parts) - 1 and (part == "#" or part.endswith("#}")):
                raise ValueError(f"level {part!r}: only the last level takes the rest")
            if part.endswith("#}") and not part.startswith("{"):
                raise ValueError(f"level {part!r}: a capture of the rest stands alone")
        if len(set(names)) < len(names):
            raise ValueError("the same capture name twice")
        return cls(text, tuple(levels), tuple(names))

    def match(self, topic: str) -> dict[str, str] | None:
        """The captures in a topic, or None if it does not fit. Nothing fits a broker's own topics (`$SYS/…`)."""
        if topic.startswith("$"):
            return None
        parts = topic.split("/")
        found: dict[str, str] = {}
        for place, level in enumerate(self.levels):
            if level == "#":
                return found
            if place >= len(parts):
                return None
            if level == "+":
                continue
            rest = place == len(self.levels) - 1 and self.text.endswith("#}")
            fit = level.fullmatch("/".join(parts[place:]) if rest else parts[place])
            if fit is None:
                return None
            found.update(fit.groupdict())
            if rest:
                return found
        return found if len(parts) == len(self.levels) else None


def _level(part: str, captures: list[re.Match[str]]) -> re.Pattern[str]:
    """One level as a pattern; at most one capture, so matching takes linear time."""
    if not captures:
        return re.compile(re.escape(part))
    (capture,) = captures
    name, rest = capture.groups()
    if not name.isidentifier() or not name.isascii():
        raise ValueError(f"level {part!r}: a capture's name is letters, digits and _, not a digit first")
    body = ".+" if rest else "[^/]+"
    return re.compile(
        f"{re.escape(part[: capture.start()])}(?P<{name}>{body}){re.escape(part[capture.end() :])}", re.DOTALL
    )
