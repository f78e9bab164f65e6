"""Accounts: easy PINs are refused, five tries lock, and locks hold over restarts, clock steps and a full table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import pins
from gateway.access.accounts import LOCK_S, TRIES, Accounts, network
from gateway.clock import FakeClock
from gateway.errors import Rejected, Unavailable

GOOD, HERE = "482915", "192.168.1.20"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def accounts(tmp_path: Path, clock: FakeClock) -> Accounts:
    made = Accounts(tmp_path, clock)
    made.add("Ann", "manager", GOOD)
    return made


def wrong(accounts: Accounts, times: int, address: str = HERE) -> None:
    for _ in range(times):
        assert accounts.try_pin("Ann", "000001", address).account is None


@pytest.mark.parametrize(
    "pin",
    [
        "", "12345", "123456", "654321", "012345", "111111", "121212", "123123", "112112", "520520", "5201314",
        "112233", "987654321", "１２３４５６", "short", "aaaaaaaaaaaa", "abababababab", " 482915"[:6],
    ],
)  # fmt: skip
def test_an_easy_pin_is_refused(pin: str) -> None:
    assert pins.weakness(pin)


@pytest.mark.parametrize("pin", [GOOD, "70418256", "correct horse battery", "我们的店在海边很漂亮啊"])
def test_a_good_pin_is_taken_and_matches_only_itself(pin: str) -> None:
    assert pins.weakness(pin) == ""
    kept = pins.hashed(pin)
    assert kept.startswith("$argon2id$") and pin not in kept
    assert pins.matches(kept, f" {pin} ") and not pins.matches(kept, pin + "1") and not pins.matches("", pin)


@given(st.text(max_size=400))
def test_any_text_is_judged_and_a_code_survives_any_typing(text: str) -> None:
    assert pins.weakness(text) in ("", "short", "long", "obvious")
    assert set(pins.normal_code(text)) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def test_five_wrong_tries_lock_the_account_for_a_quarter_of_an_hour_even_for_the_right_pin(
    accounts: Accounts, clock: FakeClock
) -> None:
    for number in range(1, TRIES + 1):
        verdict = accounts.try_pin("Ann", "000001", f"10.0.0.{number}")
        assert (verdict.reason, verdict.locks) == ("wrong", number == TRIES)
    verdict = accounts.try_pin("ann", GOOD, "10.0.0.99")
    assert verdict.reason == "locked" and verdict.wait_s == pytest.approx(LOCK_S)
    clock.advance(LOCK_S - 1)
    assert accounts.try_pin("Ann", GOOD, "10.0.0.99").reason == "locked"
    clock.advance(1)
    found = accounts.try_pin("Ann", GOOD, "10.0.0.99").account
    assert found is not None and found.name == "Ann"


def test_five_wrong_tries_at_any_names_lock_the_address(accounts: Accounts) -> None:
    accounts.add("Bo", "staff", "771938")
    for name in ("Ann", "Bo", "nobody", "somebody", "482915"):
        accounts.try_pin(name, "000001", HERE)
    assert accounts.try_pin("Bo", "771938", HERE).reason == "locked"
    assert accounts.try_pin("Bo", "771938", "192.168.1.21").account is not None


def test_a_lock_outlives_a_restart_and_a_try_counts_before_it_is_looked_at(
    accounts: Accounts, tmp_path: Path, clock: FakeClock
) -> None:
    wrong(accounts, TRIES)
    clock.advance(60)
    again = Accounts(tmp_path, clock)
    assert again.try_pin("Ann", GOOD, "10.0.0.1").wait_s == pytest.approx(LOCK_S - 60, abs=1)


def test_a_step_of_the_wall_clock_opens_no_lock_and_prolongs_none(
    accounts: Accounts, tmp_path: Path, clock: FakeClock
) -> None:
    wrong(accounts, TRIES)
    clock.step(7200)
    assert accounts.locked_s("Ann") == pytest.approx(LOCK_S)
    clock.step(-30 * 86_400)
    assert accounts.locked_s("Ann") == pytest.approx(LOCK_S)
    restarted = Accounts(tmp_path, clock)  # the file says: locked in the future
    assert restarted.locked_s("Ann") == pytest.approx(LOCK_S)
    clock.advance(LOCK_S)
    assert restarted.locked_s("Ann") == accounts.locked_s("Ann") == 0.0


def test_a_success_forgets_the_tries_before_it(accounts: Accounts) -> None:
    for _ in range(3):
        wrong(accounts, TRIES - 1)
        assert accounts.try_pin("Ann", GOOD, HERE).account is not None


def test_a_flood_of_addresses_neither_grows_the_file_nor_lifts_a_lock(
    accounts: Accounts, tmp_path: Path, clock: FakeClock
) -> None:
    accounts = Accounts(tmp_path, clock, most_attempts=8)
    wrong(accounts, TRIES)
    for number in range(16):
        accounts.try_pin("nobody", "x", f"10.0.1.{number}")
    assert len(accounts.book().attempts) <= 8 and accounts.locked_s("Ann") > 0


def test_an_ipv6_visitor_is_its_network_and_a_mapped_one_its_ipv4_address() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
    assert network("::ffff:10.0.0.1") == "10.0.0.1" and network("fe80::1%eth0") == network("fe80::2")
    assert network("no address") == "unknown"


def test_the_set_up_code_works_once_and_only_the_newest_one(tmp_path: Path, clock: FakeClock) -> None:
    accounts = Accounts(tmp_path, clock)
    old, code = accounts.new_setup_code(), accounts.new_setup_code()
    assert accounts.found(old, "Ann", GOOD, HERE).reason == "wrong"
    with pytest.raises(Rejected):
        accounts.found(code, "Ann", "123456", HERE)
    verdict = accounts.found(code.lower().replace("-", " "), "Ann", GOOD, HERE)
    assert verdict.account is not None and verdict.account.role == "manager" and accounts.set_up
    assert accounts.found(code, "Eve", GOOD, HERE).reason == "wrong"
    with pytest.raises(Rejected, match="set up already"):
        accounts.new_setup_code()


def test_guessing_the_set_up_code_is_locked_out_too(tmp_path: Path, clock: FakeClock) -> None:
    accounts = Accounts(tmp_path, clock)
    code = accounts.new_setup_code()
    for number in range(TRIES):
        accounts.try_code("0000-0000", f"10.0.0.{number}")
    assert accounts.found(code, "Ann", GOOD, "10.0.0.77").reason == "locked"


def test_the_last_manager_stays_and_names_are_one_whatever_their_letters_case(accounts: Accounts) -> None:
    for act in (lambda: accounts.remove("Ann"), lambda: accounts.set_role("Ann", "staff")):
        with pytest.raises(Rejected, match="last"):
            act()
    for name in ("ANN", "ann", "a\nb", "", "<b>", "x" * 40):
        with pytest.raises(Rejected):
            accounts.add(name, "staff", "771938")
    accounts.add("王芳", "manager", "771938")
    accounts.remove("Ann")
    assert [account.name for account in accounts.book().accounts] == ["王芳"]


def test_the_file_is_the_gateways_alone_and_a_damaged_one_lets_nobody_in(accounts: Accounts, tmp_path: Path) -> None:
    file = tmp_path / "keys" / "accounts.json"
    assert file.stat().st_mode & 0o777 == 0o600 and GOOD not in file.read_text()
    file.chmod(0o644)
    with pytest.raises(Unavailable, match="others"):
        Accounts(tmp_path, FakeClock()).book()
    file.chmod(0o600)
    file.write_text("{")
    fresh = Accounts(tmp_path, FakeClock())
    with pytest.raises(Unavailable):
        fresh.try_pin("Ann", GOOD, HERE)
    with pytest.raises(Unavailable):
        fresh.new_setup_code()


def test_hashing_on_any_thread_leaves_no_memory_behind() -> None:
    process = psutil.Process()
    with ThreadPoolExecutor(2) as pool:
        kept = pool.submit(pins.hashed, GOOD).result()
        before = process.memory_info().rss
        assert all(pool.map(lambda _: pins.matches(kept, GOOD), range(6)))
        assert process.memory_info().rss - before < 8 << 20
