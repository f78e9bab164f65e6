"""What the web shop knows of the same members: registrations, consents and orders, as the CSV files that a platform
imports. Pure text; knows no platform.

*Source*: docs/matching.md, "Online history".
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from devices.simulator.members import Member

_JOINED_DAYS: Final = (120, 400)
_ORDERS_DAYS: Final = 90
_ORDERS_MEAN: Final = 3


def files(members: Sequence[Member], seed: int, run: datetime) -> dict[str, str]:
    """The files by name, in the order in which to import them.

    Args:
        members: of the shop. Who refuses in the shop refuses here, too.
        seed: of what was ordered.
        run: when the demo began, aware; everything is before it.
    """
    dice = random.Random(seed)  # noqa: S311 - orders, not secrets
    rows: dict[str, list[tuple[object, ...]]] = {
        "members.csv": [("member", "joined_at", "tier", "language", "channel")],
        "registrations.csv": [("at", "act", "member", "scheme", "value", "verified")],
        "consents.csv": [("record_id", "at", "step", "purposes", "member", "language", "method")],
        "orders.csv": [("order_id", "ordered_at", "amount", "currency", "member", "email", "items")],
    }
    for it in members:
        joined = run - timedelta(days=dice.uniform(*_JOINED_DAYS))
        rows["members.csv"].append((it.number, _iso(joined), it.tier, "zh-CN", "app"))
        for minute, (scheme, value) in enumerate((("email", it.mail), ("app", it.app)), 1):
            at = _iso(joined + timedelta(minutes=minute))
            rows["registrations.csv"].append((at, "registration", it.number, scheme, value, "yes"))
        if it.habit != "refuses":
            rows["consents.csv"].append(
                (f"web-{len(rows['consents.csv'])}-{it.app[-13:]}", _iso(joined), "granted", "matching|offers",
                 it.number, "zh-CN", "web")
            )  # fmt: skip
        for nth in range(min(12, int(dice.expovariate(1 / _ORDERS_MEAN) + 0.5))):
            at = _iso(run - timedelta(days=dice.uniform(0.5, _ORDERS_DAYS)))
            by_mail = dice.random() < 0.2
            rows["orders.csv"].append(
                (f"web-{it.app[-13:]}-{nth}", at, f"{dice.lognormvariate(4.7, 0.6):.2f}", "CNY",
                 "" if by_mail else it.number, it.mail if by_mail else "", dice.randint(1, 6))
            )  # fmt: skip
    return {name: _text(table) for name, table in rows.items()}


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _text(rows: Sequence[Sequence[object]]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()
