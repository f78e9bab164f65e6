"""A camera on the network, as far as a test needs one: RTSP over TCP that sends drawn people as MJPEG, or misbehaves.

*Source*: RFC 2326 (RTSP, interleaved data in §10.12), RFC 2435 (RTP payload of JPEG), RFC 2617 (basic authentication).
"""

from __future__ import annotations

import base64
import socket
import struct
import threading
import time
from collections.abc import Callable

import cv2

from vision.frame import Image

_CLOCK_HZ = 90_000
_PAYLOAD = 1_400


class RtspServer:
    """Serves one client after the other; `frames_a_connection` None: until the client goes, else it hangs up then."""

    def __init__(
        self, picture: Callable[[], Image], fps: float = 10.0, login: str = "", frames_a_connection: int | None = None,
        dead_s: float = 0.0,
    ) -> None:  # fmt: skip
        """`login`: "user:password" that is asked for; `dead_s`: nobody answers for so long after hanging up."""
        self._picture, self._fps, self._frames, self._dead_s = picture, fps, frames_a_connection, dead_s
        self._token = base64.b64encode(login.encode()).decode() if login else ""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.2)
        self._stop = threading.Event()
        self.port = self._listening.getsockname()[1]
        self.connections = self.refused = 0
        self.ended_s: list[float] = []
        self._thread = threading.Thread(target=self._serve, name="rtsp")

    def __enter__(self) -> RtspServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        self._listening.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._listening.accept()
            except TimeoutError:
                continue
            with client:
                client.settimeout(2.0)
                try:
                    if self._talk(client):
                        self._send(client)
                except OSError:  # the client has gone
                    pass
            if self.ended_s:
                self._stop.wait(self._dead_s)

    def _talk(self, client: socket.socket) -> bool:
        """Answer until PLAY."""
        text = b""
        while not self._stop.is_set():
            while b"\r\n\r\n" not in text:
                data = client.recv(4096)
                if not data:
                    return False
                text += data
            head, _, text = text.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            method, url = lines[0].split(" ")[:2]
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            answer = [f"CSeq: {fields.get('cseq', '0')}"]
            if self._token and method != "OPTIONS" and fields.get("authorization") != f"Basic {self._token}":
                self.refused += 1
                client.sendall(_message("401 Unauthorized", [*answer, 'WWW-Authenticate: Basic realm="camera"']))
                continue
            body = ""
            if method == "OPTIONS":
                answer.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
            elif method == "DESCRIBE":
                body = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=door\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track1\r\n"
                )
                answer += [f"Content-Base: {url}/", "Content-Type: application/sdp", f"Content-Length: {len(body)}"]
            elif method == "SETUP":
                answer += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"]
            else:
                answer.append("Session: 1")
            client.sendall(_message("200 OK", answer, body))
            if method == "PLAY":
                return True
            if method == "TEARDOWN":
                return False
        return False

    def _send(self, client: socket.socket) -> None:
        self.connections += 1
        begun_s, number, sent = time.monotonic(), 0, 0
        while not self._stop.is_set() and (self._frames is None or sent < self._frames):
            stamp = int((time.monotonic() - begun_s) * _CLOCK_HZ) & 0xFFFFFFFF
            for packet, last in _packets(self._picture()):
                header = struct.pack(">BBHII", 0x80, 26 | (0x80 if last else 0), number & 0xFFFF, stamp, 1)
                client.sendall(struct.pack(">cBH", b"$", 0, len(header) + len(packet)) + header + packet)
                number += 1
            sent += 1
            self._stop.wait(1 / self._fps)
        self.ended_s.append(time.monotonic())


def _message(status: str, fields: list[str], body: str = "") -> bytes:
    return "\r\n".join([f"RTSP/1.0 {status}", *fields, "", body]).encode()


def _packets(image: Image) -> list[tuple[bytes, bool]]:
    """RTP payloads of one picture, and whether each is the last."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    jpeg = encoded.tobytes()
    tables, scan, at = b"", 0, 2
    while not scan:
        marker, size = jpeg[at + 1], struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
        part = jpeg[at + 4 : at + 2 + size]
        if marker == 0xDB:
            tables += b"".join(part[start + 1 : start + 65] for start in range(0, len(part), 65))
        at += 2 + size
        scan = at if marker == 0xDA else 0
    data = jpeg[scan:-2]
    height, width = image.shape[:2]
    found = []
    for offset in range(0, len(data), _PAYLOAD):
        head = struct.pack(">I", offset) + bytes([1, 255, width // 8, height // 8])  # 4:2:0, tables in the first packet
        head += struct.pack(">BBH", 0, 0, len(tables)) + tables if offset == 0 else b""
        found.append((head + data[offset : offset + _PAYLOAD], offset + _PAYLOAD >= len(data)))
    return found
