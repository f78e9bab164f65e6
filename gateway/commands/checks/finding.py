"""What a check found, in which order a technician should read it, and the veil over what nobody may read.

A finding is a sentence and what to do about it. Its likelihood says how often, of all calls from a store, this was the
cause: cables and power come before broken disks. Knows no check.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

Severity = Literal["problem", "warning", "note", "ok"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note", "ok")

# Of a hundred calls from a store. The figures only make an order; findings of one severity are sorted by them.
NOT_RUNNING, CONFIGURATION, UNPLUGGED, PERMISSION, BUSY, BROKER, SILENT = 98, 95, 90, 85, 80, 75, 70
PLATFORM, DISK, CLOCK, JOURNAL, PAGE, SOFTWARE = 60, 50, 40, 30, 20, 10

_CREDENTIALS = re.compile(r"(://)\S*@")
_SECRET_KEY = re.compile(r"password|token|secret|passphrase|api_?key|^key$", re.IGNORECASE)
_REFERENCE = re.compile(r"^(file|env|credential):")
_SHORTEST = 4  # a shorter secret would black out half the text


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    `area`: configuration, running, disk, journal, clock, ports, broker, devices, cameras, platform, page, software or
    service.
    """

    severity: Severity
    area: str
    says: str
    do: str = ""
    likelihood: int = 0


def problem(area: str, likelihood: int, says: str, do: str) -> Finding:
    """Something does not work, and events or their delivery suffer."""
    return Finding(severity="problem", area=area, likelihood=likelihood, says=says, do=do)


def warning(area: str, likelihood: int, says: str, do: str) -> Finding:
    """Something is not as it should be."""
    return Finding(severity="warning", area=area, likelihood=likelihood, says=says, do=do)


def note(area: str, likelihood: int, says: str, do: str = "") -> Finding:
    """Worth knowing; in order all the same."""
    return Finding(severity="note", area=area, likelihood=likelihood, says=says, do=do)


def fine(area: str, says: str) -> Finding:
    """Looked at, and in order."""
    return Finding(severity="ok", area=area, says=says)


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """What to read first: problems, then warnings, then notes, each by likelihood; what is in order comes last."""
    return sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), -each.likelihood))


class Veil:
    """Blacks out secrets, whatever sentence they slipped into."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def hide(self, secret: str) -> None:
        """Never show this text."""
        if len(secret) >= _SHORTEST:
            self._secrets.add(secret)

    def hide_in(self, table: Any) -> None:
        """Never show what stands under a key that sounds like a secret, anywhere in plain TOML values."""
        if isinstance(table, dict):
            for key, value in table.items():
                if isinstance(value, str) and _SECRET_KEY.search(key) and not _REFERENCE.match(value):
                    self.hide(value)
                else:
                    self.hide_in(value)
        elif isinstance(table, list):
            for value in table:
                self.hide_in(value)

    def over(self, finding: Finding) -> Finding:
        """The finding without secrets and without credentials in addresses."""
        return msgspec.structs.replace(finding, says=self._clean(finding.says), do=self._clean(finding.do))

    def _clean(self, text: str) -> str:
        text = _CREDENTIALS.sub(r"\1…@", text)
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "…")
        return "".join(char if char.isprintable() else " " for char in text)
