"""`storefront enrol`: who the gateway obeys is decided here, so the act is on the audit trail."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loader import data_directory, load
from gateway.access.accounts import Accounts
from gateway.clock import SystemClock
from gateway.commands import enrol
from gateway.errors import Unavailable


def test_an_enrolment_is_noted_before_it_is_tried_and_without_its_code(tmp_path: Path) -> None:
    """Also one whose platform does not answer; neither the code nor what else stands in the address is kept."""
    file = tmp_path / "gateway.toml"
    file.write_text(f'[storage]\ndirectory = "{tmp_path / "data"}"\n', "utf-8")
    with pytest.raises(Unavailable):
        enrol.run(file, "http://127.0.0.1:9/base", "SECRET-CODE", None, "ed25519", as_json=False)
    (note,) = Accounts(data_directory(load(file)), SystemClock()).book().notes
    assert (note.act, note.subject) == ("gateway.enrol", "127.0.0.1")
