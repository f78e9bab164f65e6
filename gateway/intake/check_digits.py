"""Check digits: whether the last digit of a number follows from the others. Knows nothing that has such a number.

*Source*: ISO/IEC 7812-1 annex B (Luhn); GS1 General Specifications §7.9.1 (modulo 10).
"""

from __future__ import annotations


def luhn(digits: str) -> bool:
    """As payment cards have it; `digits` are ASCII."""
    doubled = (int(digit) * (1 + index % 2) for index, digit in enumerate(reversed(digits)))
    return sum(each // 10 + each % 10 for each in doubled) % 10 == 0


def gs1(digits: str) -> bool:
    """As article, case and pallet numbers have it; `digits` are ASCII."""
    return sum(int(digit) * (1, 3)[index % 2] for index, digit in enumerate(reversed(digits))) % 10 == 0
