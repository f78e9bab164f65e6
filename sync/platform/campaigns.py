"""What became of coupons, and who comes again: issued → presented → redeemed by campaign and channel, repeat share.

Counts of coupons stand as they are; a share of fewer than five persons is not told.
"""

from __future__ import annotations

import msgspec

from sync.platform.profile_book import ProfileBook
from sync.platform.segments import FEWEST, Purchase


class Funnel(msgspec.Struct, frozen=True, kw_only=True):
    """One campaign in one channel. `issued` counts coupons that this platform knows; others may be redeemed, too."""

    campaign: str
    channel: str
    issued: int
    presented: int
    redeemed: int
    refused: int

    @property
    def rate(self) -> float | None:
        """Redeemed of issued, 核销率; None where none was issued here."""
        return self.redeemed / self.issued if self.issued else None


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """Persons who bought, and the share who did so on two days or more, 复购率; None below five persons."""

    persons: int
    share: float | None


def funnels(book: ProfileBook) -> list[Funnel]:
    """Every campaign and channel, the most issued first."""
    with book.reading() as connection:
        rows = connection.execute(
            "WITH told AS (SELECT coupon, max(campaign) AS campaign, max(channel) AS channel, "
            "max(step IN ('reserved', 'redeemed')) AS presented, max(step = 'redeemed') AS redeemed, "
            "max(step = 'refused') AS refused FROM coupon_step GROUP BY coupon), "
            "everything AS (SELECT k.coupon AS coupon, k.campaign AS campaign, k.channel AS channel, 1 AS issued "
            "FROM coupon k UNION ALL SELECT t.coupon, t.campaign, t.channel, 0 FROM told t "
            "WHERE t.coupon NOT IN (SELECT coupon FROM coupon)) "
            "SELECT e.campaign, e.channel, sum(e.issued), sum(coalesce(t.presented, 0)), sum(coalesce(t.redeemed, 0)), "
            "sum(coalesce(t.refused, 0)) FROM everything e LEFT JOIN told t ON t.coupon = e.coupon "
            "GROUP BY e.campaign, e.channel ORDER BY 3 DESC, 1, 2 LIMIT 200"
        ).fetchall()
    return [
        Funnel(
            campaign=campaign, channel=channel, issued=issued, presented=presented, redeemed=redeemed, refused=refused
        )
        for campaign, channel, issued, presented, redeemed, refused in rows
    ]


def repeat(bought: dict[str, list[Purchase]]) -> Repeat:
    """The share of persons who came again on another (UTC) day."""
    again = sum(len({it.at_ms // 86_400_000 for it in mine}) > 1 for mine in bought.values())
    return Repeat(persons=len(bought), share=again / len(bought) if len(bought) >= FEWEST else None)
