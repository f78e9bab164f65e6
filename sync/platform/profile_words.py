"""The words of the profile pages, Chinese and English side by side; the shop's catalogue is the shop page's own."""

from __future__ import annotations

from typing import Final

LANGUAGES: Final = {"zh": "中文", "en": "English"}

WORDS: Final[dict[str, tuple[str, str]]] = {
    "title": ("顾客档案", "Shopper profiles"),
    "not_production": (
        "参考平台，仅供演示与对接，不用于生产",
        "Reference platform: for demos and integrators, not for production.",
    ),
    "times": ("时间为 {zone} 时间", "Times of {zone}"),
    "earlier": ("还有更早的 {n} 条未显示", "{n} earlier ones are not shown"),
    "looks": ("查阅记录", "Who looked"),
    "looks_note": (
        "每次查看、查找和操作都会先记下来，再显示。",
        "Each look, search and act is noted before it is answered.",
    ),
    "look.look": ("查看", "looked"),
    "look.search": ("查找到此人", "found by a search"),
    "look.hint": ("发送提示", "sent a hint"),
    "look.coupon": ("发券", "issued a coupon"),
    "look.consent": ("记录授权", "noted a consent"),
    "look.part": ("撤销关联", "undid a link"),
    "look.erase": ("删除", "erased"),
    "who.local": ("本机", "this machine"),
    "who.token": ("持平台令牌者", "holder of the token"),
    "search": ("查找会员", "Find a member"),
    "search_hint": (
        "号码只用于这次查找，不会出现在网址或日志里。",
        "The number is for this search only: it is in no address and no log.",
    ),
    "find": ("查找", "Find"),
    "nobody": ("没有这位顾客，或这个号码由多人共用。", "Nobody by that number, or several people share it."),
    "recent": ("最近的顾客", "Most recent"),
    "none": ("还没有。", "None yet."),
    "segments": ("顾客分群（RFM）", "Segments (RFM)"),
    "segments_note": (
        "五等分阈值：最近消费（天）{days}；次数 {times}；金额 {money}。人数少于 5 的分群并入“其他”。",
        "Thresholds of the fifths: days since the last purchase {days}; purchases {times}; money {money}. "
        "Segments of fewer than 5 count as other.",
    ),
    "campaigns": ("优惠券：发放 → 出示 → 核销", "Coupons: issued → presented → redeemed"),
    "campaign": ("活动", "Campaign"),
    "channel": ("渠道", "Channel"),
    "issued": ("已发放", "Issued"),
    "presented": ("已出示", "Presented"),
    "redeemed": ("已核销", "Redeemed"),
    "rate": ("核销率", "Redemption rate"),
    "repeat": ("复购率", "Repeat share"),
    "persons": ("人数", "Persons"),
    "too_few": ("不足 5 人，不显示", "fewer than 5: not shown"),
    "back": ("全部顾客", "All shoppers"),
    "person": ("顾客", "Shopper"),
    "identifiers": ("标识", "Identifiers"),
    "shared": ("多人共用，不用于匹配", "shared by several: tells nothing"),
    "household": ("与另外 {n} 位顾客共用标识（家庭）", "Shares an identifier with {n} others (a household)"),
    "until": ("至", "until"),
    "since": ("自", "since"),
    "part": ("撤销关联", "Undo this link"),
    "consents": ("授权", "Consents"),
    "agreed": ("已同意", "agreed"),
    "withdrawn": ("已撤回", "withdrawn"),
    "not_agreed": ("未同意", "not agreed"),
    "expired": ("已到期", "expired"),
    "no_matching": (
        "没有有效的匹配授权：不显示任何行为记录。",
        "No consent to matching is in force: no history is shown.",
    ),
    "coupons": ("优惠券", "Coupons"),
    "timeline": ("线上与门店记录", "Online and in the shops"),
    "confidence": ("可信度", "Confidence"),
    "evidence": ("依据", "Evidence"),
    "online": ("线上", "online"),
    "store": ("门店", "shop"),
    "minutes": ("{n} 分钟", "{n} min"),
    "items": ("{n} 件", "items: {n}"),
    "act": ("操作", "Acts"),
    "gateway": ("门店网关", "Gateway"),
    "hint": ("给店员的提示", "Hint for the staff"),
    "send": ("发送", "Send"),
    "issue": ("发券", "Issue coupon"),
    "face": ("面额", "Face value"),
    "store_name": ("门店编号", "Store"),
    "erase": ("删除此人", "Erase this person"),
    "erase_hint": (
        "删除这里和各门店里的个人数据；销售金额保留，不再指向任何人。不能撤销。",
        "Removes the person here and in every shop; money sold stays, without a person. Cannot be undone.",
    ),
    "confirm": ("我确认", "I am sure"),
    "done": ("已完成。", "Done."),
    "refused": ("未执行：{why}", "Not done: {why}"),
    "stopped": ("匹配已停止，请看日志。", "Matching has stopped; see the log."),
    "kind.sale": ("购买", "Purchase"),
    "kind.return": ("退货", "Return"),
    "kind.exchange": ("换货", "Exchange"),
    "kind.void": ("作废", "Void"),
    "kind.order": ("线上订单", "Online order"),
    "kind.visit": ("到店", "Visit"),
    "kind.scan": ("扫码", "Scan"),
    "kind.joined": ("入会", "Joined"),
    "kind.points_earned": ("积分增加", "Points earned"),
    "kind.points_spent": ("积分使用", "Points spent"),
    "scheme.member": ("会员号", "Member number"),
    "scheme.phone": ("手机号", "Phone"),
    "scheme.email": ("邮箱", "E-mail"),
    "scheme.app": ("应用账号", "App account"),
    "scheme.payment": ("支付令牌", "Payment token"),
    "scheme.beacon": ("信标", "Beacon"),
    "scheme.card": ("会员卡", "Card"),
    "why.key": ("出示了{scheme}", "{scheme} shown"),
    "why.before_link": ("{scheme}，在关联之前", "{scheme}, before it was linked"),
    "why.day_key": ("同店同日的同一密钥（{scheme}）", "same key of the day in this store ({scheme})"),
    "why.visit_lists_sale": ("到店记录列出了这笔交易", "listed by the visit"),
    "why.same_store_and_time": ("同一门店、同一时间、同一人", "same person, store and time"),
    "act.registration": ("注册时验证", "verified at registration"),
    "act.login": ("登录", "signed in"),
    "act.phone_change": ("换号验证", "verified change of number"),
    "act.card_change": ("换卡", "change of card"),
    "act.basket": ("同一购物篮内扫码并付款", "scanned and paid in one basket"),
    "purpose.matching": ("匹配档案", "matching"),
    "purpose.visits": ("到店关联", "visits"),
    "purpose.offers": ("个性化优惠", "offers"),
    "purpose.analytics": ("分析", "analytics"),
    "state.issued": ("未使用", "not used"),
    "state.reserved": ("已预留", "reserved"),
    "state.redeemed": ("已核销", "redeemed"),
    "state.released": ("已退回", "given back"),
    "state.refused": ("被拒绝", "refused"),
    "segment.champions": ("核心顾客", "Champions"),
    "segment.loyal": ("忠诚顾客", "Loyal"),
    "segment.new": ("新顾客", "New"),
    "segment.promising": ("潜力顾客", "Promising"),
    "segment.at_risk": ("有流失风险", "At risk"),
    "segment.sleeping": ("沉睡顾客", "Sleeping"),
    "segment.lost": ("已流失", "Lost"),
    "segment.other": ("其他", "Other"),
}


class Words:
    """One language."""

    def __init__(self, language: str) -> None:
        """`language`: `zh` or `en`; anything else is `zh`."""
        self.name = language if language in LANGUAGES else "zh"
        self.tag = {"zh": "zh-CN", "en": "en"}[self.name]

    def say(self, key: str, **fields: object) -> str:
        """The text; the last part of the key where there is none."""
        pair = WORDS.get(key)
        text = key.rpartition(".")[2] if pair is None else pair[0 if self.name == "zh" else 1]
        return text.format(**fields) if fields else text

    def why(self, evidence: str) -> str:
        """A reason in words: `key_phone`, `day_key_member`, `visit_lists_sale` …"""
        for reason in ("before_link", "day_key", "key"):
            if evidence.startswith(reason + "_"):
                return self.say(f"why.{reason}", scheme=self.say(f"scheme.{evidence[len(reason) + 1 :]}"))
        return self.say(f"why.{evidence}")
