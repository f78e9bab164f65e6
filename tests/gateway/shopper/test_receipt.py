"""Receipts of consents: they name the record and what for, in both languages, and nobody."""

from __future__ import annotations

from gateway.event_types import ConsentGranted, ConsentWithdrawn
from gateway.shopper.receipt import code, lines, svg

GIVEN = ConsentGranted(
    record_id="c-17", purposes=("visits", "matching"), notice_version="3", notice_digest="", language="zh-CN",
    method="till", expires_at="2028-11-22T00:00:00.000Z",
)  # fmt: skip


def test_a_receipt_says_what_for_and_until_when() -> None:
    """In Chinese and in English."""
    chinese, english = lines(GIVEN, "0042", "zh_CN"), lines(GIVEN, "0042", "en")
    assert "同意回执" in chinese and any("到店记录" in line for line in chinese)
    assert "Record: c-17" in english and "Until: 2028-11-22" in english and "For: visits, member profile" in english


def test_a_withdrawal_has_a_receipt_too() -> None:
    """Of what was withdrawn."""
    ended = ConsentWithdrawn(
        record_id="c-17", purposes=("visits",), notice_version="", notice_digest="", language="", method="till"
    )
    assert lines(ended, "0042", "en")[0] == "Withdrawal receipt"


def test_the_code_leads_to_the_record() -> None:
    """And is a picture the page can show as it is."""
    assert code(GIVEN, "0042") == "storefront:consent:0042:c-17"
    assert svg(GIVEN, "0042").startswith("<svg") and "script" not in svg(GIVEN, "0042")
