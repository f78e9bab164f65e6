"""The search for the one event of a batch that the platform cannot take: how many to send next, and when to give up.

A binary search over positions: a refused batch is halved; what is taken narrows the search from below. Pure.
"""

from __future__ import annotations

TRIES_ALONE = 3


class Bisection:
    """One search at a time; idle until a batch is refused."""

    def __init__(self) -> None:
        self._through = 0  # the refused batch ended here; 0: no search is on
        self._next = 0
        self._alone = (0, 0)  # (position, times it was refused alone)

    @property
    def on(self) -> bool:
        """Whether a search is on."""
        return self._through > 0

    def limit(self, most: int) -> int:
        """How many events to send at once: at least 1, at most `most`."""
        return min(most, self._next or most)

    def refused(self, first: int, last: int) -> None:
        """The batch of positions `first` … `last`, more than one, was refused: the next is half as long."""
        self._through = self._through or last
        self._next = max(1, (last - first + 1) // 2)

    def refused_alone(self, position: int) -> bool:
        """One event was refused by itself; True when that was the third time."""
        tries = self._alone[1] + 1 if self._alone[0] == position else 1
        self._alone = (position, tries)
        return tries >= TRIES_ALONE

    def settled(self, through: int, *, set_aside: bool) -> None:
        """Everything up to `through` is settled. `set_aside`: the culprit has been found, the rest goes out whole."""
        if set_aside:
            self._alone = (0, 0)
        if not self.on:
            return
        left = self._through - through
        if left <= 0:
            self.stop()
        else:
            self._next = left if set_aside else max(1, left // 2)

    def stop(self) -> None:
        """Forget the search."""
        self._through = self._next = 0
