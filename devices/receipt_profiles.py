"""How tills word their receipts: a `Profile` of regular expressions, and one each for English, Chinese and German.

These are starting points made from common wordings, not from one maker's document; a shop replaces what differs in its
options. Data only: `devices.receipt` reads with it.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of till words its receipts.

    Expressions are searched in one line at a time, ignoring case, after Unicode NFKC. `{amount}`, `{price}`, `{qty}`
    and `{any}` (an amount that is not read) stand for numbers in the till's notation.
    """

    decimal_separator: Literal[".", ","] = "."
    date_order: Literal["", "dmy", "mdy"] = ""  # how groups a, b are day and month; if empty they are not read
    encoding: str = ""  # of text that is neither UTF-8 nor in Kanji mode
    number: str  # group number
    barcode_number: str = ""  # which barcode is the receipt's number
    date: tuple[str, ...]  # groups y m d, or y a b
    operator: str  # group operator
    member: str  # group member
    item: tuple[str, ...]  # amount, and name, sku, qty, unit, price; without a name the line before is the name
    quantity: str  # qty and price of the item before or after, on a line of its own
    discount: str
    subtotal: str
    total: str
    tax: str
    change: str
    tender: dict[str, str]  # kind → expression
    refund: str  # a title that makes the receipt a return
    ignore: tuple[str, ...]  # titles of documents that are no sale
    slip: tuple[str, ...] = ()  # the same, but only above the total: a card slip may hang below a receipt


_ISO_DATE = r"(?<!\d)(?P<y>\d{4})[-/.年](?P<m>\d{1,2})[-/.月](?P<d>\d{1,2})(?!\d)"
_UNIT = r"(?:kg|g|lb|ea|pcs?|st(?:k|ck|ück)?\.?|件|个|瓶|斤|公斤)?"
_FLAG = r"(?:\s*\*?[A-Z*]{1,2})?$"  # a tax letter after the amount

# With the amount: "Milk  2 x 1.20  2.40", "2 x Milk  2.40", "Milk  2.40"; name on the line before: "2 x 1.20  2.40".
_ITEMS = (
    rf"^\s*{{qty}}\s*(?P<unit>{_UNIT})\s*[x×@*]\s*{{price}}\s+{{amount}}{_FLAG}",
    rf"^(?P<name>\S.*?)\s+{{qty}}\s*(?P<unit>{_UNIT})\s*[x×@*]\s*{{price}}\s+{{amount}}{_FLAG}",
    rf"^\s*{{qty}}\s*[x×@*]\s*(?P<name>\S.*?)\s{{2,}}{{amount}}{_FLAG}",
    rf"^\s*(?P<name>\S.*?)\s{{2,}}{{amount}}{_FLAG}",
)
_QUANTITY = rf"^\s*{{qty}}\s*(?P<unit>{_UNIT})\s*[x×@*]\s*{{price}}(?:\s*/?\s*kg)?$"

PROFILES: dict[str, Profile] = {
    "en": Profile(
        number=r"(?:\b(?:receipt|invoice|trans(?:action)?|trx|ticket|order|bill)\b|^\W*ID\b)\s*"
        r"(?:no\.?|nr\.?|num(?:ber)?|id)?[\s:#]*(?P<number>(?:[A-Z]{1,4}-?)?\d[\d/-]*)\b(?!\.\d)",
        date=(
            _ISO_DATE,
            r"(?<!\d)(?P<d>\d{1,2})(?:st|nd|rd|th)?(?:\s+of)?[\s.-]+(?P<m>[A-Z]{3,9})[\s.,-]+(?P<y>\d{4})\b",
            r"\b(?P<m>[A-Z]{3,9})\.?\s+(?P<d>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<y>\d{4})\b",
            r"(?<!\d)(?P<a>\d{1,2})[/.-](?P<b>\d{1,2})[/.-](?P<y>\d{4}|\d{2})(?!\d)",
        ),
        operator=r"\b(?:cashier|operator|served by|clerk)\b\s*(?:no\.?|id)?\s*[:#]?\s*(?P<operator>\S.*?)(?:\s{2,}|$)",
        member=r"\b(?:member(?:ship)?|loyalty|customer)\b\s*(?:card|no\.?|number|id)*\s*[:#]\s*(?P<member>[\w*-]+)",
        item=_ITEMS,
        quantity=_QUANTITY,
        discount=r"^\s*(?P<name>.*\b(?:discount|coupon|saving|savings|saved|promo(?:tion)?|rebate|[\d.]+\s?% off)"
        r"\b.*?)\s+{amount}$",
        subtotal=r"^\s*sub[\s-]?total\b.*?{amount}$",
        total=r"^\W*(?:grand\s+total|total(?!\s+(?:tax|vat|sav|disc|item|qty))|balance|amount(?=\s+(?:due|pay))|to pay)"
        r"(?:\s+(?:due|to pay|payable|sale|amount|[A-Z]{3}))?(?:\s*\(?\d+\s+items?\)?)?\s*:?\s*{amount}$",
        tax=r"^\W*(?:.*\b)?(?:tax|vat|gst|hst|pst)\b.*?{amount}" + _FLAG,
        change=r"^\W*change(?:\s+due)?\b.*?{amount}$",
        tender={
            "cash": r"^\W*cash\b.*?{amount}$",
            "card": r"^\W*(?:.*\b)?(?:card|visa|master ?card|maestro|amex|debit|credit|eftpos)\b.*?{amount}$",
            "voucher": r"^\W*(?:.*\b)?(?:voucher|gift ?card)\b.*?{amount}$",
            "mobile": r"^\W*(?:apple pay|google pay|alipay|wechat(?: pay)?|paypal)\b.*?{amount}$",
        },
        refund=r"^\W*(?:refund|return|credit note)(?:\s+(?:receipt|slip|invoice))?\W*$",
        ignore=(
            r"^\W*[xz][\s-]?(?:report|reading|read)\b",
            r"^\W*(?:no sale|duplicate|copy|reprint|training(?: mode)?|pro[\s-]?forma|quotation)"
            r"(?:\s+(?:of\s+)?(?:receipt|bill|invoice|sale))?\W*\d*\W*$",
        ),
        slip=(r"^\W*(?:customer|merchant)\s+copy\W*$",),
    ),
    "zh": Profile(
        encoding="gb18030",
        number=r"(?:(?:小票|交易|流水|收银|单据|订单|销售)(?:单)?号|单号|票号|^\W*(?:NO\.?|ID))\s*[:.]?\s*(?P<number>[A-Z]{0,4}\d[\d-]*)",
        date=(_ISO_DATE, r"(?<!\d)(?P<y>20\d{2})(?P<m>[01]\d)(?P<d>[0-3]\d)(?!\d)"),
        operator=r"(?:收银员|营业员|操作员|收款员)\s*:?\s*(?P<operator>\S+)",
        member=r"会员(?:卡)?号?\s*:\s*(?P<member>[\w*-]+)",
        item=(
            r"^\s*{qty}\s*[x×*]?\s*{price}\s+{amount}$",
            r"^\s*(?P<sku>\d{4,14})\s+{qty}\s*[x×*]?\s*{price}\s+{amount}$",
            r"^\s*(?P<name>\S.*?)\s+{qty}\s*(?P<unit>" + _UNIT + r")\s*[x×*]?\s*{price}\s+{amount}$",
            r"^\s*(?P<name>\S.*?)\s+{price}\s*[x×*]?\s*{qty}\s+{amount}$",
            *_ITEMS,
        ),
        quantity=_QUANTITY,
        discount=r"^\s*(?P<name>.*(?:优惠|折扣|立减|满减|抹零|让利|促销).*?)\s*:?\s*{amount}$",
        subtotal=r"^\W*小计.*?{amount}$",
        total=r"^\W*(?:合计|总计|总额|总金额|应付|应收|实付)(?:金额)?(?:\s*\(.*?\))?\s*:?\s*{amount}$",
        tax=r"^\W*(?:.*\b)?(?:税额|税金|增值税).*?{amount}$",
        change=r"^\W*(?:找零|找赎|找回).*?{amount}$",
        tender={
            "cash": r"^\W*(?:现金|实收|人民币).*?{amount}$",
            "card": r"^\W*(?:银行卡|刷卡|信用卡|银联|储蓄卡).*?{amount}$",
            "mobile": r"^\W*(?:支付宝|微信|扫码|云闪付|移动支付|数字人民币).*?{amount}$",
            "voucher": r"^\W*(?:购物卡|代金券|礼品卡|储值卡|提货券).*?{amount}$",
        },
        refund=r"^\W*(?:退货|退款)(?:单|小票)?\W*$",
        ignore=(
            r"^\W*(?:补打|重打|重印|副本|复印|交班|日结|开钱箱|挂单|培训|练习)(?:小票|单|联|报表|模式)?\W*\d*\W*$",
            r"^\W*[xz]\s*(?:报表|报告)",
        ),
        slip=(r"^\W*(?:商户|持卡人|顾客)?存根(?:联)?\W*$",),
    ),
    "de": Profile(
        decimal_separator=",",
        number=r"\b(?:bon|beleg|rechnung|rechnungs|transaktion)s?[\s-]*(?:nr|nummer|no)\b\.?"
        r"\s*[:#]?\s*(?P<number>[A-Z]{0,4}\d[\d/-]*)",
        date=(_ISO_DATE, r"(?<!\d)(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4}|\d{2})(?!\d)"),
        operator=r"\b(?:kassierer(?:in)?|bediener|bedienung|es bediente sie)\b\s*(?:nr\.?)?\s*:?"
        r"\s*(?P<operator>\S.*?)(?:\s{2,}|$)",
        member=r"\b(?:kundenkarte|kundennummer|kunden-?nr\.?|payback)\b[^:]*:\s*(?P<member>[\w*-]+)",
        item=_ITEMS,
        quantity=_QUANTITY.removesuffix("$") + r"(?:\s*(?:EUR|€)(?:/kg)?)?$",
        discount=r"^\s*(?P<name>.*(?:rabatt|nachlass|gutschein|coupon|aktion|ersparnis|preisvorteil).*?)\s+{amount}"
        + _FLAG,
        subtotal=r"^\W*zwischensumme\b.*?{amount}$",
        total=r"^\W*(?:summe|gesamt(?:betrag|summe)?|total|zu zahlen|endbetrag|zahlbetrag)\s*(?:EUR|€)?\s*:?"
        r"\s*{amount}$",
        tax=r"^\W*(?:[A-Z]\s*=?\s*)?\d{1,2}(?:,\d+)?\s?%\s+{any}\s+{amount}\s+{any}$"
        r"|^\W*(?:inkl\.?\s+|enth\.?\s+)?(?:\d{1,2}(?:,\d+)?\s?%\s*)?(?:mwst|ust|mehrwertsteuer)\b.*?{amount}$",
        change=r"^\W*(?:rückgeld|wechselgeld|zurück)\b.*?{amount}$",
        tender={
            "cash": r"^\W*(?:geg\.?\s+|gegeben\s+)?bar(?:geld|zahlung)?\b.*?{amount}$",
            "card": r"^\W*(?:geg\.?\s+)?(?:ec|girocard|kreditkarte|karte|kartenzahlung|visa|mastercard|maestro)\b"
            r".*?{amount}$",
            "voucher": r"^\W*(?:geg\.?\s+)?(?:geschenkkarte|gutschein)\b.*?{amount}$",
            "mobile": r"^\W*(?:apple pay|google pay|paypal)\b.*?{amount}$",
        },
        refund=r"^\W*(?:retoure|rückgabe|erstattung|gutschrift)(?:sbon|sbeleg)?\W*$",
        ignore=(
            r"^\W*[xz][\s-]?(?:bericht|abschlag|bon)\b",
            r"^\W*(?:kopie|duplikat|nachdruck|zweitschrift|training|nullbon|kein verkauf|lade offen)\W*\d*\W*$",
            r"^\W*(?:kassen|tages)abschluss\b",
        ),
        slip=(r"^\W*(?:kunden|händler)beleg\W*$",),
    ),
}  # fmt: skip
