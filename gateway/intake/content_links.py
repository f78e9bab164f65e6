"""QR codes of our own in the shop, on posters and shelf labels: which campaign and which content one leads to.

A code is ours when it begins with a configured prefix; then come the campaign and, after a slash, the content:
`https://shop.example/q/spring/poster-3`, or as parameters `?campaign=spring&content=poster-3`. Nothing else of a link
is looked at or kept, for it may name a person. Knows no scanner and no event.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qs

import msgspec

_LONGEST = 500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,63}")


class Content(msgspec.Struct, frozen=True):
    """What a code leads to. `content_id`: "" where it names the campaign alone."""

    campaign: str
    content_id: str = ""


class ContentLinks:
    """The prefixes of our own codes."""

    def __init__(self, prefixes: Sequence[str] = ()) -> None:
        """`prefixes`: longer ones win; () means that no code is ours."""
        self._prefixes = tuple(sorted(prefixes, key=len, reverse=True))

    def content(self, text: str) -> Content | None:
        """What a scanned code leads to; None for a code that is not ours, or that names nothing usable."""
        if len(text) > _LONGEST:
            return None
        prefix = next((prefix for prefix in self._prefixes if text.startswith(prefix)), None)
        if prefix is None:
            return None
        path, _, query = text[len(prefix) :].partition("#")[0].partition("?")
        if prefix.endswith("?"):
            path, query = "", path
        try:
            named = parse_qs(query, max_num_fields=20)
        except ValueError:
            return None
        levels = [level for level in path.split("/") if level]
        campaign = (named.get("campaign") or levels[:1] or [""])[0]
        content_id = (named.get("content") or levels[1:2] or [""])[0]
        if not _NAME.fullmatch(campaign) or (content_id and not _NAME.fullmatch(content_id)):
            return None
        return Content(campaign, content_id)
