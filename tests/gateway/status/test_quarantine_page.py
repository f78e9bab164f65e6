"""What was set aside is a manager's to look at and to try again, and each such act is in the audit trail."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest

from gateway.access.sessions import form_token
from gateway.intake.inlet import Item, Poison
from gateway.status.quarantine import readable
from tests.gateway.status.shop import SCRIPT, FakeGateway
from tests.gateway.status.test_server import Site

BROKEN = b"\x02\xff\x00" * 20


@pytest.fixture
def site(gateway: FakeGateway) -> Iterator[Site]:
    for payload, reason in ((b'{"total": ' + SCRIPT.encode(), "it is no JSON " + SCRIPT), (BROKEN, "a broken frame")):
        gateway.inlet.offer("test", Item((), poison=(Poison("till1", "pos_json", reason, payload, "pos/1/sale"),)))
        gateway.commits.step(threading.Event())
    served, stop = Site(gateway), threading.Event()

    def commit() -> None:  # acts are recorded durably before they are done
        while not stop.is_set():
            gateway.commits.step(stop)

    committing = threading.Thread(target=commit)
    committing.start()
    yield served
    stop.set()
    gateway.inlet.wake()
    committing.join(60)
    served.close()


def test_the_list_is_for_managers_and_holds_no_message(site: Site) -> None:
    assert site.get("/quarantine").status_code == 401
    assert "/quarantine" not in site.get("/sync").text
    site.sign_in("manager")
    page = site.get("/quarantine", **{"accept-language": "en"}).text
    assert "a broken frame" in page and "&lt;script&gt;" in page and "<script" not in page and "total" not in page
    assert "/quarantine" in site.get("/sync").text


def test_a_message_is_opened_as_text_or_digits_and_that_is_recorded(site: Site) -> None:
    site.sign_in("manager")
    entries = sorted({int(it) for it in re.findall(r"/quarantine/(\d+)", site.get("/quarantine").text)})
    text, digits = (site.get(f"/quarantine/{entry}").text for entry in entries)
    assert "&#34;total&#34;" in text and "<script>" not in text
    assert "02 ff 00 02" in digits
    assert site.get("/quarantine/999999").status_code == 404
    assert site.get("/audit", **{"accept-language": "en"}).text.count("Quarantined message opened") == 3


def test_trying_again_needs_the_form_and_says_what_became_of_it(site: Site) -> None:
    token = form_token(site.sign_in("manager"))
    entry = re.findall(r"/quarantine/(\d+)", site.get("/quarantine").text)[0]
    origin = {"origin": f"http://127.0.0.1:{site.port}"}
    refused = site.http.post("/quarantine/replay", data={"entry": entry}, headers=origin)
    assert refused.status_code == 403 and site.gateway.replayed == []
    answer = site.http.post(
        "/quarantine/replay", data={"entry": entry, "csrf": token}, headers={**origin, "accept-language": "en"}
    )
    assert answer.status_code == 200 and "it became 1 events" in answer.text
    assert site.gateway.replayed == [int(entry)]
    assert "quarantine.replay" in site.get("/api/events?stream=transactions&limit=20").text


@pytest.mark.parametrize("entry", ["", "x", "-1", "9" * 30, "²"])
def test_no_number_is_no_entry(site: Site, entry: str) -> None:
    token = form_token(site.sign_in("manager"))
    answer = site.http.post(
        "/quarantine/replay", data={"entry": entry, "csrf": token},
        headers={"origin": f"http://127.0.0.1:{site.port}"},
    )  # fmt: skip
    assert answer.status_code == 400 and site.gateway.replayed == []


def test_bytes_are_shown_as_what_they_are() -> None:
    assert readable("价格\r\n12".encode()) == ("价格\r\n12", True)
    assert readable("价格".encode()[:-1]) == ("价", True)  # cut within a letter
    assert readable(b"\x00\x01") == ("00 01", False)
    assert readable(b"\xff" * 17) == ("ff " * 15 + "ff\nff", False)
    assert readable(b"") == ("", True)
