"""No core dump of this process reaches a disk: identifiers of persons pass through its memory.

Neither the kernel nor a debugger of the same user gets at it. That is as far as it goes: root can still read it, and
memory can be swapped out where the machine has a swap; docs/privacy.md says so. Knows nothing of persons.

*Source*: prctl(2), PR_SET_DUMPABLE; setrlimit(2), RLIMIT_CORE.
"""

from __future__ import annotations

import ctypes
import resource

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4


def keep_memory_private() -> bool:
    """No core dumps of this process and of those it starts, no debugger; False where the system does not do it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 and libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # not Linux
        return False
