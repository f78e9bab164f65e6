"""Bluetooth receivers as Theengs Gateway and OpenMQTTGateway publish: own trolley beacons, and foreign phones.

Foreign adverts are part of the scene: the gateway must drop them, and the demo shows that it does. Knows no broker.

*Source*: Theengs Gateway and OpenMQTTGateway documentation (BTtoMQTT topics and keys), PROTOCOLS §7.
"""

from __future__ import annotations

import json
import random

TROLLEYS = "fda50693-a4e2-4fb1-afcf-c6eb07647825"  # the UUID on the allow-list in config/demo.toml
_POWER_1M_DBM = -59


class Receiver:
    """One receiver; `name` is its part of the topic."""

    def __init__(self, name: str, seed: int) -> None:
        """Store."""
        self._name = name
        self._dice = random.Random(seed)  # noqa: S311 - radio, not a secret

    def trolley(self, minor: int) -> tuple[str, bytes]:
        """Topic and payload of one advert of the trolley's beacon."""
        mac = f"AC:23:3F:00:{minor >> 8:02X}:{minor & 0xFF:02X}"
        return self._message(mac, {
            "mac_type": 0, "rssi": round(self._dice.gauss(-58, 3)), "model": "iBeacon", "model_id": "IBEACON",
            "type": "ACEL", "uuid": TROLLEYS.replace("-", ""), "major": 1, "minor": minor, "txpower": _POWER_1M_DBM,
        })  # fmt: skip

    def phone(self) -> tuple[str, bytes]:
        """Topic and payload of a passer-by's phone: a random address that must go no further."""
        mac = ":".join(f"{byte:02X}" for byte in (0x40 | self._dice.randrange(64), *self._dice.randbytes(5)))
        return self._message(mac, {
            "mac_type": 1, "rssi": round(self._dice.gauss(-75, 6)), "manufacturerdata": "4c001005" + "1c18a2b3c4"
        })  # fmt: skip

    def _message(self, mac: str, keys: dict[str, object]) -> tuple[str, bytes]:
        topic = f"home/{self._name}/BTtoMQTT/{mac.replace(':', '')}"
        return topic, json.dumps({"id": mac, **keys}, separators=(",", ":")).encode()
