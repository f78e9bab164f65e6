"""How large a batch may be: configured, told, taught."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sync.batch_size import BatchSize
from sync.uplink import Limits


def test_a_platform_that_says_nothing_gets_five_hundred() -> None:
    """What it takes is not guessed upwards; a smaller configured bound holds."""
    assert (BatchSize(2000, 1000).events, BatchSize(2000, 1000).bytes) == (500, 1000)
    assert BatchSize(7, 1000).events == 7


def test_the_platforms_word_counts_up_to_what_is_configured_and_is_remembered() -> None:
    """An answer that leaves a limit out changes nothing."""
    size = BatchSize(2000, 1 << 20)
    size.told(Limits(max_events=5000, max_bytes=4096))
    assert (size.events, size.bytes) == (2000, 4096)
    size.told(Limits())
    assert (size.events, size.bytes) == (2000, 4096)
    size.told(Limits(max_events=3))
    assert size.events == 3


def test_a_refusal_halves_and_one_giant_makes_it_void() -> None:
    """After the giant is found, batches are as before the search."""
    size = BatchSize(2000, 1 << 20)
    size.told(Limits(max_events=2000))
    for events in (2000, 1000, 500, 250):
        size.too_large(events, events * 400)
        assert size.events == events // 2
    size.giant_found()
    assert (size.events, size.bytes) == (2000, 1 << 20)


def test_what_a_refusal_taught_is_doubted_after_a_hundred_batches() -> None:
    """A proxy that was mended does not leave a store with small batches until its next restart."""
    size = BatchSize(2000, 1 << 20)
    size.told(Limits(max_events=2000))
    size.too_large(10, 4000)
    for _ in range(99):
        size.taken()
    assert (size.events, size.bytes) == (5, 2000)
    size.taken()
    assert (size.events, size.bytes) == (10, 4000)
    for _ in range(2000):
        size.taken()
    assert (size.events, size.bytes) == (2000, 1 << 20)


_ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("told"), st.integers(1, 10_000), st.integers(1, 1 << 22)),
        st.tuples(st.just("too_large"), st.integers(2, 10_000), st.integers(2, 1 << 22)),
        st.tuples(st.sampled_from(("taken", "giant_found")), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(_ACTS)
def test_whatever_happens_a_batch_holds_something_and_never_more_than_configured(
    acts: list[tuple[str, int, int]],
) -> None:
    """At least one event and one byte; never beyond the configuration nor what the platform said last."""
    size = BatchSize(1500, 1 << 20)
    told = 1 << 62
    for act, events, size_bytes in acts:
        if act == "told":
            size.told(Limits(max_events=events, max_bytes=size_bytes))
            told = events
        elif act == "too_large":
            size.too_large(events, size_bytes)
        else:
            getattr(size, act)()
        assert 1 <= size.events <= min(1500, told) and 1 <= size.bytes <= 1 << 20
