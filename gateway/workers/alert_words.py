"""An alert in words: what a webhook, an MQTT client or a person at the command line is told. Never a technical detail.

Composition: the troubles' texts and the languages are the page's. Names of devices, zones and parts are the shop's own;
nothing of a person is among an alert's parameters.
"""

from __future__ import annotations

from typing import Any

from config.settings import Settings
from gateway.alerts.alert import Alert, Message, Notice
from gateway.clock import rfc3339_s
from gateway.status import words
from gateway.status.language import Language

_TEST = Alert(number=0, id="test", rule="gateway", key="test", severity="notice", raised_ms=0)


def speaker_of(settings: Settings, language: str = "") -> Language:
    """Who says it, in the language asked for or the shop's."""
    return Language(language or settings.gateway.language, settings.gateway.time_zone)


def title_and_todo(alert: Alert, speaker: Language) -> tuple[str, str]:
    """What is wrong, and what to do, each one sentence."""
    if alert.key == "test":
        return speaker.text(words.TEST_ALERT), speaker.text(words.TEST_TODO)
    advice = words.TROUBLES[alert.key] if alert.key in words.TROUBLES else words.Advice(alert.key, "")
    return speaker.say(advice.title, alert.parameters), speaker.say(advice.todo, alert.parameters)


def notice(message: Message, settings: Settings, speaker: Language) -> Notice:
    """What a webhook is told."""
    return _notice(message.id, message.kind, message.alert, message.at_ms, settings, speaker)


def trial(at_ms: int, settings: Settings, speaker: Language) -> Notice:
    """What `storefront alerts test` sends."""
    return _notice(f"test.{at_ms}", "test", _TEST, at_ms, settings, speaker)


def _notice(id_: str, kind: Any, alert: Alert, at_ms: int, settings: Settings, speaker: Language) -> Notice:
    title, todo = title_and_todo(alert, speaker)
    over = kind == "cleared"
    state = speaker.text(words.OVER if over else words.SEVERITIES[alert.severity])
    heading = speaker.say(words.ALERT_HEADING, {"store": settings.gateway.store, "state": state})
    return Notice(
        id=id_, kind=kind, cause=alert.id, severity=alert.severity, title=title, todo="" if over else todo,
        store=settings.gateway.store, gateway=settings.gateway.name, at=rfc3339_s(at_ms / 1000),
        heading=f"{heading} · {speaker.moment(at_ms, at_ms)}",
    )  # fmt: skip


def topic_payload(alerts: tuple[Alert, ...], at_ms: int, speaker: Language) -> dict[str, Any]:
    """What stands on the topic: every alert that is up."""
    return {
        "version": 1,
        "at": rfc3339_s(at_ms / 1000),
        "worst": alerts[0].severity if alerts else None,
        "alerts": [
            {
                "id": alert.number, "cause": alert.id, "rule": alert.rule, "severity": alert.severity, "title": title,
                "todo": todo, "since": rfc3339_s(alert.raised_ms / 1000), "acknowledged": alert.acknowledged,
            }
            for alert in alerts
            for title, todo in [title_and_todo(alert, speaker)]
        ],
    }  # fmt: skip
