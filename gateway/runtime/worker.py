"""What runs in the gateway: a worker is opened, stepped and closed, always on one thread of its own.

Sources, the journal writer, the syncer, the page and the calendar are workers; `Supervisor` runs them. This module
holds only the contract and what a person may know of a worker's state; it knows no thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import msgspec


class Worker(Protocol):
    """One thing that the gateway does.

    Life: the supervisor makes the object with a factory, then calls `open` once, `step` again and again, `close` once —
    all of it on the same thread. `close` is called after every `open`, also after an `open` or a `step` that raised, so
    it must cope with a half-opened object. Nothing is called after `close`: what follows is a fresh object from the
    factory. What must outlive an object (a plan, a cursor, counters) belongs to whoever made the factory.

    Errors, from any of the three and from the factory:

    - `Unavailable` (and `JournalFull`, which a worker had better handle itself): something outside is not there. The
      object is closed; a fresh one is tried after back-off, for ever. Not a crash.
    - `ConfigError`: waiting alone will not help. Shown as failed, tried again slowly.
    - `JournalError`: the journal cannot be trusted. The whole process ends with it.
    - anything else is a crash: counted, answered by a fresh object after back-off; after five in a minute shown as
      failed and tried slowly. In an essential worker this and `ConfigError` end the whole process with that error.
    """

    def open(self) -> None:
        """Acquire what the work needs. Bounded: seconds, not minutes."""
        ...

    def step(self, stop: threading.Event) -> None:
        """Do one bounded unit of work, about a second at most, then return; called again at once.

        A worker without anything to do waits here until something is due, with a time-out: on `stop` as long as it
        likes within its patience, on its own I/O half a second, or longer as a `Sleeper`. When `stop` is set the step
        should return soon; `stop` belongs to this object's life and must not be kept beyond `close`.
        """
        ...

    def close(self) -> None:
        """Finish what was accepted (within a second) and release everything."""
        ...


@runtime_checkable
class Sleeper(Worker, Protocol):
    """A worker that waits long on something else than `stop`: nobody has to look again and again whether it is set."""

    def wake(self) -> None:
        """`stop` is set: a step that waits returns now, and so does one that is about to wait.

        From any thread, at any time in the object's life, also before `open` and after `close`. Must not wait.
        """
        ...


Factory = Callable[[], Worker]
Wait = Callable[[threading.Event, float], bool]
"""A port for waiting: until the event is set or so many seconds have passed; True when it is set."""

State = Literal["starting", "running", "waiting", "failed", "stopped"]


def wait(event: threading.Event, timeout_s: float) -> bool:
    """The real `Wait`."""
    return event.wait(timeout_s)


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """What a person may know of a worker now.

    `waiting`: something outside is not there, `reason` and `hint` say what. `failed`: it crashes again and again or is
    configured wrongly, so it is tried slowly and somebody should look. Both have `next_try_s`, seconds from now.
    """

    name: str
    state: State
    stage: int
    essential: bool
    reason: str = ""
    hint: str = ""
    next_try_s: float | None = None
    since_s: float = 0.0  # how long it has been in this state
    progress_s: float | None = None  # how long ago it last finished a step; None: never
    stuck: bool = False  # no progress for longer than its patience
    crashes: int = 0
    outages: int = 0  # times that something outside was not there
