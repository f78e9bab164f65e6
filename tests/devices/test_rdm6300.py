"""The 125 kHz driver: every collected frame, debounce and removal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.drivers.rdm6300 import Card, Rdm6300, Rdm6300Options
from devices.transports.replay import replay
from gateway.clock import FakeClock
from gateway.errors import ProtocolError
from gateway.intake.reading import CardRead, CardRemoved

DATA = Path(os.environ.get("STOREFRONT_DATA") or Path(__file__).parents[3] / "shared" / "data") / "devices"
FRAME = b"\x0262E3086CED08\x03"
READ = CardRead(number=3808980205, version=0x62, printed="008,27885")


def data(name: str) -> Any:
    file = DATA / name
    if not file.is_file():
        pytest.skip("the protocol vectors beside the project are absent (STOREFRONT_DATA)")
    return json.loads(file.read_text("utf-8"))


def cards(raw: bytes, **options: Any) -> list[CardRead]:
    driver = Rdm6300(Rdm6300Options(**options), "x")
    return [reading for reading in replay(driver, [raw]) if isinstance(reading, CardRead)]


def test_every_collected_frame_is_read_or_refused() -> None:
    """Good frames give number, version and printed form; bad ones nothing, and are counted."""
    vectors = data("rdm6300_vectors.json")
    for vector in vectors["good"]:
        (card,) = cards(bytes.fromhex(vector["frame_hex"]))
        assert (card.number, card.version, card.printed) == (
            vector["id_decimal"], int(vector["version"], 16), vector["wiegand"]
        )  # fmt: skip
    assert len(vectors["bad"]) == 2
    for vector in vectors["bad"]:
        driver = Rdm6300(Rdm6300Options(), "x")
        assert list(replay(driver, [bytes.fromhex(vector["frame_hex"])])) == []
        assert driver.counters.bad_frames == 1


def test_every_protocol_vector_is_read() -> None:
    """RDM6300, ID-20 with CR LF, EM-18 bare."""
    wanted = {"rdm6300", "id-12/id-20", "em18"}
    vectors = [vector for vector in data("protocol_vectors.json")["vectors"] if vector["protocol"] in wanted]
    assert len(vectors) == 3
    for vector in vectors:
        (card,) = cards(bytes.fromhex(vector["hex"]))
        decoded = vector["decoded"]
        assert (card.number, card.version, card.printed) == (decoded["card"], decoded["version"], decoded["wiegand"])
        assert f"{card.number:010d}" == decoded["card10"]


@given(st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_every_card_comes_back(version: int, number: int) -> None:
    """What is written is what is read, in all three forms."""
    card = Card(version, number)
    raw = card.to_bytes()
    for form in (raw, raw[:-1] + b"\r\n\x03", raw[1:-1]):
        (read,) = cards(form)
        assert (read.version, read.number) == (version, number)


@given(st.integers(0, len(FRAME) * 8 - 1))
def test_one_wrong_bit_is_never_another_card(bit: int) -> None:
    """It is nothing, or (a letter's case) the same card."""
    raw = bytearray(FRAME)
    raw[bit // 8] ^= 1 << bit % 8
    assert cards(bytes(raw)) in ([], [READ])


@given(st.binary(max_size=20))
def test_no_bytes_break_the_decoder(raw: bytes) -> None:
    """Anything that is no number is a ProtocolError, which does not show the number."""
    try:
        Card.from_digits(raw)
    except ProtocolError as error:
        assert raw.decode("latin-1") not in str(error) or len(raw) < 3


def test_a_held_card_is_one_card() -> None:
    """A minute of repeats is one reading; it is gone half a second after the last one."""
    driver, clock = Rdm6300(Rdm6300Options(), "x"), FakeClock()
    said: list[object] = []
    for _ in range(900):
        said += driver.feed(FRAME, clock.now())
        clock.advance(0.065)
        said += driver.tick(clock.now())
    assert said == [READ]
    clock.advance(0.43)
    assert driver.tick(clock.now()) == []
    clock.advance(0.01)
    assert driver.tick(clock.now()) == [CardRemoved(number=READ.number)]
    assert driver.tick(clock.advance(60)) == []


def test_a_late_tick_does_not_merge_two_visits() -> None:
    """Removal is noticed by the next bytes too."""
    driver, clock = Rdm6300(Rdm6300Options(), "x"), FakeClock()
    driver.feed(FRAME, clock.now())
    assert driver.feed(FRAME, clock.advance(2)) == [CardRemoved(number=READ.number), READ]


def test_a_bare_number_waits_for_its_gap() -> None:
    """Not before 20 ms of silence; and not at all once the line has shown frames with STX."""
    driver, clock = Rdm6300(Rdm6300Options(), "x"), FakeClock()
    assert driver.feed(FRAME[1:7], clock.now()) == []
    assert driver.feed(FRAME[7:-1], clock.advance(0.01)) == []
    assert driver.tick(clock.advance(0.019)) == []
    assert driver.tick(clock.advance(0.001)) == [READ]
    driver = Rdm6300(Rdm6300Options(), "x")
    driver.feed(Card(1, 2).to_bytes(), clock.now())
    clock.advance(0.1)
    driver.feed(FRAME[1:-1], clock.now())
    assert driver.tick(clock.advance(0.1)) == []


def test_the_framing_can_be_told() -> None:
    """`stx` takes no bare number, `bare` no frame."""
    assert cards(FRAME[1:-1], framing="stx") == []
    assert cards(FRAME, framing="bare") == []
    assert cards(FRAME[1:-1], framing="bare") == [READ]
    assert cards(FRAME, framing="stx") == [READ]


def test_a_single_damaged_read_is_not_believed_when_two_are_asked_for() -> None:
    """With `confirm_reads = 2` a wrong number between right ones is nothing, though its check is right."""
    driver, clock = Rdm6300(Rdm6300Options(confirm_reads=2), "x"), FakeClock()
    said: list[object] = []
    for card in (Card(0x62, READ.number), Card(1, 7), Card(0x62, READ.number), Card(0x62, READ.number), Card(1, 7),
                 Card(0x62, READ.number)):  # fmt: skip
        said += driver.feed(card.to_bytes(), clock.advance(0.065))
    assert said == [READ]


@pytest.mark.parametrize("wrong", [{"confirm_reads": 0}, {"removed_after_s": 0.0}, {"idle_gap_s": 2.0}])
def test_a_senseless_option_is_refused(wrong: dict[str, Any]) -> None:
    """The error begins with the field's name."""
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: "):
        Rdm6300Options(**wrong)
