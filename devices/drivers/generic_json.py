"""Any MQTT device by configuration alone: which topic, which keys, which reading.

For devices without a driver of their own that publish JSON or plain text. No document: the mapping *is* the document.
Each `[[devices.options.mappings]]` says what to make of a message; all that fit a message are applied, in order. A
message that none fits is counted as ignored, so watch that counter while writing a mapping.

    topic     an MQTT filter with captures: `store/{store}/shelf/{shelf}/state`, `tele/{name}/LWT`, `a/+/b`, `a/#`,
              `axis/{serial}/Device1Scenario{n}` (part of a level), `zigbee2mqtt/{name#}` (the rest, slashes and all)
    reading   sensor (quantity value unit sensor) · contact (open sensor) · button (value button) · weight (grams
              stable tare_grams) · door_count (line entered left interval_s) · feedback (question score) · tag_read (epc
              antenna rssi_dbm rssi_raw pc tid reads frequency_khz phase_deg) · scan (text symbology gtin lot …) ·
              device_state (state detail) · points (act programme points member member_scheme transaction_id) · consent
              (act identifier scheme purposes record_id notice_version notice_digest language method expires) · custom
              (event_type, and then any data fields of that event, except those that name a person: use scan with
              kind = "loyalty", points or consent, which key what they say)
    fields    where each comes from: a key path, or { path, scale, offset, invert, map, cumulative, time }
    fixed     what each is always; text may name captures: "till {lane}"
    each      a key path with [*]: one reading an element; the other paths are then inside the element, `$.` is the root
    when      { path = value, path = [value, value], path = "*" }: all must hold; "*" is "anything but null"
    payload   "json", or "text": the message is one word or number and its only path is `$`
    time      { path, format = "rfc3339" | "epoch_s" | "epoch_ms" }; without it, the time of arrival. A time without a
              zone (Tasmota) cannot be placed and is not used
    seq, boot paths of the device's own counter, and of the run of it. Give seq only if it never starts again, or with
              boot: the same seq twice is taken for the same statement twice. Where one message makes several readings
              of a kind, each gets the mapping's or element's number behind its seq: "17/2"
    missing   "skip" (a mapping whose needed keys are absent or null does not fit) or "reject" (any key of `fields`
              that is absent or null sends the message to quarantine)

    key path  a.b[0].c   switch:0.tC   "odd.key".b   items[*].id   $.from.root   $

`map` turns values into others before anything else (`{ Online = "online" }`; a value that is not in it stays). `scale`
and `offset` are for numbers (value × scale + offset); numbers in strings are numbers. `invert` is for yes and no
(true/false, on/off, 1/0): Zigbee2MQTT says `contact: true` for *closed*. `cumulative` is for counters that only grow:
the reading is the difference to the message before, the first message only sets the mark, and a counter that fell has
started again from 0. The mark is lost when the connection is. A door_count of cumulative counts needs no interval_s.
`time = "epoch_ms"` (or one of the other forms) makes RFC 3339 text of a time, for the data fields of a custom event.

Give every device whose online and offline you map a `[[devices]]` of its own: its state is that of the whole entry.
Retained messages are state of the past: device_state mappings use them, cumulative counters set their first mark by
them, everything else ignores them. A value of a wrong type sends the whole message to quarantine, with the place of it.
Only what a mapping names is ever read, so leave out what names people (Frigate's sub_label).

    [[devices]]
    name = "sensors"
    driver = "generic_json"
    topics = ["zigbee2mqtt/#", "+/events/rpc", "+/online", "tele/#", "axis/#", "frigate/+/person", "zebra/#", "rsp/#"]
    [devices.options]
    max_bytes = 65536

    # Zigbee2MQTT
    [[devices.options.mappings]]
    topic = "zigbee2mqtt/{name}"
    reading = "contact"
    fields = { open = { path = "contact", invert = true } }
    fixed = { sensor = "{name}" }
    [[devices.options.mappings]]
    topic = "zigbee2mqtt/{name}"
    reading = "sensor"
    fields = { value = "battery" }
    fixed = { quantity = "battery", unit = "%", sensor = "{name}" }
    [[devices.options.mappings]]
    topic = "zigbee2mqtt/{name}"
    reading = "button"
    when = { action = ["single", "double", "hold"] }
    fields = { value = "action" }
    fixed = { button = "{name}" }
    [[devices.options.mappings]]
    topic = "zigbee2mqtt/{name}/availability"
    reading = "device_state"
    fields = { state = "state" }
    fixed = { detail = "{name}" }

    # Shelly Gen2 and later
    [[devices.options.mappings]]
    topic = "{shelly}/online"
    payload = "text"
    reading = "device_state"
    fields = { state = { path = "$", map = { true = "online", false = "offline" } } }
    fixed = { detail = "{shelly}" }
    [[devices.options.mappings]]
    topic = "{shelly}/events/rpc"
    reading = "button"
    each = "params.events[*]"
    when = { "$.method" = "NotifyEvent", event = ["single_push", "double_push", "triple_push", "long_push"] }
    fields = { value = "event", button = "component" }
    time = { path = "ts", format = "epoch_s" }
    [[devices.options.mappings]]
    topic = "{shelly}/events/rpc"
    reading = "sensor"
    when = { method = "NotifyStatus" }
    fields = { value = "params.temperature:100.tC" }
    fixed = { quantity = "temperature", unit = "Cel", sensor = "{shelly}" }

    # Tasmota: Time has no zone, so it is left out
    [[devices.options.mappings]]
    topic = "tele/{name}/LWT"
    payload = "text"
    reading = "device_state"
    fields = { state = { path = "$", map = { Online = "online", Offline = "offline" } } }
    fixed = { detail = "{name}" }
    [[devices.options.mappings]]
    topic = "tele/{name}/SENSOR"
    reading = "sensor"
    fields = { value = "AM2301.Temperature" }
    fixed = { quantity = "temperature", unit = "Cel", sensor = "{name}" }

    # Axis Object Analytics, crossline: text counts since the last reset; one scenario a direction
    [[devices.options.mappings]]
    topic = "axis/{serial}/event/CameraApplicationPlatform/ObjectAnalytics/Device1Scenario{n}"
    reading = "door_count"
    when = { "message.data.scenario" = "Crossline" }
    fields = { entered = { path = "message.data.totalHuman", cumulative = true } }
    fixed = { line = "scenario-{n}", left = 0 }
    time = { path = "timestamp", format = "epoch_ms" }

    # Frigate: only how many there are; who they might be (sub_label) is never read
    [[devices.options.mappings]]
    topic = "frigate/{area}/person"
    payload = "text"
    reading = "sensor"
    fields = { value = "$" }
    fixed = { quantity = "persons", unit = "1", sensor = "{area}" }

    # Zebra FX (IoT Connector) and RFD40/90
    [[devices.options.mappings]]
    topic = "zebra/{reader}/tags"
    reading = "tag_read"
    fields = { epc = "data.idHex", antenna = "data.antenna", rssi_dbm = "data.peakRssi", reads = "data.reads" }
    time = { path = "timestamp", format = "rfc3339" }
    [[devices.options.mappings]]
    topic = "zebra/DATA/clients/data1event/{serial}"
    reading = "tag_read"
    each = "data.tagData[*]"
    fields = { epc = "EPCid", rssi_dbm = "peakRssi", reads = "seenCount" }
    time = { path = "$.timestamp", format = "rfc3339" }

    # Intel RSP controller: it has judged arrivals itself, so they are events and not reads
    [[devices.options.mappings]]
    topic = "rsp/controller/events"
    reading = "custom"
    event_type = "store.rfid.arrived.v1"
    each = "params.data[*]"
    when = { "$.method" = "inventory_event", event_type = "arrival" }
    fixed = { reads = 1 }
    [devices.options.mappings.fields]
    epc = "epc_code"
    epc_hex = "epc_code"
    zone_to = "facility_id"
    reader = "location"
    first_seen = { path = "timestamp", time = "epoch_ms" }
    last_seen = { path = "timestamp", time = "epoch_ms" }
    [devices.options.mappings.time]
    path = "timestamp"
    format = "epoch_ms"
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from devices.driver import Driver, Message, Options, driver
from devices.key_path import MISSING, KeyPath
from devices.mapping import OWN, SUBJECT, Mapping, Rule, Scalar, Wrong, compiled, plain_number, point_in_time, turned
from devices.payload import MAX_BYTES, check_size, json_value, text_value
from gateway.clock import Instant
from gateway.errors import Rejected
from gateway.intake.reading import KINDS, Reading

_MAX_MARKS = 1024
_QUOTED = re.compile(r"(Invalid enum value) .*?( - at `|$)", re.DOTALL)  # no word of a payload belongs in a reason


class GenericJsonOptions(Options, frozen=True, kw_only=True):
    """The mappings, at least one; `max_bytes`: the largest message that is read, 256 bytes to 16 MiB."""

    mappings: tuple[Mapping, ...]
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        if not self.mappings:
            raise ValueError("mappings: at least one is needed")
        if not 256 <= self.max_bytes <= 16 * 1024 * 1024:
            raise ValueError("max_bytes: must be 256 to 16777216")
        for index, mapping in enumerate(self.mappings):
            compiled(mapping, index)


class _Mark(msgspec.Struct, frozen=True):
    """A counter as it stood, and when (monotonic seconds)."""

    count: Decimal
    at_s: float


_Counter = tuple[int, str, str, tuple[str, ...]]  # mapping, field, topic, the reading's texts


@driver("generic_json", wire="mqtt", options=GenericJsonOptions)
class GenericJson(Driver):
    """Applies mappings; remembers at most 1,024 marks of cumulative counters."""

    options: GenericJsonOptions

    def __init__(self, options: GenericJsonOptions, device: str) -> None:
        super().__init__(options, device)
        self._rules = tuple(compiled(mapping, index) for index, mapping in enumerate(options.mappings))
        self._marks: dict[_Counter, _Mark] = {}
        numbered = [rule.mapping.reading for rule in self._rules if rule.seq is not None]
        self._shared = frozenset(kind for kind in numbered if numbered.count(kind) > 1)  # kinds whose seqs could clash

    def feed(self, data: Message, at: Instant) -> Iterable[Reading]:
        """Take one message.

        Raises:
            Rejected: it is too large, not JSON where JSON is mapped, or a mapped value has the wrong type; the reason
                names the place in the message and the hint the mapping.
        """
        try:
            readings, fitted = self._read(data, at)
        except Rejected:
            self.counters.bad_frames += 1
            raise
        if fitted:
            self.counters.frames += 1
        else:
            self.counters.ignored += 1
        return readings

    def _read(self, message: Message, at: Instant) -> tuple[list[Reading], bool]:
        """Readings of a message, and whether any mapping fitted it."""
        fits = [(rule, captures) for rule in self._rules if (captures := rule.topic.match(message.topic)) is not None]
        if message.retained:  # state of the past: only states, and first marks of counters
            fits = [(rule, captures) for rule, captures in fits if _is_state(rule) or rule.cumulative]
        if not fits:
            return [], False
        check_size(message, self.options.max_bytes)
        documents: dict[str, object] = {}
        readings: list[Reading] = []
        marks: dict[_Counter, _Mark] = {}
        fitted = False
        for rule, captures in fits:
            kind = rule.mapping.payload
            if kind not in documents:
                documents[kind] = (json_value if kind == "json" else text_value)(message, self.options.max_bytes)
            try:
                for number, (place, element) in enumerate(_elements(rule, documents[kind])):
                    values = _values(rule, place, element, documents[kind], captures)
                    if values is None:
                        continue
                    if rule.seq is not None and "device_seq" in values:
                        values["device_seq"] += self._apart(rule, rule.seq.path, number)
                    told = self._counted(rule, message, values, marks, at)
                    if _is_state(rule) or not message.retained:
                        fitted = True
                        if told:
                            readings.append(_reading(rule, place, values))
            except Wrong as error:
                hint = f"see mappings[{rule.index}] ({rule.mapping.reading}) in this device's options"
                raise Rejected("map message", message.topic, str(error), hint) from error
        self._keep(marks)
        return readings, fitted

    def _apart(self, rule: Rule, seq: KeyPath, number: int) -> str:
        """What tells this reading from others of its kind that one message makes under the same seq."""
        mapping = f"/{rule.index}" if rule.mapping.reading in self._shared else ""
        return f"{mapping}/{number}" if rule.each is not None and seq.from_root else mapping

    def _counted(
        self, rule: Rule, message: Message, values: dict[str, Any], marks: dict[_Counter, _Mark], at: Instant
    ) -> bool:
        """Turn cumulative values into differences; False where a counter has no mark yet. New marks go to `marks`."""
        texts = tuple(value for name, value in values.items() if isinstance(value, str) and name not in OWN)
        told = True
        for source in rule.sources:
            if not source.how.cumulative or source.name not in values:
                continue
            count = Decimal(str(values[source.name]))
            counter = (rule.index, source.name, message.topic, texts)
            before = marks.get(counter) or self._marks.get(counter)
            if before is None or not message.retained:
                marks[counter] = _Mark(count, at.mono_s)
            if before is None:
                told = False
                continue
            grown = count - before.count if count >= before.count else count
            values[source.name] = plain_number(grown, source.sort)
            if rule.mapping.reading == "door_count":
                values.setdefault("interval_s", max(0.0, round(at.mono_s - before.at_s, 3)))
        return told

    def _keep(self, marks: dict[_Counter, _Mark]) -> None:
        """Take over the marks of a message that was understood as a whole; forget the oldest beyond the limit."""
        for counter, mark in marks.items():
            self._marks.pop(counter, None)
            self._marks[counter] = mark
        while len(self._marks) > _MAX_MARKS:
            del self._marks[next(iter(self._marks))]


def _is_state(rule: Rule) -> bool:
    return rule.mapping.reading == "device_state"


def _elements(rule: Rule, document: object) -> list[tuple[str, object]]:
    if rule.each is None:
        return [("$", document)]
    try:
        return rule.each.find_all(document)
    except TypeError as error:
        raise Wrong(str(error)) from error


def _values(
    rule: Rule, place: str, element: object, document: object, captures: dict[str, str]
) -> dict[str, Any] | None:
    """The fields of one reading, or None where the mapping does not fit this element.

    Raises:
        Wrong: a value has the wrong type, or is missing and `missing` says that it must not.
    """

    def find(path: KeyPath) -> tuple[object, str]:
        if path.from_root:
            return path.find(document), path.text
        return path.find(element), f"{place}{'' if path.text.startswith('[') else '.'}{path.text}"

    if not all(_holds(find(path)[0], wanted) for path, wanted in rule.when):
        return None
    values: dict[str, Any] = {}
    for source in rule.sources:
        found, where = find(source.path)
        if found is not MISSING:
            values[source.name] = turned(found, source, where)
        elif source.needed or rule.mapping.missing == "reject":
            if rule.mapping.missing == "reject":
                raise Wrong(f"nothing there - at `{where}`")
            return None
    if rule.sources and not values:
        return None
    for name, value in rule.fixed:
        values[name] = value.format_map(captures) if isinstance(value, str) else value
    if rule.mapping.subject:
        values[SUBJECT] = rule.mapping.subject.format_map(captures)
    if rule.time is not None and rule.mapping.time is not None:
        found, where = find(rule.time)
        device_at = None if found is MISSING else point_in_time(found, rule.mapping.time.format, where)
        if device_at is not None:
            values["device_at"] = device_at
    for own in (rule.seq, rule.boot):
        if own is not None:
            found, where = find(own.path)
            if found is not MISSING:
                values[own.name] = turned(found, own, where)
    return values


def _holds(found: object, wanted: tuple[Scalar, ...]) -> bool:
    """True if a value is among those wanted; true is not 1, and `*` is anything that is there."""
    if found is MISSING:
        return False
    return any(each == "*" or (each == found and isinstance(each, bool) == isinstance(found, bool)) for each in wanted)


def _reading(rule: Rule, place: str, values: dict[str, Any]) -> Reading:
    """The typed reading.

    Raises:
        Wrong: a value does not suit its field after all.
    """
    if rule.mapping.reading == "custom":
        own = {name: values.pop(name) for name in OWN & values.keys()}
        subject = values.pop(SUBJECT, None)
        values = {"event_type": rule.mapping.event_type, "values": values, "subject": subject, **own}
    try:
        reading: Reading = msgspec.convert({"type": rule.mapping.reading, **values}, type=KINDS[rule.mapping.reading])
    except msgspec.ValidationError as error:
        told = _QUOTED.sub(r"\1\2", str(error))
        raise Wrong(f"{told} of the reading made of `{place}`") from error
    return reading
