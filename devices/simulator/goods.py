"""What the shop sells: names, prices and numbers, and the tags on garments. Numbers belong to nobody.

GTINs begin with 952, the prefix that GS1 keeps for demonstrations. Knows no shopper and no device.

*Source*: GS1 General Specifications §1.4.3 (prefix 952) and §7.9 (check digit); EPC Tag Data Standard 2.0 §14.6.1
(SGTIN-96: header 8, filter 3, partition 3, company prefix 24, item reference 20, serial 38 bits).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

_COMPANY: Final = "9521234"
_SGTIN_96, _FILTER_ITEM, _PARTITION_7 = 0x30, 1, 5


class Article(msgspec.Struct, frozen=True):
    """One article. `price` in yuan; `tagged`: every piece carries a UHF tag."""

    item: int  # 1–99999
    name: str
    price: Decimal
    tagged: bool = False

    @property
    def gtin13(self) -> str:
        """As on the label: 13 digits with the check digit."""
        return with_check_digit(f"{_COMPANY}{self.item:05d}")

    @property
    def gtin14(self) -> str:
        """As in events: 14 digits."""
        return "0" + self.gtin13

    def epc(self, serial: int) -> str:
        """The tag of one piece, 24 upper-case hex digits."""
        bits = _SGTIN_96
        for width, value in ((3, _FILTER_ITEM), (3, _PARTITION_7), (24, int(_COMPANY)), (20, self.item), (38, serial)):
            bits = bits << width | value
        return f"{bits:024X}"


def with_check_digit(digits: str) -> str:
    """`digits` and the GS1 check digit that belongs behind them."""
    total = sum(int(digit) * (3, 1)[index % 2] for index, digit in enumerate(reversed(digits)))
    return digits + str(-total % 10)


def _articles(first: int, tagged: bool, *entries: tuple[str, str]) -> tuple[Article, ...]:
    return tuple(Article(item, name, Decimal(price), tagged) for item, (name, price) in enumerate(entries, first))


GARMENTS: Final = _articles(
    101, True,
    ("纯棉圆领T恤", "59.00"), ("直筒牛仔裤", "199.00"), ("连帽卫衣", "159.00"), ("轻薄羽绒服", "399.00"),
    ("针织开衫", "179.00"), ("亚麻衬衫", "139.00"), ("百褶半身裙", "149.00"), ("运动长裤", "119.00"),
)  # fmt: skip
GROCERIES: Final = _articles(
    501, False,
    ("鲜牛奶950ml", "15.90"), ("手工酸奶", "6.50"), ("乌龙茶500ml", "4.50"), ("龙井茶100g", "68.00"),
    ("五常大米5kg", "49.90"), ("酱香牛肉面", "5.90"), ("原味苏打饼干", "8.80"), ("坚果礼盒", "88.00"),
    ("抽纸三层6包", "19.90"), ("保温杯480ml", "79.00"), ("竹炭牙刷", "9.90"), ("洗衣液2kg", "32.80"),
    ("香薰蜡烛", "45.00"), ("苹果1kg", "12.80"), ("黑巧克力", "18.50"), ("电池5号4粒", "14.90"),
)  # fmt: skip
