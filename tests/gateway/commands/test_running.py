"""`storefront run`: what it says before it runs."""

from __future__ import annotations

import pytest

from config.settings import PageSettings
from gateway.commands.running import _set_up_at


@pytest.mark.parametrize(
    ("page", "address"),
    [
        (PageSettings(), "http://127.0.0.1:8080/setup?code=ABCD-EFGH"),
        (PageSettings(host="::1"), "http://[::1]:8080/setup?code=ABCD-EFGH"),
        (PageSettings(host="0.0.0.0", port=8443), "https://<this machine>:8443/setup?code=ABCD-EFGH"),
        (PageSettings(host="0.0.0.0", names=("shop.lan",)), "https://shop.lan:8080/setup?code=ABCD-EFGH"),
        (PageSettings(port=0), "/setup of the page: ABCD-EFGH"),
    ],
)
def test_the_first_manager_is_told_the_address_with_the_code_in_it(page: PageSettings, address: str) -> None:
    assert address in _set_up_at(page, "ABCD-EFGH")
