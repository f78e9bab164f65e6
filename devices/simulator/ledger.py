"""The shop's own books: what it did, and what its devices really put on the wire. Compared with the journal at the end.

Kept apart from everything that travels, so that a loss on the way cannot hide itself. A sale or scan is written down
when the whole of it left the device undamaged; what did not is `lost_on_wire`, with the fault that explains it. What
left a serial device while nobody read, or within a second before, may not have been read: it is `unproven`. A tag is
`sure` when it was read often and quickly enough to be an arrival by the rules. Knows no journal and no protocol.
"""

from __future__ import annotations

from collections import Counter, deque
from decimal import Decimal
from typing import Final

import msgspec

SURE_READS: Final = 4  # undamaged frames …
SURE_WITHIN_S: Final = 1.5  # … in this time: twice what makes an arrival, with the time for it to spare
_RECENT: Final = 256  # serial sales and scans whose time is remembered

Sale = tuple[str, str]  # till, number


class TagTrace(msgspec.Struct):
    """The undamaged frames about one tag at one reader: the times of the last `SURE_READS`."""

    recent_s: list[float] = []
    sure: bool = False

    def read(self, at_s: float) -> None:
        """One more frame left."""
        self.recent_s = [*self.recent_s[1 - SURE_READS :], at_s]
        if len(self.recent_s) >= SURE_READS and at_s - self.recent_s[0] <= SURE_WITHIN_S:
            self.sure = True


class Ledger:
    """The books of one run. One thread writes; read them when the shop has stopped."""

    def __init__(self) -> None:
        """Empty books."""
        self.sales: dict[Sale, Decimal] = {}
        self.unproven_sales: set[Sale] = set()
        self.scans = 0
        self.unproven_scans = 0
        self.tags: dict[tuple[str, str], TagTrace] = {}  # (reader, EPC)
        self.entered = 0
        self.left = 0
        self.ratings = 0
        self.door_codes = 0
        self.poison = 0  # malformed messages sent on purpose
        self.flood = 0  # readings sent on purpose, to be too many
        self.lost_on_wire: Counter[str] = Counter()  # "scanner: damaged by the cable" → times
        self._recent_sales: deque[tuple[float, Sale]] = deque(maxlen=_RECENT)
        self._recent_scans: deque[float] = deque(maxlen=_RECENT)

    def sold(self, till: str, number: str, net: Decimal, at_s: float | None = None, *, proves: bool = True) -> None:
        """A sale has left the till.

        Args:
            till: its name.
            number: the till's own number of the sale.
            net: what was paid, in yuan.
            at_s: when, if over a serial line, which may lose it yet.
            proves: the gateway was reading that line.
        """
        self.sales[(till, number)] = net
        if not proves:
            self.unproven_sales.add((till, number))
        elif at_s is not None:
            self._recent_sales.append((at_s, (till, number)))

    def scanned(self, at_s: float, *, proves: bool = True) -> None:
        """A code has left the scanner undamaged; `proves`: the gateway was reading."""
        self.scans += 1
        if proves:
            self._recent_scans.append(at_s)
        else:
            self.unproven_scans += 1

    def tag(self, reader: str, epc: str, at_s: float, *, proves: bool = True) -> None:
        """An undamaged frame about a tag has left the reader; `proves`: the gateway was reading."""
        trace = self.tags.setdefault((reader, epc), TagTrace())
        if proves:
            trace.read(at_s)

    def unread(self, devices: tuple[str, ...], since_s: float) -> None:
        """Their lines went: what was sent since `since_s` proves nothing."""
        for (reader, _), trace in self.tags.items():
            if reader in devices and trace.recent_s and trace.recent_s[-1] >= since_s:
                trace.recent_s = []
                trace.sure = False
        self.unproven_sales |= {sale for at_s, sale in self._recent_sales if at_s >= since_s and sale[0] in devices}
        if "scanner" in devices:
            late = [at_s for at_s in self._recent_scans if at_s >= since_s]
            self.unproven_scans += len(late)
            self._recent_scans.clear()

    @property
    def money(self) -> Decimal:
        """All sales together, in yuan."""
        return sum(self.sales.values(), Decimal(0))
