"""The profiles' programming interface as an OpenAPI document, made from the very types that are answered.

    python -m sync.platform.profile_api docs/openapi-profiles.json

A test compares the file with this, and the running routes with both.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from sync.platform.campaigns import Funnel, Repeat
from sync.platform.looks import Look
from sync.platform.profile_reading import Profile
from sync.platform.segments import ChurnReport, Cluster, RfmReport
from sync.platform.vault import SCHEMES


class Recent(msgspec.Struct, frozen=True):
    """A person who did something lately: how many entries there are, and when the last was."""

    key: str
    entries: int
    last_ms: int


class Search(msgspec.Struct, frozen=True):
    """What is searched for, in any spelling."""

    value: str
    scheme: str = "member"


class Found(msgspec.Struct, frozen=True):
    """The person's opaque key."""

    key: str


class Done(msgspec.Struct, frozen=True):
    """What the act came to: a command's name, the coupon's token, the link's number."""

    done: Any


class Segments(msgspec.Struct, frozen=True):
    """`churn` and `clusters` where they were asked for."""

    rfm: RfmReport
    repeat: Repeat
    churn: ChurnReport | None = None
    clusters: tuple[Cluster, ...] | None = None


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str = ""


ACTS: Final[dict[str, tuple[str, ...]]] = {
    "hint": ("gateway", "text"),
    "coupon": ("gateway", "store", "campaign", "face"),
    "consent": ("gateway", "purposes", "step"),
    "part": ("edge",),
    "erase": ("sure",),
}
"""What may be done to a person, and the fields that it needs; all are strings."""

_REFUSED: Final = {
    "401": "The platform's own token is needed.",
    "403": "Profiles are closed, or a foreign page asked.",
    "421": "Without a token, this machine only.",
    "503": "Not now, or it cannot be noted who looks.",
}


def document() -> dict[str, Any]:
    """The whole document."""
    types = [list[Recent], Search, Found, Profile, Done, Segments, list[Funnel], list[Look], Problem]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}", schema_hook=_any
    )
    of = dict(zip(map(repr, types), schemas, strict=True))

    def answers(kind: Any, **others: str) -> dict[str, Any]:
        problem = {"application/problem+json": {"schema": of[repr(Problem)]}}
        told = {"200": {"description": "Done.", "content": {"application/json": {"schema": of[repr(kind)]}}}}
        for status, words in {**_REFUSED, **{name.removeprefix("_"): it for name, it in others.items()}}.items():
            told[status] = {"description": words, "content": problem}
        return told

    def get(summary: str, kind: Any, *parameters: Any, **others: str) -> dict[str, Any]:
        return {"get": {"summary": summary, "parameters": list(parameters), "responses": answers(kind, **others)}}

    def post(summary: str, body: Any, kind: Any, *parameters: Any, **others: str) -> dict[str, Any]:
        content = {"required": True, "content": {"application/json": {"schema": body}}}
        told = answers(kind, _400="Not a JSON object of strings.", **others)
        return {"post": {"summary": summary, "parameters": list(parameters), "requestBody": content, "responses": told}}

    key = {
        "name": "key",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{16}$"},
    }
    words = {"type": "string"}
    paths = {
        "/v1/profiles": get("Persons who did something last.", list[Recent]),
        "/v1/profiles/search": post(
            f"Find a person by an identifier ({', '.join(SCHEMES)}).", of[repr(Search)], Found,
            _404="Nobody's, or several persons'.",
        ),
        "/v1/profiles/{key}": get("Everything about a person.", Profile, key, _404="There is no such person."),
        **{
            f"/v1/profiles/{{key}}/{act}": post(
                f"Act: {act}.",
                {"type": "object", "required": list(fields), "properties": dict.fromkeys(fields, words),
                 "additionalProperties": words},
                Done, key, _422="Refused, with the reason.",
            )
            for act, fields in ACTS.items()
        },
        "/v1/segments": get(
            "RFM segments and the repeat share; churn and clusters, which need scikit-learn, where they are asked for.",
            Segments, *({"name": it, "in": "query", "schema": words} for it in ("churn", "clusters")),
        ),
        "/v1/campaigns": get("Coupons of each campaign: issued, presented, redeemed.", list[Funnel]),
        "/v1/looks": get("Who looked at whom, newest first, the last 200.", list[Look]),
    }  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Storefront reference platform: profiles", "version": "1.0.0",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Personal data: every look, search and act is noted with who asked. See matching.md. "
            "`…_ms` are milliseconds since 1970, `…_parts` ten-thousandths of the currency's unit.",
        },
        "security": [{"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic",
                          "description": "The token as the password; the user name says who looks."},
            },
        },
    }  # fmt: skip


def _any(_: type) -> dict[str, Any]:
    return {"description": "Depends on the kind of the entry."}


def text() -> str:
    """The document as it lies in docs/."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), "utf-8")
