"""Does a platform keep the contract? A suite that an integrator runs against their own server.

It plays a gateway of its own with a few small batches, in a fresh epoch, and asks one question a check. A check that
depends on one that failed says so instead of failing for a second reason. Nothing is left behind but one epoch of test
events of the gateway name that was given. Knows HTTP and the contract; no journal.

*Source*: docs/sync.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from gateway.clock import Clock, rfc3339_s
from gateway.errors import Unavailable
from gateway.event import Stream, envelope
from sync.answer import Reply
from sync.http_client import HttpClient
from sync.http_uplink import content_digest, encode, gateway_path

Verdict = Literal["pass", "fail", "skip"]
_STREAM: Stream = "observations"
_SKIPPED = "an earlier check that this one needs has failed"


class Check(msgspec.Struct, frozen=True):
    """One question and its answer; `detail` says what was seen where it did not pass."""

    name: str
    requirement: str
    verdict: Verdict
    detail: str = ""


class Report(msgspec.Struct, frozen=True):
    """All checks, in the order in which they were made."""

    url: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True when nothing failed and nothing had to be left out."""
        return all(check.verdict == "pass" for check in self.checks)

    def render(self) -> str:
        """The report for a person: one line a check, what was seen under each that failed, a sum at the end."""
        lines = [f"Sync contract v1 against {self.url}", ""]
        for check in self.checks:
            lines.append(f"  {check.verdict.upper():4}  {check.name}: {check.requirement}")
            if check.detail:
                lines.append(f"        {check.detail}")
        count = {
            verdict: sum(check.verdict == verdict for check in self.checks) for verdict in ("pass", "fail", "skip")
        }
        lines += ["", f"{count['pass']} passed, {count['fail']} failed, {count['skip']} left out."]
        return "\n".join(lines)


class _Failed(Exception):
    """A check did not get what the contract says."""


class _Player:
    """The gateway that the suite plays."""

    def __init__(self, client: HttpClient, clock: Clock, gateway: str) -> None:
        self.client = client
        self.clock = clock
        self.gateway = gateway
        self.epoch = secrets.token_hex(16)
        self.at_s = clock.now().wall_s

    def event(self, seq: int, *, epoch: str = "", salt: str = "", poison: bool = False) -> bytes:
        """One event; the same arguments give the same bytes."""
        kind, data = (
            ("store.pos.sale.v1", {"lines": 5}) if poison else ("store.conformance.probed.v1", {"n": seq, "salt": salt})
        )
        body = msgspec.json.encode(
            {
                "source": f"//conformance/stores/0/{self.gateway}/probe", "type": kind,
                "time": rfc3339_s(self.at_s), "data": data,
            }
        )  # fmt: skip
        return envelope(
            body, gateway=self.gateway, stream=_STREAM, epoch=epoch or self.epoch, seq=seq,
            recorded_s=self.at_s, boot="0" * 32,
        )  # fmt: skip

    def path(self, epoch: str = "") -> str:
        return f"{gateway_path(self.gateway)}/streams/{_STREAM}/epochs/{epoch or self.epoch}"

    def push(
        self, first: int, last: int, *, events: list[bytes] | None = None, epoch: str = "",
        headers: Mapping[str, str | None] | None = None, body: bytes | None = None, coding: str = "gzip",
    ) -> Reply:  # fmt: skip
        """Push a range; `headers` with None leave one out."""
        epoch = epoch or self.epoch
        plain = body if body is not None else b"[" + b",".join(
            events if events is not None else [self.event(seq, epoch=epoch) for seq in range(first, last + 1)]
        ) + b"]"  # fmt: skip
        coded = encode(plain, "gzip") if coding == "gzip" else plain
        fields: dict[str, str | None] = {
            "content-type": "application/cloudevents-batch+json",
            "content-encoding": coding if coding != "identity" else None,
            "content-digest": content_digest(coded),
            "idempotency-key": f'"{epoch}:{_STREAM}:{first}-{last}"',
            "sync-range": f"{first}-{last}",
            "sync-sent-at": f"{rfc3339_s(self.clock.now().wall_s)}; q=ntp",
            **(headers or {}),
        }
        sent = {name: value for name, value in fields.items() if value is not None}
        return self.client.call("POST", self.path(epoch) + "/events", coded, sent)

    def ask(self, method: str, path: str, body: object = None) -> Reply:
        raw = b"" if body is None else msgspec.json.encode(body)
        return self.client.call(method, path, raw, {"content-type": "application/json"} if raw else None)

    def acked(self, epoch: str = "") -> int:
        """How far the platform says it has the lane."""
        body = _json(self.ask("GET", self.path(epoch)), 200)
        acked = body.get("acked_through")
        if not isinstance(acked, int):
            raise _Failed(f"GET of the epoch gave acked_through={acked!r}")
        return acked


def check(
    client: HttpClient, url: str, clock: Clock, gateway: str, heard: Callable[[Check], None] = lambda check: None
) -> Report:
    """Ask a platform every question.

    Args:
        client: reaches it, with credentials that it accepts for `gateway`.
        url: for the report.
        clock: wall time for the test events.
        gateway: a name that the platform allows to push; its other epochs are not touched.
        heard: told of each check as it is made.

    Returns:
        The report; a platform that does not answer gives failed checks, not an exception.
    """
    player = _Player(client, clock, gateway)
    done: dict[str, Check] = {}
    for name, requirement, needs, question in _QUESTIONS:
        if any(done[need].verdict != "pass" for need in needs):
            answer = Check(name, requirement, "skip", _SKIPPED)
        else:
            try:
                question(player)
                answer = Check(name, requirement, "pass")
            except _Failed as failed:
                answer = Check(name, requirement, "fail", str(failed))
            except Unavailable as error:
                answer = Check(name, requirement, "fail", error.reason)
        done[name] = answer
        heard(answer)
    return Report(url, tuple(done.values()))


# -- the questions


def _unknown_epoch(player: _Player) -> None:
    _problem(player.push(1, 2), 412, "unknown-epoch")


def _open(player: _Player) -> None:
    body = _json(player.ask("PUT", player.path(), {"reason": "fresh", "previous": None}), 200, 201)
    _names(player, body, player.epoch)
    _expect(body.get("acked_through") == 0, f"a new epoch has acked_through={body.get('acked_through')!r}")


def _open_again(player: _Player) -> None:
    _json(player.ask("PUT", player.path(), {"reason": "fresh", "previous": None}), 200, 201)


def _push(player: _Player) -> None:
    _taken(player, player.push(1, 3), 3)
    _at(player, 3)


def _identity(player: _Player) -> None:
    _taken(player, player.push(4, 4, coding="identity"), 4)


def _duplicate(player: _Player) -> None:
    body = _taken(player, player.push(1, 4), 4)
    strange = [item for item in body.get("results", []) if item.get("status") not in ("duplicate",)]
    _expect(not strange, f"a repeated batch gave {strange[:1]}")
    _at(player, 4)


def _overlap(player: _Player) -> None:
    _taken(player, player.push(3, 6), 6)


def _gap(player: _Player) -> None:
    body = _problem(player.push(9, 10), 409, "sequence-gap")
    _expect(body.get("expected_seq") == 7, f"expected_seq is {body.get('expected_seq')!r}, 7 comes next")
    _at(player, 6)


def _conflict(player: _Player) -> None:
    changed = [player.event(5), player.event(6, salt="other"), player.event(7)]
    body = _problem(player.push(5, 7, events=changed), 409, "sequence-conflict")
    _expect(body.get("seq") == 6, f"seq is {body.get('seq')!r}, it is number 6 that differs")
    _at(player, 6)


def _erasure(player: _Player) -> None:
    erased = msgspec.json.decode(player.event(6))
    erased.update(redacted=True, data=None)
    _taken(player, player.push(6, 6, events=[msgspec.json.encode(erased)]), 6)


def _digest(player: _Player) -> None:
    for value in ("sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:", None):
        reply = player.push(7, 7, headers={"content-digest": value})
        _problem(reply, 400, "")
        _at(player, 6)


def _range(player: _Player) -> None:
    _problem(player.push(7, 9, events=[player.event(7)]), (400, 422), "")
    _problem(player.push(7, 7, events=[player.event(8)]), (400, 422), "")
    _at(player, 6)


def _garbage(player: _Player) -> None:
    for body in (b"", b"[", b"{}", b"[1]", b'[{"id":"x"}]', b"\xff\xfe"):
        _problem(player.push(7, 7, body=body), (400, 422), "")
    _problem(
        player.push(7, 7, body=b"not gzip", coding="gzip-claimed", headers={"content-encoding": "gzip"}), (400, 422), ""
    )
    _at(player, 6)


def _coding(player: _Player) -> None:
    _problem(player.push(7, 7, coding="x-unheard-of"), 415, "")
    _at(player, 6)


def _verdict(player: _Player) -> None:
    events = [player.event(7), player.event(8, poison=True), player.event(9)]
    body = _taken(player, player.push(7, 9, events=events), 9)
    refused = [item for item in body.get("results", []) if item.get("status") == "rejected"]
    if not refused:
        return  # a platform may take any event in; then there is no verdict to keep
    _expect(len(refused) == 1 and refused[0].get("seq") == 8, f"rejected {refused}, only number 8 is wrong")
    verdict = refused[0]
    _expect(
        bool(verdict.get("code")) and bool(verdict.get("verdict_id")),
        f"the verdict lacks code or verdict_id: {verdict}",
    )
    for _ in range(2):
        again = _taken(player, player.push(7, 9, events=events), 9)
        same = [item for item in again.get("results", []) if item.get("seq") == 8]
        kept = same and {same[0].get("status"), same[0].get("original")} & {"rejected"}
        _expect(bool(kept), f"the verdict on 8 is gone from the repeated answer: {same}")
        _expect(same[0].get("verdict_id") == verdict["verdict_id"], f"another verdict on 8: {same[0]}, first {verdict}")
    listed = _json(player.ask("GET", f"{gateway_path(player.gateway)}/verdicts?after="), 200, 400)
    if "verdicts" not in listed:
        listed = _json(player.ask("GET", f"{gateway_path(player.gateway)}/verdicts"), 200)
    found = [item for item in listed.get("verdicts", []) if item.get("epoch") == player.epoch and item.get("seq") == 8]
    _expect(bool(found), "GET verdicts does not list it")


def _declare(player: _Player) -> None:
    reply = player.ask("POST", player.path() + "/gaps", {"first": 10, "last": 12, "reason": "conformance"})
    _expect(reply.status in (200, 201, 202, 204), f"HTTP {reply.status}")
    _at(player, 12)
    _taken(player, player.push(13, 13), 13)


def _declared_lost(player: _Player) -> None:
    body = _taken(player, player.push(12, 13), 13)
    said = [item for item in body.get("results", []) if item.get("seq") == 12]
    refused = said and "rejected" in (said[0].get("status"), said[0].get("original"))
    _expect(bool(refused), f"number 12 was declared lost and is not here; the answer on it is {said}")


def _second_epoch(player: _Player) -> None:
    epoch = secrets.token_hex(16)
    path = player.path(epoch)
    body = _json(player.ask("PUT", path, {"reason": "restored", "previous": player.epoch}), 200, 201)
    _expect(body.get("acked_through") == 0, f"a new epoch has acked_through={body.get('acked_through')!r}")
    _taken(player, player.push(1, 2, epoch=epoch), 2, epoch)
    _at(player, 13)


def _heartbeat(player: _Player) -> None:
    reply = player.ask("POST", f"{gateway_path(player.gateway)}/heartbeat", {"version": "conformance", "streams": {}})
    _expect(reply.status in (200, 201, 202, 204), f"HTTP {reply.status}")


def _commands(player: _Player) -> None:
    path = f"{gateway_path(player.gateway)}/commands"
    reply = player.ask("GET", path + "?after=&wait=0")
    _expect(reply.status == 200, f"HTTP {reply.status}")
    cursor = reply.headers.get("feed-next", "")
    _expect(bool(cursor), "Feed-Next is missing")
    _expect(isinstance(_decoded(reply), list), "the body is not a JSON array")
    _expect(player.ask("GET", f"{path}?after={cursor}&wait=0").status == 200, "its own cursor is refused")
    forged = player.ask("GET", f"{path}?after=forged&wait=0")
    _expect(forged.status in (400, 409, 410), f"a forged cursor gives HTTP {forged.status}")


_QUESTIONS: tuple[tuple[str, str, tuple[str, ...], Callable[[_Player], None]], ...] = (
    ("unknown-epoch", "a push to an epoch that was never opened is 412 `unknown-epoch`", (), _unknown_epoch),
    ("open-epoch", "PUT opens an epoch at 0 and names gateway, stream and epoch", (), _open),
    ("open-again", "PUT of an open epoch changes nothing", ("open-epoch",), _open_again),
    ("push", "a batch is taken whole, and GET of the epoch says so", ("open-epoch",), _push),
    ("identity", "a batch without content coding is taken", ("push",), _identity),
    ("duplicate", "a repeated batch is acknowledged and applied once", ("identity",), _duplicate),
    ("overlap", "of an overlapping batch only the new part is applied", ("duplicate",), _overlap),
    ("gap", "a batch beyond the next number is 409 `sequence-gap` with expected_seq", ("overlap",), _gap),
    ("conflict", "other bytes under a known number are 409 `sequence-conflict` with seq", ("overlap",), _conflict),
    ("erasure", "the same event again with `redacted: true` is an erasure, no conflict", ("overlap",), _erasure),
    ("digest", "a wrong or missing Content-Digest is 400 and moves nothing", ("overlap",), _digest),
    ("range", "a batch that is not its Sync-Range is refused and moves nothing", ("overlap",), _range),
    ("garbage", "a body that is no batch is 400 or 422 and moves nothing", ("overlap",), _garbage),
    ("coding", "an unknown Content-Encoding is 415", ("overlap",), _coding),
    ("verdict", "a rejected event is consumed, and its first verdict is repeated for ever", ("overlap",), _verdict),
    ("declare-gap", "a declared gap is passed over", ("verdict",), _declare),
    ("declared-lost", "a number that was declared lost is refused when it comes after all", ("declare-gap",),
     _declared_lost),
    ("second-epoch", "a second epoch begins at 0 and leaves the first alone", ("declare-gap",), _second_epoch),
    ("heartbeat", "a heartbeat is accepted", (), _heartbeat),
    ("commands", "the command feed gives an array and Feed-Next, and refuses forged cursors", (), _commands),
)  # fmt: skip


# -- what an answer must be


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Failed(otherwise)


def _decoded(reply: Reply) -> Any:
    try:
        return msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Failed(f"HTTP {reply.status} with a body that is not JSON ({error})") from None


def _json(reply: Reply, *statuses: int) -> dict[str, Any]:
    _expect(reply.status in statuses, f"HTTP {reply.status} instead of {' or '.join(map(str, statuses))}")
    body = _decoded(reply)
    _expect(isinstance(body, dict), "the body is not a JSON object")
    return dict(body)


def _names(player: _Player, body: Mapping[str, Any], epoch: str) -> None:
    named = (body.get("gateway"), body.get("stream"), body.get("epoch"))
    _expect(named == (player.gateway, _STREAM, epoch), f"the answer names {named}")


def _taken(player: _Player, reply: Reply, through: int, epoch: str = "") -> dict[str, Any]:
    body = _json(reply, 200)
    _names(player, body, epoch or player.epoch)
    _expect(body.get("acked_through") == through, f"acked_through is {body.get('acked_through')!r}, not {through}")
    return body


def _at(player: _Player, expected: int) -> None:
    acked = player.acked()
    _expect(acked == expected, f"the epoch stands at {acked}, not at {expected}")


def _problem(reply: Reply, status: int | tuple[int, ...], kind: str) -> dict[str, Any]:
    statuses = status if isinstance(status, tuple) else (status,)
    _expect(reply.status in statuses, f"HTTP {reply.status} instead of {' or '.join(map(str, statuses))}")
    _expect(
        reply.media_type == "application/problem+json",
        f"HTTP {reply.status} as {reply.media_type or 'nothing'}, not application/problem+json",
    )
    body = _json(reply, reply.status)
    said = str(body.get("code") or body.get("type") or "")
    _expect(said.endswith(kind), f"the problem is {said!r}, not {kind!r}")
    return body
