# SPDX-License-Identifier: Apache-2.0
"""By which pair a guest is sent a packet: VIRTIO 1.2, section 5.1.6.5.5, and never two out of order."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guests import BASE, Guest
from vforward.rings import virtqueue as vq

OURS, GUESTS = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"
BUFFER = 256


class Several:
    """A guest with pairs of queues, which it fills with buffers and empties when it is told to."""

    def __init__(self, pairs, size=64, start=0):
        self.guest = Guest(size, pairs=pairs, start=start, buffers=1024)
        self.pairs, self.size = pairs, size
        self.offered = [{} for _ in range(pairs)]
        self.used = [
            [] for _ in range(pairs)
        ]  # buffers taken from the used ring, not offered again
        self.places = [self.guest.room(BUFFER) for _ in range(4 * size)]
        for pair in range(pairs):
            for _ in range(size):
                self.used[pair].append(self.guest.room(BUFFER))
            self.refill(pair)

    def refill(self, pair, n=1 << 16):
        while self.used[pair] and n:
            where = self.used[pair].pop(0)
            head = self.guest.drivers[2 * pair].add([(where, BUFFER)], write=True)
            self.offered[pair][head] = where
            n -= 1

    def take(self, pair):
        """Frames that have come by a pair."""
        found = []
        for head, length in self.guest.drivers[2 * pair].take_used():
            where = self.offered[pair].pop(head)
            found.append(self.guest.read([(where + 12, length - 12)]))
            self.used[pair].append(where)
        return found

    def say(self, pair, frames):
        """Send frames, and have them received."""
        driver = self.guest.drivers[2 * pair + 1]
        driver.take_used()
        for frame in frames:
            where = self.places[driver.added % len(self.places)]
            n, at = 12 + len(frame), where - BASE
            self.guest.memory.bytes[at : at + n] = bytes(12) + frame
            assert driver.add([(where, n)], write=False) is not None
        assert self.guest.packets() == frames

    def send(self, frames):
        return self.guest.send([self.guest.packet(frame) for frame in frames])

    def switch(self, pair, on):
        for queue in self.guest.queues[2 * pair : 2 * pair + 2]:
            queue[vq.STATE] = vq.READY if on else vq.OFF

    def close(self):
        self.guest.close()


def udp(src, dst, ports, number=0):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 46, 0, 0, 64, 17, 0, src, dst)
    return head + struct.pack(">HHHHI", *ports, 26, 0, number) + bytes(14)


def to_guest(flow, number=0):
    return GUESTS + OURS + b"\x08\0" + udp(b"\x0a\0\0\1", b"\x0a\0\0\2", (53, 1000 + flow), number)


def from_guest(flow):
    return OURS + GUESTS + b"\x08\0" + udp(b"\x0a\0\0\2", b"\x0a\0\0\1", (1000 + flow, 53))


def numbers(frames):
    """(flow, number) of each."""
    return [
        (int.from_bytes(one[36:38], "big") - 1000, int.from_bytes(one[42:46], "big"))
        for one in frames
    ]


@pytest.fixture(params=[2, 3, 8])
def several(request):
    made = Several(request.param)
    yield made
    made.close()


def test_answers_go_by_the_pair_that_was_asked_by(several):
    wanted = {flow: flow % several.pairs for flow in range(24)}
    for flow, pair in wanted.items():
        several.say(pair, [from_guest(flow)])
    for _ in range(3):
        assert all(several.send([to_guest(flow) for flow in wanted]))
        for pair in range(several.pairs):
            came = [flow for flow, _ in numbers(several.take(pair))]
            # Two of these flows may be one to us: then the last word of either counts.
            strays = [flow for flow in came if wanted[flow] != pair]
            assert len(strays) <= 1
            assert len(came) >= 24 // several.pairs - 1
            several.refill(pair)


def test_flows_unheard_of_go_by_any_pair_but_each_by_one(several):
    n, seen = 40, {}
    for turn in range(4):
        assert all(several.send([to_guest(flow, turn) for flow in range(n)]))
        for pair in range(several.pairs):
            came = numbers(several.take(pair))
            assert came
            for flow, number in came:
                assert seen.setdefault(flow, pair) == pair
                assert number == turn
            several.refill(pair)
    assert len(seen) == n
    moved = several.guest.queues[0::2, vq.MOVED]
    assert moved.sum() == 4 * n


def test_a_flow_waits_until_what_it_sent_before_has_been_taken():
    several = Several(2)
    several.say(1, [from_guest(1)])
    assert all(several.send([to_guest(1, n) for n in range(4)]))
    several.say(0, [from_guest(1)])  # the guest's program has moved to another CPU
    several.send([to_guest(1, 4)])
    assert numbers(several.take(0)) == []
    assert numbers(several.take(1)) == [(1, n) for n in range(5)]
    several.send([to_guest(1, 5)])  # taken, but the guest has not offered these buffers again
    assert numbers(several.take(0)) == []
    assert numbers(several.take(1)) == [(1, 5)]
    several.refill(1)
    several.send([to_guest(1, 6)])
    assert numbers(several.take(0)) == [(1, 6)]
    several.close()


def test_a_pair_that_does_not_run_is_not_used(several):
    last = several.pairs - 1
    several.say(last, [from_guest(flow) for flow in range(20)])
    several.switch(last, on=False)
    assert all(several.send([to_guest(flow) for flow in range(40)]))
    assert several.take(last) == []
    assert sum(len(several.take(pair)) for pair in range(last)) == 40
    several.switch(last, on=True)
    for pair in range(last):
        several.refill(pair)
    several.send([to_guest(flow) for flow in range(20)])
    assert len(several.take(last)) >= 19  # back to where the guest speaks


def test_one_pair_that_runs_has_all(several):
    only = several.pairs - 1
    for pair in range(only):
        several.switch(pair, on=False)
    assert all(several.send([to_guest(flow) for flow in range(40)]))
    assert len(several.take(only)) == 40
    several.refill(only)
    for pair in range(several.pairs):
        several.switch(pair, on=True)
    several.send([to_guest(flow, 1) for flow in range(40)])
    assert {flow for pair in range(only) for flow, _ in numbers(several.take(pair))}


def test_without_a_peer_all_is_dropped(several):
    for pair in range(several.pairs):
        several.switch(pair, on=False)
    assert several.send([to_guest(flow) for flow in range(5)]) == [False] * 5
    assert int(several.guest.counts["vhost-tx"][2]) == 5


def test_a_full_queue_costs_its_own_flows_only():
    several = Several(2)
    several.say(0, [from_guest(0)])
    several.say(1, [from_guest(1)])
    assert all(several.send([to_guest(0, n) for n in range(64)]))
    sent = several.send([to_guest(n % 2, n) for n in range(20)])
    assert sent == [False, True] * 10
    assert int(several.guest.counts["vhost-tx"][1]) == 10
    assert numbers(several.take(1)) == [(1, n) for n in range(1, 20, 2)]
    several.close()


def test_other_frames_and_frames_cut_short_are_sent_too(several):
    odd = [bytes(60), GUESTS + OURS + b"\x08\0" + bytes(10), GUESTS + OURS + b"\x08\6" + bytes(46),
           b"\xff" * 6 + OURS + b"\x81\0\0\7", GUESTS, b""]  # fmt: skip
    assert all(several.send(odd))
    came = [frame for pair in range(several.pairs) for frame in several.take(pair)]
    assert sorted(came) == sorted(odd)


ACTIONS = st.one_of(
    st.tuples(st.just("send"), st.lists(st.integers(0, 5), min_size=1, max_size=20)),
    st.tuples(st.just("say"), st.tuples(st.integers(0, 2), st.integers(0, 5))),
    st.tuples(st.just("take"), st.integers(0, 2)),
    st.tuples(st.just("refill"), st.tuples(st.integers(0, 2), st.integers(1, 8))),
    st.tuples(st.just("on"), st.integers(1, 2)),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(ACTIONS, min_size=5, max_size=60), st.sampled_from([0, 65500, 32760]))
def test_no_packet_of_a_flow_passes_another(actions, start):
    """However the guest moves its flows, takes packets and offers buffers; and when it enables a pair."""
    several = Several(3, size=8, start=start)
    count, sent, last = 0, set(), {}
    several.switch(1, on=False)
    several.switch(2, on=False)

    def take(pair):
        for flow, number in numbers(several.take(pair)):
            assert number > last.get(flow, -1), f"flow {flow}: {number} behind {last[flow]}"
            last[flow] = number
            sent.discard((flow, number))

    try:
        for what, detail in actions:
            if what == "send":
                wanted = [(flow, count + i) for i, flow in enumerate(detail)]
                count += len(detail)
                done = several.send([to_guest(*one) for one in wanted])
                sent |= {one for one, did in zip(wanted, done, strict=True) if did}
            elif what == "say" and several.guest.queues[2 * detail[0] + 1, vq.STATE] == vq.READY:
                several.say(detail[0], [from_guest(detail[1])])
            elif what == "take":
                take(detail)
            elif what == "refill":
                several.refill(*detail)
            elif what == "on":
                several.switch(detail, on=True)
        for pair in range(3):
            take(pair)
        assert not sent
    finally:
        several.close()
