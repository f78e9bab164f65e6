"""What an EPC bank's bits mean: the pure-identity URI and, for trade items, GTIN and serial number.

SGTIN-96 and SGTIN-198 are sliced here, because they are nearly all that a shop sees and because the filter value must
survive; other schemes go to epcpy. Nothing raises: a bank that is no EPC is a fact about the tag, told in `reason`.
Knows no reader and no event.

*Source*: GS1 Tag Data Standard 1.x, SGTIN (14.6.1) and URI escaping (6.3.1), as summarised in PROTOCOLS §10.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

FACTORY_PREFIXES: Final = ("E200", "E280")  # what chip makers write; they carry no identity of the item
CACHED: Final = 8192
MAX_HEX: Final = 62 * 2 + 4  # the longest EPC bank that a PC word can announce

_SGTIN_96, _SGTIN_198 = 0x30, 0x36
_PARTITIONS: Final = (  # prefix bits, prefix digits, item bits, item digits
    (40, 12, 4, 1), (37, 11, 7, 2), (34, 10, 10, 3), (30, 9, 14, 4), (27, 8, 17, 5), (24, 7, 20, 6), (20, 6, 24, 7),
)  # fmt: skip
_OTHERS: Final = {  # header → scheme, length in bits; None: as long as its content
    0x2C: ("gdti-96", 96), 0x2D: ("gsrn-96", 96), 0x2E: ("gsrnp-96", 96), 0x2F: ("usdod-96", 96),
    0x31: ("sscc-96", 96), 0x32: ("sgln-96", 96), 0x33: ("grai-96", 96), 0x34: ("giai-96", 96), 0x35: ("gid-96", 96),
    0x37: ("grai-170", 170), 0x38: ("giai-202", 202), 0x39: ("sgln-195", 195), 0x3B: ("adi-var", None),
    0x3C: ("cpi-96", 96), 0x3D: ("cpi-var", None), 0x3E: ("gdti-174", 174), 0x3F: ("sgcn-96", 96),
    0x40: ("itip-110", 110), 0x41: ("itip-212", 212),
}  # fmt: skip
_NO_FILTER: Final = {0x2F, 0x35, 0x3B}  # USDoD and ADI have one of another width, GID has none
_SERIAL: Final = re.compile(r"[!\"%-?A-Z_a-z]+")  # GS1 general specifications, the 82 characters of AI 21
_ESCAPED: Final = str.maketrans({c: f"%{ord(c):02X}" for c in '"%&/<>?'})


class Epc(msgspec.Struct, frozen=True):
    """An EPC bank, decoded as far as it can be.

    `hex`: as read, upper case. `uri`: `urn:epc:id:…`, None if the bank holds no EPC that is understood, and then
    `reason` says why. `gtin` (14 digits) and `serial` for SGTINs only. `filter`: the filter value, 0 to 7 (1 point of
    sale item, 2 case, 3 reserved or other…).
    """

    hex: str
    uri: str | None = None
    scheme: str | None = None
    gtin: str | None = None
    serial: str | None = None
    filter: int | None = None
    reason: str | None = None


def is_ignored(epc: str, prefixes: Iterable[str] = FACTORY_PREFIXES) -> bool:
    """True for an EPC that names nothing: empty, all zero, or with a chip maker's prefix.

    Args:
        epc: hex, any case.
        prefixes: hex prefixes of factory EPCs, upper case; give `()` where such tags are used as they are.
    """
    return not epc.strip("0") or epc.upper().startswith(tuple(prefixes))


def decode(epc: str, pc: str | None = None) -> Epc:
    """Decode an EPC bank (without its PC and CRC words).

    Args:
        epc: hex, any case. Zero bits after the scheme's length are padding.
        pc: the protocol-control word, four hex digits, if the reader gave it: its toggle bit tells a bank that
            belongs to an ISO application and holds no EPC.
    """
    return _decode(epc, pc)


@lru_cache(CACHED)
def _decode(epc: str, pc: str | None) -> Epc:
    text = epc.upper()
    try:
        value = int(text, 16) if text.isalnum() and len(text) <= MAX_HEX else -1
    except ValueError:
        value = -1
    if value < 0 or len(text) < 4 or len(text) % 2:
        return Epc(text[:MAX_HEX], reason="is not an even number of hex digits")
    if toggled(pc):
        return Epc(text, reason="the PC word says that the bank holds no EPC (ISO application)")
    header = int(text[:2], 16)
    if header == _SGTIN_96:
        return _sgtin(text, value, 96)
    if header == _SGTIN_198:
        return _sgtin(text, value, 198)
    return _by_epcpy(text, value, header)


def toggled(pc: str | None) -> bool:
    """True when the PC word (hex) says that the bank holds no EPC but a code of an ISO application."""
    try:
        return bool(pc and int(pc[:4], 16) & 0x0100)
    except ValueError:
        return False


def _cut(text: str, value: int, bits: int) -> int | None:
    """The first `bits` of the bank; None if it is shorter, or more than padding follows."""
    excess = len(text) * 4 - bits
    if excess < 0 or value & ((1 << excess) - 1):
        return None
    return value >> excess


def _sgtin(text: str, value: int, bits: int) -> Epc:
    cut = _cut(text, value, bits)
    if cut is None:
        return Epc(text, reason=f"is not the {bits} bits of an SGTIN-{bits}")
    filter_, partition = cut >> bits - 11 & 7, cut >> bits - 14 & 7
    if partition == 7:
        return Epc(text, filter=filter_, reason="partition 7 is not assigned")
    prefix_bits, prefix_digits, item_bits, item_digits = _PARTITIONS[partition]
    prefix = cut >> bits - 14 - prefix_bits & (1 << prefix_bits) - 1
    item = cut >> bits - 58 & (1 << item_bits) - 1
    if prefix >= 10**prefix_digits or item >= 10**item_digits:
        return Epc(text, filter=filter_, reason="the company prefix or item has too many digits for its partition")
    tail = cut & (1 << bits - 58) - 1
    serial = str(tail) if bits == 96 else _characters(tail)
    if serial is None:
        return Epc(text, filter=filter_, reason="the serial number is empty or holds characters that GS1 does not have")
    company, reference = f"{prefix:0{prefix_digits}d}", f"{item:0{item_digits}d}"
    uri = f"urn:epc:id:sgtin:{company}.{reference}.{serial.translate(_ESCAPED)}"
    gtin = reference[0] + company + reference[1:]
    return Epc(text, uri, f"sgtin-{bits}", gtin + _check_digit(gtin), serial, filter_)


def _characters(tail: int) -> str | None:
    """Twenty 7-bit characters up to the first NUL; None unless they are one or more of GS1's 82."""
    codes = bytes(tail >> shift & 0x7F for shift in range(133, -1, -7))
    serial = codes.rstrip(b"\0").decode("ascii")
    return serial if _SERIAL.fullmatch(serial) else None


def _check_digit(digits: str) -> str:
    """GS1 check digit of 13 digits."""
    total = 3 * sum(map(int, digits[::2])) + sum(map(int, digits[1::2]))
    return str(-total % 10)


def _by_epcpy(text: str, value: int, header: int) -> Epc:
    if header not in _OTHERS:
        return Epc(text, reason=f"header {header:02X} is no EPC scheme that is known here")
    scheme, length = _OTHERS[header]
    bits = length or len(text) * 4
    cut = _cut(text, value, bits)
    if cut is None or bits < 32:
        return Epc(text, reason=f"is not as long as header {header:02X} has it")
    from epcpy.utils import common, parsers  # here: most shops never need it

    try:
        uri = str(parsers.binary_to_tag_encodable(f"{cut:0{bits}b}").epc_uri)
    except (common.ConvertException, ValueError, KeyError, IndexError) as error:
        return Epc(text, reason=f"header {header:02X}: {error or type(error).__name__}"[:200])
    filter_ = None if header in _NO_FILTER else cut >> bits - 11 & 7
    return Epc(text, uri, scheme, filter=filter_)
