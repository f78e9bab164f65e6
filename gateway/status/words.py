"""The messages behind the keys: what the page says of a trouble, a reason, a condition or an event, in English.

The English text is the message id of the catalogues in `locale/`. Parameters are named with their unit. Knows no
language but the source's.
"""

from __future__ import annotations

import msgspec


def _(message: str) -> str:
    """Marks a message for the catalogues."""
    return message


class Advice(msgspec.Struct, frozen=True):
    """What is wrong, and what to do."""

    title: str
    todo: str


TROUBLES: dict[str, Advice] = {
    "journal_closed": Advice(
        _("The journal is not open: nothing is being kept"),
        _("Run `storefront doctor` on the box; it says what is in the way."),
    ),
    "journal_full": Advice(
        _("The storage is full: not even sales are taken"),
        _("Free space on the disk or raise storage.max_mib now. Devices that can hold their data will send it again."),
    ),
    "journal_filling": Advice(
        _("The storage is nearly full: %(streams)s are refused, sales are still kept"),
        _("Free space on the disk, raise storage.max_mib, or bring the platform back so that the backlog can leave."),
    ),
    "unbalanced": Advice(
        _("The counts of %(stream)s do not add up"),
        _("Run `storefront journal verify` and report what it says."),
    ),
    "stuck": Advice(
        _("A part of the gateway hangs: %(worker)s"),
        _("It is restarted by itself. If this stays for more than two minutes, restart the box."),
    ),
    "failed": Advice(
        _("A part of the gateway fails again and again: %(worker)s"),
        _("Look at the detail below; it often names the setting to change. It is tried again every half minute."),
    ),
    "waiting": Advice(
        _("A part of the gateway waits for something outside: %(worker)s"),
        _("It goes on by itself as soon as that is back."),
    ),
    "broker_away": Advice(
        _("No connection to the message broker: nothing is heard of %(devices)s"),
        _("Check that the broker runs and the network cable is in. Devices send again what was not confirmed."),
    ),
    "faulted": Advice(
        _("%(device)s (%(zone)s) does not work"),
        _("Check its plug and cable, then its power. It is picked up within seconds once it is back."),
    ),
    "till_faulted": Advice(
        _("Till %(device)s (%(zone)s) is not connected: its sales are missing here"),
        _("Check its cable and whether its program runs. You can go on selling."),
    ),
    "stale": Advice(
        _("%(device)s (%(zone)s) has been silent for %(heard_s)s"),
        _("See whether it has power and its light is on. If it is only quiet because nobody is here, all is well."),
    ),
    "till_stale": Advice(
        _("Till %(device)s (%(zone)s) has been silent for %(heard_s)s"),
        _("If there were sales since, check its cable and whether its program runs."),
    ),
    "camera_faulted": Advice(
        _("Camera %(device)s does not work: people are not counted there"),
        _("Check its plug and network cable, then its power. Counting goes on by itself once it is back."),
    ),
    "camera_stale": Advice(
        _("Camera %(device)s has shown nothing for %(heard_s)s: people are not counted there"),
        _("See whether it has power and its lens is free. Counting goes on by itself once it is back."),
    ),
    "disk_low": Advice(
        _("The disk has only %(free_bytes)s left"),
        _("Free space on the disk; other programs' files fill it, too."),
    ),
    "quarantine_growing": Advice(
        _("Many messages cannot be understood: %(messages)s in the last hour"),
        _("Open the page Set aside: a device was changed, or sends what its driver does not know. They are kept."),
    ),
    "count_drift": Advice(
        _("The counter of %(line)s may count wrongly since it was accepted"),
        _("See whether the camera was moved or covered, then test the line again."),
    ),
    "alarm": Advice(
        _("A part of the gateway raised an alarm: %(what)s"),
        _("Read the detail and follow it. Nothing tells when this is over: mark it as settled."),
    ),
    "never_seen": Advice(
        _("%(device)s (%(zone)s) has never been heard"),
        _("Check that it is switched on and connected, and that its address or topic in the configuration is right."),
    ),
    "buffer_short": Advice(
        _("Room for only %(left_s)s more of events"),
        _("Bring the connection to the platform back, or raise storage.max_mib."),
    ),
    "not_delivering": Advice(
        _("Nothing has reached the platform for %(oldest_s)s; %(waiting)s events wait"),
        _("Check the internet connection. Nothing is lost: everything is sent once it is back."),
    ),
    "platform_away": Advice(
        _("The platform does not answer as it should; %(waiting)s events wait here"),
        _("Nothing to do unless it lasts. Nothing is lost: they are sent as soon as it is back."),
    ),
    "platform_unauthorised": Advice(
        _("The platform does not accept this gateway's credentials; %(waiting)s events wait here"),
        _("Have the token or certificate renewed at the head office. Nothing is lost meanwhile."),
    ),
    "platform_closed": Advice(
        _("The platform has closed this gateway; %(waiting)s events wait here"),
        _("Ask the head office whether this is meant. Nothing is lost meanwhile."),
    ),
    "quarantined": Advice(
        _("Messages that could not be understood were set aside: %(messages)s"),
        _("They are kept. `storefront quarantine list` shows them with the reason."),
    ),
    "dropped": Advice(
        _("Readings lost before they could be kept, since the start: %(events)s"),
        _("A device sends more than can be taken. Lower its rate or power; each loss is recorded."),
    ),
    "clock_stepped": Advice(
        _("The clock was set to another time"),
        _("Nothing to do: events keep their order. Hourly numbers around that moment may be shifted."),
    ),
    "clock_unsynced": Advice(
        _("The clock is not set by the network"),
        _("Let the box reach a time server, or times and days of events may be wrong."),
    ),
    "wal_long": Advice(
        _("The journal's log has grown to %(wal_bytes)s"),
        _("A program that reads the journal holds it open. Close it."),
    ),
    "catching_up": Advice(
        _("Today's numbers are still being counted: %(events)s events to go"),
        _("Nothing to do: they are complete in a few minutes."),
    ),
    "queue_long": Advice(
        _("People wait in line: %(people)s at %(zone)s"),
        _("Open another till if you can."),
    ),
    "coupons_at_risk": Advice(
        _("Coupons at the shop's own risk: %(risk)s of %(limit)s %(currency)s"),
        _("Coupons of other shops are soon refused. That ends by itself when the platform has heard of them."),
    ),
    "battery_low": Advice(
        _("The battery of %(sensor)s is nearly empty: %(percent)s %"),
        _("Change it in the next days. What it measures is missing once it is empty."),
    ),
    "plugged": Advice(
        _("Something new is plugged in; it looks like %(kind)s"),
        _("Add it on the page Devices, or leave it: it is not touched."),
    ),
    "page_open": Advice(
        _("This page can be seen from other devices in the network, without encryption"),
        _("Set page.host to 127.0.0.1 unless the network is the staff's own."),
    ),
}

SEVERITIES: dict[str, str] = {"critical": _("urgent"), "warning": _("needs a hand"), "notice": _("to know")}

OVER = _("over")
ALERT_HEADING = _("Store %(store)s: %(state)s")
TEST_ALERT = _("A test of the alerts: this message has arrived")
TEST_TODO = _("Nothing to do.")

REASONS: dict[str, str] = {
    "not_set_up:people": _("No people counter is set up"),
    "not_set_up:sales": _("No till is set up"),
    "silent_today": _("The people counter has said nothing today"),
    "counter_dark": _("The people counter was dark for %(dark_s)s"),
    "till_dark": _("No till is connected now"),
    "no_people": _("Nobody has come in yet"),
    "no_sales": _("No sale yet"),
    "not_set_up:queue": _("No queue is watched"),
    "not_set_up:coupons": _("No coupon yet"),
    "not_set_up:answers": _("Nobody is asked"),
    "counter_partial": _("A counter has not seen the whole day"),
    "counter_dark_now": _("The counter is dark now"),
    "no_coupons": _("No coupon yet"),
    "no_answers": _("Too few answers from 0 to 10 yet"),
}

PAGES: dict[str, str] = {
    "today": _("Today"),
    "devices": _("Devices"),
    "sync": _("Delivery"),
    "alerts": _("Alerts"),
    "reports": _("Reports"),
    "wall": _("Wall"),
    "clicker": _("Clicker"),
    "setup": _("Set-up"),
    "quarantine": _("Set aside"),
    "accounts": _("Accounts"),
    "audit": _("Audit trail"),
}

FIGURES: dict[str, str] = {
    "people_now": _("In the shop now"),
    "people_in": _("People in today"),
    "sales": _("Sales"),
    "conversion": _("Conversion"),
    "net": _("Turnover"),
    "basket": _("Average basket"),
    "queue": _("In the queue"),
    "redeemed": _("Coupons redeemed"),
    "nps": _("Recommend us (NPS)"),
    "smiles": _("Happy customers"),
}

VERDICTS: dict[str, str] = {
    "far_above": _("far above a usual %(weekday)s (%(usual)s)"),
    "above": _("above a usual %(weekday)s (%(usual)s)"),
    "usual": _("like a usual %(weekday)s (%(usual)s)"),
    "below": _("below a usual %(weekday)s (%(usual)s)"),
    "far_below": _("far below a usual %(weekday)s (%(usual)s)"),
}

WEEK_AGO: dict[str, str] = {
    "far_above": _("far above last %(weekday)s (%(usual)s by %(hour)s:00)"),
    "above": _("above last %(weekday)s (%(usual)s by %(hour)s:00)"),
    "usual": _("like last %(weekday)s (%(usual)s by %(hour)s:00)"),
    "below": _("below last %(weekday)s (%(usual)s by %(hour)s:00)"),
    "far_below": _("far below last %(weekday)s (%(usual)s by %(hour)s:00)"),
}

QUEUES: dict[str, str] = {
    "nobody": _("nobody waits"),
    "short": _("short"),
    "growing": _("getting longer"),
    "long": _("open another till"),
}

MOODS: dict[str, str] = {
    "unhappy": _("more are unhappy than happy"),
    "fair": _("fair"),
    "good": _("good"),
    "delighted": _("delighted"),
}

OUT = _("out: %(people)s")
RETURNS = _("returns: %(returns)s")
ITEMS = _("%(items)s items a sale")
REFUSED = _("refused: %(coupons)s")
PER_VISITOR = _("sales per visitor")
WAIT = _("nine of ten wait less than %(wait_s)s")
ANSWERS = _("answers: %(answers)s")

PLUGGED: dict[str, Advice] = {
    "adapter": Advice(_("a serial adapter"), _("Add it as what hangs on its other side: a reader, a scanner, a till.")),
    "serial": Advice(_("a serial device"), _("Add it with the driver of its maker's protocol.")),
    "board": Advice(_("a reader board"), _("Add it with the driver of its protocol; its manual names that.")),
    "scanner": Advice(_("a barcode scanner"), _("Add it, and every scan is kept.")),
    "keyboard_scanner": Advice(
        _("a barcode scanner that types like a keyboard"),
        _("Switch it to USB serial (virtual COM port) with the code in its manual; then it can be added."),
    ),
    "printer": Advice(
        _("a receipt printer"),
        _("Receipts cannot be read over USB. Connect it by a serial line, and sales are counted from what it prints."),
    ),
    "scale": Advice(_("a scale"), _("There is no driver for it yet. It can stay: it is not touched.")),
    "card_reader": Advice(
        _("a card or tag reader"), _("Readers that type like a keyboard cannot be used; take one with a serial port.")
    ),
}

CONDITIONS: dict[str, str] = {
    "live": _("live"),
    "stale": _("silent"),
    "never_seen": _("never seen"),
    "faulted": _("faulted"),
    "disabled": _("switched off"),
}

STREAMS: dict[str, str] = {
    "transactions": _("Sales and services"),
    "measurements": _("Measurements"),
    "observations": _("Observations"),
    "all": _("All"),
}

STATES: dict[str, str] = {
    "starting": _("starting"),
    "running": _("running"),
    "waiting": _("held up"),
    "failed": _("failing"),
    "stopped": _("stopped"),
}

SENDING: dict[str, str] = {
    "starting": _("starting"),
    "live": _("delivering"),
    "draining": _("catching up"),
    "waiting": _("waiting for the platform"),
    "closed": _("closed by the platform"),
    "unauthorised": _("not accepted by the platform"),
}

BUFFER: dict[str, str] = {
    "measuring": _("still measuring"),
    "quiet": _("more than a year"),
    "unknown": _("not known"),
}

EVENTS: dict[str, str] = {
    "sale": _("Sale %(net_money)s"),
    "return": _("Return %(net_money)s"),
    "void": _("Sale voided"),
    "basket": _("Basket: %(step)s"),
    "coupon": _("Coupon %(step)s"),
    "points": _("Loyalty points booked"),
    "consent": _("Consent recorded"),
    "member": _("Membership recorded"),
    "subject_erased": _("A person was erased at their request: %(count)s events"),
    "feedback": _("Feedback: %(score)s"),
    "interaction": _("Member or campaign code scanned"),
    "alarm_raised": _("Alarm: %(what)s"),
    "alarm_cleared": _("Alarm over: %(what)s"),
    "command": _("Command from the platform: %(kind)s, %(outcome)s"),
    "footfall_in": _("People +%(people_in)s"),
    "footfall_out": _("People −%(people_out)s"),
    "footfall": _("People +%(people_in)s −%(people_out)s"),
    "footfall_none": _("Nobody passed"),
    "footfall_accepted": _("The counter of %(line)s was tested and accepted"),
    "zone": _("Visitors in the zone: %(visitors)s"),
    "queue": _("Longest queue: %(peak)s"),
    "stock": _("Stock counted: %(count)s"),
    "shelf": _("Shelf changed by %(items)s"),
    "visit": _("Visit ended"),
    "device": _("%(device)s: %(condition)s"),
    "loss": _("Loss declared: %(count)s"),
    "rfid_arrived": _("Tag %(tag)s arrived"),
    "rfid_moved": _("Tag %(tag)s moved"),
    "rfid_departed": _("Tag %(tag)s left"),
    "beacon_arrived": _("Beacon %(tag)s arrived"),
    "beacon_departed": _("Beacon %(tag)s left"),
    "scan": _("Scanned %(code)s"),
    "scan_opaque": _("Code scanned"),
    "weight": _("Weighed %(grams)s g"),
    "opened": _("%(contact)s opened"),
    "closed": _("%(contact)s closed"),
    "button": _("Button %(button)s pressed"),
    "sensor": "%(quantity)s %(value)s %(unit)s",
    "card": _("Card read"),
    "card_gone": _("Card taken away"),
    "other": "%(type)s",
}

STEPS: dict[str, str] = {
    "opened": _("opened"),
    "item_added": _("item added"),
    "item_removed": _("item removed"),
    "payment_started": _("payment started"),
    "paid": _("paid"),
    "abandoned": _("abandoned"),
    "reserved": _("reserved"),
    "redeemed": _("redeemed"),
    "released": _("released"),
    "refused": _("refused"),
}

QUANTITIES: dict[str, str] = {
    "temperature": _("Temperature"),
    "humidity": _("Humidity"),
    "illuminance": _("Light"),
    "battery": _("Battery"),
    "power": _("Power"),
    "energy": _("Energy"),
    "voltage": _("Voltage"),
    "pressure": _("Pressure"),
    "co2": _("CO₂"),
}

CLOCKS: dict[str, str] = {
    "ntp": _("set by the network"),
    "rtc": _("set by the box's own clock"),
    "unsynced": _("not set"),
    "stepped": _("was just set"),
}

REPLAYED: dict[str, str] = {
    "appended": _("Understood: it became %(events)s events."),
    "rejected": _("Refused again."),
    "nothing": _("Understood, but nothing in it is an event."),
    "not_held": _("It was tried before."),
}

HELD: dict[str, str] = {"held": _("kept"), "replayed": _("replayed")}

COMMA = _(", ")
UNDER_A_MINUTE = _("less than a minute")
MINUTES = _("%(number)s min")
HOURS = _("%(number)s h")
DAYS = _("%(number)s days")
JUST_NOW = _("just now")
AGO = _("%(span_s)s ago")

ROLES: dict[str, str] = {"viewer": _("viewer"), "staff": _("staff"), "manager": _("manager")}

OUTCOMES: dict[str, str] = {
    "done": _("done"), "refused": _("refused"), "failed": _("failed"), "unknown": _("not known here"),
}  # fmt: skip

ACTS: dict[str, str] = {
    "page.setup": _("First manager made"),
    "session.begin": _("Signed in"),
    "session.lock": _("Locked out after wrong tries"),
    "session.end": _("Signed out"),
    "session.revoke": _("Session ended"),
    "account.add": _("Account added"),
    "account.pin": _("PIN changed"),
    "account.role": _("Role changed"),
    "account.unlock": _("Account unlocked"),
    "account.remove": _("Account removed"),
    "account.revoke": _("Session of an account ended"),
    "alert.acknowledge": _("Alert taken care of"),
    "alert.snooze": _("Alert put off"),
    "quarantine.open": _("Quarantined message opened"),
    "quarantine.replay": _("Quarantined message tried again"),
    "account.reset": _("Account reset at the box"),
    "config.reload": _("Configuration read again"),
    "camera.looked": _("Calibration picture looked at"),
    "camera.scene.changed": _("Lines and zones of a camera changed"),
    "camera.test.started": _("Test of a counting line begun"),
    "camera.test.accepted": _("Test of a counting line accepted"),
    "setup.store": _("Store settings changed"),
    "setup.platform": _("Enrolment at the platform"),
    "setup.device.add": _("Device added"),
    "setup.device.change": _("Device changed"),
    "setup.device.on": _("Device switched on"),
    "setup.device.off": _("Device switched off"),
    "setup.device.remove": _("Device removed"),
    "setup.camera.add": _("Camera added"),
    "setup.camera.change": _("Camera changed"),
    "setup.camera.on": _("Camera switched on"),
    "setup.camera.off": _("Camera switched off"),
    "setup.camera.remove": _("Camera removed"),
    "setup.camera.draw": _("Lines and zones of a camera changed"),
    "config.set": _("Configuration changed by the platform"),
    "gateway.enrol": _("Enrolment at the platform"),
    "gateway.wipe": _("Wiping of the gateway asked for"),
    "tls.export": _("The store's certificate exported"),
    "journal.restored": _("Journal restored from a copy"),
    "journal.salvaged": _("Journal salvaged"),
}
"""What the audit trail calls an act; another one is shown as it is."""
