"""A barcode scanner as it is set up for the gateway: AIM identifier, payload, carriage return; GS is sent as it is.

Sans-I/O. Knows no shop and no port.

*Source*: ISO/IEC 15424 (AIM identifiers), PROTOCOLS §5.
"""

from __future__ import annotations


def scan_bytes(aim: str, text: str) -> bytes:
    """What the scanner sends for one code."""
    return f"{aim}{text}\r".encode()
