"""A world whose log is the platform's own database, and whose shop gives it a key to seal to and its calendar."""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.clock import FakeClock
from gateway.shopper.sealing import key_to_text, new_key
from sync.platform.store import PlatformStore
from sync.platform.telling import Issuer, Telling
from sync.uplink import Lane
from tests.sync.platform.platform_parts import World

PRIVATE, PUBLIC = new_key()
ISSUER = Ed25519PrivateKey.from_private_bytes(b"i" * 32)


class Town(World):
    """A world whose log is the platform's own database."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.directory = directory
        self.store = PlatformStore(directory / "platform.db")
        self.store.open()
        self.fold._source = self
        self.clock = FakeClock(self.now_s)
        self.telling = Telling(self.book, self.store, self.clock, Issuer("k1", ISSUER))
        self.sent = 0
        beat = {"seal_key": {"id": "g1", "public_key": key_to_text(PUBLIC)}, "time_zone": "Asia/Shanghai"}
        self.store.beat("gw01", json.dumps(beat).encode(), "")

    def events(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        return self.store.events(after, limit, ("transactions", "measurements", "observations"))

    def send(self) -> None:
        """What happened since reaches the platform: every event on the lane its id names."""
        for _, body in self.log.rows[self.sent :]:
            gateway, stream, epoch, _ = json.loads(body)["id"].rsplit(".", 3)
            lane = Lane(gateway, stream, epoch)
            self.store.open_epoch(lane, "fresh", None)
            seq = self.store.find(lane)[0] + 1
            number = json.loads(body)["id"].rsplit(".", 1)[1].encode()
            body = body.replace(b"." + number + b'"', b".%016d" % seq + b'"')
            self.take(lane, seq, body)
        self.sent = len(self.log.rows)
        self.fold.catch_up()

    def take(self, lane: Lane, seq: int, body: bytes) -> None:
        """One event as a gateway delivers it."""
        self.store.consume(lane, seq, seq, b"[" + body + b"]")

    def commands(self, kind: str) -> list[dict[str, object]]:
        rows = self.store.commands("gw01", 0, 100)
        return [json.loads(body)["data"] for _, body in rows if f".{kind}." in json.loads(body)["type"]]

    def raw(self) -> bytes:
        """Every byte on the disk but the key's."""
        return b"".join(path.read_bytes() for path in sorted(self.directory.glob("p*.db*")))

    def key(self, value: str) -> str:
        key = self.key_of("member", value)
        assert key is not None
        return key

    def close(self) -> None:
        super().close()
        self.store.close()
