"""Events and releases: words in rings, whole or not at all."""

import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vforward.io.libc import libc_address
from vforward.nodes.neighbor import events as ev
from vforward.tables.addresses import halves

TOP = (65535, 2**128 - 1, 2**48 - 1)
events = st.tuples(
    st.sampled_from([ev.LEARN, ev.RESOLVE]),
    st.sampled_from([0, ev.SOLICITED | ev.OVERRIDE | ev.ADD, TOP[0]]),
    st.sampled_from([0, 1, TOP[0]]),
    st.sampled_from([0, 1, 2**31, 2**64 - 1, 2**64, TOP[1]]),
    st.sampled_from([0, 1, 2**47, TOP[2]]),
)


def post(ring, kind, flags, port, ip, mac):
    return ev.post(ring, kind, flags, port, *map(np.uint64, halves(ip)), np.uint64(mac))


@settings(deadline=None)
@given(st.lists(events, max_size=6))
def test_events_come_out_as_they_went_in_while_there_is_room(given_events):
    ring = np.zeros(ev.items_for(4), np.uint64)
    for i, event in enumerate(given_events):
        assert post(ring, *event) == (i < 4)
    assert ev.waiting(ring) == min(4, len(given_events))
    assert [(e.kind, e.flags, e.port, e.ip, e.mac) for e in ev.drain(ring, 3)] == given_events[:3]
    assert [(e.kind, e.flags, e.port, e.ip, e.mac) for e in ev.drain(ring)] == given_events[3:4]
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


def test_what_comes_again_leaves_room_for_what_comes_once():
    ring = np.zeros(ev.items_for(8), np.uint64)
    assert [post(ring, ev.USED, 0, 1, 7, 0) for _ in range(5)] == [True] * 4 + [False]
    assert [post(ring, ev.RESOLVE, 0, 1, 7, 0) for _ in range(5)] == [True] * 4 + [False]
    assert [e.kind for e in ev.drain(ring)] == [ev.USED] * 4 + [ev.RESOLVE] * 4


def test_a_release_fills_its_words():
    word, high, low = ev.release_words(*TOP[:2], ev.UNREACHABLE)
    assert (word >> 32, word & 0xFFFFFFFF) == (1, TOP[0])
    assert (high, low) == (2**64 - 1, 2**64 - 1)
