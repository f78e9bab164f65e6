"""The messages of the setup pages, the clicker and the notice, in English; see `words`. Knows no language but that."""

from __future__ import annotations

from config.fields import Field


def _(message: str) -> str:
    """Marks a message for the catalogues."""
    return message


STEPS: dict[str, tuple[str, str]] = {
    "store": (_("Say which store this is"), _("Number, time zone, language, opening hours")),
    "devices": (_("Add devices and cameras"), _("Tills, readers, scanners, people counters")),
    "heard": (_("Hear from each of them"), _("Each device has said something")),
    "tested": (_("Test each counting line"), _("A quarter of an hour at the door with the clicker")),
    "notice": (_("Fill in the privacy notice"), _("Who answers for the data and where persons ask")),
    "platform": (_("Connect to the platform"), _("With a claim code from the head office")),
}

STATES: dict[str, str] = {"done": _("done"), "next": _("next"), "open": _("to do")}

LABELS: dict[str, str] = {
    "gateway.store": _("Number of the store"),
    "gateway.name": _("Name of this gateway"),
    "gateway.time_zone": _("Time zone"),
    "gateway.region": _("Country of phone numbers"),
    "gateway.currency": _("Currency"),
    "gateway.language": _("Language of the shop"),
    "gateway.opening_hours": _("Opening hours"),
    "privacy.controller": _("Who answers for the data"),
    "privacy.contact": _("Where persons ask"),
    "name": _("Short name"),
    "address": _("Address"),
    "options.address": _("Address of the reader on its line"),
    "topics": _("Topics"),
    "zone": _("Where it is in the shop"),
    "antenna_zones": _("Places of the antennas"),
    "depart_after_s": _("Gone after a silence of"),
    "stale_after_s": _("Reported as silent after"),
    "policy": _("When it sends more than can be taken"),
    "keep_text": _("Keep the text of unknown codes"),
    "personal": _("Shoppers carry what it reads"),
    "enabled": _("Switched on"),
    "source": _("Picture source"),
    "password": _("Where the password is kept"),
    "detector": _("How people are found"),
    "model": _("Model file"),
    "fps": _("Pictures looked at a second"),
    "interval_s": _("Length of a count"),
    "staff_badges": _("Staff badges"),
    "heat_rows": _("Rows of the heat map"),
    "heat_columns": _("Columns of the heat map"),
    "loop": _("Begin a file again at its end"),
    "warm_up_s": _("The empty scene is learned for"),
    "stall_s": _("Connect again after a silence of"),
    "memory_mib": _("Memory at most"),
    "crossings": _("Report each crossing, too"),
    "mode": _("Way of reading"),
    "rounds": _("Rounds of one poll"),
    "poll_interval_s": _("Pause between polls"),
    "restart_after_s": _("Start over after a silence of"),
    "power_dbm": _("Transmit power"),
    "rssi_offset_db": _("Correction of the signal strength"),
    "region": _("Radio region"),
    "max_frame_bytes": _("Longest frame"),
    "max_bytes": _("Longest message"),
    "check_tag_crc": _("Check the tags' own checksum"),
    "baud": _("Speed of the line"),
    "bytesize": _("Data bits"),
    "parity": _("Parity"),
    "framing": _("Framing"),
    "confirm_reads": _("Reads until a card counts"),
    "removed_after_s": _("Card taken away after"),
    "idle_gap_s": _("Silence that ends a number"),
    "currency": _("Currency, where the till names none"),
    "member_scheme": _("Kind of member numbers"),
    "prefixes": _("Prefixes to remove"),
    "loyalty": _("Patterns of member codes"),
    "rcn_region": _("Country of weight and price codes"),
    "layouts": _("Own code layouts"),
    "mappings": _("Mappings"),
    "dialect": _("Protocol of the reader"),
    "ports": _("Antenna ports"),
    "antennas": _("Antennas in use"),
    "q": _("Q, about log2 of the tags in range"),
    "session": _("Gen2 session"),
    "scan_time_s": _("Length of an inventory"),
    "fast_id": _("Read the TID, too"),
    "ibeacon_uuids": _("Own iBeacon UUIDs"),
    "altbeacon_prefixes": _("Own AltBeacon ids"),
    "eddystone_namespaces": _("Own Eddystone namespaces"),
    "devices": _("Own devices: address = name"),
    "receivers": _("Receivers: address = place"),
    "random_static_addresses": _("Take random static addresses"),
    "repeat_window_s": _("Repeats are one within"),
    "profile": _("Language of the receipts"),
    "timezone": _("Time zone of the till"),
    "encoding": _("Character encoding"),
    "workstation_id": _("Number of the till"),
    "code_pages": _("Code pages: number = codec"),
    "kanji": _("Encoding of Chinese text"),
    "feed_silence_s": _("Silence that ends a receipt without a cut"),
    "feed_lines": _("Empty lines that end a receipt"),
    "idle_s": _("Silence that ends any receipt"),
    "decimal_separator": _("Decimal separator"),
    "date_order": _("Order of day and month"),
    "number": _("How the receipt's number is found"),
    "date": _("How the date is found"),
    "operator": _("How the cashier is found"),
    "member": _("How the member is found"),
    "item": _("How an item is found"),
    "quantity": _("How a quantity is found"),
    "total": _("How the total is found"),
    "subtotal": _("How the subtotal is found"),
    "tax": _("How the tax is found"),
    "discount": _("How a discount is found"),
    "change": _("How the change is found"),
    "tender": _("How the means of payment are found"),
    "refund": _("How a return is known"),
    "ignore": _("How what is no sale is known"),
    "slip": _("How a card slip is known"),
    "barcode_number": _("How the number in the barcode is found"),
}
"""What a field is called: by its path, else by its last part; another one shows its own name."""

HELP: dict[str, str] = {
    "gateway.store": _("Letters, digits, - and _. It is part of every event."),
    "gateway.name": _("Letters, digits, - and _. The platform knows the gateway by it."),
    "gateway.time_zone": _("As in Asia/Shanghai"),
    "gateway.region": _("Two letters, as in CN"),
    "gateway.currency": _("Three letters, as in CNY"),
    "gateway.opening_hours": _("As in 10:00-22:00; empty: from the first sign of life to the last"),
    "privacy.controller": _("The company, as the notice names it"),
    "privacy.contact": _("A phone number, a mailbox or an address"),
    "name": _("Letters, digits, - and _. It cannot be changed later."),
    "address": _("/dev/serial/by-id/…, tcp://host:port or rfc2217://host:port"),
    "topics": _("One a line; empty: where such devices usually publish"),
    "zone": _("As in: front, fitting room, shelf 3"),
    "antenna_zones": _("One a line: number = place"),
    "personal": _("Then it is kept with a consent only"),
    "keep_text": _("It may name persons"),
    "source": _("rtsp://user@host/stream, usb:0 or a file; the password never stands here"),
    "password": _("A reference: file:/path, env:NAME or credential:NAME"),
    "detector": _("motion: from above, no model; person: oblique, needs a model file"),
    "depart_after_s": _("Readers: empty takes the usual; 600 suits a shelf"),
    "lines": _("One a line"),
    "pairs": _("One a line: name = value"),
    "json": _("As JSON"),
}
"""In our own words, before the source's comment: by path, by last part, by the kind of field."""

UNITS: dict[str, str] = {
    "s": _("s"),
    "ms": _("ms"),
    "dbm": _("dBm"),
    "db": _("dB"),
    "bytes": _("bytes"),
    "days": _("days"),
    "mib": _("MiB"),
    "px": _("px"),
    "m": _("m"),
}

WRONG: dict[str, str] = {
    "required": _("This is needed."),
    "long": _("This is too long."),
    "number": _("This is no number."),
    "whole": _("This is no whole number."),
    "least": _("This is too small."),
    "most": _("This is too large."),
    "choice": _("Choose one of the list."),
    "pairs": _("Each line is: name = value, each name once."),
    "json": _("This is no JSON list or table."),
    "name": _("1 to 64 letters, digits, - and _; a letter or digit comes first."),
    "taken": _("A device or camera of this name is there already."),
    "edited": _("Somebody has changed this meanwhile. Nothing was written."),
    "share": _("A number from 0 to 1."),
    "corners": _("3 to 64 corners: x y; x y; x y, each from 0 to 1."),
    "length": _("Start and end must differ."),
}

SENSES: dict[str, tuple[str, str]] = {
    "camera": (
        _("Cameras that count people"),
        _("Only numbers leave them. No picture is stored or sent, and nobody is recognised."),
    ),
    "till": (
        _("Tills"),
        _("Sales without card numbers. A member number or phone is replaced by a key, and only with a consent."),
    ),
    "scanner": (_("Barcode scanners"), _("Codes of goods and coupons; a member code as at the till.")),
    "tags": (_("Readers of the goods' tags"), _("Tags of goods in the shop; no person.")),
    "cards": (_("Card readers"), _("A card makes a key of the day, and only with a consent.")),
    "staff_cards": (_("Readers of staff cards"), _("A card makes a key that is destroyed after two days.")),
    "beacons": (
        _("Receivers of the shop's own beacons"),
        _("Only beacons given out by the shop, and only with a consent. Phones are not looked for."),
    ),
    "sensors": (
        _("Sensors and buttons of the shop"),
        _("Temperature, doors, buttons; no person. Phones are not looked for."),
    ),
    "other": (_("Other devices"), _("What they report is set in the configuration; persons only with a consent.")),
}

PURPOSES: dict[str, str] = {
    "visits": _("Joining what belongs to one visit, for at most two days"),
    "matching": _("Adding purchases to your membership"),
    "offers": _("Offers and coupons for you"),
    "analytics": _("Statistics about shopping"),
}

TEST_STATES: dict[str, str] = {"running": _("running"), "settling": _("being evaluated"), "done": _("over")}

KINDS: dict[str, str] = {
    "zone": _("People and how long they stay"),
    "queue": _("Queue"),
    "staff": _("Staff: who first appears here is not counted"),
}


def label(field: Field) -> str:
    """What a field is called."""
    return LABELS.get(field.name) or LABELS.get(field.key) or field.key


def help_of(field: Field) -> tuple[str, bool]:
    """What to write into it, and whether that is in our own words (else it is the source's English)."""
    own = HELP.get(field.name) or HELP.get(field.key, "")
    if own and not (field.name.startswith("options.") and field.key in ("address", "name")):
        return own, True
    return (field.help, False) if field.help else (HELP.get(field.kind, ""), True)
