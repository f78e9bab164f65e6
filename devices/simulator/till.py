"""Two tills: one publishes every sale as JSON, one prints receipts on an ESC/POS printer whose line is tapped.

Both number their own sales. Written from the transaction model and from Epson's command reference, not with the
drivers' codecs. Knows no transport.

*Source*: PROTOCOLS §6.5 (transaction model), §6.1 (receipts); Epson ESC/POS command reference (ESC @, FS &, FS .,
GS V).
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from devices.simulator.shop import Paid

_TENDERS = {"mobile": "支付宝", "card": "银行卡", "cash": "现金"}
_BEGIN, _KANJI, _LATIN, _CUT = b"\x1b@", b"\x1c&", b"\x1c.", b"\x1dV\x42\x00"
_COLUMNS = 32


class Till:
    """Numbers sales. `first`: the number of the first, so that no two runs of a demo sell under the same one."""

    def __init__(self, workstation: str, first: int) -> None:
        """`workstation`: the till's name in its own messages."""
        self.workstation = workstation
        self._next = first

    def number(self) -> str:
        """The next transaction number."""
        number, self._next = self._next, self._next + 1
        return str(number)


def sale_json(paid: Paid, workstation: str, number: str, at: datetime, boot: str) -> bytes:
    """The sale in this project's transaction model. `at`: the till's own time, aware."""
    lines = []
    for seq, entry in enumerate(paid.entries, 1):
        line: dict[str, Any] = {
            "seq": seq, "type": "sale", "gtin": entry.article.gtin13, "description": entry.article.name,
            "quantity": str(entry.quantity), "unit_price": str(entry.article.price),
            "extended_amount": str(entry.amount),
        }  # fmt: skip
        if entry.off:
            line["discounts"] = [{"amount": str(entry.off), "reason": "会员日", "promotion_id": "P7"}]
        if entry.epcs:
            line["epc"] = list(entry.epcs)
        lines.append(line)
    if paid.coupon is not None and lines:
        off = {"amount": str(paid.coupon_off), "reason": "优惠券", "coupon": paid.coupon}
        lines[-1].setdefault("discounts", []).append(off)
    gross = sum((entry.amount for entry in paid.entries), Decimal(0))
    message = {
        "v": 1, "ts": at.isoformat(timespec="milliseconds"), "boot": boot, "seq": int(number),
        "transaction_id": f"0001-{workstation}-{at:%Y%m%d}-{number}", "type": "sale", "workstation_id": workstation,
        "operator_id": "07", "sequence": int(number), "business_date": f"{at:%Y-%m-%d}",
        "begin_time": (at - timedelta(seconds=40)).isoformat(timespec="milliseconds"),
        "end_time": at.isoformat(timespec="milliseconds"), "currency": "CNY", "lines": lines,
        "tenders": [{"type": paid.tender, "amount": str(paid.net)}],
        "coupons": [paid.coupon] if paid.coupon else [],
        **({"loyalty": {"id": paid.member.number}} if paid.member is not None else {}),
        "totals": {
            "gross": str(gross), "discount": str(gross - paid.net), "net": str(paid.net), "tendered": str(paid.net),
            "item_count": str(sum(entry.quantity for entry in paid.entries)),
        },
    }  # fmt: skip
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def receipt_bytes(paid: Paid, number: str, at: datetime) -> bytes:
    """The receipt as the printer gets it: GBK in Kanji mode, cut at the end. `at`: the till's local time."""
    lines = ["示例生活馆", f"小票号:{number}", f"日期:{at:%Y-%m-%d %H:%M:%S}", "收银员:07", "-" * _COLUMNS]
    for entry in paid.entries:
        lines.append(entry.article.name)
        lines.append(_columns(f"{entry.quantity} x {entry.article.price}", str(entry.amount)))
        if entry.off:
            lines.append(_columns("促销优惠", f"-{entry.off}"))
    if paid.coupon is not None:
        lines.append(_columns("优惠券", f"-{paid.coupon_off}"))
    lines += ["-" * _COLUMNS, _columns("合计:", str(paid.net)), _columns(_TENDERS[paid.tender] + ":", str(paid.net))]
    lines += ["谢谢惠顾", "", "", ""]
    printed = b"".join(line.encode("gb18030") + b"\n" for line in lines)
    return _BEGIN + _KANJI + printed + _LATIN + _CUT


def _columns(left: str, right: str) -> str:
    """Left and right in one line of the paper, a Chinese character being two columns wide."""
    width = len(left.encode("gb18030")) + len(right)
    return left + " " * max(2, _COLUMNS - width) + right
