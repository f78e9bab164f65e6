"""The coupon desk over a real journal: reserve, confirm, release, and everything a till or a person does wrong."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.settings import PresenceSettings
from gateway.clock import FakeClock, Instant
from gateway.event import Origin
from gateway.intake.normaliser import Normaliser
from gateway.intake.sightings import Sightings
from gateway.journal import cursor
from gateway.shopper import coupon_tables as tables
from gateway.shopper.coupon_clerk import CouponClerk
from gateway.shopper.coupon_messages import LARGEST, Answer, Request, read_request
from gateway.shopper.coupon_token import issue
from gateway.shopper.coupon_words import REASONS
from gateway.shopper.coupons import REFUSALS_A_MINUTE
from gateway.shopper.day_keys import DayKeys
from tests.gateway.shopper.counter import DAY_S, HOME, NOW_S, PLAIN, Counter, counter, coupon


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Counter]:
    with counter(tmp_path) as made:
        yield made


# -- the way of a coupon


def test_reserve_confirm(shop: Counter) -> None:
    """A coupon is held for one till, then redeemed, and the journal tells both with the rule, the face and the use."""
    held = shop.ask("reserve", token=coupon(HOME), transaction="77")
    assert (held.ok, held.reason, held.rule, held.use, held.hold_s) == (True, "reserved", "home", 1, 900)
    assert (held.coupon, held.campaign, held.face, held.currency) == ("H-1", "spring", Decimal("10.00"), "CNY")
    assert shop.ask("reserve", token=coupon(HOME), lane="2").reason == "used_up"
    done = shop.ask("confirm", reservation=held.reservation)
    assert (done.ok, done.reason, done.coupon) == (True, "redeemed", "H-1")
    assert shop.steps() == ["reserved", "refused", "redeemed"]
    data = shop.told()[2][1]
    assert data["face_value"] == "10.00" and data["channel"] == "app" and data["transaction_id"] == "77"
    assert (data["use"], data["uses"], data["rule"], data["lane"]) == (1, 1, "home", "1")


def test_a_number_of_a_person_in_place_of_a_receipts_is_not_kept(tmp_path: Path) -> None:
    """Neither told nor written, whichever question brings it; a repetition on the next day stays the same question."""
    origin = Origin("t1", "0042", "gw01")
    keys = DayKeys(tmp_path / "keys", "Asia/Shanghai")
    normaliser = Normaliser(origin, Sightings(origin, PresenceSettings()), keys)
    phone = "13800138000"
    with counter(tmp_path, clean=normaliser.name) as shop:
        held = shop.ask("reserve", token=coupon(HOME), transaction=phone, number="n1")
        assert shop.ask("reserve", token="none", transaction=f"T {phone}").reason != "reserved"
        shop.clock.advance(600.0)
        done = shop.ask("confirm", reservation=held.reservation, transaction=phone)
        assert done.ok
        names = [data["transaction_id"] for _, data in shop.told()]
        assert names[0] == names[2] and all("phone-" in name for name in names)
        shop.clock.advance(80_000.0)
        assert shop.ask("reserve", token=coupon(HOME), transaction=phone, number="n1") == held
    for file in tmp_path.glob("*.db*"):
        assert phone.encode() not in file.read_bytes()


def test_without_a_key_for_a_number_of_a_person_the_till_goes_on(tmp_path: Path) -> None:
    """The disk does not let a key be kept: no answer that would need one, and no error that a till could not read."""

    def unable(text: str, at: Instant) -> str:
        raise OSError

    with counter(tmp_path, clean=unable) as shop:
        assert shop.ask("reserve", token=coupon(HOME), transaction="1").reason == "unavailable"
        assert shop.ask("reserve", token=coupon(HOME)).ok


def test_check_changes_nothing(shop: Counter) -> None:
    """Asking whether a coupon is good takes no use and journals nothing."""
    for _ in range(3):
        assert shop.ask("check", token=coupon(HOME)).reason == "valid"
    assert shop.ask("reserve", token=coupon(HOME)).ok and shop.ask("check", token=coupon(HOME)).reason == "used_up"
    assert shop.steps() == ["reserved"]


def test_release_makes_room(shop: Counter) -> None:
    """What is given back may be used again, by anybody; giving back twice is no mistake."""
    held = shop.ask("reserve", token=coupon(HOME))
    assert [shop.ask("release", reservation=held.reservation).reason for _ in range(2)] == ["released"] * 2
    assert shop.ask("reserve", token=coupon(HOME), lane="2").ok
    assert shop.ask("confirm", reservation=held.reservation).reason == "was_released"
    assert shop.steps() == ["reserved", "released", "reserved"]


def test_a_void_undoes_a_redemption(shop: Counter) -> None:
    """A redeemed coupon comes back only when the till says that the sale was undone."""
    held = shop.ask("reserve", token=coupon(HOME))
    shop.ask("confirm", reservation=held.reservation)
    assert shop.ask("release", reservation=held.reservation).reason == "already_redeemed"
    assert shop.ask("release", reservation=held.reservation, void=True).reason == "released"
    assert shop.ask("check", token=coupon(HOME)).reason == "valid"


def test_a_hold_lapses(shop: Counter) -> None:
    """After its time a hold ends by itself, counted in running time, and another till may have the coupon."""
    shop.ask("reserve", token=coupon(HOME))
    shop.clock.advance(890)
    shop.tend(1)
    assert shop.ask("check", token=coupon(HOME)).reason == "used_up"
    shop.clock.step(-100_000)
    shop.clock.advance(20)
    shop.tend()
    shop.clock.step(100_000)
    assert shop.ask("check", token=coupon(HOME)).reason == "valid"
    assert shop.told()[-1][1]["reason"] == "time_out"


def test_a_late_confirm_is_honoured_while_a_use_is_left(shop: Counter) -> None:
    """The shopper has the discount already: a hold that lapsed is redeemed, unless another till has taken the use."""
    first = shop.ask("reserve", token=coupon(HOME))
    second = shop.ask("reserve", token=coupon(HOME, id="H-2"))
    shop.clock.advance(901)
    shop.tend()
    other = shop.ask("reserve", token=coupon(HOME, id="H-2"), lane="2")
    assert shop.ask("confirm", reservation=first.reservation).note == "late"
    assert shop.ask("confirm", reservation=second.reservation).reason == "used_up"
    assert shop.ask("confirm", reservation=other.reservation, lane="2").ok
    shop.tend()
    assert shop.desk.figures().doubled == 1


def test_uses_are_counted(shop: Counter) -> None:
    """A coupon of three uses has exactly the uses 1, 2 and 3."""
    token = coupon(HOME, uses=3)
    said = [shop.ask("reserve", token=token) for _ in range(5)]
    assert [answer.use for answer in said if answer.ok] == [1, 2, 3]
    assert [answer.reason for answer in said[3:]] == ["used_up"] * 2
    shop.ask("release", reservation=said[1].reservation)
    assert shop.ask("reserve", token=token).use == 2


# -- the same question again


def test_a_repeated_request_gets_the_same_answer(shop: Counter) -> None:
    """An answer that was lost on its way is given again, word for word, and nothing happens twice."""
    fields = {"token": coupon(HOME), "number": "n1"}
    first = shop.ask("reserve", **fields)
    shop.clock.advance(5)
    assert shop.ask("reserve", **fields) == first
    confirm = shop.ask("confirm", reservation=first.reservation, number="n2")
    assert shop.ask("confirm", reservation=first.reservation, number="n2") == confirm
    assert shop.ask("reserve", token=coupon(HOME), number="n3").reason == "used_up"
    assert shop.steps() == ["reserved", "redeemed", "refused"]


def test_a_number_belongs_to_one_question(shop: Counter) -> None:
    """The same number with another content is refused; another till may use the number for its own."""
    shop.ask("reserve", token=coupon(HOME), number="n1")
    assert shop.ask("reserve", token=coupon(HOME, id="H-2"), number="n1").reason == "request_reused"
    assert shop.ask("reserve", token=coupon(HOME, id="H-2"), number="n1", lane="2").ok


def test_answers_outlive_the_process(tmp_path: Path) -> None:
    """After a restart the till that repeats its question hears what it should have heard before."""
    with counter(tmp_path) as shop:
        first = shop.ask("reserve", token=coupon(HOME), number="n1")
    with counter(tmp_path, shop.clock) as shop:
        assert shop.ask("reserve", token=coupon(HOME), number="n1") == first
        assert shop.ask("confirm", reservation=first.reservation).ok


# -- bad input: one test each, each with its reason


def forged(**changes: Any) -> str:
    return issue(msgspec.structs.replace(HOME, **changes), Ed25519PrivateKey.generate())


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        pytest.param(forged(), "bad_signature", id="forged"),
        pytest.param(forged(key="k9"), "unknown_key", id="unknown issuer"),
        pytest.param(coupon(HOME)[:-9] + "AAAAAAAAA", "bad_signature", id="tampered"),
        pytest.param(coupon(HOME, not_before_s=1, expires_s=NOW_S), "expired", id="expired"),
        pytest.param(coupon(HOME, not_before_s=NOW_S + 60), "too_early", id="early"),
        pytest.param(coupon(HOME, stores=("0007",)), "other_store", id="foreign store"),
        pytest.param(coupon(home="0007"), "other_home", id="foreign home"),
        pytest.param(coupon(lease="0007"), "lent_elsewhere", id="lent elsewhere"),
        pytest.param(coupon(HOME, currency="EUR"), "other_currency", id="other currency"),
        pytest.param("SFC1" + "A" * 1000, "too_long", id="oversized"),
        pytest.param("SFC2" + coupon(HOME)[4:], "unknown_version", id="later version"),
        pytest.param("4006381333931", "malformed", id="a barcode"),
        pytest.param("SFC1' OR 1=1 --", "malformed", id="injection"),
        pytest.param("优惠券\x00\ud7ff", "malformed", id="not ASCII"),
    ],
)  # fmt: skip
def test_a_bad_coupon_is_refused_with_its_reason(shop: Counter, token: str, reason: str) -> None:
    """Check and reserve say the same reason, in both languages; nothing is held; a refusal is an event."""
    assert shop.ask("check", token=token).reason == reason
    refused = shop.ask("reserve", token=token)
    assert (refused.ok, refused.reason, refused.retry) == (False, reason, False)
    assert refused.text.zh == REASONS[reason].zh and refused.text.en == REASONS[reason].en
    assert [(step, data["reason"]) for step, data in shop.told()] == [("refused", reason)]
    assert token not in str(shop.told())


def test_a_replayed_coupon_is_used_up(shop: Counter) -> None:
    """A photograph of a redeemed coupon is worth nothing, at any till, by any name of the request."""
    held = shop.ask("reserve", token=coupon(HOME))
    shop.ask("confirm", reservation=held.reservation)
    assert {shop.ask("reserve", token=coupon(HOME), lane=lane).reason for lane in "123"} == {"used_up"}


def test_a_coupon_issued_twice_is_one_coupon(shop: Counter) -> None:
    """Its id is what is used up: a second token for the same id, even with other dates, changes nothing."""
    assert shop.ask("reserve", token=coupon(HOME)).ok
    assert shop.ask("reserve", token=coupon(HOME, expires_s=NOW_S + 2 * DAY_S, face=Decimal(99))).reason == "used_up"


def test_a_revoked_coupon(shop: Counter) -> None:
    """A coupon, a campaign or an issuer's key that was withdrawn is refused from then on; what is held stays held."""
    held = shop.ask("reserve", token=coupon(HOME, id="H-0"))

    def revoke(connection: Any) -> tuple[None, tuple[()]]:
        tables.revoke(connection, "coupon", ["H-0", "H-1"])
        tables.revoke(connection, "campaign", ["autumn"])
        return None, ()

    shop.commits.record(revoke)
    assert shop.ask("reserve", token=coupon(HOME)).reason == "revoked"
    assert shop.ask("reserve", token=coupon(HOME, id="H-2", campaign="autumn")).reason == "revoked"
    assert shop.ask("confirm", reservation=held.reservation).ok


def test_another_tills_reservation(shop: Counter) -> None:
    """A till can neither redeem nor give back what another one holds, nor what nobody holds."""
    held = shop.ask("reserve", token=coupon(HOME))
    for operation in ("confirm", "release"):
        assert shop.ask(operation, reservation=held.reservation, lane="2").reason == "other_till"
        assert shop.ask(operation, reservation="0" * 24).reason == "unknown_reservation"


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"request":"r1"}', b'{"request":"","operation":"check","token":"x"}',
        b'{"request":"r1","operation":"steal","token":"x"}', b'{"request":"r1","operation":"reserve"}',
        b'{"request":"r1","operation":"confirm"}', b'{"request":"r 1","operation":"check","token":"x"}',
        b'{"request":"r1","operation":"check","token":"x","v":2}',
        b'{"request":"r1","operation":"check","token":"x","currency":"yuan"}', b"[" * 5000,
        b'{"request":"r1","operation":"check","token":"' + b"x" * LARGEST + b'"}',
        b'{"request":7,"operation":"check","token":"x"}',
    ],
)  # fmt: skip
def test_what_is_no_request_is_answered(payload: bytes) -> None:
    """A till with a mistake in it hears so, with its own number where that can be read, and without its text."""
    said = read_request(payload)
    assert isinstance(said, Answer) and said.reason == "bad_request" and not said.retry
    assert said.request in ("", "r1")


def test_the_address_may_say_the_operation() -> None:
    """Over HTTP the body need not repeat it, and may not contradict it."""
    body = b'{"request":"r1","token":"x"}'
    assert isinstance(read_request(body, "check"), Request)
    told = read_request(b'{"request":"r1","token":"x","operation":"reserve"}', "check")
    assert isinstance(told, Answer) and told.reason == "bad_request"


# -- the shop's own risk


def test_optimistic_once_and_up_to_the_sum(tmp_path: Path) -> None:
    """One use of a coupon, and so much money altogether; the sum is what the page shows, and never above the limit."""
    with counter(tmp_path, at_risk=Decimal(25)) as shop:
        first = shop.ask("reserve", token=coupon(uses=5))
        assert (first.ok, first.rule) == (True, "optimistic")
        assert shop.ask("reserve", token=coupon(uses=5)).reason == "coupon_limit"
        assert shop.ask("reserve", token=coupon(id="C-2")).ok
        assert shop.ask("reserve", token=coupon(id="C-3")).reason == "store_limit"
        assert shop.ask("reserve", token=coupon(HOME)).ok
        shop.tend()
        figures = shop.desk.figures()
        assert (figures.at_risk, figures.at_risk_limit, figures.held) == (Decimal(20), Decimal(25), 3)
        shop.ask("release", reservation=first.reservation)
        assert shop.ask("reserve", token=coupon(id="C-3")).ok


def test_what_the_platform_has_heard_is_no_risk(tmp_path: Path) -> None:
    """When the redemption's event is delivered, its money makes room for another; what is only held does not."""
    with counter(tmp_path, at_risk=Decimal(20)) as shop:
        held = [shop.ask("reserve", token=coupon(id=f"C-{number}")) for number in (1, 2)]
        assert shop.ask("reserve", token=coupon(id="C-3")).reason == "store_limit"
        shop.ask("confirm", reservation=held[0].reservation)
        head = shop.commits._writer.head("transactions")
        assert shop.told()[-1][0] == "redeemed"

        def deliver(through: int) -> None:
            shop.commits.submit(
                lambda connection: cursor.acknowledge(connection, "transactions", through, {}, now_ms=0)
            )
            shop.tend()

        deliver(head - 1)
        assert shop.ask("reserve", token=coupon(id="C-3")).reason == "store_limit"
        deliver(head)
        assert shop.desk.figures().at_risk == Decimal(10)
        assert shop.ask("reserve", token=coupon(id="C-3")).ok


def test_a_lease_is_so_many_units(shop: Counter) -> None:
    """Units of a campaign are lent until a time: so many coupons of it are honoured by the lease, the next is not."""
    lease = tables.Lease(lease="L1", campaign="spring", units=2, until_s=NOW_S + 1000)
    shop.commits.record(lambda connection: (tables.put_lease(connection, lease), ()))
    said = [shop.ask("reserve", token=coupon(id=f"C-{number}", home="0007")) for number in range(3)]
    assert [answer.rule for answer in said] == ["lease", "lease", None] and said[2].reason == "other_home"
    shop.ask("release", reservation=said[0].reservation)
    assert shop.ask("reserve", token=coupon(id="C-9")).rule == "lease"
    shop.clock.advance(1001)
    assert shop.ask("reserve", token=coupon(id="C-8", home="0007")).reason == "other_home"


def test_a_lease_of_one_coupon(shop: Counter) -> None:
    """A coupon that was lent by its id is honoured, others of its campaign are not."""
    lease = tables.Lease(lease="L1", coupon="C-1", until_s=NOW_S + 1000)
    shop.commits.record(lambda connection: (tables.put_lease(connection, lease), ()))
    assert shop.ask("reserve", token=coupon(home="0007")).rule == "lease"
    assert shop.ask("reserve", token=coupon(id="C-2", home="0007")).reason == "other_home"


@pytest.mark.parametrize(
    ("wall_s", "reason"),
    [
        pytest.param(NOW_S, "reserved", id="seems right"),
        pytest.param(0, "reserved", id="was never set: the last certain time counts"),
        pytest.param(NOW_S + 5 * DAY_S, "clock_unsynced", id="seems expired"),
    ],
)
def test_a_clock_that_is_not_set(tmp_path: Path, wall_s: int, reason: str) -> None:
    """Coupons go on while the clock is a guess, at the shop's own bounded risk; a doubtful one is refused for that."""
    clock = FakeClock(float(NOW_S))
    with counter(tmp_path, clock) as shop:
        assert shop.ask("check", token=coupon(HOME)).note == ""
        clock.quality, clock.wall_s = "unsynced", float(wall_s)
        said = shop.ask("reserve", token=coupon(HOME))
        assert said.reason == reason and said.note == ("clock_unsynced" if said.ok else "")
        assert shop.told()[0][1]["reason"] == "clock_unsynced"


def test_an_expiry_that_is_certain_needs_no_clock(tmp_path: Path) -> None:
    """A coupon that had expired when the clock was last right stays expired, however far back it falls."""
    clock = FakeClock(float(NOW_S))
    with counter(tmp_path, clock) as shop:
        clock.advance(2 * DAY_S)
        shop.ask("check", token=coupon(HOME))
    clock.quality, clock.wall_s = "unsynced", float(NOW_S)
    with counter(tmp_path, clock) as shop:
        assert shop.ask("check", token=coupon(HOME)).reason == "expired"


# -- sales


@pytest.mark.parametrize("whole", [False, True], ids=["by id", "by token"])
def test_a_sale_redeems_what_is_held(shop: Counter, whole: bool) -> None:
    """The till's receipt names the coupon: that confirms it, and the confirmation that follows changes nothing."""
    held = shop.ask("reserve", token=coupon(HOME))
    shop.sell("0042-1-2026-11-22-7", coupon(HOME) if whole else "H-1")
    assert shop.steps() == ["reserved", "redeemed"]
    assert shop.told()[1][1]["transaction_id"] == "0042-1-2026-11-22-7"
    assert shop.ask("confirm", reservation=held.reservation, transaction="7").reason == "redeemed"
    assert shop.steps() == ["reserved", "redeemed"]


def test_a_sale_after_the_confirmation_is_the_same_use(shop: Counter) -> None:
    """Confirmed first and told by the receipt later, also as a discount's coupon: one use."""
    held = shop.ask("reserve", token=coupon(HOME, uses=2))
    shop.ask("confirm", reservation=held.reservation)
    shop.sell("T-7", "H-1")
    assert shop.steps() == ["reserved", "redeemed"]
    shop.tend()
    assert shop.desk.figures().redeemed == 1


def test_a_sale_without_a_hold_is_redeemed_afterwards(shop: Counter) -> None:
    """A till that could not ask has given the discount: a verified token takes its use, or is a double."""
    shop.sell("T-1", coupon(HOME))
    shop.sell("T-2", coupon(HOME))
    assert [(step, data.get("reason")) for step, data in shop.told()] == [
        ("redeemed", "after_sale"), ("refused", "used_up")
    ]  # fmt: skip
    shop.tend()
    assert shop.desk.figures().doubled == 1
    assert shop.ask("check", token=coupon(HOME)).reason == "used_up"


def test_a_sale_with_a_lapsed_hold(shop: Counter) -> None:
    """The receipt comes after the hold has ended: the use is taken again."""
    shop.ask("reserve", token=coupon(HOME))
    shop.clock.advance(1000)
    shop.tend()
    shop.sell("T-1", "H-1")
    assert shop.steps() == ["reserved", "released", "redeemed"]


def test_coupons_of_others_in_a_sale_are_not_ours(shop: Counter) -> None:
    """A manufacturer's coupon number means nothing to the book; a forged token is told."""
    shop.sell("T-1", "9506000134352001", forged())
    assert [(step, data["reason"]) for step, data in shop.told()] == [("refused", "bad_signature")]


def test_a_void_gives_the_coupon_back_once(shop: Counter) -> None:
    """The sale is voided by its own number: the coupon is free again; the same void told twice frees nothing more."""
    shop.ask("reserve", token=coupon(HOME))
    shop.sell("T-1", "H-1")
    shop.sell("T-1", "H-1", kind="void")
    assert shop.ask("reserve", token=coupon(HOME), lane="2").ok
    shop.sell("T-3", "H-1", lane="2")
    shop.sell("T-1", "H-1", kind="void")
    assert shop.steps() == ["reserved", "redeemed", "released", "reserved", "redeemed"]


@pytest.mark.parametrize("restore", [False, True])
def test_a_return_gives_the_coupon_back_where_the_shop_says_so(tmp_path: Path, restore: bool) -> None:
    """Goods that come back do not bring the coupon back, unless the setting says that they do."""
    with counter(tmp_path, restore_on_return=restore) as shop:
        shop.ask("reserve", token=coupon(HOME))
        shop.sell("T-1", "H-1")
        shop.sell("T-2", "H-1", kind="return")
        assert shop.ask("check", token=coupon(HOME)).reason == ("valid" if restore else "used_up")


def test_a_coupon_of_several_uses_twice_in_one_sale(shop: Counter) -> None:
    """Named twice on one receipt is two uses."""
    shop.sell("T-1", coupon(HOME, uses=3), coupon(HOME, uses=3))
    assert [data["use"] for _, data in shop.told()] == [1, 2]


# -- trouble


def test_a_full_journal_decides_nothing(tmp_path: Path) -> None:
    """Without room the till is told to ask again, and no coupon is half taken."""
    with counter(tmp_path, max_bytes=300 * 1024) as shop:
        said = [shop.ask("reserve", token=coupon(HOME, id=f"H-{number}")) for number in range(400)]
        assert said[-1].reason == "unavailable" and said[-1].retry and not said[-1].ok
        assert sum(answer.ok for answer in said) == len(shop.told()) > 50


def test_before_the_journal_is_open_there_is_an_answer(tmp_path: Path) -> None:
    """While the gateway starts, a till hears at once that it is too early."""
    shop = Counter(tmp_path)
    assert shop.send("reserve", token=coupon(HOME)).result(0).reason == "unavailable"
    shop.open()
    future = shop.send("reserve", token=coupon(HOME))
    shop.close()
    assert future.result(0).reason in ("reserved", "unavailable")
    assert shop.send("reserve", token=coupon(HOME)).result(0).reason == "unavailable"


def test_too_many_at_once(shop: Counter) -> None:
    """Questions that nobody comes to answer are bounded: the till is told to try again."""
    said = [shop.send("reserve", token=coupon(HOME, id=f"H-{number}")) for number in range(600)]
    busy = [future.result(0).reason for future in said if future.done()]
    assert busy == ["busy"] * 88
    shop.commits._run_jobs()
    assert sum(future.result(0).ok for future in said) == 512


def test_a_till_that_is_refused_for_ever_does_not_fill_the_journal(shop: Counter) -> None:
    """A broken till is answered every time, but only so many refusals a minute are kept; others are not hurt."""
    said = [shop.ask("reserve", token="x", lane="7") for _ in range(200)]
    assert {answer.reason for answer in said} == {"malformed"} and len(shop.told()) == REFUSALS_A_MINUTE
    assert shop.ask("reserve", token=coupon(HOME), lane="7").ok
    shop.ask("reserve", token="x", lane="8")
    assert shop.told()[-1][1]["lane"] == "8"
    shop.clock.advance(61)
    shop.ask("reserve", token="x", lane="7")
    assert shop.told()[-1][1]["lane"] == "7"


def test_a_till_that_holds_and_lets_go_for_ever_slows_no_answer(shop: Counter) -> None:
    """Of one coupon only so many ends are kept, the newest: the writing thread reads them for every question."""
    for number in range(tables.ENDED_OF_ONE + 50):
        held = shop.ask("reserve", token=coupon(HOME), lane=str(number // 50))
        last = shop.ask("release", reservation=held.reservation, lane=str(number // 50))
        assert held.ok and last.ok
    rows = shop.commits.submit(lambda connection: tables.uses_of(connection, "H-1"))
    shop.commits._run_jobs()
    assert len(rows.result(0)) == tables.ENDED_OF_ONE and rows.result(0)[-1].reservation == last.reservation


@pytest.mark.parametrize(
    "question",
    [
        "SELECT 1 FROM coupon_use WHERE lease = 'L' AND state IN ('held', 'redeemed') AND ('' = '' OR coupon = 'c')",
        "SELECT lease FROM coupon_lease WHERE until_s > 1 AND (coupon = 'c' OR (coupon = '' AND campaign = 'p'))",
    ],
)
def test_many_leases_slow_no_answer(shop: Counter, question: str) -> None:
    """A shop may be lent a hundred thousand coupons: none of the desk's questions walks over all of them."""
    plan = shop.commits.submit(
        lambda connection: [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {question}")]
    )
    shop.commits._run_jobs()
    assert not [step for step in plan.result(0) if step.startswith("SCAN")]


def test_a_clock_that_was_a_year_ahead_redeems_nothing_twice(shop: Counter) -> None:
    """The book forgets what has long expired, but not because a time server was wrong for some hours."""
    token = coupon(HOME, id="H-Y", expires_s=NOW_S + 200 * DAY_S)
    held = shop.ask("reserve", token=token)
    assert shop.ask("confirm", reservation=held.reservation).ok
    shop.clock.wall_s += 365 * DAY_S
    shop.ask("check", token=token)
    for _ in range(5):
        shop.clock.advance(3601)
        shop.tend()
    shop.clock.wall_s = float(NOW_S) + DAY_S
    for _ in range(3):
        shop.clock.advance(3601)
        shop.tend()
    assert shop.ask("reserve", token=token).reason == "used_up"
    shop.clock.quality = "unsynced"
    assert shop.ask("reserve", token=coupon(HOME, id="H-Z", expires_s=NOW_S + 30 * DAY_S)).ok


def test_a_long_past_is_read_in_pieces(shop: Counter) -> None:
    """A clerk that finds a journal full of events comes back from every step, and the desk opens when it is through."""
    for number in range(1200):
        shop.ask("reserve", token=coupon(HOME, id=f"H-{number}"), lane=str(number // 50))
    shop.commits.submit(lambda connection: connection.execute("DELETE FROM coupon_fact"))
    shop.desk.ready = False
    shop.clerk.close()
    shop.clerk = CouponClerk(shop.desk, shop.path)
    shop.tend(3)
    assert not shop.desk.ready
    shop.tend(4)
    assert shop.desk.ready and shop.ask("check", token=coupon(HOME, id="H-1199")).reason == "used_up"


def test_the_book_is_made_good_from_the_journal(tmp_path: Path) -> None:
    """With the book's tables gone, what was redeemed stays redeemed and what was held can still be confirmed."""
    with counter(tmp_path) as shop:
        held = [shop.ask("reserve", token=coupon(HOME, id=f"H-{number}")) for number in range(3)]
        shop.ask("confirm", reservation=held[0].reservation)
        shop.ask("release", reservation=held[2].reservation)

        def lose(connection: Any) -> None:
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE name LIKE 'coupon!_%' ESCAPE '!' AND type = 'table'"
            ).fetchall():
                connection.execute(f"DROP TABLE {name}")

        shop.commits.submit(lose)
        shop.commits._run_jobs()
    with counter(tmp_path, shop.clock) as shop:
        assert shop.ask("check", token=coupon(HOME, id="H-0")).reason == "used_up"
        assert shop.ask("confirm", reservation=held[1].reservation).ok
        assert shop.ask("check", token=coupon(HOME, id="H-2")).reason == "valid"
        shop.sell("T-1", "H-1")
        assert shop.steps().count("redeemed") == 2


def test_every_reason_has_its_words() -> None:
    """Both languages, short enough for a till's display, and no shopper is blamed."""
    for reason, said in REASONS.items():
        assert 0 < len(said.zh) <= 30 and 0 < len(said.en) <= 80, reason


def test_figures_are_of_the_shop(shop: Counter) -> None:
    """Before anything happened the figures say so, with the limit that holds."""
    figures = shop.desk.figures()
    assert (figures.at_risk, figures.at_risk_limit, figures.currency) == (Decimal(0), Decimal(1000), "CNY")
    shop.ask("reserve", token=coupon())
    shop.ask("reserve", token="x")
    assert (shop.desk.figures().answered, shop.desk.figures().refused) == (2, 1)
    assert PLAIN.face == Decimal(10)
