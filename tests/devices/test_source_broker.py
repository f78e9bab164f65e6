"""Which message a repeat is a repeat of: the packet id says so as long as the same broker process gives it."""

from __future__ import annotations

from devices.source import delivery_key
from devices.transports.mqtt import Delivery

_PRESS = Delivery(1, 7, "b/door", b'{"action":"single"}')
_AGAIN = Delivery(2, 7, "b/door", b'{"action":"single"}', dup=True)


def test_a_repeat_by_the_same_broker_process_has_the_same_name() -> None:
    """Over connections, too: that is how a message committed before the connection was lost is known."""
    assert delivery_key(_PRESS, "b", b"one") == delivery_key(_AGAIN, "b", b"one")
    assert delivery_key(_PRESS, "b") == delivery_key(_AGAIN, "b")


def test_a_packet_id_given_anew_after_a_restart_names_another_message() -> None:
    """A second press of the same button, repeated by the restarted embedded broker under the packet id that the first
    press once had, must not be taken for the first and be lost.
    """
    assert delivery_key(_PRESS, "b", b"one") != delivery_key(_AGAIN, "b", b"two")
    assert delivery_key(_PRESS, "b") != delivery_key(_AGAIN, "b", b"two")
