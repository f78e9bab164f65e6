"""How one camera is configured, and what its process and the gateway say to each other.

Values only; everything here crosses the process boundary as bytes. Must not know processes or pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from vision.model import Scene, Slice
from vision.person_size import Calibration, PersonSize

EXIT_STALLED: Final = 75  # EX_TEMPFAIL
EXIT_CONFIG: Final = 78  # EX_CONFIG
EXIT_ORPHAN: Final = 0
CameraHealth = Literal["starting", "live", "reconnecting", "ended", "failed"]


class CameraSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One camera.

    Attributes:
        name: of the camera, unique in the store.
        source: device index ("0"), file, stream address without credentials, or "synthetic:top:7:20"
            (view, seed and people a minute, see `vision.synthetic_camera`).
        credentials: name of the secret with user and password; empty = none. Resolved by the core, never stored here.
        scene: lines, zones, masks and heat map, relative to the picture.
        detector, model, runtime: see `vision.count`.
        person_size: of the working picture, as an earlier process learned it; None = calibrated or learned by warm-up.
        calibration: two clicked persons; None = learned.
        fps: processed frames a second aimed at.
        interval_s, origin_s: intervals start at origin + n · interval of monotonic time.
        loop: a file starts again at its end; without it the camera then has ended.
        stall_s: no frame for so long means the stream is dead. hang_s: no word for so long means the process is.
        memory_limit_bytes: a process that grows beyond is replaced.
        warm_up_s: None = the detector's own.
    """

    name: str
    source: str
    credentials: str = ""
    scene: Scene = Scene()
    detector: Literal["motion", "person"] = "motion"
    model: Path | None = None
    runtime: Literal["auto", "cv2", "onnxruntime"] = "auto"
    person_size: PersonSize | None = None
    calibration: Calibration | None = None
    fps: float = 10.0
    interval_s: float = 60.0
    origin_s: float = 0.0
    loop: bool = False
    stall_s: float = 5.0
    hang_s: float = 15.0
    memory_limit_bytes: int = 800 * 1024 * 1024
    warm_up_s: float | None = None


class Secret(msgspec.Struct, frozen=True):
    """User and password of a stream; lives in memory and in the pipe to the child only."""

    user: str = ""
    password: str = ""


class Report(msgspec.Struct, frozen=True, tag="report"):
    """The camera process's word, about once a second; its absence is a hang.

    Attributes:
        frames_grabbed, frames_processed: since the process began; the difference was shed.
        person_size: learned so far, so that a successor need not learn it again.
        reason: why it is not live, for a person.
    """

    health: CameraHealth
    time_s: float
    frames_grabbed: int = 0
    frames_processed: int = 0
    person_size: PersonSize | None = None
    reason: str = ""


class Snapshot(msgspec.Struct, frozen=True, tag="snapshot"):
    """The calibration picture: JPEG bytes with all persons made unrecognisable; kept in memory only."""

    jpeg: bytes
    width_px: int
    height_px: int


class Ask(msgspec.Struct, frozen=True):
    """What the gateway asks of a camera process."""

    what: Literal["snapshot", "align", "stop"]
    origin_s: float = 0.0  # align: where intervals start from now on


Message = Slice | Report | Snapshot
"""What comes out of a camera process."""
