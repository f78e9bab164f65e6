"""A receipt for a consent: what a person is given to take home, as a few lines and as a QR code.

It names the record, what for, until when and on which notice, and nobody: who has the paper can ask about the record or
withdraw it, who finds it learns nothing of a person. Knows no storage.

*Source*: ISO/IEC TS 27560 (consent receipt); ISO/IEC 18004 (QR).
"""

from __future__ import annotations

import io

from gateway.event_types import ConsentGranted, ConsentWithdrawn

_WORDS = {
    "zh_CN": {
        "granted": "同意回执", "withdrawn": "撤回同意回执", "record": "记录编号", "purposes": "用途",
        "until": "有效期至", "notice": "告知书版本", "store": "门店", "how": "凭此编号可随时在店内或应用中撤回。",
        "visits": "到店记录", "matching": "与会员档案关联", "offers": "个性化优惠", "analytics": "统计分析",
    },
    "en": {
        "granted": "Consent receipt", "withdrawn": "Withdrawal receipt", "record": "Record", "purposes": "For",
        "until": "Until", "notice": "Notice", "store": "Shop",
        "how": "With this number it can be withdrawn at any time, in the shop or in the app.",
        "visits": "visits", "matching": "member profile", "offers": "personal offers", "analytics": "statistics",
    },
}  # fmt: skip


def lines(act: ConsentGranted | ConsentWithdrawn, store: str, language: str) -> list[str]:
    """The receipt as text, short enough for 32 columns of paper to wrap. `language`: `zh_CN`, else English."""
    words = _WORDS.get(language, _WORDS["en"])
    granted = isinstance(act, ConsentGranted)
    said = [
        words["granted" if granted else "withdrawn"],
        f"{words['store']}: {store}",
        f"{words['record']}: {act.record_id}",
        f"{words['purposes']}: {', '.join(words.get(purpose, purpose) for purpose in act.purposes)}",
    ]
    if act.expires_at:
        said.append(f"{words['until']}: {act.expires_at[:10]}")
    if act.notice_version:
        said.append(f"{words['notice']}: {act.notice_version}")
    return [*said, words["how"]] if granted else said


def code(act: ConsentGranted | ConsentWithdrawn, store: str) -> str:
    """What the QR code says: `storefront:consent:<store>:<record>`; nothing of the person."""
    return f"storefront:consent:{store}:{act.record_id}"


def svg(act: ConsentGranted | ConsentWithdrawn, store: str) -> str:
    """The QR code as an SVG element, for the page."""
    import segno  # where somebody wants a receipt

    out = io.BytesIO()
    segno.make(code(act, store), error="m", micro=False).save(out, kind="svg", scale=4, xmldecl=False, svgns=True)
    return out.getvalue().decode()
