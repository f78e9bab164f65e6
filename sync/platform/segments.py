"""Segments of persons who agreed to the matching: RFM by quintiles, churn by a model that is tested on later days, and
k-means clusters. The last two need scikit-learn (extra `matching`) and say so.

RFM: recency in days, frequency as purchases, money as their sum, each split into fifths of the persons; 5 is best. What
a threshold is, is part of the answer. Churn: nothing bought in the `horizon` after a day. The model learns from the
days up to two horizons ago and is tested on those up to one horizon ago, which it has not seen. Knows no HTTP.

*Source*: Hughes, Strategic Database Marketing (RFM); scikit-learn documentation, LogisticRegression, calibration.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, quantiles
from typing import Any, Final

import msgspec

from gateway.errors import Unavailable
from sync.platform.profile_book import PARTS, ProfileBook
from sync.platform.profile_reading import MINE, SALES

_DAY_MS: Final = 86_400_000
FEWEST: Final = 5
"""A group of fewer persons is not told apart from the rest."""
_FEWEST_TO_LEARN: Final = 100


class Purchase(msgspec.Struct, frozen=True):
    """One purchase; `amount` in the leading currency."""

    at_ms: int
    amount: float
    online: bool


class Rfm(msgspec.Struct, frozen=True, kw_only=True):
    """One person's fifths, 5 best, and the segment's name."""

    key: str
    recency_days: float
    frequency: int
    money: float
    scores: tuple[int, int, int]
    segment: str


class RfmReport(msgspec.Struct, frozen=True, kw_only=True):
    """Persons, the thresholds between the fifths (four each; recency in days falls), and how many are in a segment.

    A segment of fewer than five persons counts under `other`.
    """

    persons: tuple[Rfm, ...]
    recency_days: tuple[float, ...]
    frequency: tuple[float, ...]
    money: tuple[float, ...]
    sizes: dict[str, int]


class Bin(msgspec.Struct, frozen=True):
    """One step of the calibration: what the model said on average, what came true, of how many persons."""

    said: float
    true: float
    persons: int


class ChurnReport(msgspec.Struct, frozen=True, kw_only=True):
    """The model's quality on days that it has not seen, and each person's risk now (0–1, highest first).

    `auc` 0.5: no better than a guess. `brier`: mean squared error of the probability, beside that of always saying the
    base rate.
    """

    model: str
    horizon_days: int
    learned_from: int
    tested_on: int
    base_rate: float
    auc: float
    brier: float
    brier_base: float
    calibration: tuple[Bin, ...]
    risks: tuple[tuple[str, float], ...]


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster by its means."""

    persons: int
    recency_days: float
    frequency: float
    money: float
    online_share: float


def purchases(book: ProfileBook, now_ms: int) -> dict[str, list[Purchase]]:
    """Every matched person's purchases by key, oldest first. Sales that only a visit brought along are not in it."""
    marks = ", ".join(f"'{kind}'" for kind in SALES)
    with book.reading() as connection:
        rows = connection.execute(
            "SELECT (SELECT key FROM person p WHERE p.id = c.person), t.at_ms, t.amount_parts, t.kind, "  # noqa: S608 - constants
            "t.currency "
            f"{MINE} AND t.kind IN ({marks}) AND t.amount_parts IS NOT NULL ORDER BY t.at_ms",
            {"now": now_ms},
        ).fetchall()
    currencies = Counter(row[4] for row in rows)
    leading = currencies.most_common(1)[0][0] if currencies else ""
    found: defaultdict[str, list[Purchase]] = defaultdict(list)
    for key, at_ms, amount_parts, kind, currency in rows:
        if currency == leading and at_ms <= now_ms:
            found[key].append(Purchase(at_ms, amount_parts / PARTS, kind == "order"))
    return dict(found)


def rfm(bought: dict[str, list[Purchase]], now_ms: int) -> RfmReport:
    """RFM of everybody who bought something; empty for nobody."""
    raw = {
        key: ((now_ms - mine[-1].at_ms) / _DAY_MS, len(mine), sum(it.amount for it in mine))
        for key, mine in bought.items()
    }
    cuts = [_cuts([values[n] for values in raw.values()]) for n in range(3)]
    persons = []
    for key, (days, times, money) in raw.items():
        scores = (6 - _fifth(days, cuts[0]), _fifth(times, cuts[1]), _fifth(money, cuts[2]))
        persons.append(
            Rfm(key=key, recency_days=round(days, 1), frequency=times, money=round(money, 2), scores=scores,
                segment=_segment(*scores))
        )  # fmt: skip
    sizes = Counter(it.segment for it in persons)
    shown = {name: count for name, count in sizes.items() if count >= FEWEST}
    if len(shown) < len(sizes):
        shown["other"] = sum(count for name, count in sizes.items() if count < FEWEST)
    days_cut, times_cut, money_cut = (tuple(round(it, 2) for it in cut) for cut in cuts)
    return RfmReport(
        persons=tuple(sorted(persons, key=lambda it: (-sum(it.scores), it.key))), recency_days=days_cut,
        frequency=times_cut, money=money_cut, sizes={name: shown[name] for name in _ORDER if name in shown},
    )  # fmt: skip


def churn(
    bought: dict[str, list[Purchase]], now_ms: int, *, horizon_days: int = 30, model: str = "logistic"
) -> ChurnReport:
    """Learn who stays away, test it on later days, and say each person's risk now.

    Args:
        bought: from `purchases`.
        now_ms: the end of what is known.
        horizon_days: who buys nothing for so long has gone.
        model: `logistic` or `boosting`.

    Raises:
        Unavailable: scikit-learn is not installed, or there are too few persons to learn from.
    """
    linear, trees, _, pipeline, scaler, metrics = _sklearn()
    horizon_ms = horizon_days * _DAY_MS
    _, x, y = _examples(bought, now_ms - 2 * horizon_ms, horizon_ms)
    _, x_later, y_later = _examples(bought, now_ms - horizon_ms, horizon_ms)
    if min(len(y), len(y_later)) < _FEWEST_TO_LEARN or len(set(y)) < 2 or len(set(y_later)) < 2:
        raise Unavailable(
            "learn churn", f"{len(y)} persons", "too few, or all alike",
            f"{_FEWEST_TO_LEARN} persons who bought before and {2 * horizon_days} days of history are needed",
        )  # fmt: skip
    learner = (
        trees.GradientBoostingClassifier(random_state=1, n_estimators=80, max_depth=3, subsample=0.8)
        if model == "boosting"
        else linear.LogisticRegression(max_iter=500)
    )
    fitted = pipeline.make_pipeline(scaler.StandardScaler(), learner).fit(x, y)
    said = [float(row[1]) for row in fitted.predict_proba(x_later)]
    rate = fmean(y)
    keys, present, _ = _examples(bought, now_ms, 0)
    now_said = [float(row[1]) for row in fitted.predict_proba(present)] if present else []
    return ChurnReport(
        model=model, horizon_days=horizon_days, learned_from=len(y), tested_on=len(y_later),
        base_rate=round(fmean(y_later), 4), auc=round(float(metrics.roc_auc_score(y_later, said)), 4),
        brier=round(float(metrics.brier_score_loss(y_later, said)), 4),
        brier_base=round(fmean((rate - it) ** 2 for it in y_later), 4), calibration=_bins(said, y_later),
        risks=tuple(sorted(zip(keys, (round(it, 4) for it in now_said), strict=True), key=lambda it: (-it[1], it[0]))),
    )  # fmt: skip


def clusters(bought: dict[str, list[Purchase]], now_ms: int, count: int = 4) -> tuple[Cluster, ...]:
    """K-means over recency, frequency, money and the online share, biggest first; empty for too few persons.

    Raises:
        Unavailable: scikit-learn is not installed.
    """
    _, _, cluster, _, scaler, _ = _sklearn()
    rows = [
        (
            (now_ms - mine[-1].at_ms) / _DAY_MS, float(len(mine)), sum(it.amount for it in mine),
            fmean(it.online for it in mine),
        )
        for mine in bought.values()
    ]  # fmt: skip
    if len(rows) < FEWEST * count:
        return ()
    shaped = [
        (math.log1p(days), math.log1p(times), math.log1p(max(0.0, money)), share) for days, times, money, share in rows
    ]
    labels = cluster.KMeans(count, n_init=5, random_state=1).fit_predict(scaler.StandardScaler().fit_transform(shaped))
    found = []
    for label in range(count):
        mine = [row for row, it in zip(rows, labels, strict=True) if it == label]
        if len(mine) >= FEWEST:
            days, times, money, share = (round(fmean(column), 2) for column in zip(*mine, strict=True))
            found.append(
                Cluster(persons=len(mine), recency_days=days, frequency=times, money=money, online_share=share)
            )
    return tuple(sorted(found, key=lambda it: -it.persons))


def _examples(
    bought: dict[str, list[Purchase]], cut_ms: int, horizon_ms: int
) -> tuple[list[str], list[list[float]], list[int]]:
    """Persons who had bought by a moment, what was known of them then, and whether they stayed away afterwards."""
    keys, x, y = [], [], []
    for key, mine in bought.items():
        known = [it for it in mine if it.at_ms < cut_ms]
        if known:
            keys.append(key)
            x.append(_features(known, cut_ms))
            y.append(int(not any(cut_ms <= it.at_ms < cut_ms + horizon_ms for it in mine)))
    return keys, x, y


def _features(known: Sequence[Purchase], cut_ms: int) -> list[float]:
    days = (cut_ms - known[-1].at_ms) / _DAY_MS
    age = (cut_ms - known[0].at_ms) / _DAY_MS
    gaps = [(b.at_ms - a.at_ms) / _DAY_MS for a, b in pairwise(known)]
    gap = fmean(gaps) if gaps else age
    recent = sum(it.at_ms >= cut_ms - 30 * _DAY_MS for it in known)
    spent = math.log1p(max(0.0, sum(it.amount for it in known)))
    online = fmean(it.online for it in known)
    return [math.log1p(days), math.log1p(len(known)), spent, math.log1p(gap), days / (gap + 1.0), recent, online,
            len(known) / (age + 7.0)]  # fmt: skip


def _bins(said: Sequence[float], true: Sequence[int], count: int = 5) -> tuple[Bin, ...]:
    pairs = sorted(zip(said, true, strict=True))
    size = math.ceil(len(pairs) / count)
    parts = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    return tuple(
        Bin(round(fmean(it[0] for it in part), 3), round(fmean(it[1] for it in part), 3), len(part)) for part in parts
    )


def _cuts(values: Sequence[float]) -> list[float]:
    return quantiles(values, n=5, method="inclusive") if len(values) > 1 else []


def _fifth(value: float, cuts: Sequence[float]) -> int:
    """1 for the lowest fifth … 5; equal values share one."""
    return 1 + sum(value > cut for cut in cuts)


_NAMES: Final = (  # least recency, most recency, least frequency, most frequency, name; the first that fits
    (4, 5, 4, 5, "champions"),
    (3, 5, 3, 5, "loyal"),
    (4, 5, 1, 2, "new"),
    (3, 3, 1, 2, "promising"),
    (1, 2, 4, 5, "at_risk"),
    (1, 2, 2, 3, "sleeping"),
    (1, 2, 1, 1, "lost"),
)


_ORDER: Final = (*(it[4] for it in _NAMES), "other")


def _segment(recency: int, frequency: int, _money: int) -> str:
    return next(
        (name for low, high, least, most, name in _NAMES if low <= recency <= high and least <= frequency <= most),
        "other",
    )


def _sklearn() -> tuple[Any, Any, Any, Any, Any, Any]:
    try:
        from sklearn import cluster, ensemble, linear_model, metrics, pipeline, preprocessing
    except ImportError:
        raise Unavailable(
            "segment", "scikit-learn", "it is not installed", "install storefront-gateway[matching]"
        ) from None
    return linear_model, ensemble, cluster, pipeline, preprocessing, metrics
