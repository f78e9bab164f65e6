"""Profiles for people and programs: pages drawn on the server, and the same as JSON. No identifier is in an address.

A search posts the number and is sent on to the person's opaque key; nothing of it is logged. Each look, search and act
is noted with who it was before it is answered. Who may come in is the door's (`profile_door`). Knows no SQL.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.clock import Clock
from gateway.errors import Rejected, StorefrontError
from sync.feed_routes import problem
from sync.platform.campaigns import funnels, repeat
from sync.platform.history import Normalise
from sync.platform.looks import Look, Looks
from sync.platform.profile_book import PARTS
from sync.platform.profile_door import Fields, ProfileDoor, form, json_object
from sync.platform.profile_reading import Profile
from sync.platform.profile_words import LANGUAGES, Words
from sync.platform.profiles import Profiles
from sync.platform.segments import RfmReport, churn, clusters, purchases, rfm
from sync.platform.vault import SCHEMES

_HERE: Final = Path(__file__).parent
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{16}")
_SHOWN: Final = 500  # entries on a page
_LOOKS: Final = 6
_FRESH_S: Final = 5.0  # segments are for everybody and cost a walk through the book
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "same-origin", "cache-control": "no-store",
}  # fmt: skip


class ProfilePages:
    """The routes, on open profiles."""

    def __init__(
        self, profiles: Profiles, clock: Clock, door: ProfileDoor, *, normalise: Normalise, time_zone: str
    ) -> None:
        """Store.

        Args:
            profiles: what is shown and done.
            clock: wall time.
            door: who may.
            normalise: spells what is searched for as the shops do.
            time_zone: of the times shown, IANA.
        """
        self._profiles = profiles
        self._clock = clock
        self._door = door
        self._time_zone, self._zone = time_zone, ZoneInfo(time_zone)
        self._normalise = normalise
        self._drawn = Environment(
            loader=FileSystemLoader(_HERE / "templates"), autoescape=select_autoescape(), undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._sums: tuple[float, dict[str, Any]] = (-_FRESH_S, {})
        self._turn = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Pages under /profiles, JSON under /v1."""
        return [
            Route("/profiles", self._door.guarded(self._home)),
            Route("/profiles/search", self._door.guarded(self._search), methods=["POST"]),
            Route("/profiles/static/profiles.css", self._style),
            Route("/profiles/{key}", self._door.guarded(self._page)),
            Route("/profiles/{key}", self._door.guarded(self._act), methods=["POST"]),
            Route("/v1/profiles", self._door.guarded(self._json_home)),
            Route("/v1/profiles/search", self._door.guarded(self._json_search), methods=["POST"]),
            Route("/v1/profiles/{key}", self._door.guarded(self._json_page)),
            Route("/v1/profiles/{key}/{do}", self._door.guarded(self._json_act), methods=["POST"]),
            Route("/v1/segments", self._door.guarded(self._json_segments)),
            Route("/v1/campaigns", self._door.guarded(self._json_campaigns)),
            Route("/v1/looks", self._door.guarded(self._json_looks)),
        ]

    # -- pages

    async def _home(self, request: Request) -> Response:
        words = _words(request)
        sums = await self._summed()
        newest = await run_in_threadpool(self._profiles.reading.newest, self._now_ms())
        return self._draw(
            "profiles.html", words, **sums, newest=newest, missed="missed" in request.query_params,
            stopped=self._profiles.stopped, schemes=SCHEMES,
        )  # fmt: skip

    async def _search(self, request: Request) -> Response:
        key = await self._found(request, await form(request))
        return RedirectResponse("/profiles?missed" if key is None else f"/profiles/{key}", 303, _HEADERS)

    async def _page(self, request: Request, said: str = "", said_ok: bool = True) -> Response:
        found = await self._profile(request)
        if found is None:
            return RedirectResponse("/profiles?missed", 303, _HEADERS)
        if not said:  # an act is noted as such
            await self._note(request, "look", found.key)
        words, now_ms = _words(request), self._now_ms()
        sums = await self._summed()
        report: RfmReport = sums["rfm"]
        return self._draw(
            "profile.html", words, p=found, said=said, said_ok=said_ok, now_ms=now_ms,
            segment=next((it for it in report.persons if it.key == found.key), None),
            matching=any(
                it.purpose == "matching" and it.since_ms is not None and (it.until_ms or now_ms + 1) > now_ms
                for it in found.consents
            ),
            gateways=await run_in_threadpool(self._profiles.gateways),
            days=[(day, list(it)) for day, it in groupby(found.entries[:_SHOWN], lambda one: self._day(one.at_ms))],
            more=max(0, len(found.entries) - _SHOWN),
            looks=await run_in_threadpool(self._looks().newest, _LOOKS, found.key),
        )  # fmt: skip

    async def _act(self, request: Request) -> Response:
        fields, words = await form(request), _words(request)
        try:
            await self._do(request, fields.get("do", ""), fields)
        except StorefrontError as refused:
            return await self._page(request, words.say("refused", why=refused.reason), said_ok=False)
        if fields.get("do") == "erase":
            return RedirectResponse("/profiles", 303, _HEADERS)
        return await self._page(request, words.say("done"))

    async def _style(self, _: Request) -> Response:
        body = await run_in_threadpool((_HERE / "static" / "profiles.css").read_bytes)
        return Response(body, 200, {**_HEADERS, "cache-control": "public, max-age=3600"}, "text/css")

    # -- JSON

    async def _json_home(self, _: Request) -> Response:
        newest = await run_in_threadpool(self._profiles.reading.newest, self._now_ms())
        return _json([{"key": key, "entries": count, "last_ms": at_ms} for key, count, at_ms in newest])

    async def _json_search(self, request: Request) -> Response:
        key = await self._found(request, await json_object(request))
        return problem(404, "person-unknown", "nobody's, or several persons'") if key is None else _json({"key": key})

    async def _json_page(self, request: Request) -> Response:
        found = await self._profile(request)
        if found is None:
            return problem(404, "person-unknown", "there is no such person")
        await self._note(request, "look", found.key)
        return _json(found)

    async def _json_act(self, request: Request) -> Response:
        try:
            done = await self._do(request, request.path_params["do"], await json_object(request))
        except StorefrontError as refused:
            return problem(422, "refused", refused.reason)
        return _json({"done": done})

    async def _json_segments(self, request: Request) -> Response:
        sums = await self._summed()
        answer: dict[str, Any] = {"rfm": sums["rfm"], "repeat": sums["repeat"]}
        for name, make in (("churn", churn), ("clusters", clusters)):
            if name in request.query_params:
                try:
                    bought = await run_in_threadpool(purchases, self._profiles.book, self._now_ms())
                    answer[name] = await run_in_threadpool(make, bought, self._now_ms())
                except StorefrontError as missing:
                    return problem(503, "unavailable", str(missing))
        return _json(answer)

    async def _json_campaigns(self, _: Request) -> Response:
        return _json((await self._summed())["funnels"])

    async def _json_looks(self, _: Request) -> Response:
        return _json(await run_in_threadpool(self._looks().newest, 200))

    # -- inside

    def _looks(self) -> Looks:
        return Looks(self._profiles.book)

    async def _note(self, request: Request, what: str, person: str) -> None:
        look = Look(self._now_ms(), self._door.who(request), what, person)
        await run_in_threadpool(self._looks().note, look)

    async def _do(self, request: Request, what: str, fields: Fields) -> Any:
        make, key = _ACTS.get(what), request.path_params["key"]
        if make is None or not _KEY.fullmatch(key):
            raise Rejected("act", "profile", "there is no such act or person")
        await self._note(request, what, key)
        done = await run_in_threadpool(make, self._profiles, key, fields)
        self._sums = (-_FRESH_S, {})
        return done

    async def _profile(self, request: Request) -> Profile | None:
        key = request.path_params["key"]
        if not _KEY.fullmatch(key):
            return None
        return await run_in_threadpool(self._profiles.reading.profile, key, self._now_ms())

    async def _found(self, request: Request, fields: Fields) -> str | None:
        key = await self._owner(fields)
        await self._note(request, "search", key or "")
        return key

    async def _owner(self, fields: Fields) -> str | None:
        scheme, value = fields.get("scheme", "member"), fields.get("value", "")
        try:
            if scheme not in SCHEMES:
                return None
            named = await run_in_threadpool(self._normalise, scheme, value)
        except Rejected:
            return None
        return await run_in_threadpool(self._profiles.reading.owner, named.scheme, named.value, self._now_ms())

    async def _summed(self) -> dict[str, Any]:
        """What all pages share, at most a few seconds old; one walk at a time."""
        async with self._turn:
            now = self._clock.now()
            if now.mono_s - self._sums[0] >= _FRESH_S:
                self._sums = (now.mono_s, await run_in_threadpool(self._sum, self._now_ms()))
            return self._sums[1]

    def _sum(self, now_ms: int) -> dict[str, Any]:
        bought = purchases(self._profiles.book, now_ms)
        return {"rfm": rfm(bought, now_ms), "repeat": repeat(bought), "funnels": funnels(self._profiles.book)}

    def _draw(self, name: str, words: Words, **fields: Any) -> Response:
        text = self._drawn.get_template(name).render(
            w=words, languages=LANGUAGES, when=partial(_when, "%Y-%m-%d %H:%M", self._zone), day=self._day,
            clock=partial(_when, "%H:%M", self._zone), iso=partial(_when, "%Y-%m-%dT%H:%M:%SZ", UTC), money=_money,
            zone=self._time_zone, **fields,
        )  # fmt: skip
        headers = {**_HEADERS, "set-cookie": f"profiles_lang={words.name}; Path=/profiles; SameSite=Strict; HttpOnly"}
        return Response(text, 200, headers, "text/html")

    def _day(self, at_ms: int) -> str:
        return _when("%Y-%m-%d", self._zone, at_ms)

    def _now_ms(self) -> int:
        return round(self._clock.now().wall_s * 1000)


def _hint(profiles: Profiles, key: str, fields: Fields) -> Any:
    return profiles.telling.hint(
        key, fields.get("gateway", ""), fields.get("text", ""), tier=fields.get("tier", ""),
        language=fields.get("language", "zh"),
    )  # fmt: skip


def _coupon(profiles: Profiles, key: str, fields: Fields) -> Any:
    try:
        face = Decimal(fields.get("face", ""))
    except InvalidOperation:
        raise Rejected("issue coupon", "face", "the face value is no amount") from None
    token, told = profiles.telling.issue_coupon(
        key, fields.get("gateway", ""), fields.get("store", ""), fields.get("campaign", ""), face,
        fields.get("currency", "CNY"),
    )  # fmt: skip
    return {"token": token, "command": told.command}


def _consent(profiles: Profiles, key: str, fields: Fields) -> Any:
    purposes = tuple(fields.get("purposes", "").replace("|", " ").split())
    if not purposes or not set(purposes) <= {"visits", "matching", "offers", "analytics"}:
        raise Rejected("note consent", "purposes", "visits, matching, offers or analytics are needed")
    step = fields.get("step", "")
    if step not in ("granted", "withdrawn"):
        raise Rejected("note consent", "step", "it is neither granted nor withdrawn")
    return profiles.telling.consent(key, fields.get("gateway", ""), purposes, granted=step == "granted")


def _part(profiles: Profiles, key: str, fields: Fields) -> Any:
    edge = fields.get("edge", "")
    if not re.fullmatch(r"[1-9]\d{0,17}", edge) or not profiles.part(key, int(edge), void=fields.get("void") != "no"):
        raise Rejected("part", "link", "this person has no such link")
    return {"edge": int(edge)}


def _erase(profiles: Profiles, key: str, fields: Fields) -> Any:
    if fields.get("sure") != "yes":
        raise Rejected("erase", "person", "it was not confirmed")
    return profiles.telling.erase(key)


_ACTS: dict[str, Callable[[Profiles, str, Fields], Any]] = {
    "hint": _hint,
    "coupon": _coupon,
    "consent": _consent,
    "part": _part,
    "erase": _erase,
}


def _words(request: Request) -> Words:
    asked = request.query_params.get("lang") or request.cookies.get("profiles_lang")
    if asked not in LANGUAGES:
        asked = "en" if request.headers.get("accept-language", "").lower().startswith("en") else "zh"
    return Words(asked)


def _json(body: object) -> Response:
    return Response(msgspec.json.encode(body), 200, {"cache-control": "no-store"}, "application/json")


def _when(form: str, zone: tzinfo, at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).strftime(form)


def _money(amount_parts: int, currency: str) -> str:
    sign = {"CNY": "¥", "USD": "$", "EUR": "€"}.get(currency)
    text = f"{abs(amount_parts) / PARTS:,.2f}"
    return ("-" if amount_parts < 0 else "") + (f"{sign}{text}" if sign else f"{text} {currency}".strip())
