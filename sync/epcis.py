"""Item events as GS1 EPCIS 2.0: what a tag read or a sale says about objects, for systems that speak no CloudEvents.

A pure function from the journal's bytes to one `EPCISDocument` (JSON-LD). Tags that hold an EPC and lines of a basket
with EPCs or a GTIN become ObjectEvents; everything else is left out, and so is everything about persons. Nothing is
claimed that was not seen: a tag that fell silent is `unknown`, and where sold goods go is not said. Knows no feed and
no storage.

*Source*: GS1 EPCIS 2.0, §7 (data model) and §10 (JSON-LD); GS1 CBV 2.0, §7.1 (business steps), §7.2 (dispositions),
§8.2–8.5 (identifiers; private URIs are allowed where a GLN is not known).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import msgspec

from gateway.clock import Clock, rfc3339_s
from gateway.event_types import Line, RfidArrived, RfidDeparted, RfidMoved, Sale, type_of
from gateway.intake.epc import decode

CONTEXT = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"
_NAMESPACE = uuid.UUID("6f1d2f6e-6a0c-5d83-9e0e-1f6c2f0b7a41")  # of our event ids; fixed for ever
_TAGS: dict[str, type[RfidArrived | RfidMoved | RfidDeparted]] = {
    type_of(kind).name: kind for kind in (RfidArrived, RfidMoved, RfidDeparted)
}
_SALE = type_of(Sale).name
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}){8,32}")
_UNIT = re.compile(r"[A-Z0-9]{2,3}")
_EACH = "C62"
_EPC = re.compile(r"urn:epc:id:[a-z]+:[!-~]+")
_SOURCE = re.compile(r"//([^/]+)/stores/([^/]+)/([^/]+)/(.*)", re.DOTALL)

Export = Callable[[Sequence[bytes]], bytes]
Item = dict[str, Any]


class _Event(msgspec.Struct):
    id: str
    source: str
    type: str
    time: str
    recordedtime: str
    data: msgspec.Raw = msgspec.Raw(b"null")


def exporter(time_zone: str, clock: Clock) -> Export:
    """`epcis_document` for a feed.

    Args:
        time_zone: the store's, an IANA name.
        clock: when the document was made.
    """
    zone = ZoneInfo(time_zone)
    return lambda events: msgspec.json.encode(epcis_document(events, zone, clock.now().wall_s))


def epcis_document(events: Sequence[bytes], zone: ZoneInfo, created_s: float) -> Item:
    """The EPCIS document of some events; its `eventList` is empty when none of them is about an item.

    The same event always gives the same `eventID`, so a document may be captured twice.

    Args:
        events: the journal's bytes; erased events (`data: null`), foreign types and what cannot be read as what its
            type says are passed over.
        zone: the store's time zone, for `eventTimeZoneOffset`.
        created_s: when the document is made, seconds since 1970.
    """
    return {
        "@context": [CONTEXT],
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": rfc3339_s(created_s),
        "epcisBody": {"eventList": [item for raw in events for item in _items(raw, zone)]},
    }


def _items(raw: bytes, zone: ZoneInfo) -> Iterator[Item]:
    try:
        event = msgspec.json.decode(raw, type=_Event)
        if bytes(event.data) == b"null":
            return
        site = _Site(event.source)
        if event.type in _TAGS:
            made = _tag(msgspec.json.decode(event.data, type=_TAGS[event.type]), event, site)
        elif event.type == _SALE:
            made = _sale(msgspec.json.decode(event.data, type=Sale), event, site)
        else:
            return
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    for number, (happened, facts) in enumerate(made):
        at = _moment(happened) or _moment(event.time)
        if at is None:
            continue
        yield {
            "type": "ObjectEvent",
            "eventID": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{event.id}#{number}')}",
            "eventTime": rfc3339_s(at.timestamp()),
            "eventTimeZoneOffset": _offset(at, zone),
            "recordTime": event.recordedtime,
            "action": "OBSERVE",
            **facts,
        }


def _tag(data: RfidArrived | RfidMoved | RfidDeparted, event: _Event, site: _Site) -> Iterator[tuple[str, Item]]:
    if not _EPC.fullmatch(data.epc):
        return  # the bits name no object
    where = {"id": site.uri("readpoint", data.reader, "" if data.antenna is None else str(data.antenna))}
    facts: Item = {"epcList": [data.epc], "readPoint": where}
    if isinstance(data, RfidDeparted):
        # Silence is no observation: what can be said is where and when it was seen last.
        yield data.last_seen, {**facts, "disposition": "unknown"}
        return
    facts |= {"bizStep": "cycle_counting", "disposition": "sellable_accessible"}
    if data.zone_to is not None:
        facts["bizLocation"] = {"id": site.uri("location", data.zone_to)}
    yield event.time, facts


def _sale(sale: Sale, event: _Event, site: _Site) -> Iterator[tuple[str, Item]]:
    if sale.kind == "void":
        return  # nothing changed hands
    lines = [line for line in sale.lines if line.kind in ("sale", "return") and not line.voided and line.quantity]
    returned = [line for line in lines if line.kind == "return" or line.quantity < 0]
    sold = [line for line in lines if line not in returned]
    receipt = site.uri("transaction", sale.workstation_id, sale.transaction_id)
    common: Item = {
        "readPoint": {"id": site.uri("readpoint", sale.workstation_id, "")},
        "bizTransactionList": [{"type": "inv", "bizTransaction": receipt}],
    }
    if objects := _objects(sold):
        yield event.time, {**objects, **common, "bizStep": "retail_selling", "disposition": "retail_sold"}
    if objects := _objects(returned):
        back = {"bizStep": "accepting", "disposition": "returned", "bizLocation": {"id": site.uri("location")}}
        yield event.time, {**objects, **common, **back}


def _objects(lines: Sequence[Line]) -> Item:
    """The items of some lines: by EPC where the till knew it, the rest of a line by GTIN; empty when there are none."""
    epcs: dict[str, None] = {}
    classes: dict[tuple[str, str], Decimal] = {}
    for line in lines:
        named = {uri: None for epc in line.epcs if (uri := _epc(epc)) is not None}
        epcs |= named
        left = abs(line.quantity) - len(named) if line.unit == _EACH else abs(line.quantity) * (not named)
        product = _digital_link(line.gtin)
        if product is not None and left > 0 and _UNIT.fullmatch(line.unit):
            classes[product, line.unit] = classes.get((product, line.unit), Decimal(0)) + left
    found: Item = {"epcList": list(epcs)} if epcs else {}
    if classes:
        found["quantityList"] = [
            {"epcClass": product, "quantity": float(count)} | ({} if unit == _EACH else {"uom": unit})
            for (product, unit), count in classes.items()
        ]
    return found


def _epc(text: str) -> str | None:
    """The pure identity of an EPC given as such or in hexadecimal; None if it names no object."""
    if _EPC.fullmatch(text):
        return text
    return decode(text.upper()).uri if _HEX.fullmatch(text) else None


def _digital_link(gtin: str | None) -> str | None:
    """The GTIN as GS1's canonical Digital Link; None for none, a wrong one, or a number that only this shop knows."""
    if gtin is None or len(gtin) not in (8, 12, 13, 14) or not (gtin.isascii() and gtin.isdigit()):
        return None
    digits = gtin.zfill(14)
    total = sum(int(digit) * (1 if place % 2 else 3) for place, digit in enumerate(digits))
    # GS1 General Specifications 1.4: 02, 04 and 20-29 are for restricted circulation; so are GTIN-8s with 0 or 2.
    own = digits[1] == "2" or digits[1:3] in ("02", "04") or (len(gtin) == 8 and gtin[0] in "02")
    return None if total % 10 or own else f"https://id.gs1.org/01/{digits}"


def _moment(time: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(time)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _offset(at: datetime, zone: ZoneInfo) -> str:
    there = at.astimezone(UTC).astimezone(zone).utcoffset() or timedelta(0)
    minutes = round(there.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


class _Site:
    """The names of a place, from an event's source."""

    def __init__(self, source: str) -> None:
        found = _SOURCE.fullmatch(source)
        self._tenant, self._store, self._gateway = found.groups()[:3] if found else ("", "", source)

    def uri(self, kind: str, *parts: str) -> str:
        """A private URI; empty parts at the end are left out."""
        names = [self._tenant, self._store, *([self._gateway] if kind == "readpoint" else []), *parts]
        return f"urn:storefront:{kind}:" + ":".join(quote(name, safe="") for name in names).rstrip(":")
