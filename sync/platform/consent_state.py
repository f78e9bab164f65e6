"""What a person agrees to now, from grants and withdrawals in any order of arrival: a pure function.

The acts count in the order in which they were done, and at the same moment a withdrawal comes last. Knows no storage.

*Source*: ISO/IEC TS 27560 (consent records); PIPL Art. 15.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec


class ConsentAct(msgspec.Struct, frozen=True):
    """One act. A withdrawal without purposes is of all; `until_ms` None: a grant without end."""

    step: Literal["granted", "withdrawn"]
    purposes: tuple[str, ...]
    at_ms: int
    until_ms: int | None = None


class ConsentState(msgspec.Struct, frozen=True):
    """`since_ms` None: not agreed. `until_ms`: the grant ends by itself. `withdrawn_ms`: the last withdrawal."""

    since_ms: int | None
    until_ms: int | None
    withdrawn_ms: int | None


_NONE = ConsentState(None, None, None)


def state_of(acts: Iterable[ConsentAct]) -> dict[str, ConsentState]:
    """The state of every purpose that was ever agreed to or withdrawn; empty without acts."""
    state: dict[str, ConsentState] = {}
    for act in sorted(acts, key=lambda act: (act.at_ms, act.step == "withdrawn")):
        for purpose in act.purposes or (tuple(state) if act.step == "withdrawn" else ()):
            was = state.get(purpose, _NONE)
            if act.step == "withdrawn":
                state[purpose] = ConsentState(None, None, act.at_ms)
            else:
                runs = was.since_ms is not None and (was.until_ms is None or act.at_ms <= was.until_ms)
                since_ms = was.since_ms if runs else act.at_ms
                state[purpose] = ConsentState(since_ms, act.until_ms, was.withdrawn_ms)
    return state
