"""Waiting for events that have been written."""

from __future__ import annotations

import threading
import time

from gateway.journal.news import News


def test_what_was_told_before_somebody_waits_is_not_missed() -> None:
    """A reader that was busy while events came does not sleep over them."""
    news, stop = News(), threading.Event()
    news.tell(3)
    assert news.after(0, 60.0, stop) == 3
    assert news.after(3, 0.01, stop) == 3


def test_news_ends_the_wait_and_no_news_does_not() -> None:
    """Whoever waits goes on with the commit that wrote something, not with an empty one."""
    news, stop, seen = News(), threading.Event(), []
    waiter = threading.Thread(target=lambda: seen.append(news.after(0, 60.0, stop)))
    waiter.start()
    news.tell(0)
    waiter.join(0.05)
    assert waiter.is_alive()
    news.tell(2)
    waiter.join(30)
    assert seen == [2]


def test_the_end_is_heard_whenever_it_is_said() -> None:
    """`wake` lets go only those whose `stop` is set, whether they wait already or are about to."""
    news, going_on, ending = News(), threading.Event(), threading.Event()
    patient = threading.Thread(target=news.after, args=(0, 60.0, going_on))
    leaving = threading.Thread(target=news.after, args=(0, 60.0, ending))
    patient.start()
    leaving.start()
    ending.set()
    news.wake()
    leaving.join(30)
    assert not leaving.is_alive() and patient.is_alive()
    began_s = time.monotonic()
    news.after(0, 60.0, ending)
    assert time.monotonic() - began_s < 30
    going_on.set()
    news.wake()
    patient.join(30)
    assert not patient.is_alive()
