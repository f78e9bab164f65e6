"""A shop with ten weeks behind it, made of rows of the read models' own folds."""

from __future__ import annotations

from gateway.clock import rfc3339_s
from gateway.projections.kpi import HOUR_MS, Sources
from gateway.projections.opening import opening
from gateway.projections.projector import read_models
from gateway.projections.store_time import StoreTime
from gateway.reports.report import Report, report
from tests.gateway.projections.tables import Tables, ms

ZONE = "Asia/Shanghai"
DAY = "2026-11-20"
TEN = ms(f"{DAY}T10:00:00+08:00")
NIGHT = ms(f"{DAY}T23:59:59+08:00") + 1000
SHOP = Sources(True, ("till",), "CNY", opening("10:00-22:00"))
BAD = "=cmd()<b>&"  # a zone that somebody named badly


class Past(Tables):
    """Twelve open hours a day, `days` days up to `DAY`."""

    def __init__(self, days: int = 70) -> None:
        super().__init__(read_models(ZONE))
        self.time = StoreTime(ZONE)
        facts = []
        for back in range(days):
            for hour in range(12):
                at = TEN - back * 86_400_000 + hour * HOUR_MS
                start, quality = rfc3339_s(at / 1000), {"coverage": 1.0, "detector": "d"}
                facts.append(
                    self.fact(
                        "footfall.counted", at + HOUR_MS, {
                            "line": "door", "entrance": "front", "interval_start": start, "interval_s": 3600.0,
                            "in": 40 + 10 * hour + back % 5, "out": 38 + 10 * hour, "quality": quality,
                        },
                    )
                )  # fmt: skip
                beat = {"devices": {"till": "live"}}
                beats = range(60) if back < 16 else ()
                facts += [self.fact("gateway.heartbeat", at + minute * 60_000, beat) for minute in beats]
                sale = {"kind": "sale", "currency": "CNY", "totals": {"net": "25.50", "item_count": "3"}}
                facts += [self.fact("pos.sale", at + 60_000 * number, sale) for number in range(5 + hour)]
        for zone in ("鞋区", BAD):
            dwell = {"p50": 40.0, "p90": 90.0, "mean": 50.0, "n": 12}
            facts.append(
                self.fact(
                    "zone.occupied", TEN + HOUR_MS, {
                        "zone": zone, "interval_start": rfc3339_s(TEN / 1000), "interval_s": 3600.0, "mean": 2.5,
                        "peak": 6, "visitors": 30, "dwell_s": dwell, "quality": {"coverage": 1.0, "detector": "d"},
                    },
                )
            )  # fmt: skip
        facts.append(
            self.fact(
                "queue.measured", TEN + HOUR_MS, {
                    "zone": "收银台", "interval_start": rfc3339_s(TEN / 1000), "interval_s": 3600.0, "length_mean": 1.2,
                    "length_peak": 5, "wait_s_p90": 95.0, "quality": {"coverage": 1.0, "detector": "d"},
                },
            )
        )  # fmt: skip
        heat = [float(cell % 7) for cell in range(12 * 16)]
        facts.append(
            self.fact(
                "heatmap.sampled", TEN + HOUR_MS, {
                    "camera": "cam1", "interval_start": rfc3339_s(TEN / 1000), "interval_s": 3600.0, "rows": 12,
                    "cols": 16, "person_seconds": heat,
                },
            )
        )  # fmt: skip
        for score in (10, 9, 9, 7, 3, 10):
            facts.append(
                self.fact("feedback.given", TEN + HOUR_MS, {"question_id": "nps", "score": score, "device": "k"})
            )
        facts.append(
            self.fact("rfid.arrived", TEN, {"epc_hex": "A1", "gtin": "06901234567892", "zone_to": "鞋区", "reads": 2})
        )
        self.take(facts)

    def report(self, day: str = DAY, *, week: bool = False, now: int = NIGHT, sources: Sources = SHOP) -> Report:
        return report(day, self.query, sources, self.time, now, store="0042", week=week)
