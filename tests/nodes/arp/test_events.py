"""Events and releases: words in rings, whole or not at all."""

import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vforward.io.libc import libc_address
from vforward.nodes.arp import events as ev

TOP = (65535, 2**32 - 1, 2**48 - 1)
events = st.tuples(
    st.sampled_from([ev.LEARN, ev.LEARN_TARGET, ev.RESOLVE]),
    st.sampled_from([0, 1, TOP[0]]),
    st.sampled_from([0, 1, 2**31, TOP[1]]),
    st.sampled_from([0, 1, 2**47, TOP[2]]),
)


@settings(deadline=None)
@given(st.lists(events, max_size=6))
def test_events_come_out_as_they_went_in_while_there_is_room(given_events):
    ring = np.zeros(ev.items_for(4), np.uint64)
    for i, (kind, port, ip, mac) in enumerate(given_events):
        assert ev.post(ring, kind, port, ip, mac) == (i < 4)
    assert ev.waiting(ring) == min(4, len(given_events))
    assert [(e.kind, e.port, e.ip, e.mac) for e in ev.drain(ring, 3)] == given_events[:3]
    assert [(e.kind, e.port, e.ip, e.mac) for e in ev.drain(ring)] == given_events[3:4]
    assert not list(ev.drain(ring))


def test_the_bell_wakes_who_waits_and_may_be_absent():
    ring = np.zeros(ev.items_for(1), np.uint64)
    ev.wake(ring)
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        ev.set_bell(ring, libc_address("write"), fd)
        ev.wake(ring)
        ev.wake(ring)
        assert os.eventfd_read(fd) == 2
    finally:
        os.close(fd)


def test_a_release_fills_its_word():
    word = ev.release_word(*TOP[:2], ev.UNREACHABLE)
    assert (word >> 48, word >> 32 & 0xFFFF, word & 0xFFFFFFFF) == (1, *TOP[:2])
