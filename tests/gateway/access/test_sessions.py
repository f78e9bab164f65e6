"""Sessions end by idleness, by age, by any change of their account, and when revoked; there are never too many."""

from __future__ import annotations

from pathlib import Path

from gateway.access.accounts import Accounts
from gateway.access.sessions import IDLE_S, LONGEST_S, MOST_EACH, Sessions, form_token
from gateway.clock import FakeClock


def made(tmp_path: Path) -> tuple[Accounts, Sessions, FakeClock]:
    clock = FakeClock()
    accounts = Accounts(tmp_path, clock)
    accounts.add("Ann", "manager", "482915")
    return accounts, Sessions(accounts, clock), clock


def test_a_session_ends_when_idle_but_a_page_that_refreshes_itself_keeps_none_alive(tmp_path: Path) -> None:
    accounts, sessions, clock = made(tmp_path)
    token = sessions.begin(accounts.book().accounts[0])
    clock.advance(IDLE_S - 1)
    assert sessions.find(token, touch=False) is not None
    clock.advance(1)
    assert sessions.find(token) is None and sessions.all() == []


def test_a_session_ends_after_eight_hours_of_work(tmp_path: Path) -> None:
    accounts, sessions, clock = made(tmp_path)
    token = sessions.begin(accounts.book().accounts[0])
    for _ in range(int(LONGEST_S / 600) - 1):
        clock.advance(600)
        clock.step(-86_400)  # the wall clock has no say
        assert sessions.find(token) is not None
    clock.advance(600)
    assert sessions.find(token) is None


def test_another_pin_another_role_or_a_removal_ends_the_accounts_sessions(tmp_path: Path) -> None:
    accounts, sessions, _ = made(tmp_path)
    accounts.add("Bo", "staff", "771938")
    for change in (
        lambda: accounts.set_pin("Bo", "662840"), lambda: accounts.set_role("Bo", "manager"),
        lambda: accounts.remove("Bo"),
    ):  # fmt: skip
        account = accounts.book().account("Bo")
        assert account is not None
        token = sessions.begin(account)
        assert sessions.find(token) is not None
        change()
        assert sessions.find(token) is None
    accounts.add("Bo", "staff", "771938")
    assert sessions.find(token) is None  # one who comes back is not who was


def test_tokens_are_long_and_never_kept_and_forged_ones_open_nothing(tmp_path: Path) -> None:
    accounts, sessions, _ = made(tmp_path)
    token = sessions.begin(accounts.book().accounts[0])
    assert len(token) >= 43 and token not in repr(vars(sessions)) and form_token(token) != token
    session = sessions.all()[0]
    for forged in ("", session.key, token[:-1], token + "A", "é" * 40, "\udc80", "A" * 5000):
        assert sessions.find(forged) is None


def test_the_oldest_sessions_make_room_and_a_revoked_one_is_over(tmp_path: Path) -> None:
    accounts, sessions, _ = made(tmp_path)
    tokens = [sessions.begin(accounts.book().accounts[0]) for _ in range(MOST_EACH + 2)]
    assert [sessions.find(token) is None for token in tokens].count(True) == 2
    last = sessions.find(tokens[-1])
    assert last is not None and not sessions.end(last.key, "Bo") and sessions.end(last.key, "Ann")
    assert sessions.find(tokens[-1]) is None
