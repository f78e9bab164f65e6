"""The order in which the gateway's workers stop, lowest first: what brings events before what keeps and shows them."""

from __future__ import annotations

from typing import Final

SOURCES: Final = 0
WITNESSES: Final = 5  # what speaks of the sources
DELIVERY: Final = 10
JOURNAL: Final = 20
PAGE: Final = 25
BROKER: Final = 30
