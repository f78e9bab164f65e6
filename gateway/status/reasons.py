"""What the loader, drivers and lines say of a fault, in the visitor's language: their English sentences as messages.

A reason is found by its whole sentence; what varies in it is a parameter. One that is not in the table, such as a text
of the operating system's own, stays as it is and is marked as English. Knows sentences; not who says them.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.status.language import Language


def _(message: str) -> str:
    """Marks a message for the catalogues."""
    return message


MESSAGES: Final = (
    # a value
    _("must be %(least)s to %(most)s"),
    _("must be from %(least)s to %(most)s"),
    _("must be more than %(least)s and at most %(most)s"),
    _("must be positive"),
    _("must not be empty"),
    _("missing"),
    _("this key is required"),
    _("unknown key"),
    _("expected %(kind)s, got %(given)s"),
    _("expected %(kind)s <= %(most)s"),
    _("expected %(kind)s >= %(least)s"),
    _("expected %(kind)s < %(most)s"),
    _("expected %(kind)s > %(least)s"),
    _("expected %(kind)s of length <= %(most)s"),
    _("expected %(kind)s of length >= %(least)s"),
    _("expected %(kind)s matching regex %(pattern)s"),
    _("invalid enum value %(given)s"),
    _("see `storefront drivers %(driver)s`"),
    # of the store
    _("unknown time zone %(given)s"),
    _("use an IANA name: Asia/Shanghai"),
    _("a secret stands in the configuration"),
    _("write a reference: file:/path, env:NAME or credential:NAME"),
    _("%(given)s is the name of a device already"),
    _("%(given)s is the name of %(place)s already"),
    _("give each its own"),
    # of drivers
    _("needs a name"),
    _("the same MAC is there twice"),
    _("two MACs have the same name"),
    _("at least one is needed"),
    _("there is no codec of that name"),
    _("there is no such zone"),
    _("must map numbers to codecs"),
    _("kinds are %(kinds)s"),
    _("must be three capital letters (ISO 4217)"),
    _("expected %(digits)s hex digits, got %(given)s characters"),
    _("%(given)s is not a regular expression: %(fault)s"),
    _("is no number of an antenna"),
    _("is no topic filter that can be used"),
    _("# stands alone as the last level, + as a whole one; no $share"),
    _("a serial device needs one: /dev/serial/by-id/…, tcp://host:port or rfc2217://host:port"),
    _('broker.mode: "none", but a device speaks MQTT'),
    _('take "embedded" or "external"'),
    # of lines
    _("the address is empty"),
    _("unknown kind of line: %(kind)s"),
    _("host and port are needed, and nothing after them"),
    _("not an address: %(fault)s"),
    _("no such framing: %(framing)s"),
    _("there is no such port"),
    _("no permission to use the port"),
    _("the port is in use by another process"),
    _("it is a directory, not a port"),
    _("it is a file, not a port"),
    _("the port has no device behind it"),
    _("the device takes no bytes"),
    _("check its power and flow control"),
    _("the device has gone (%(fault)s)"),
    _("plug it in again; no other program may read this port"),
    _("the line is not open"),
    _("connection refused"),
    _("no answer in time"),
    _("the device closed the connection"),
)

_PARAMETER: Final = re.compile(r"%\\\((\w+)\\\)s|%\((\w+)\)s")
_MOST: Final = 400  # characters; a longer text is nobody's sentence of ours


def _pattern(message: str) -> re.Pattern[str]:
    parts = _PARAMETER.split(message)[::3]
    names = [found[1] or found[2] for found in _PARAMETER.finditer(message)]
    told = re.escape(parts[0])
    for name, part in zip(names, parts[1:], strict=True):
        told += f"(?P<{name}>.+?)" + re.escape(part)
    return re.compile(told, re.IGNORECASE | re.DOTALL)


_KNOWN: Final = tuple((_pattern(message), message) for message in sorted(MESSAGES, key=len, reverse=True))


def reason(speaker: Language, text: str) -> tuple[str, bool]:
    """A sentence in the visitor's language, and whether it is one that is known (else it is as it was)."""
    if len(text) <= _MOST:
        for pattern, message in _KNOWN:
            if found := pattern.fullmatch(text):
                return speaker.say(message, found.groupdict()), True
    return text, False
