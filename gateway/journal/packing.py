"""How an event's body lies on disk: deflated against a fixed dictionary, and guarded by a checksum of its own.

A body of 500 bytes becomes 100–150, which is what an SD card's life and the backlog's length depend on, at about 3 µs
to pack and 1 µs to unpack. The first byte names the format; a dictionary that has shipped never changes, because old
rows need it. Knows bytes only.
"""

from __future__ import annotations

import zlib

_RAW, _DEFLATE_1 = 0, 1
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
_DICTIONARIES = {_DEFLATE_1: _DICTIONARY_1}
_template = zlib.compressobj(6, zlib.DEFLATED, _WBITS, _MEMLEVEL, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY_1)


def pack(body: bytes) -> bytes:
    """The body as it is stored; never longer than the body by more than one byte."""
    deflate = _template.copy()
    packed = b"\x01" + deflate.compress(body) + deflate.flush()
    return packed if len(packed) <= len(body) else b"\x00" + body


def unpack(packed: bytes) -> bytes:
    """The body that `pack` was given.

    Raises:
        ValueError: the bytes are not from `pack`, or are damaged in a way that the checksum should have caught.
    """
    if not packed or (packed[0] != _RAW and packed[0] not in _DICTIONARIES):
        raise ValueError("unknown storage format of an event body")
    if packed[0] == _RAW:
        return packed[1:]
    try:
        return zlib.decompressobj(_WBITS, _DICTIONARIES[packed[0]]).decompress(packed[1:])
    except zlib.error as error:
        raise ValueError(f"damaged event body: {error}") from error


def row_crc(stream: str, position: int, boot: int, recorded_ms: int, dedupe: bytes, packed: bytes) -> int:
    """CRC-32 over everything a row says, with its place: a row copied elsewhere does not check."""
    return zlib.crc32(packed, zlib.crc32(b"%b:%d:%d:%d:%b" % (stream.encode(), position, boot, recorded_ms, dedupe)))
