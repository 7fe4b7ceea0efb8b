"""The table of held packets against a dict of bounded queues."""

from collections import deque

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vforward.layout import META, NIL
from vforward.tables import held as table
from vforward.tables.addresses import halves, mapped_int

LIMIT = 60
BURSTS = st.sampled_from([1, 2, table.QUEUE - 1, table.QUEUE, table.QUEUE + 1])
PLAIN = np.zeros(4096, META)
"""Packets of one buffer. Chains: nodes/neighbor/test_hold."""
TOP = 2**128 - 1
IPS = [mapped_int(n) for n in (0, 1, 2, 3, 2**32 - 1)] + [0, 1, 1 << 64, 2 << 64, TOP, TOP ^ 1]


class Holding(RuleBasedStateMachine):
    """Few slots and a low limit, so that windows fill and the oldest have to make place."""

    def __init__(self):
        super().__init__()
        made = np.zeros(table.items_for(16), table.HELD)
        made[:] = np.ones(1, table.HELD)
        self.held = table.prepare(made, LIMIT)
        self.model = {}
        self.released = deque()
        self.next_row = 1

    @property
    def total(self):
        return sum(map(len, self.model.values())) + len(self.released)

    @rule(port=st.sampled_from([0, 1, 2, 65535]), ip=st.sampled_from(IPS), n=BURSTS)
    def hold(self, port, ip, n):
        for _ in range(n):
            self.hold_one(port, ip)

    def hold_one(self, port, ip):
        hop = (port, *map(np.uint64, halves(ip)))
        slot = int(table.probe(self.held, *hop))
        queue = self.model.get((port, ip))
        if queue is None:
            assert slot == 0 or self.held[slot]["n"] == 0
            if slot == 0:
                assert len(self.model) >= table.WINDOW
                return
            assert table.has_room(self.held, 1) == (self.total < LIMIT)
            if self.total >= LIMIT:
                return
            queue = self.model[port, ip] = deque()
        oldest = NIL
        if len(queue) == table.QUEUE or self.total >= LIMIT:
            oldest = queue.popleft()
        row, self.next_row = self.next_row, self.next_row + 1
        queue.append(row)
        assert table.append(self.held, PLAIN, slot, *hop, row) == oldest

    @rule(data=st.data())
    def release(self, data):
        if self.released:
            return
        known = [*self.model, (9, 9)]
        port, ip = data.draw(st.sampled_from(known))
        table.begin_release(self.held, port, *map(np.uint64, halves(ip)))
        self.released.extend(self.model.pop((port, ip), ()))

    @rule(n=st.integers(1, 9))
    def emit(self, n):
        for _ in range(n):
            expected = self.released.popleft() if self.released else NIL
            assert table.pop_oldest(self.held, PLAIN, 0) == expected

    @invariant()
    def it_is_the_model(self):
        table.check(self.held)
        assert table.held_packets(self.held) == self.total
        rows = [row for queue in self.model.values() for row in queue]
        assert sorted(table.held_rows(self.held)) == sorted([*rows, *self.released])


TestHolding = Holding.TestCase
TestHolding.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_sizes():
    assert table.items_for() == 1 + table.SLOTS
    assert [table.items_for(n) for n in (1, 8, 9, 1000)] == [9, 9, 17, 1025]


def test_neighboring_addresses_spread():
    """A scan of a prefix finds half of the slots at least, whichever bits of the address count up."""
    for step in (1, 1 << 16, 1 << 64, 1 << 96):
        held = table.prepare(np.zeros(table.items_for(256), table.HELD), 1000)
        for i in range(512):
            hop = (1, *map(np.uint64, halves((0x20010DB8 << 96) + i * step)))
            if slot := int(table.probe(held, *hop)):
                table.append(held, PLAIN, slot, *hop, i)
        table.check(held)
        assert table.held_packets(held) >= 128
