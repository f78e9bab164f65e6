"""The door of a camera's process: what the gateway starts, so that only the process itself loads OpenCV.

Must not import anything that knows pixels before it runs in the process.
"""

from __future__ import annotations

from multiprocessing.connection import Connection


def run(settings_bytes: bytes, secret_bytes: bytes, pipe: Connection) -> None:
    """Entry point of the spawned process; see `vision.camera_child.run`."""
    from vision import camera_child

    camera_child.run(settings_bytes, secret_bytes, pipe)
