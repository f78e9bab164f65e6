"""The box itself lets a manager in: set-up code, accounts, and a trail that tells of it and can be checked."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest

from gateway.access.accounts import Accounts
from gateway.access.notes import Notes
from gateway.clock import SystemClock
from gateway.commands import access
from gateway.errors import Rejected, Unavailable
from tests.gateway.status.shop import FakeGateway


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.toml"
    file.write_text(f'[storage]\ndirectory = "{tmp_path / "data"}"\n')
    return file


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path / "data", SystemClock())


def test_a_code_is_printed_until_there_is_a_manager(
    config: Path, accounts: Accounts, capsys: pytest.CaptureFixture[str]
) -> None:
    access.setup_code(config, as_json=True)
    code = json.loads(capsys.readouterr().out)["code"]
    assert accounts.found(code, "Ann", "482915", "").account is not None
    with pytest.raises(Rejected, match="set up already"):
        access.setup_code(config, as_json=True)


def test_an_account_is_added_listed_reset_and_removed_and_every_act_is_noted(
    config: Path, accounts: Accounts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("482915\n"))
    access.add(config, "Ann", "manager")
    for _ in range(5):
        accounts.try_pin("Ann", "000001", "10.0.0.1")
    access.listing(config, as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["locked_s"] > 800
    access.reset(config, "ann")
    pin = capsys.readouterr().out.partition(": ")[2].partition("\n")[0]
    assert accounts.try_pin("Ann", pin, "10.0.0.2").account is not None
    with pytest.raises(Rejected, match="no such account"):
        access.reset(config, "Eve")
    access.remove(config, "Ann")
    assert not accounts.set_up
    assert [note.act for note in accounts.book().notes] == [
        "account.add", "account.reset", "account.reset", "account.remove",
    ]  # fmt: skip


def test_handing_the_stores_certificate_out_is_noted_and_looking_at_it_is_not(
    tmp_path: Path, config: Path, accounts: Accounts
) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        access.tls_export(config, tmp_path / "ca.pem")
    access.tls_show(config, as_json=True)
    authority = tmp_path / "data" / "tls" / "ca.pem"
    authority.parent.mkdir(parents=True)
    authority.write_text("PEM")
    assert accounts.book().notes == ()
    access.tls_export(config, tmp_path / "to-the-phones.pem")
    assert [(it.act, it.subject) for it in accounts.book().notes] == [("tls.export", "to-the-phones.pem")]


def test_the_running_gateway_puts_the_notes_into_the_trail_and_a_changed_record_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = FakeGateway(tmp_path)
    config = tmp_path / "gateway.toml"
    config.write_text(f'[storage]\ndirectory = "{tmp_path}"\n')
    Accounts(tmp_path, gateway.clock).note("account.reset", "Ann")
    gateway.open()
    stop = threading.Event()
    committing = threading.Thread(target=lambda: [gateway.commits.step(stop) for _ in iter(stop.is_set, True)])
    committing.start()
    Notes(Accounts(tmp_path, gateway.clock), gateway.audit, gateway.commits).step(stop)
    stop.set()
    gateway.inlet.wake()
    committing.join(60)
    gateway.close()
    assert access.audit_verify(config, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "records": 1, "findings": []}
    access.audit_list(config, 10, as_json=True)
    told = json.loads(capsys.readouterr().out)[0]
    assert (told["act"], told["role"], told["subject"]) == ("account.reset", "box", "Ann")
    assert Accounts(tmp_path, gateway.clock).book().notes == ()


def test_there_is_nothing_to_export_before_the_authority_is_made(config: Path, tmp_path: Path) -> None:
    assert access.tls_show(config, as_json=False) == 0
    with pytest.raises(Unavailable, match="first start"):
        access.tls_export(config, tmp_path / "ca.pem")
