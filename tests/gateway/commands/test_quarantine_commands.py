"""`storefront quarantine`: list, show and replay, with the gateway running, without it, and through crashes."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from config.loader import load
from devices.plan import plan
from gateway.app import Gateway
from gateway.clock import FakeClock
from gateway.event import STREAMS, Draft
from gateway.intake.inlet import Poison
from gateway.journal.disk import take_lock
from gateway.journal.quarantine import PayloadSeal
from gateway.journal.reader import JournalReader
from gateway.shopper.day_keys import DayKeys
from gateway.workers.replay_requests import Retry, Spool, WriterBook
from tests.patience import until

BUTTONS = """
[[devices]]
name = "buttons"
driver = "generic_json"
topics = ["b/+"]
[[devices.options.mappings]]
topic = "b/{name}"
reading = "button"
fields = { value = "%s" }
fixed = { button = "{name}" }
"""


def press(value: str = "single", topic: str = "b/door", key: str = "action") -> Poison:
    """A press that the first mapping of `BUTTONS` did not understand."""
    return Poison("buttons", "generic_json", "value: missing", json.dumps({key: value}).encode(), topic)


def events(shop: Any, kind: str = "store.button.pressed.v1") -> list[dict[str, Any]]:
    with JournalReader(shop.journal) as reader:
        found = [event.decode() for stream in STREAMS for event in reader.read(stream, 0, 10_000, 1 << 30)]
    return [event for event in found if event["type"] == kind]


@pytest.fixture
def held(shop):
    """Three presses in quarantine, and a configuration that understands them now."""
    shop.keep(
        poison=(press("single"), press("double"), Poison("buttons", "generic_json", "no JSON", b"\xff\x00", "b/x"))
    )
    shop.configure(BUTTONS % "action")
    return shop


@contextlib.contextmanager
def running(shop: Any) -> Iterator[Gateway]:
    """The gateway on this shop's journal."""
    gateway, stop = Gateway(load(shop.config), shop.config), threading.Event()
    thread = threading.Thread(target=gateway.run, args=(stop,))
    thread.start()
    try:
        until(lambda: gateway.commits.is_open)
        yield gateway
    finally:
        stop.set()
        thread.join(60)


def test_list_shows_reasons_and_no_payloads(storefront, held):
    """The newest first, with reason and topic, and nothing of what the messages hold."""
    said = storefront("quarantine", "list", "--config", held.config)
    assert said.code == 0
    assert "value: missing" in said.out
    assert "double" not in said.out
    assert [entry["id"] for entry in storefront("quarantine", "list", "-c", held.config, "--json").json] == [3, 2, 1]
    assert [e["id"] for e in storefront("quarantine", "list", "-c", held.config, "-n", "1", "--json").json] == [3]


def test_show_prints_the_message_and_never_lets_it_speak_to_the_terminal(storefront, shop):
    """The payload as it came; escape sequences in it are spelled out."""
    shop.keep(poison=(Poison("t", "pos_json", "bad \x1b[2J", b'{"n":"\x1b]0;x\x07"}', "a/\x1bb"),))
    said = storefront("quarantine", "show", "1", "--config", shop.config)
    assert said.code == 0
    assert "\x1b" not in said.out
    assert r"\x1b]0;x\x07" in said.out
    data = storefront("quarantine", "show", "1", "--config", shop.config, "--json").json
    assert data["payload"] == '{"n":"\x1b]0;x\x07"}'
    missing = storefront("quarantine", "show", "7", "--config", shop.config)
    assert (missing.code, "no such entry" in missing.err) == (65, True)


def test_replay_without_a_gateway_keeps_what_the_messages_become_once(storefront, held):
    """Both presses become events at the time they came; the broken one stays; a second replay adds nothing."""
    said = storefront("quarantine", "replay", "--all", "--config", held.config, "--json")
    assert said.code == 65
    assert {one["id"]: one["outcome"] for one in said.json} == {1: "appended", 2: "appended", 3: "rejected"}
    found = events(held)
    assert sorted(event["data"]["value"] for event in found) == ["double", "single"]
    assert all(event["replayed"] is True for event in found)
    assert {event["time"] for event in found} == {"2026-11-22T02:00:00.000Z"}
    again = storefront("quarantine", "replay", "1", "2", "--config", held.config, "--json")
    assert {one["outcome"] for one in again.json} == {"not_held"}
    assert len(events(held)) == 2
    assert [e["id"] for e in storefront("quarantine", "list", "-c", held.config, "--held", "--json").json] == [3]


def test_replay_through_the_running_gateway(storefront, held):
    """While the gateway holds the journal it does the request itself, once, and clears the spool."""
    with running(held):
        said = storefront("quarantine", "replay", "1", "2", "--config", held.config, "--json")
        again = storefront("quarantine", "replay", "--all", "--config", held.config, "--json")
    assert said.code == 0
    assert {one["id"]: (one["outcome"], one["events"]) for one in said.json} == {1: ("appended", 1), 2: ("appended", 1)}
    assert {one["id"]: one["outcome"] for one in again.json} == {3: "rejected"}
    assert sorted(event["data"]["value"] for event in events(held)) == ["double", "single"]
    assert list((held.directory / "replay").iterdir()) == []


def test_a_request_left_by_a_crash_is_done_at_the_next_start(storefront, held):
    """A request that nobody could finish waits in the spool and is done by the next gateway, once."""
    spool = Spool(load(held.config))
    request = spool.put([1, 2])
    with running(held):
        outcomes = until(lambda: spool.answered(request))
    assert outcomes
    assert {one.outcome for one in outcomes} == {"appended"}
    assert len(events(held)) == 2


class Crash(Exception):
    """The power goes."""


class CrashingBook(WriterBook):
    """Ends the process at one point of the work."""

    def __init__(self, writer: Any, at: str) -> None:
        super().__init__(writer)
        self._at = at

    def append(self, drafts: Sequence[Draft]) -> bool:
        if self._at == "before append":
            raise Crash
        done = super().append(drafts)
        if self._at == "after append":
            raise Crash
        return done

    def mark(self, entry: int) -> None:
        super().mark(entry)
        if self._at == "after mark":
            raise Crash


@pytest.mark.parametrize("at", ["before append", "after append", "after mark"])
def test_a_crash_anywhere_neither_loses_nor_repeats(held, at):
    """Whatever the moment, doing the request again leaves exactly one event for each message."""
    settings = load(held.config)
    plans, keys = plan(settings, "test"), DayKeys(held.directory / "keys")
    seal = PayloadSeal(held.directory / "keys" / "quarantine.key")
    request = Spool(settings).put([1, 2])
    for book_of in (lambda writer: CrashingBook(writer, at), lambda writer: CrashingBook(writer, at), WriterBook):
        writer = held.writer()
        writer.open()
        try:
            with JournalReader(held.journal) as reader, contextlib.suppress(Crash):
                Retry(settings, lambda: plans, reader, seal, keys, FakeClock()).serve(request, book_of(writer))
        finally:
            writer.close()
    assert sorted(event["data"]["value"] for event in events(held)) == ["double", "single"]


def test_two_same_messages_stay_two_events(storefront, shop):
    """Messages of the same content that came one after the other are two facts, also when replayed together."""
    shop.keep(poison=(press("single"), press("single")))
    shop.configure(BUTTONS % "action")
    assert storefront("quarantine", "replay", "--all", "--config", shop.config).code == 0
    assert len(events(shop)) == 2


@pytest.mark.parametrize(
    ("poison", "config", "says"),
    [
        (press(), "", "no device buttons is configured"),
        (press(topic="other/topic"), BUTTONS % "action", "nothing in it is an event"),
        (Poison("uplink", "", "refused", b"{}", "transactions/e/1"), "", "the platform refused this event"),
    ],
)
def test_what_cannot_be_replayed_stays_and_says_why(storefront, shop, poison, config, says):
    """Without its device, without an event in it, or refused by the platform: still held, with the reason."""
    shop.keep(poison=(poison,))
    shop.configure(config)
    said = storefront("quarantine", "replay", "1", "--config", shop.config)
    assert said.code == 65
    assert says in said.out
    assert len(storefront("quarantine", "list", "-c", shop.config, "--held", "--json").json) == 1


def test_a_lost_key_is_said_and_harms_nothing_else(storefront, held):
    """Without the key the payloads stay closed: show and replay say so, and a running gateway goes on."""
    (held.directory / "keys" / "quarantine.key").unlink()
    assert storefront("quarantine", "show", "1", "--config", held.config).code == 74
    with running(held) as gateway:
        said = storefront("quarantine", "replay", "1", "--config", held.config, "--json")
        assert gateway.commits.is_open
    assert [one["outcome"] for one in said.json] == ["rejected"]


def test_replay_on_a_damaged_journal_is_refused_untouched(storefront, held):
    """A wrecked database is not opened for writing: salvage comes first, and the request is taken back."""
    wreck = b"\xa5" * held.journal.stat().st_size
    held.journal.write_bytes(wreck)
    said = storefront("quarantine", "replay", "1", "--config", held.config)
    assert said.code == 74
    assert "storefront journal" in said.err
    assert held.journal.read_bytes() == wreck
    assert Spool(load(held.config)).waiting() == []


def test_which_messages_must_be_said(storefront, shop):
    """Neither ids nor --all, or both, is a wrong command line."""
    assert storefront("quarantine", "replay", "--config", shop.config).code == 2
    assert storefront("quarantine", "replay", "1", "--all", "--config", shop.config).code == 2


def test_a_silent_gateway_leaves_the_request_in_the_spool(held, monkeypatch, storefront):
    """A process that holds the journal but does nothing: the command ends with 69 and the request stays."""
    monkeypatch.setattr("gateway.commands.quarantine._WAIT_S", 0.3)
    lock = take_lock(held.journal)
    try:
        said = storefront("quarantine", "replay", "1", "--config", held.config)
    finally:
        os.close(lock)
    assert said.code == 69
    assert len(Spool(load(held.config)).waiting()) == 1


def test_rubbish_in_the_spool_is_removed(shop):
    """A file that is no request neither stops the others nor stays."""
    spool = Spool(load(shop.config))
    good = spool.put([1])
    (spool.folder / "bad.request").write_text("{")
    assert spool.waiting() == [good]
    assert not (spool.folder / "bad.request").exists()
