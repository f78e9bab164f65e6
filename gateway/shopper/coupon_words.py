"""What a cashier reads for every answer of the coupon desk, in Chinese and English. The shopper is never blamed.

The keys are the `reason` of an answer and part of the contract with tills (docs/coupons.md): one is never given another
meaning. Knows no coupon.
"""

from __future__ import annotations

import msgspec


class Said(msgspec.Struct, frozen=True):
    """One sentence in both languages."""

    zh: str
    en: str


REASONS: dict[str, Said] = {
    # it is so
    "valid": Said("优惠券有效。", "The coupon is good."),
    "reserved": Said("优惠券已锁定，请完成结账。", "The coupon is held: finish the sale."),
    "redeemed": Said("优惠券已核销。", "The coupon is redeemed."),
    "released": Said("优惠券已退回，可再次使用。", "The coupon is free again."),
    # the coupon itself
    "malformed": Said("无法识别此码，请重新扫描。", "This is no coupon code: scan it again."),
    "too_long": Said("此码过长，不是优惠券。", "This code is too long to be a coupon."),
    "unknown_version": Said("优惠券版本较新，本店暂不支持。", "The coupon is of a newer kind than this shop knows."),
    "unknown_key": Said("发行方未被本店认可。", "This shop does not know who issued the coupon."),
    "bad_signature": Said("优惠券验证未通过，请使用原始二维码。", "The coupon does not verify: use the original code."),
    "expired": Said("优惠券已过期。", "The coupon has expired."),
    "too_early": Said("优惠券尚未到使用日期。", "The coupon is not valid yet."),
    "revoked": Said("优惠券已被发行方撤回。", "The issuer has withdrawn the coupon."),
    "used_up": Said("优惠券的可用次数已用完。", "Every use of the coupon is taken."),
    "other_store": Said("优惠券不适用于本店。", "The coupon is for other shops."),
    "other_currency": Said("优惠券的币种与本单不同。", "The coupon is in another currency."),
    "other_home": Said("此券只能在其所属门店使用。", "The coupon can only be used in its home shop."),
    "lent_elsewhere": Said("此券已分配给另一家门店。", "The coupon is lent to another shop."),
    # the shop's own limits
    "coupon_limit": Said(
        "本店暂不能再次接受此券，请稍后再试。", "This shop has honoured the coupon as often as it may."
    ),
    "store_limit": Said(
        "本店待确认的优惠券金额已达上限，请联系店长。",
        "The shop has reached its limit of coupons to be confirmed: ask the manager.",
    ),
    "clock_unsynced": Said(
        "网关时间未校准，无法判断有效期，请联系店长。",
        "The gateway's clock is not set, so the dates cannot be judged: ask the manager.",
    ),
    # the request
    "bad_request": Said("收银机的请求有误，请联系技术支持。", "The till asked wrongly: call support."),
    "request_reused": Said("请求编号重复，请重新扫描。", "The till used a request number twice: scan again."),
    "unknown_reservation": Said(
        "没有找到这次锁定，请重新扫描优惠券。", "There is no such hold: scan the coupon again."
    ),
    "other_till": Said("此券由另一台收银机锁定。", "Another till holds the coupon."),
    "was_released": Said("此券已退回，请重新扫描。", "The coupon was given back: scan it again."),
    "already_redeemed": Said("此券已核销，作废请使用撤销。", "The coupon is redeemed: to undo it, void the sale."),
    # nobody is to blame
    "busy": Said("系统繁忙，请再试一次。", "Too many at once: try again."),
    "unavailable": Said("网关暂时无法记录，请再试一次。", "The gateway cannot record it now: try again."),
}
AGAIN = frozenset({"busy", "unavailable"})  # the same request may be sent again, and should
