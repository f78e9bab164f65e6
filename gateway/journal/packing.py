"""How an event's body lies on disk: deflated against a dictionary, and guarded by a checksum of its own.

A body of 500 bytes becomes 90–150, which is what an SD card's life and the backlog's length depend on, at about 10 µs
to pack and 2 µs to unpack. The first byte names the format: stored as it is, deflated against the fixed dictionary, or
against the fixed one followed by a phrase book that this journal has learned (its number is the second byte). A
dictionary that has shipped or been used never changes, because old rows need it; the checksum of a row that needs a
learned one begins at that dictionary's own, so with another of the same number the row does not check. Knows bytes
only.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

Dictionaries = Mapping[int, bytes]  # what a journal has learned, by number

_RAW, _DEFLATE_1 = 0, 1
_LEARNED_1 = 2  # written before schema 3: its checksum says nothing of the dictionary
_LEARNED_2 = 3
LEARNED_BYTES = 1700  # with the fixed dictionary this stays inside the 4 KiB window
LEARNED_LIMIT = 255  # dictionaries a journal may have: the number is one byte
_WBITS, _MEMLEVEL = -12, 5  # a 4 KiB window holds the dictionary and any usual event; small state copies fast

_DICTIONARY_1 = (
    b'"transaction_id":"-20","kind":"sale","workstation_id":"","business_date":"2026-","operator":"","opened_at":"'
    b'"closed_at":"","currency":"CNY","lines":[{"seq":1,"kind":"sale","amount":".00","gtin":"069","sku":"",'
    b'"description":"","quantity":"1","unit":"C62","unit_price":".00","regular_price":"","discounts":[{"amount":"",'
    b'"reason":"","promotion_id":"","coupon":""}],"tax":[{"rate":"13","amount":"","included":true}],"voided":false},'
    b'{"seq":2,"tenders":[{"kind":"mobile","amount":"","change":"0.00"}],{"kind":"cash","kind":"card","coupons":[],'
    b'"totals":{"gross":"","discount":"0.00","tax":"","net":"","tendered":"","change":"","item_count":"},"tap":"mqtt",'
    b'"confidence":1.0}"interval_start":"2026-","interval_s":60.0,"in":0,"out":0,"quality":{"frames":600,"fps":10.0,'
    b'"coverage":1.0,"detector":"motion"}},"line":"door","entrance":"main","zone":"aisle","mean":0.,"peak":1,'
    b'"visitors":0,"dwell_s":{"p50":,"p90":,"n":"queue","length_mean":"wait_s"beacon":"ibeacon","scheme":"receiver":"'
    b'"dwell_s":"symbology":"]E0","gs1":{"01":"","gtin":"0","lot":"","serial":"","digital_link":"https://","text":"'
    b'"scanner":"","quantity":"temperature","value":2,"unit":"Cel","sensor":"grams":"","stable":true,"device":"",'
    b'"state":"live","since":"2026-","reason":""conservation":{"accepted":"acked":"pending":"quarantined":"expired":'
    b'"declared_lost":"disk_free_bytes":"rss_bytes":"uptime_s":'
    b'"epc":"urn:epc:id:sgtin:0","epc_hex":"3034","gtin":"0","serial":"","reader":"","antenna":1,"zone_from":"",'
    b'"zone_to":"","rssi_dbm":-5,"reads":2,"first_seen":"2026-","last_seen":"2026-'
    b'{"source":"//t1/stores/0001/gw01/","type":"store.sensor.read.v1","store.barcode.scanned.v1",'
    b'"store.beacon.arrived.v1","store.device.state.v1","store.footfall.counted.v1","store.pos.sale.v1",'
    b'"store.rfid.departed.v1","store.rfid.moved.v1","store.rfid.arrived.v1","dataschema":"urn:storefront:store.rfid.","time":"2026-11-22T09:00:00.000Z",'
    b'"monous":1000000,"clockq":"unsynced","clockq":"ntp","subject":"urn:epc:id:sgtin:0","zone":"door","srcseq":"",'
    b'"data":{"'
)
_SAMPLED = 12  # events of a type that must share a word before it is learned
_WORDS = re.compile(rb"[A-Za-z_]+|\d+|[^A-Za-z_\d]")
_TYPE = re.compile(rb'"type":"([a-z0-9_.]+)"')


class Packer:
    """Packs bodies; made once for a dictionary and used for every event."""

    def __init__(self, number: int = 0, learned: bytes = b"") -> None:
        """`number` 1–255 and the bytes of a learned dictionary; 0 uses the fixed one alone."""
        self.number = number
        self.seed = _seed(learned) if number else 0  # of the checksum of what it packs; 0 for what it left as it was
        self._prefix = bytes((_LEARNED_2, number)) if number else bytes((_DEFLATE_1,))
        self._template = zlib.compressobj(
            6, zlib.DEFLATED, _WBITS, _MEMLEVEL, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY_1 + learned
        )

    def pack(self, body: bytes) -> bytes:
        """The body as it is stored; never longer than the body by more than one byte."""
        deflate = self._template.copy()
        packed = self._prefix + deflate.compress(body) + deflate.flush()
        return packed if len(packed) <= len(body) else b"\x00" + body


_fixed = Packer()


def pack(body: bytes) -> bytes:
    """The body packed with the fixed dictionary, which needs nothing but this code to unpack."""
    return _fixed.pack(body)


def unpack(packed: bytes, learned: Dictionaries | None = None) -> bytes:
    """The body that was packed; `learned` gives the journal's own dictionaries.

    Raises:
        ValueError: the format or its dictionary is unknown, or the bytes are damaged in a way that the checksum should
            have caught.
    """
    form = packed[0] if packed else -1
    if form == _RAW:
        return packed[1:]
    if form == _DEFLATE_1:
        dictionary, start = _DICTIONARY_1, 1
    elif form in (_LEARNED_1, _LEARNED_2) and len(packed) > 2:
        own = (learned or {}).get(packed[1])
        if own is None:
            raise ValueError(f"dictionary {packed[1]} of an event body is missing")
        dictionary, start = _DICTIONARY_1 + own, 2
    else:
        raise ValueError("unknown storage format of an event body")
    try:
        inflate = zlib.decompressobj(_WBITS, dictionary)
        return inflate.decompress(packed[start:])
    except zlib.error as error:
        raise ValueError(f"damaged event body: {error}") from error


def learn(bodies: Iterable[bytes]) -> bytes:
    """A phrase book of what events of one type always say; empty when there are too few to tell.

    Only words that all of `_SAMPLED` events of a type share get in, and never one of a type's events alone: what names
    one tag or one person does not, so the dictionary holds nothing that would have to be erased.
    """
    by_type: dict[bytes, list[bytes]] = {}
    for body in bodies:
        if found := _TYPE.search(body):
            by_type.setdefault(found[1], []).append(body)
    phrases: list[tuple[int, bytes]] = []
    for same in by_type.values():
        sample = same[:: max(1, len(same) // _SAMPLED)][:_SAMPLED]
        if len(sample) < _SAMPLED:
            continue
        shared = set.intersection(*(set(_WORDS.findall(body)) for body in sample))
        phrases.append((len(same), b"".join(word for word in _WORDS.findall(sample[-1]) if word in shared)))
    return b"".join(phrase for _, phrase in sorted(phrases))[-LEARNED_BYTES:]  # the nearest is cheapest to name


def row_crc(
    stream: str, position: int, boot: int, recorded_ms: int, dedupe: bytes, packed: bytes, seed: int = 0
) -> int:  # fmt: skip
    """CRC-32 over everything a row says, with its place: a row copied elsewhere does not check.

    `seed`: see `seed_of`.
    """
    head = b"%b:%d:%d:%d:%b" % (stream.encode(), position, boot, recorded_ms, dedupe)
    return zlib.crc32(packed, zlib.crc32(head, seed))


def seed_of(packed: bytes, learned: Dictionaries) -> int | None:
    """Where a row's checksum begins: at that of the dictionary its body needs; None when that is missing."""
    form = packed[0] if packed else _RAW
    if form not in (_LEARNED_1, _LEARNED_2):
        return 0
    own = learned.get(packed[1]) if len(packed) > 1 else None
    if own is None:
        return None
    return _seed(own) if form == _LEARNED_2 else 0


@lru_cache(maxsize=LEARNED_LIMIT)
def _seed(learned: bytes) -> int:
    return zlib.crc32(learned, zlib.crc32(_DICTIONARY_1))
