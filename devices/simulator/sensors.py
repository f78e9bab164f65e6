"""Small things over MQTT: a door contact, a fridge sensor and a feedback stand behind Zigbee2MQTT, and a door counter.

Each function gives topic and payload of one message. The door counter numbers its messages, so that one delivered twice
counts once; its mapping, like that of all of these, is in config/demo.toml. Knows no broker.

*Source*: Zigbee2MQTT documentation, device pages (`contact` is true for closed; `action` of remotes).
"""

from __future__ import annotations

import json

Message = tuple[str, bytes]


def _payload(**keys: object) -> bytes:
    return json.dumps(keys, separators=(",", ":")).encode()


def contact(name: str, *, is_open: bool) -> Message:
    """A door contact changed."""
    return f"zigbee2mqtt/{name}", _payload(battery=97, contact=not is_open, linkquality=156, voltage=3000)


def climate(name: str, celsius: float, humidity: float) -> Message:
    """A temperature and humidity sensor reports."""
    return f"zigbee2mqtt/{name}", _payload(battery=88, humidity=humidity, linkquality=120, temperature=celsius)


def feedback(name: str, score: int) -> Message:
    """A button of the feedback stand was pressed: 1 to 4."""
    return f"zigbee2mqtt/{name}", _payload(action=f"{score}_single", battery=100, linkquality=90)


def app_code(name: str, boot: str, seq: int, code: str) -> Message:
    """A code was held to the reader at the door; it numbers what it reads."""
    return f"door-qr/{name}", _payload(boot=boot, seq=seq, code=code)


def door_count(name: str, boot: str, seq: int, entered: int, left: int, interval_s: float) -> Message:
    """The door counter tells how many crossed since it told last."""
    keys = {"boot": boot, "seq": seq, "in": entered, "out": left, "interval_s": round(interval_s, 3)}
    return f"door-counter/{name}/count", _payload(**keys)
