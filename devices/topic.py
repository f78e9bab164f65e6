"""Which device a topic belongs to: MQTT topic filters, matched once for each topic and then remembered.

*Source*: OASIS MQTT 3.1.1, section 4.7 (`+` one level, `#` the rest; neither matches a topic that begins with `$`).
"""

from __future__ import annotations

from collections.abc import Sequence

_REMEMBERED = 4096
_LONG = 512  # characters; a topic may have 65,535, and few devices have more than this


class TopicTable:
    """Index of devices by their filters. `match` costs a dictionary look-up for a topic seen before."""

    def __init__(self, filters: Sequence[Sequence[str]]) -> None:
        """`filters[i]`: the topic filters of device `i`."""
        self._filters = [[tuple(pattern.split("/")) for pattern in patterns] for patterns in filters]
        self._known: dict[str, tuple[int, ...]] = {}

    def match(self, topic: str) -> tuple[int, ...]:
        """The devices that listen to the topic, in their order; () when none does."""
        found = self._known.get(topic)
        if found is None:
            levels = topic.split("/")
            found = tuple(
                index for index, patterns in enumerate(self._filters)
                if any(matches(pattern, levels) for pattern in patterns)
            )  # fmt: skip
            if len(topic) > _LONG:
                return found
            if len(self._known) >= _REMEMBERED:  # topics made of random words must not fill the memory
                self._known.clear()
            self._known[topic] = found
        return found


def matching(filters: Sequence[str], topic: str) -> str:
    """The first of the filters that the topic matches; empty when none does."""
    levels = topic.split("/")
    return next((pattern for pattern in filters if matches(pattern.split("/"), levels)), "")


def matches(pattern: Sequence[str], levels: Sequence[str]) -> bool:
    """True when the topic's levels match the filter's."""
    if levels[0].startswith("$") and pattern[0] in ("+", "#"):
        return False
    for index, part in enumerate(pattern):
        if part == "#":
            return True
        if index >= len(levels) or (part != "+" and part != levels[index]):
            return False
    return len(pattern) == len(levels)
