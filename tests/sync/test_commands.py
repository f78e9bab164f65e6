"""The down feed: each command is carried out once, reported once, and a crash anywhere repeats nothing that shows."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import requests

from gateway.clock import FakeClock
from gateway.errors import JournalFull, Rejected, Unavailable
from gateway.event import Draft
from sync.commands import Command, Commands, Place, PlaceFile
from sync.http_client import ClientOptions, HttpClient
from sync.platform.app import platform_app
from sync.platform.faults import Fault, FaultyLine
from tests.sync.sync_parts import GATEWAY, ORIGIN, Served


class Rig:
    """A platform with a command feed and a gateway that obeys."""

    def __init__(self, tmp_path: Path) -> None:
        self.line = FaultyLine(platform_app(tmp_path / "platform.db", durable=False))
        self.served = Served(self.line)
        self.served.__enter__()
        self.clock = FakeClock()
        self.file = PlaceFile(tmp_path / "commands.json")
        self.done: list[str] = []
        self.reports: list[Draft] = []
        self.refuse_reports = 0
        self.no_room = 0
        self.stop = threading.Event()
        self.commands = self.start()

    def start(self) -> Commands:
        handlers = {
            "config.set": self.set, "stream.rate": self.refuse, "keys.rotate": self.later, "break": self.broken,
            "coupons.revoke": self.full,
        }  # fmt: skip
        commands = Commands(
            HttpClient(ClientOptions(url=self.served.url, read_s=2.0)), GATEWAY, ORIGIN, handlers, self.emit,
            self.file, self.clock, Random(1), poll_s=0.0, boot_delay_s=0.0, pause=self.pause,
        )  # fmt: skip
        commands.open()
        return commands

    def pause(self, stop: threading.Event, seconds: float) -> bool:
        self.clock.advance(max(seconds, 0.001))
        return False

    def set(self, command: Command) -> Mapping[str, Any]:
        self.done.append(command.id)
        return {"changed": sorted(command.data)}

    def refuse(self, command: Command) -> Mapping[str, Any]:
        raise Rejected("set rate", "stream", "no such stream")

    def later(self, command: Command) -> Mapping[str, Any]:
        if not self.done:
            raise Unavailable("rotate keys", "store", "the disk is busy")
        self.done.append(command.id)
        return {}

    def broken(self, command: Command) -> Mapping[str, Any]:
        raise OverflowError("13800138000")

    def full(self, command: Command) -> Mapping[str, Any]:
        if self.no_room:
            self.no_room -= 1
            raise JournalFull("write journal", "journal.db", "no room left")
        return {}

    def emit(self, report: Draft) -> bool:
        if self.refuse_reports:
            self.refuse_reports -= 1
            return False
        if any(known.dedupe == report.dedupe for known in self.reports):
            return True
        self.reports.append(report)
        return True

    def give(self, command_id: str, kind: str = "config.set", **data: Any) -> int:
        return requests.post(
            f"{self.served.url}/v1/gateways/{GATEWAY}/commands",
            json={"id": command_id, "type": kind, "data": data}, timeout=30,
        ).status_code  # fmt: skip

    def run(self, steps: int = 30) -> None:
        for _ in range(steps):
            self.commands.step(self.stop)

    def results(self) -> list[tuple[str, str]]:
        data = [msgspec.json.decode(report.body)["data"] for report in self.reports]
        return [(item["command"], item["outcome"]) for item in data]

    def close(self) -> None:
        self.commands.close()
        self.served.__exit__()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def test_commands_are_carried_out_in_order_and_reported(rig: Rig) -> None:
    """Done, refused and unknown are all results; none stops the feed."""
    assert [rig.give("c1", a=1), rig.give("c2", "stream.rate"), rig.give("c3", "dance"), rig.give("c4")] == [201] * 4
    rig.run(6)
    assert rig.done == ["c1", "c4"]
    assert rig.results() == [("c1", "done"), ("c2", "refused"), ("c3", "unknown"), ("c4", "done")]
    report = msgspec.json.decode(rig.reports[0].body)
    assert report["type"] == "store.command.completed.v1" and report["data"]["result"] == {"changed": ["a"]}
    assert all(item.stream == "transactions" for item in rig.reports)


def test_the_same_command_given_twice_is_one(rig: Rig) -> None:
    """Idempotent by id, at the platform and here."""
    assert (rig.give("c1"), rig.give("c1")) == (201, 200)
    rig.run(6)
    assert rig.done == ["c1"]


def test_a_restart_goes_on_where_it_was(rig: Rig) -> None:
    """The place is on disk."""
    rig.give("c1")
    rig.run(4)
    rig.commands.close()
    rig.give("c2")
    rig.commands = rig.start()
    rig.run(4)
    assert rig.done == ["c1", "c2"]


def test_a_lost_place_begins_again_and_reports_nothing_twice(rig: Rig) -> None:
    """The handler is called again, as it must bear; the result's key is the command's."""
    rig.give("c1")
    rig.run(4)
    rig.commands.close()
    rig.file.save(Place())
    rig.commands = rig.start()
    rig.run(4)
    assert rig.results() == [("c1", "done")]


def test_a_report_that_the_journal_does_not_take_is_made_again(rig: Rig) -> None:
    """A command counts as carried out when its result is durable."""
    rig.refuse_reports = 2
    rig.give("c1")
    rig.run(60)
    assert rig.results() == [("c1", "done")]


def test_a_command_that_cannot_be_carried_out_now_waits_in_its_place(rig: Rig) -> None:
    """`Unavailable` is not a result."""
    rig.give("c1", "keys.rotate")
    rig.run(40)
    assert rig.results() == []
    rig.done.append("something")
    rig.run(600)
    assert rig.results() == [("c1", "done")]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", path="commands", status=503, times=3),
        Fault(kind="status", path="commands", status=404, times=3),
        Fault(kind="garbage", path="commands", body=b"<html>", headers={"feed-next": "abc"}, times=3),
        Fault(kind="garbage", path="commands", body=b"[]", times=3),
        Fault(kind="garbage", path="commands", body=b"[]", headers={"feed-next": "a&b=c"}, times=3),
        Fault(kind="garbage", path="commands", body=b'[{"id":"","type":"x"}]', headers={"feed-next": "abc"}, times=3),
        Fault(kind="lose_answer", path="commands", times=3),
        Fault(kind="truncate", path="commands", times=3),
    ],
    ids=["503", "404", "HTML", "no cursor", "bad cursor", "no id", "lost", "truncated"],
)
def test_a_bad_answer_moves_nothing(rig: Rig, fault: Fault) -> None:
    """The place only moves with a valid page."""
    rig.give("c1")
    rig.line.add(fault)
    rig.run(300)
    assert rig.line.played == 3
    assert rig.results() == [("c1", "done")]


def test_a_restored_platform_is_read_from_the_beginning(rig: Rig) -> None:
    """A cursor that the platform no longer honours is dropped; what was done stays done."""
    rig.give("c1")
    rig.run(4)
    store = rig.line.app.state.store
    with store.transaction() as connection:
        connection.execute("UPDATE fact SET value = lower(hex(randomblob(8))) WHERE name = 'generation'")
    rig.give("c2")
    rig.run(60)
    assert rig.done == ["c1", "c2"]


def test_a_journal_without_room_is_no_result(rig: Rig) -> None:
    """A revocation that finds the disk full is carried out when there is room, and not told as failed for ever."""
    rig.no_room = 3
    rig.give("c1", "coupons.revoke")
    rig.run(300)
    assert rig.no_room == 0 and rig.results() == [("c1", "done")]


def test_a_handler_with_a_defect_holds_up_no_command_behind_it(rig: Rig) -> None:
    """The command is told as failed, in words that quote nothing of it."""
    rig.give("c1", "break")
    rig.give("c2")
    rig.run(40)
    assert rig.results() == [("c1", "failed"), ("c2", "done")]
    assert b"138" not in rig.reports[0].body


def test_a_command_that_cannot_be_read_holds_up_none_of_its_page(rig: Rig) -> None:
    """The readable ones are carried out, once; the place stays, so that nothing is passed over unseen."""
    good = b'{"id":"c7","type":"store.command.config.set.v1","data":{"a":1}}'
    bad = [b'{"id":7,"type":"x"}', b'{"id":"c8","type":"x","data":{"n":1e999}}', b'{"id":"c8","type":"x","data":[]}']
    body = b"[" + b",".join([*bad, good]) + b"]"
    rig.give("c1")
    rig.line.add(Fault(kind="garbage", path="commands", body=body, headers={"feed-next": "abc"}, times=2))
    rig.run(300)
    assert rig.line.played == 2
    assert rig.done == ["c7", "c1"]
    assert rig.results() == [("c7", "done"), ("c1", "done")]


def test_the_kind_of_a_command_cannot_write_the_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Line breaks would forge log lines, and a kind without end would fill the journal."""
    rig.give("c1", "x\nevent=forged" + "y" * 5000)
    with caplog.at_level("INFO"):
        rig.run(10)
    assert rig.results() == [("c1", "unknown")]
    assert "forged" not in caplog.text and len(rig.reports[0].body) < 1000
