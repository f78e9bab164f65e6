"""The memory of this process: who may see it, and how much of it lies idle.

No core dump of it reaches a disk, for identifiers of persons pass through it; neither the kernel nor a debugger of the
same user gets at it. That is as far as it goes: root can still read it, and memory can be swapped out where the machine
has a swap; docs/privacy.md says so. Knows nothing of persons.

*Source*: prctl(2), PR_SET_DUMPABLE; setrlimit(2), RLIMIT_CORE; mallopt(3), M_ARENA_MAX.
"""

from __future__ import annotations

import ctypes
import resource

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_M_ARENA_MAX = -8
_ARENAS = 2


def keep_memory_private() -> bool:
    """No core dumps of this process and of those it starts, no debugger; False where the system does not do it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 and libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # not Linux
        return False


def share_heaps() -> bool:
    """Two heaps for all threads to come instead of one each; False where the C library is another than glibc.

    A heap of its own spares a thread from waiting for the others, but ours wait for the interpreter anyway; and what
    every heap keeps free for itself is 12 MB in a gateway of twenty devices.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS))
    except (OSError, AttributeError):
        return False
