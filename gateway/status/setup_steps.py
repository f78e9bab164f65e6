"""What of a shop's set-up is done and what is next, as a manager reads it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from config.fields import at
from gateway.status.setup_values import Certificate, Now
from gateway.status.snapshot import Snapshot


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step. `key` of `setup_words.STEPS`; `done` of `of`, where it is counted. One step is `next`."""

    key: str
    href: str
    state: Literal["done", "next", "open"]
    done: int = 0
    of: int = 0


def steps(
    now: Now, snapshot: Snapshot, certificate: Certificate | None, tests: Sequence[Any]
) -> list[Step]:  # fmt: skip
    """The steps in the order in which they are best done."""
    sources = [one for kind in ("devices", "cameras") for one in now.tables.get(kind, ()) if one.get("enabled", True)]
    names = {one.get("name") for one in sources}
    heard = [it for it in snapshot.devices if it.name in names and it.condition in ("live", "stale")]
    lines = {
        (one.get("name"), line.get("name"))
        for one in now.tables.get("cameras", ())
        if one.get("enabled", True)
        for line in _lines(one)
    }
    proved = {(test.camera, test.line) for test in tests if test.accepted_at is not None} & lines
    found: list[tuple[str, str, bool, int, int]] = [
        ("store", "/settings/store", bool(at(now.tables, "gateway.store")), 0, 0),
        ("devices", "/settings/devices", bool(sources), 0, 0),
        ("heard", "/devices", bool(sources) and len(heard) == len(sources), len(heard), len(sources)),
    ]
    if lines:
        found.append(("tested", "/clicker", len(proved) == len(lines), len(proved), len(lines)))
    found += [
        ("notice", "/settings/store", bool(at(now.tables, "privacy.contact")), 0, 0),
        ("platform", "/settings/platform", bool(at(now.tables, "platform.url")) or certificate is not None, 0, 0),
    ]
    first = next((key for key, _, done, _, _ in found if not done), "")
    return [
        Step(key=key, href=href, state="done" if is_done else "next" if key == first else "open", done=done, of=of)
        for key, href, is_done, done, of in found
    ]


def _lines(camera: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    options = camera.get("options", {})
    return list(options.get("lines", ())) if isinstance(options, Mapping) else []
