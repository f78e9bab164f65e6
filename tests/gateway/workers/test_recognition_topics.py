"""Tills hear who was recognised at their lane, and that they are gone; nothing is retained, nobody is named."""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from gateway.clock import FakeClock
from gateway.errors import Unavailable
from gateway.shopper.hints import Guest, Notice, Recognition
from gateway.workers.recognition_topics import RecognitionTopics

GUEST = Guest(
    visit="c1", lane="till 1/北+#", since_ms=0, text='"><b>', tier="gold", language="zh", coupons=("C-1",)
)  # fmt: skip


class Session:
    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any], bool]] = []
        self.away = False

    def open(self) -> None: ...

    def receive(self, timeout_s: float, limit: int = 512) -> list[object]:
        return []

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        if self.away:
            raise Unavailable("publish", topic, "away")
        self.said.append((topic, msgspec.json.decode(payload), retain))

    def close(self) -> None: ...


class Noticed(Recognition):
    """A recognition that has these notices."""

    def __init__(self, *notices: Notice) -> None:
        super().__init__(FakeClock())
        self._notices.extend(notices)


def test_a_guest_comes_and_goes_on_the_topic_of_the_lane() -> None:
    session = Session()
    topics = RecognitionTopics(Noticed(Notice("", GUEST, True), Notice("", GUEST, False)), session, "0042")
    topics.step(threading.Event())
    (here, said, kept), (gone, leaving, _) = session.said
    assert here == gone == "store/0042/recognition/till-1" and not kept
    assert said == {
        "v": 1, "visit": "c1", "state": "here", "since": "1970-01-01T00:00:00.000Z", "tier": "gold", "text": '"><b>',
        "language": "zh", "coupons": ["C-1"],
    }  # fmt: skip
    assert leaving == {"v": 1, "visit": "c1", "state": "gone"}


def test_a_till_may_have_its_own_name_for_a_lane() -> None:
    topics = RecognitionTopics(Noticed(), Session(), "0042", {"till-2": "lane2"})
    assert topics.topic("till-2") == "store/0042/recognition/lane2"
    assert topics.topic("///") == "store/0042/recognition/-"


def test_what_cannot_be_said_now_is_counted_and_not_said_late() -> None:
    session = Session()
    session.away = True
    topics = RecognitionTopics(Noticed(Notice("", GUEST, True)), session, "0042")
    topics.step(threading.Event())
    session.away = False
    topics.step(threading.Event())
    assert topics.untold == 1 and session.said == []
