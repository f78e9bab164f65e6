"""What a report says, in Chinese and English side by side.

A table of its own and not the page's catalogue: a report is made by the command line, too, without the page, and every
text here is short and stands beside its translation.
"""

from __future__ import annotations

from typing import Literal

from gateway.projections.kpi import Name, Reason

Language = Literal["zh_CN", "en"]
Kind = Literal["count", "money", "percent", "decimal", "seconds", "points"]
Text = tuple[str, str]  # Chinese, English

FIGURES: dict[Name, tuple[Kind, Text]] = {
    "footfall": ("count", ("客流量", "Visitors in")),
    "conversion": ("percent", ("转化率", "Conversion")),
    "transactions": ("count", ("成交笔数", "Sales")),
    "net_sales": ("money", ("销售额", "Turnover")),
    "basket_value": ("money", ("客单价", "Average sale")),
    "units_per_basket": ("decimal", ("连带率", "Items a sale")),
    "occupancy_peak": ("count", ("在店人数峰值", "Most inside at once")),
    "queue_p90_s": ("seconds", ("排队等待（九成不超过）", "Queue wait (9 in 10 within)")),
    "queue_peak": ("count", ("最长排队人数", "Longest queue")),
    "visit_dwell_s": ("seconds", ("平均停留", "Mean stay")),
    "redemption_presented": ("percent", ("核销率（出示）", "Redeemed of presented")),
    "redemption_issued": ("percent", ("核销率（30 天发放）", "Redeemed of issued, 30 days")),
    "member_share": ("percent", ("会员成交占比", "Sales to members")),
    "repeat_share": ("percent", ("复购率（已同意会员）", "Returning (consented)")),
    "interaction_rate": ("percent", ("互动率", "Interactions a visitor")),
    "nps": ("points", ("净推荐值 NPS", "NPS")),
    "smile_share": ("percent", ("满意度", "Satisfied")),
}

REASONS: dict[Reason, Text] = {
    "not_set_up": ("未设置", "not set up"),
    "counter_dark": ("客流计数中断，无法给出", "the counter was dark"),
    "till_dark": ("收银中断，无法给出", "a till was dark"),
    "no_people": ("无人进店", "nobody came in"),
    "no_sales": ("无成交", "no sale"),
    "none_issued": ("未发放优惠券", "no coupon issued"),
    "none_presented": ("未出示优惠券", "no coupon presented"),
    "no_answers": ("无评价", "no answers"),
    "nobody": ("无人等待", "nobody waited"),
    "few": ("人数不足 5，不予显示", "fewer than 5 persons: not shown"),
    "not_known": ("未知", "not known"),
    "not_kept": ("明细已不再保留", "details are no longer kept"),
    "closed": ("非营业时间", "closed"),
    "not_yet": ("尚未开始", "not yet"),
}

TEXTS: dict[str, Text] = {
    "day_title": ("门店日报", "Store report of the day"),
    "week_title": ("门店周报", "Store report of the week"),
    "store": ("门店 {store}", "Store {store}"),
    "made": ("生成于 {moment}", "made {moment}"),
    "unfinished": ("尚未结束：截至 {moment}", "not over: up to {moment}"),
    "nothing": ("这段时间没有任何数据。没有数据不等于零。", "There is no data of that time. No data is not zero."),
    "figures": ("指标", "Figures"),
    "figure": ("指标", "figure"),
    "value": ("数值", "value"),
    "compared": ("上周同期", "a week before"),
    "change": ("变化", "change"),
    "coverage": ("覆盖率", "coverage"),
    "note": ("说明", "note"),
    "at_least": ("至少", "at least"),
    "seen": ("覆盖 {share}", "{share} seen"),
    "by_hour": ("每小时客流", "Visitors by hour"),
    "sales_by_hour": ("每小时成交", "Sales by hour"),
    "by_day": ("每日客流", "Visitors by day"),
    "sales_by_day": ("每日成交", "Sales by day"),
    "people": ("客流", "visitors"),
    "sales": ("成交", "sales"),
    "usual": ("往常（同星期中位数）", "usual (weekday's median)"),
    "expected": ("预测", "forecast"),
    "hour": ("时", "hour"),
    "day": ("日期", "day"),
    "zones": ("区域", "Zones"),
    "zone": ("区域", "zone"),
    "mean": ("平均人数", "mean persons"),
    "peak": ("峰值", "peak"),
    "share": ("热度占比", "share of heat"),
    "dwell": ("停留中位数", "median stay"),
    "dwell_p90": ("停留九成", "stay, 9 in 10"),
    "queues": ("排队", "Queues"),
    "length": ("平均长度", "mean length"),
    "wait": ("等待九成", "wait, 9 in 10"),
    "stock": ("RFID 库存", "RFID stock"),
    "gtin": ("商品 GTIN", "GTIN"),
    "tags": ("标签数", "tags"),
    "counted": ("盘点", "counted"),
    "heat": ("热力图 {camera}", "Heat {camera}"),
    "error": (
        "预测误差：过去 {days} 天每小时平均 {mae} 人{mape}。未考虑节假日、天气和促销。",
        "Forecast error: {mae} people an hour on average over the last {days} days{mape}. Holidays, weather and "
        "promotions are not in it.",
    ),
    "error_share": ("（{share}）", " ({share})"),
    "too_early": (
        "历史不足，暂无预测：有 {weeks} 周，至少需要 {least} 周。",
        "Not enough history for a forecast: {weeks} weeks of at least {least}.",
    ),
    "returns": ("退货 {returns}，作废 {voids}", "returns {returns}, voids {voids}"),
    "others": ("其他币种：{money}", "other currencies: {money}"),
    "more": ("另有 {count} 项", "{count} more"),
    "coverage_note": (
        "“≥” 表示部分时间无数据，实际可能更多；“–” 表示无法得知，不是零。",
        "“≥”: not all of the time was seen, there may be more. “–”: not known, which is not zero.",
    ),
}


def text(key: str, language: Language, **parameters: object) -> str:
    """A text with its parameters."""
    return TEXTS[key][language == "en"].format(**parameters)
