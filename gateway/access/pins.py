"""What may be a PIN, and how one is kept: argon2id, never the PIN itself.

A PIN is six digits or more, or a phrase of ten characters or more. What everybody tries first is refused. Knows no
account.
"""

from __future__ import annotations

import contextlib
import ctypes
import secrets
import threading
import unicodedata
from collections.abc import Iterator
from typing import Literal

Weakness = Literal["", "short", "long", "obvious"]

_DIGITS_LEAST = 6
_PHRASE_LEAST = 10
_MOST = 128
_KINDS_LEAST = 4  # different characters of a phrase
_COMMON = frozenset(
    """
    112233 123321 332211 445566 147258 147369 159357 258369 142536 102030 131452 201314 520131 521521 1314520 5201314
    147258369 159753 246810 135790 135792 789456 456123 123654 321654 741852 963852
    """.split()  # noqa: SIM905 - a list of words reads better as text
)
_WALKS = ("01234567890123456789", "98765432109876543210")
_CODE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: nothing to mistake for something else
_LOOKALIKES = str.maketrans("OIL", "011")
# OWASP's second choice: 19 MiB and two passes, and one hash at a time.
_MEMORY_KIB, _PASSES, _LANES = 19_456, 2, 1
_HASHING = threading.Lock()
_M_MMAP_THRESHOLD, _MAPPED_BYTES = -3, 4 << 20  # mallopt(3)


def normal(text: str) -> str:
    """The same characters however the keyboard wrote them (full-width digits, composed accents); outer blanks go."""
    return unicodedata.normalize("NFKC", text[: 4 * _MOST]).strip()


def weakness(pin: str, *names: str) -> Weakness:
    """Why this may not be a PIN; "" when it may. `names`: what may not be the whole of it (account, store)."""
    text = normal(pin)
    if len(text) > _MOST:
        return "long"
    digits = text.isascii() and text.isdigit()
    if len(text) < (_DIGITS_LEAST if digits else _PHRASE_LEAST):
        return "short"
    folded = text.casefold()
    if any(folded == normal(name).casefold() for name in names if name):
        return "obvious"
    if _repeats(folded) or (digits and (text in _COMMON or any(text in walk for walk in _WALKS))):
        return "obvious"
    if not digits and len(set(folded)) < _KINDS_LEAST:
        return "obvious"
    if digits and len(set(text)) < 3:
        return "obvious"
    return ""


def _repeats(text: str) -> bool:
    """The same three characters or fewer, again and again: 121212, 123123, 777777."""
    return any(text == (text[:size] * len(text))[: len(text)] for size in (1, 2, 3))


def hashed(pin: str) -> str:
    """What is kept of a PIN: argon2id in PHC form, salted."""
    from argon2 import PasswordHasher  # native code, loaded when somebody signs in

    with _alone():
        return PasswordHasher(_PASSES, _MEMORY_KIB, _LANES).hash(normal(pin))


def matches(kept: str, pin: str) -> bool:
    """Whether `pin` is the one that `kept` came from. Takes as long with `kept` "" (nobody): a guess at names costs."""
    from argon2 import PasswordHasher
    from argon2.exceptions import InvalidHashError, VerificationError

    hasher = PasswordHasher(_PASSES, _MEMORY_KIB, _LANES)
    with _alone():
        if not kept:
            hasher.hash(normal(pin))
            return False
        try:
            return hasher.verify(kept, normal(pin))
        except (VerificationError, InvalidHashError):
            return False


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One hash at a time, its memory mapped for itself: glibc would otherwise keep 20 MB for the next one."""
    with _HASHING:
        with contextlib.suppress(OSError, AttributeError):  # another C library does as it likes
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        yield


def new_code() -> str:
    """A set-up code, 40 random bits: ABCD-EFGH."""
    letters = "".join(secrets.choice(_CODE_ALPHABET) for _ in range(8))
    return f"{letters[:4]}-{letters[4:]}"


def normal_code(text: str) -> str:
    """A set-up code as somebody typed it, without blanks and dashes, look-alikes put right."""
    letters = normal(text).upper().translate(_LOOKALIKES)
    return "".join(letter for letter in letters if letter in _CODE_ALPHABET)


def new_pin() -> str:
    """Six random digits that are not obvious."""
    while weakness(pin := f"{secrets.randbelow(10**6):06d}"):
        continue
    return pin
