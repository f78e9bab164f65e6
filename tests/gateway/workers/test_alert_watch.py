"""What is wrong with a gateway becomes one alert, an event, a message, a state on the topic, and ends as such."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from random import Random

import msgspec
import pytest

from config.loader import parse
from config.settings import AlertSettings, Settings, WebhookSettings
from gateway import event_types as types
from gateway.alerts.desk import AlertDesk
from gateway.errors import ConfigError, Unavailable
from gateway.event import Draft
from gateway.intake.inlet import Item
from gateway.runtime.worker import WorkerState
from gateway.workers.alert_telling import Telling
from gateway.workers.alert_topic import AlertTopic
from gateway.workers.alert_watch import EVERY_S, AlertWatch
from tests.gateway.status.shop import FakeGateway
from tests.sync.sync_parts import RawServer, says

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Shop(FakeGateway):
    """With an alert desk of its own, and events that are durable at once."""

    def __init__(self, directory: Path, alerts: AlertSettings) -> None:
        super().__init__(directory)
        self.settings = msgspec.structs.replace(self.settings, alerts=alerts)
        self.alerts = AlertDesk(directory, self.settings, self.clock)
        self.refusing = False
        self.stop = threading.Event()
        self.stop.set()  # nobody waits
        self.watch = AlertWatch(self, self.alerts, self.emit)

    def emit(self, event: Draft) -> bool:
        if self.refusing:
            return False
        self.inlet.offer("alerts", Item([event]))
        self.commits.step(threading.Event())
        return True

    def looks(self, seconds: float) -> None:
        for _ in range(int(seconds / EVERY_S)):
            self.clock.advance(EVERY_S)
            self.watch.step(threading.Event())

    def events(self) -> list[tuple[str, str]]:
        reader = self.watch._reader
        found = [event.decode() for event in reader.read("transactions", 0)]
        return [(it["type"].split(".")[2], it["data"]["what"]) for it in found if ".alarm." in it["type"]]


@pytest.fixture
def shop(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Shop(tmp_path, AlertSettings(quiet_hours=""))
    made.open()
    made.watch.open()
    yield made
    made.watch.close()
    made.close()


def test_a_till_that_falls_silent_is_one_alert_with_one_event_each_way(shop: Shop) -> None:
    shop.board.lost("till1", "no answer", "check the cable")
    shop.looks(320)
    assert [(it.id, it.key) for it in shop.alerts.view().now] == [("device:till1", "till_faulted")]
    shop.board.connected("till1")
    shop.board.heard("till1", shop.clock.now())
    shop.looks(120)
    assert shop.alerts.view().now == () and len(shop.alerts.view().past) == 1
    assert shop.events() == [("raised", "till_dark: till1"), ("cleared", "till_dark: till1")]
    shop.looks(60)
    assert shop.alerts.alarms() == ()  # its own events are no alarms of others


def test_a_broker_that_is_away_hides_all_behind_it(shop: Shop) -> None:
    away = {"state": "waiting", "stage": 0, "essential": False, "reason": "refused", "since_s": 5.0}
    shop.supervisor.said += [
        WorkerState(name="mqtt-sales", **away), WorkerState(name="alert-topic", **away),  # type: ignore[arg-type]
    ]  # fmt: skip
    shop.board.lost("till1", "no broker", "")
    shop.looks(400)
    assert [it.id for it in shop.alerts.view().now] == ["broker"]


def test_alarms_of_other_parts_become_alerts_and_end_with_them(shop: Shop) -> None:
    shop.keep(
        types.AlarmRaised(what="footfall drift: door", hint="test it again", device="cam"),
        types.AlarmRaised(what="sync.unauthorised.transactions", hint="told by the page itself"),
        types.AlarmRaised(what="journal_salvaged", severity="critical", hint="look at the disk"),
        source="camera/cam",
    )
    shop.looks(120)
    assert {(it.id, it.severity) for it in shop.alerts.view().now} >= {
        ("line:door", "warning"), ("alarm:journal_salvaged", "critical"),
    }  # fmt: skip
    assert not any("unauthorised" in it.id for it in shop.alerts.view().now)
    shop.keep(types.AlarmCleared(what="footfall drift: door", device="cam"), source="camera/cam")
    number = next(it.number for it in shop.alerts.view().now if it.key == "alarm")
    assert shop.alerts.acknowledge(number)
    shop.looks(300)
    assert [it.id for it in shop.alerts.view().now if it.rule in ("count_drift", "gateway")] == []


def test_an_event_that_cannot_be_written_now_is_written_later(shop: Shop) -> None:
    shop.board.lost("till1", "no answer", "")
    shop.refusing = True
    with pytest.raises(Unavailable, match="write alert"):
        shop.looks(400)
    shop.refusing = False
    shop.looks(10)
    assert shop.events() == [("raised", "till_dark: till1")]


def test_a_message_waits_for_a_webhook_that_is_away_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = b"HTTP/1.1 429 X\r\nRetry-After: 50\r\nContent-Length: 0\r\n\r\n"
    with RawServer(says(busy), says(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"), says(OK)) as server:
        monkeypatch.setenv("HOOK_URL", f"{server.url}/robot?key=K")
        hook = WebhookSettings(name="duty", shape="generic", url="env:HOOK_URL", language="en")
        shop = Shop(tmp_path, AlertSettings(quiet_hours="", webhooks=(hook,)))
        shop.open()
        shop.watch.open()
        shop.board.lost("till1", "secret detail", "")
        shop.looks(320)
        telling = Telling(shop.settings, hook, shop.alerts, shop.clock, Random(1))
        telling.open()
        telling.step(shop.stop)
        assert shop.alerts.view().hooks[0].problem == "HTTP 429" and len(server.requests) == 1
        shop.clock.advance(40)
        telling.step(shop.stop)
        assert len(server.requests) == 1  # it asked for fifty seconds
        for _ in range(2):
            shop.clock.advance(11)
            telling.step(shop.stop)
        state = shop.alerts.view().hooks[0]
        assert (state.sent, state.waiting, state.problem) == (1, 0, "")
        told = json.loads(server.requests[2].partition(b"\r\n\r\n")[2])
        assert told["title"] == "Till till1 (front) is not connected: its sales are missing here"
        assert "secret detail" not in json.dumps(told) and told["store"] == "0042"
        telling.close()
        shop.watch.close()
        shop.close()


def test_messages_to_a_chat_group_keep_apart_as_its_limit_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty a minute: DingTalk answers more with silence for ten minutes, and WeCom drops them."""
    fine = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"errcode":0}'
    with RawServer(says(fine), says(fine)) as server:
        monkeypatch.setenv("HOOK_URL", f"{server.url}/robot?key=K")
        hook = WebhookSettings(name="duty", shape="wecom", url="env:HOOK_URL")
        shop = Shop(tmp_path, AlertSettings(quiet_hours="", webhooks=(hook,)))
        shop.open()
        shop.watch.open()
        for name in ("till1", "till2"):
            shop.board.lost(name, "x", "")
        shop.keep(types.AlarmRaised(what="journal_salvaged", severity="critical", hint="x"), source="gateway")
        shop.looks(320)
        assert shop.alerts.view().hooks[0].waiting >= 2
        telling = Telling(shop.settings, hook, shop.alerts, shop.clock, Random(1))
        telling.open()
        sent = []
        for wait_s in (0.0, 3.0, 0.2):
            shop.clock.advance(wait_s)
            telling.step(shop.stop)
            sent.append(len(server.requests))
        assert sent == [1, 1, 2]
        telling.close()
        shop.watch.close()
        shop.close()


class FakeSession:
    """A broker session in memory."""

    def __init__(self) -> None:
        self.generation = 0
        self.sent: list[tuple[str, bytes, bool]] = []

    def open(self) -> None: ...

    def receive(self, timeout_s: float, limit: int = 512) -> list[object]:
        return []

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        self.sent.append((topic, payload, retain))

    def close(self) -> None: ...


def test_the_topic_holds_the_last_state_and_is_written_anew_on_a_new_connection(shop: Shop) -> None:
    session = FakeSession()
    topic = AlertTopic(shop.settings, shop.alerts, shop.clock, session)
    topic.open()
    topic.step(shop.stop)
    assert session.sent == []  # nobody is there
    session.generation = 1
    topic.step(shop.stop)
    topic.step(shop.stop)
    shop.board.lost("till1", "x", "")
    shop.looks(320)
    topic.step(shop.stop)
    session.generation = 2
    topic.step(shop.stop)
    states = [json.loads(payload) for _, payload, _ in session.sent]
    assert [len(it["alerts"]) for it in states] == [0, 1, 1]
    assert all(name == "store/0042/alerts" and retain for name, _, retain in session.sent)
    assert states[1]["worst"] == "warning" and states[1]["alerts"][0]["cause"] == "device:till1"
    topic.close()
    assert len(session.sent) == 3  # a gateway that stops leaves it standing
    shop.alerts.obey(AlertSettings(mqtt=False))
    topic.close()
    assert session.sent[3:] == [("store/0042/alerts", b"", True)]  # one that is told to keep off takes it away


@pytest.mark.parametrize(
    "text",
    ['[[alerts.webhooks]]\nname = "a"\nshape = "wecom"\nurl = "https://x/?key=1"',
     '[[alerts.webhooks]]\nname = "a"\nshape = "wecom"\nurl = ""',
     '[[alerts.rules]]\ncause = "clock"\n[[alerts.rules]]\ncause = "clock"',
     '[[alerts.rules]]\ncause = "nothing"', '[alerts]\nquiet_hours = "22-8"'],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused_and_quotes_no_key(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x")
    assert "key=1" not in str(caught.value) and "alerts" in str(caught.value)


def test_no_settings_alert_nobody_and_need_nothing() -> None:
    assert Settings().alerts.webhooks == ()
