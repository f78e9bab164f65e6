"""QR codes of our own: campaign and content, and nothing else of a link."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import PresenceSettings
from gateway.clock import FakeClock, Instant
from gateway.event import Draft, Origin
from gateway.intake import reading as said
from gateway.intake.content_links import Content, ContentLinks
from gateway.intake.normaliser import Normaliser
from gateway.intake.place import Place
from gateway.intake.sightings import Sightings

LINKS = ContentLinks(("https://shop.example/q/", "https://shop.example/q/de/", "https://s.example/?", "SHOP:"))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("https://shop.example/q/spring/poster-3", Content("spring", "poster-3")),
        ("https://shop.example/q/spring", Content("spring")),
        ("https://shop.example/q/spring/poster-3/?utm_source=x&member=77#top", Content("spring", "poster-3")),
        ("https://shop.example/q/?campaign=spring&content=p3", Content("spring", "p3")),
        ("https://shop.example/q/de/spring/p3", Content("spring", "p3")),
        ("https://s.example/?content=p3&campaign=spring", Content("spring", "p3")),
        ("SHOP:label/6901234567892", Content("label", "6901234567892")),
        ("https://shop.example/q/", None),
        ("https://shop.example/q/sp%20ring/x", None),
        ("https://shop.example/q/spring/wang@example.com", None),
        ("https://shop.example.evil/q/spring/p3", None),
        ("https://shop.example/other/spring/p3", None),
        ("SHOP:" + "x" * 600, None),
        ("https://s.example/?" + "&".join(f"a{n}=1" for n in range(40)), None),
        ("4006381333931", None),
    ],
)
def test_what_a_code_leads_to(text: str, content: Content | None) -> None:
    """Path or parameters, the longest prefix; what names nothing usable is no content."""
    assert LINKS.content(text) == content


@given(st.text(max_size=80).map("https://shop.example/q/".__add__))
def test_no_code_is_a_mistake_of_ours(text: str) -> None:
    """Whatever follows the prefix is a short plain name or nothing."""
    content = LINKS.content(text)
    assert content is None or (content.campaign.isascii() and len(content.content_id) <= 64)


class Keys:
    """No pseudonyms are needed here."""

    def day_key(self, scheme: str, identifier: str, at: Instant) -> str:
        return "key"


def drafts(reading: said.Reading, number: int = 1) -> list[Draft]:
    origin = Origin("t1", "0042", "gw01")
    sightings = Sightings(origin, PresenceSettings())
    normaliser = Normaliser(origin, sightings, Keys(), content_links=LINKS)
    place = Place(device="scanner", path="scanner_gs1/scanner", zone="front")
    return normaliser.drafts(reading, place, FakeClock().now(), b"delivery%d" % number)


def test_a_scanned_poster_is_an_interaction() -> None:
    """The event names campaign and content, never the link; a foreign link is a scanned code without its text."""
    (ours,) = drafts(said.Scan(text="https://shop.example/q/spring/p3?member=77", kind="url"))
    assert ours.type == "store.interaction.scanned.v1" and b"member" not in ours.body
    data = msgspec.json.decode(ours.body)["data"]
    assert data == {"campaign": "spring", "content_id": "p3", "scanner": "scanner"}
    (other,) = drafts(said.Scan(text="https://elsewhere.example/q/spring/p3", kind="url"))
    assert other.type == "store.barcode.scanned.v1" and b"elsewhere" not in other.body


def test_two_presses_are_two_events_and_their_scale_is_told() -> None:
    """The same answer given twice is two answers; a device that says its scale is believed."""
    press = said.Feedback(question="service", score=3, scale="nps")
    (first,), (second,) = drafts(press, 1), drafts(press, 2)
    assert first.dedupe != second.dedupe and first.type == "store.feedback.given.v1"
    assert msgspec.json.decode(first.body)["data"]["scale"] == "nps"
    (plain,) = drafts(said.Feedback(question="service", score=3))
    assert "scale" not in msgspec.json.decode(plain.body)["data"]
