"""Tells a chat group or a program of an alert: one POST in the shape that WeCom, DingTalk, Slack or anybody else wants.

One exchange at a time, bounded, verified and never redirected (`http_client`). Decides from the answer whether it was
taken, is worth another try, or is refused for good; when to try again is the caller's. The address is a key itself: it
stands in no error and in no log. Knows no alert, only its words.

*Sources*: WeCom, "group robot configuration" (text up to 2048 bytes, `errcode` 0 is success, 20 messages a minute);
DingTalk, "custom robot" and its security settings (signature over `timestamp\\nsecret`, valid for an hour; 20 a
minute, more are punished by ten minutes of silence); Slack, "Sending messages using incoming webhooks" (`&<>` escaped,
answers `ok`, one message a second).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote_plus, urlsplit

import msgspec

from gateway.alerts.alert import Notice
from gateway.clock import Clock
from gateway.errors import ConfigError, Unavailable
from sync.answer import Reply, retry_after_s
from sync.http_client import ClientOptions, HttpClient

Shape = Literal["wecom", "dingtalk", "slack", "generic"]
_MOST_BYTES: Final = 2048  # of a text; WeCom's limit is the shortest
_LONGEST_PAUSE_S: Final = 3600.0
_BUSY: Final[dict[int, float]] = {-1: 10.0, 45009: 60.0, 130101: 600.0, 130102: 600.0, 410100: 600.0}
"""Codes in a 200 answer that ask to come again later, with how much later."""
_SIGNATURE: Final = 310000  # DingTalk's: words, address or signature are not as its security settings want
_UNSET_CLOCK_S: Final = 120.0
PACE_S: Final[dict[Shape, float]] = {"wecom": 3.1, "dingtalk": 3.1, "slack": 1.0, "generic": 0.0}
"""From one message to the next, so that the other side's limit is never met."""
_LATER: Final = (408, 421, 425, 429)


class Told(msgspec.Struct, frozen=True):
    """What became of it. `pause_s`: how long the other side wants to be left alone, None: it does not say."""

    outcome: Literal["taken", "later", "refused"]
    reason: str = ""
    pause_s: float | None = None


class Webhook:
    """One address. `tell` as often as wanted, `close` once; one thread at a time."""

    def __init__(
        self, shape: Shape, url: str, clock: Clock, *, secret: str = "", ca: Path | None = None, total_s: float = 20.0
    ) -> None:
        """Check the address; nothing is connected yet.

        Args:
            shape: what the other side understands.
            url: https://…; plain http to this machine only.
            clock: dates DingTalk's signature.
            secret: DingTalk's signing secret; signs a generic body (HMAC-SHA256). "" for none.
            ca: a PEM bundle instead of the public one.
            total_s: longest time of one exchange.

        Raises:
            ConfigError: the address cannot be used.
        """
        parts = urlsplit(url.strip())
        self._shape: Shape = shape
        self._secret, self._clock = secret, clock
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        options = ClientOptions(
            url=f"{parts.scheme}://{parts.netloc}", connect_s=min(5.0, total_s), read_s=min(10.0, total_s),
            total_s=total_s, max_answer_bytes=65_536, ca=ca,
        )  # fmt: skip
        try:
            options.check()
        except ConfigError as error:  # which quotes the address
            raise ConfigError(
                "configure webhook", shape, error.reason, "the reference must hold an https address, all of it"
            ) from None
        self._http = HttpClient(options)

    def tell(self, notice: Notice) -> Told:
        """One try."""
        body, headers, path = json.dumps(_BODIES[self._shape](notice), ensure_ascii=False).encode(), {}, self._path
        headers["content-type"] = "application/json; charset=utf-8"
        if self._secret and self._shape == "dingtalk":
            path += ("&" if "?" in path else "?") + signature(self._secret, int(self._clock.now().wall_s * 1000))
        elif self._secret and self._shape == "generic":
            digest = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
            headers["x-storefront-signature"] = f"sha256={digest}"
        try:
            reply = self._http.call("POST", path, body, headers)
        except Unavailable as error:
            return Told("later", self._without_address(error.reason))
        return self._judged(reply)

    def close(self) -> None:
        """Drop the connection."""
        self._http.close()

    def _judged(self, reply: Reply) -> Told:
        if reply.status in _LATER or reply.status >= 500:
            pause_s = retry_after_s(reply.headers)
            return Told("later", f"HTTP {reply.status}", None if pause_s is None else min(pause_s, _LONGEST_PAUSE_S))
        if not 200 <= reply.status < 300:
            moved = " (redirects are not followed)" if 300 <= reply.status < 400 else ""
            return Told("refused", f"HTTP {reply.status}{moved}")
        if self._shape not in ("wecom", "dingtalk"):
            return Told("taken")
        try:
            code = msgspec.json.decode(reply.body, type=_Coded).errcode
        except msgspec.DecodeError:
            return Told("later", "the answer is none of a chat robot")
        if code == 0:
            return Told("taken")
        signed = self._shape == "dingtalk" and self._secret
        if code == _SIGNATURE and signed and self._clock.now().quality not in ("ntp", "rtc"):
            return Told("later", f"code {code}, and the clock is not set yet", _UNSET_CLOCK_S)
        if code in _BUSY:
            return Told("later", f"code {code}: too many messages", _BUSY[code])
        return Told("refused", f"code {code}")

    def _without_address(self, reason: str) -> str:
        for part in (self._path, self._secret):
            if len(part) > 1:
                reason = reason.replace(part, "…")
        return reason


class _Coded(msgspec.Struct):
    errcode: int


def signature(secret: str, at_ms: int) -> str:
    """DingTalk's signature as query fields.

    Args:
        secret: what the robot's security settings show, `SEC…`.
        at_ms: now, within an hour of DingTalk's own clock.
    """
    digest = hmac.new(secret.encode(), f"{at_ms}\n{secret}".encode(), hashlib.sha256).digest()
    return f"timestamp={at_ms}&sign={quote_plus(base64.b64encode(digest))}"


def text_of(notice: Notice) -> str:
    """A chat message: heading, what is wrong, what to do; at most 2048 bytes of UTF-8, cut between letters."""
    text = "\n".join(part for part in (notice.heading, notice.title, notice.todo) if part)
    return text.encode()[:_MOST_BYTES].decode(errors="ignore")


def _robot(notice: Notice) -> dict[str, Any]:
    return {"msgtype": "text", "text": {"content": text_of(notice)}}


def _slack(notice: Notice) -> dict[str, Any]:
    """A name of a device must not become a mention or a link."""
    text = text_of(notice).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": text, "mrkdwn": False}


def _generic(notice: Notice) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(notice)
    return {"version": 1, **{name: value for name, value in fields.items() if name != "heading"}}


_BODIES: Final[dict[Shape, Callable[[Notice], dict[str, Any]]]] = {
    "wecom": _robot,
    "dingtalk": _robot,
    "slack": _slack,
    "generic": _generic,
}
