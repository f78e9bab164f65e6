"""The framing discipline: caps, one byte at a time, idle ends — on a toy protocol `STX length payload sum`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from devices.driver import Counters
from devices.framing import BAD, MORE, SKIP, Framer
from gateway.clock import FakeClock

CAP = 20


def toy(payload: bytes) -> bytes:
    return bytes((2, len(payload))) + payload + bytes((sum(payload) & 0xFF,))


def measure(buffer: bytearray, start: int) -> int:
    if buffer[start] != 2:
        return SKIP
    if len(buffer) - start < 2 or len(buffer) - start < buffer[start + 1] + 3:
        return MORE  # on purpose without a cap: the framer holds it
    size = buffer[start + 1] + 3
    return size if buffer[start + size - 1] == sum(buffer[start + 2 : start + size - 1]) & 0xFF else BAD


def framer() -> tuple[Framer, Counters]:
    counters = Counters()
    return Framer(measure, counters, cap_bytes=CAP), counters


def test_a_frame_in_pieces_is_one_frame() -> None:
    """However the bytes come, a frame comes out once, whole."""
    cutter, counters = framer()
    at = FakeClock().now()
    frames = [frame for byte in toy(b"abc") for frame in cutter.feed(bytes((byte,)), at)]
    assert frames == [toy(b"abc")]
    assert counters == Counters()


def test_a_failed_check_costs_one_byte() -> None:
    """A good frame that begins inside a bad one is found."""
    cutter, counters = framer()
    at = FakeClock().now()
    inside = toy(b"xy")
    assert cutter.feed(bytes((2, 5)) + inside + b"\x00", at) == [inside]
    assert counters.bad_frames == 1
    assert counters.skipped_bytes == 3


def test_a_front_that_wants_too_much_is_dropped_at_the_cap() -> None:
    """A stray header that announces 200 bytes stalls the stream for the cap and no longer."""
    cutter, counters = framer()
    at = FakeClock().now()
    assert cutter.feed(bytes((2, 200)), at) == []
    assert cutter.feed(toy(b"abcdef") * 2, at) == [toy(b"abcdef")] * 2
    assert counters.bad_frames == 1


def test_silence_gives_up_a_front_that_never_ends() -> None:
    """After the idle time, not before, what the unfinished front hid comes out and nothing is kept."""
    cutter, counters = framer()
    clock = FakeClock()
    assert cutter.feed(bytes((2, 15)) + toy(b"a"), clock.now()) == []
    assert cutter.tick(clock.advance(0.049)) == []
    assert cutter.tick(clock.advance(0.001)) == [toy(b"a")]
    assert counters.bad_frames == 1
    assert cutter.tick(clock.advance(9)) == []
    assert cutter.feed(toy(b"b"), clock.now()) == [toy(b"b")]


def test_a_late_chunk_ends_nothing() -> None:
    """A busy box that reads late does not lose the frame it was reading."""
    cutter, _ = framer()
    clock = FakeClock()
    cutter.feed(toy(b"abc")[:3], clock.now())
    assert cutter.feed(toy(b"abc")[3:], clock.advance(5)) == [toy(b"abc")]


@given(st.lists(st.one_of(st.binary(max_size=8).map(toy), st.binary(max_size=6)), max_size=12), st.data())
def test_cuts_change_nothing(parts: list[bytes], data: st.DataObject) -> None:
    """Frames and counters are the same for every way to cut the stream, and memory stays under the cap."""
    stream = b"".join(parts)
    whole, counted = framer()
    clock = FakeClock()
    wanted = whole.feed(stream, clock.now()) + whole.tick(clock.advance(1))
    cutter, counters = framer()
    frames: list[bytes] = []
    rest = stream
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        frames += cutter.feed(rest[:cut], clock.now())
        assert len(cutter._buffer) < CAP
        rest = rest[cut:]
    frames += cutter.tick(clock.advance(1))
    assert frames == wanted
    assert counters == counted


@given(
    st.lists(st.binary(min_size=1, max_size=8), max_size=8), st.binary(max_size=6).filter(lambda b: b"\x02" not in b)
)
def test_rubbish_without_a_header_hides_no_frame(payloads: list[bytes], rubbish: bytes) -> None:
    """Bytes between frames that look like nothing are skipped and counted."""
    cutter, counters = framer()
    stream = b"".join(rubbish + toy(payload) for payload in payloads)
    assert cutter.feed(stream, FakeClock().now()) == [toy(payload) for payload in payloads]
    assert counters.skipped_bytes == len(rubbish) * len(payloads)
