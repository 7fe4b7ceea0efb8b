"""Pipes: a random life of both ends against queues; violations; threads; what a dead end leaves."""

import threading

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oracles.netmap import Direction
from rings.netmap_ends import End, numbers, pipe
from vforward.jit.intrinsics import relax, view
from vforward.jit.kernel import i64, kernel
from vforward.rings.netmap_layout import NS_BUF_CHANGED, NS_MOREFRAG, SLOTS, extra_list
from vforward.rings.netmap_names import parse_name
from vforward.rings.netmap_pipe import pipe_rxsync, pipe_txsync, pipe_waits, reclaim
from vforward.rings.netmap_sync import VIOLATION, WAKE


class Life(RuleBasedStateMachine):
    """Both ends of one direction; model and rings take the same steps."""

    @initialize(n=st.sampled_from([2, 3, 4, 7]))
    def begin(self, n):
        self.n = n
        self.pair, self.one, self.two = pipe(n)
        self.model = Direction(self.one.tx_slots["buf_idx"].tolist())
        self.reserve = [self.pair.region.free.pop() for _ in range(3)]
        self.filled = self.read = 0
        self.two_waits = False

    @rule(sizes=st.lists(st.tuples(st.sampled_from([0, 1, 60, 2048]), st.booleans()), max_size=8))
    def send(self, sizes):
        mine = numbers(self.one.tx, self.n)
        slots = list(self.model.sender)
        for i, slot, (size, more) in zip(mine, slots, sizes):
            assert i == slot.number
            self.one.tx_slots["len"][i] = size
            self.one.tx_slots["flags"][i] = NS_MOREFRAG if more else 0
            slot.len, slot.more, slot.changed = size, more, False
        self.sync_tx(min(len(sizes), len(mine)))

    def sync_tx(self, count):
        self.one.tx["head"] = self.one.tx["cur"] = (int(self.one.tx["head"]) + count) % self.n
        complete = len(self.model.way)
        self.model.txsync(count)
        answer = pipe_txsync(self.one.krings)
        assert bool(answer & WAKE) == (self.two_waits and len(self.model.way) > complete)
        self.two_waits &= not answer & WAKE

    @rule(count=st.integers(0, 8), swaps=st.integers(0, 3))
    def receive(self, count, swaps):
        mine = numbers(self.two.rx, self.n)
        count = min(count, len(mine))
        for i, slot in list(zip(mine, self.model.receiver))[: min(count, swaps)]:
            self.reserve.append(slot.buf)
            slot.buf, slot.changed = self.reserve.pop(0), True
            self.two.rx_slots["buf_idx"][i] = slot.buf
            self.two.rx_slots["flags"][i] |= NS_BUF_CHANGED
        self.two.rx["head"] = self.two.rx["cur"] = (int(self.two.rx["head"]) + count) % self.n
        self.model.rxsync(count)
        assert pipe_rxsync(self.two.krings) & VIOLATION == 0

    @rule(way=st.sampled_from(["head", "cur"]), off=st.sampled_from([1, 2**20, 2**32 - 1]))
    def break_the_rules_sending(self, way, off):
        tail, head = int(self.one.tx["tail"]), int(self.one.tx["head"])
        bad = (tail + 1) % self.n if off == 1 else off
        if bad == head or (way == "cur" and bad in numbers(self.one.tx, self.n)):
            return
        self.one.tx[way] = bad
        assert pipe_txsync(self.one.krings) == VIOLATION
        assert (self.one.tx["head"], self.one.tx["cur"]) == (head, head)

    @rule()
    def wait(self):
        pipe_waits(self.two.krings, 1, 1)
        self.two_waits = True

    @precondition(lambda self: not self.model.staged)
    @rule()
    def reopen(self):
        """Whoever comes next finds both ends as they were, and sees what is new."""
        self.one, self.two = End(self.pair, 0), End(self.pair, 1)
        self.model.txsync(0)
        self.model.rxsync(0)

    @invariant()
    def as_in_the_model(self):
        model = self.model
        sees = numbers(self.one.tx, self.n)
        assert sees == [slot.number for slot in model.visible_to_sender()]
        for i, slot in zip(sees, model.sender):
            assert self.one.tx_slots["buf_idx"][i] == slot.buf
            assert bool(self.one.tx_slots["flags"][i] & NS_BUF_CHANGED) == slot.changed
        sees = numbers(self.two.rx, self.n)
        assert sees == [slot.number for slot in model.receiver]
        got = [
            (int(s["buf_idx"]), int(s["len"]), bool(s["flags"] & NS_MOREFRAG))
            for s in self.two.rx_slots[sees]
        ]
        assert got == [slot.content() for slot in model.receiver]

    def teardown(self):
        if hasattr(self, "pair"):
            self.pair.close()


TestLife = Life.TestCase


@pytest.fixture
def ends():
    pair, one, two = pipe(8)
    yield pair, one, two
    pair.close()


@pytest.mark.parametrize(
    ("field", "value"), [("buf_idx", 1), ("buf_idx", 2**32 - 1), ("len", 2049)]
)
def test_a_bad_slot_ends_the_sync_behind_the_good_ones(ends, field, value):
    _, one, two = ends
    one.tx_slots["len"][:5] = 60
    one.tx_slots[field][3] = value
    one.tx["head"] = one.tx["cur"] = 5
    assert pipe_txsync(one.krings) == VIOLATION
    pipe_rxsync(two.krings)
    assert numbers(two.rx, 8) == [0, 1, 2]
    assert one.tx["head"] == 3
    assert one.tx_slots[field][3] == 0


def test_a_receiver_that_returns_no_buffer_is_told_so(ends):
    _, one, two = ends
    one.tx["head"] = one.tx["cur"] = 3
    pipe_txsync(one.krings)
    pipe_rxsync(two.krings)
    two.rx_slots["buf_idx"][1], two.rx_slots["flags"][1] = 0, NS_BUF_CHANGED
    two.rx["head"] = two.rx["cur"] = 3
    assert pipe_rxsync(two.krings) == VIOLATION
    assert two.rx["head"] == 1
    pipe_txsync(one.krings)
    assert one.tx["tail"] == 0  # one slot came back


def test_a_partial_read_leaves_the_rest_with_the_sender(ends):
    """netmap's own test 008: what is not read takes up the sender's ring."""
    _, one, two = ends
    one.tx["head"] = one.tx["cur"] = 7
    pipe_txsync(one.krings)
    assert numbers(one.tx, 8) == []
    pipe_rxsync(two.krings)
    two.rx["head"] = two.rx["cur"] = 4
    pipe_rxsync(two.krings)
    pipe_txsync(one.krings)
    assert len(numbers(one.tx, 8)) == 4
    assert len(numbers(two.rx, 8)) == 3


@pytest.mark.parametrize("word", [0, 16])
@pytest.mark.parametrize("value", [8, 2**31, 2**32 - 1])
def test_a_peer_whose_words_are_nonsense_moves_nothing(ends, word, value):
    pair, one, two = ends
    pair.region.memory[:128].view(np.uint32)[word] = value
    before = int(one.tx["tail"]), int(two.rx["tail"])
    pipe_txsync(one.krings)
    pipe_rxsync(two.krings)
    assert (one.tx["tail"], two.rx["tail"]) == before


N = 200_000


@kernel
def produce(krings, n):
    k = krings[0]
    words, numbers_ = view(k.ring, 8, np.uint32), view(k.ring + SLOTS, 4 * k.n, np.uint32)
    sent = i64(0)
    while sent < n:
        head, tail = i64(words[5]), k.last
        batch = i64(0)
        while head != tail and batch < 1 + sent % 13 and sent < n:
            numbers_[4 * head + 2] = sent & 0xFFFFFFFF
            numbers_[4 * head + 1] = 60
            head = head + 1 if head + 1 < k.n else 0
            batch, sent = batch + 1, sent + 1
        words[5] = words[6] = head
        pipe_txsync(krings)
        if batch == 0:
            relax()


@kernel
def consume(krings, n):
    """How many of n came as they were sent, in order."""
    k = krings[1]
    words, numbers_ = view(k.ring, 8, np.uint32), view(k.ring + SLOTS, 4 * k.n, np.uint32)
    got, right = i64(0), i64(0)
    while got < n:
        pipe_rxsync(krings)
        head, tail = i64(words[5]), k.last
        if head == tail:
            relax()
        limit = 1 + got % 11
        while head != tail and limit:
            right += numbers_[4 * head + 2] == got & 0xFFFFFFFF
            head = head + 1 if head + 1 < k.n else 0
            got, limit = got + 1, limit - 1
        words[5] = words[6] = head
    return right


@pytest.mark.parametrize("n", [2, 64, 100])
def test_two_threads(n):
    count = N if n > 2 else 3000
    pair, one, two = pipe(n)
    sender = threading.Thread(target=produce, args=(one.krings, count))
    sender.start()
    right = consume(two.krings, count)
    sender.join()
    pair.close()
    assert right == count


def test_a_dead_end_is_repaired(ends):
    """Two of its slots have the same buffer, one has none, one has its neighbor's."""
    pair, one, two = ends
    region = pair.region
    one.tx["head"] = one.tx["cur"] = 3
    pipe_txsync(one.krings)
    pipe_rxsync(two.krings)
    theirs = set(two.rx_slots["buf_idx"][:3].tolist()) | set(two.tx_slots["buf_idx"].tolist())
    one.tx_slots["buf_idx"][4] = one.tx_slots["buf_idx"][5]
    one.tx_slots["buf_idx"][6] = 2**31
    one.tx_slots["buf_idx"][7] = two.rx_slots["buf_idx"][0]
    spare = list(region.free)
    assert reclaim(region.memory, region.where, 0, region.free)
    mine = one.tx_slots["buf_idx"][3:].tolist()
    assert len(set(mine)) == len(mine)
    assert not set(mine) & theirs
    assert len(region.free) == len(spare) - 3
    assert not set(region.free) & set(mine)


def test_too_much_damage_is_said(ends):
    pair, one, _ = ends
    one.tx_slots["buf_idx"] = 0
    assert not reclaim(pair.region.memory, pair.region.where, 0, [2, 3])


def test_extra_buffers_come_back(ends):
    pair, _, _ = ends
    before = len(pair.region.free)
    assert pair.release(0) is False
    reply, _ = pair.take(parse_name("t{1"), 5)
    given = extra_list(pair.region.memory, pair.region.where, 0)
    assert (reply.extra, len(given), len(pair.region.free)) == (5, 5, before - 5)
    pair.release(0)
    assert len(pair.region.free) == before


def test_a_buffer_that_comes_back_is_as_its_sender_left_it():
    """Programs that send the same again and again write it once: pkt-gen, after its first frames."""
    pair, one, two = pipe(4)
    where = pair.region.where
    at = where.bufs_at + 2048 * int(one.tx_slots["buf_idx"][0])
    sent = bytes(range(200))
    pair.region.memory[at : at + 200] = np.frombuffer(sent, np.uint8)
    one.tx_slots["len"][0] = 200
    one.tx["head"] = one.tx["cur"] = 1
    pipe_txsync(one.krings)
    pipe_rxsync(two.krings)
    two.rx["head"] = two.rx["cur"] = 1
    pipe_rxsync(two.krings)
    pipe_txsync(one.krings)
    assert not one.tx_slots["flags"][0] & NS_BUF_CHANGED
    assert pair.region.memory[at : at + 200].tobytes() == sent
    pair.close()
