# SPDX-License-Identifier: Apache-2.0
"""Captures by the scheduler: every packet of the wanted nodes, once and whole, and the graph goes on."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.kernels import LENGTH, Rig, until, working
from vforward.graph import capture as cap
from vforward.graph import control as c
from vforward.graph.capture import CaptureRing
from vforward.layout import BUF_ROOM, BUF_STRIDE, CHAINED, HEADROOM, NIL
from vforward.memory.chain import LONGEST
from vforward.testing import heap_pool


def numbers(packets):
    """What source has written into the packets."""
    return [
        int.from_bytes(packets.data[start : start + 4].tobytes(), "little")
        for start in packets.starts
    ]


def rig(packets=600, ways=(0, 1), per_call=0):
    """A source, whose packets go by branch to either sink."""
    made = Rig(buffers=4096, packets=packets)
    made.source(packets, ["fork"], name="in", per_call=per_call)
    made.branch("fork", ["left", "right"], list(ways))
    made.sink("left")
    made.sink("right")
    made.build(256)
    return made


def number_of(made, name):
    return made.graph.members[name].number


@pytest.mark.parametrize("vector", [1, 7, 256])
def test_packets_that_leave_a_node_and_that_come_to_another(vector):
    made = rig()
    made.control[c.VECTOR] = vector
    ring = CaptureRing([number_of(made, "in")], [number_of(made, "right")])
    ring.begin(made.control)
    made.run()
    ring.end(made.control)
    packets = ring.waiting()
    nodes = packets.records["node"]
    assert len(nodes) == 900
    came = [n for n, node in zip(numbers(packets), nodes) if node == number_of(made, "in")]
    went = [n for n, node in zip(numbers(packets), nodes) if node == number_of(made, "right")]
    assert sorted(came) == list(range(600))
    assert sorted(went) == list(range(1, 600, 2))
    assert set(packets.records["total"]) == set(packets.records["length"]) == {LENGTH}
    assert ring.missed == 0
    assert (np.diff(packets.records["clock"].astype(np.int64)) > 0).all()
    ring.free(packets)
    assert ring.waiting().records.size == 0


def test_several_nodes_at_once():
    made = rig(100)
    every = [number_of(made, name) for name in ("in", "fork")]
    ring = CaptureRing(every, [number_of(made, "left"), number_of(made, "right")])
    ring.begin(made.control)
    made.run()
    ring.end(made.control)
    packets = ring.waiting()
    found = sorted(zip(numbers(packets), packets.records["node"].tolist()))
    ends = [number_of(made, name) for name in ("left", "right")]
    wanted = [(n, node) for n in range(100) for node in (number_of(made, "in"), ends[n % 2])]
    assert found == sorted(wanted)  # what leaves fork comes to one of them, and is there once


def test_without_a_capture_nothing_is_written():
    made = rig()
    ring = CaptureRing([number_of(made, "in")], [])
    made.run()
    assert ring.waiting().records.size == 0
    ring.begin(made.control)
    ring.end(made.control)
    assert made.control[c.TRACING] == 0
    assert made.control[c.CAPTURE] == 0


def test_a_trace_and_a_capture_do_not_see_each_other():
    made = rig(100)
    ring = CaptureRing([], [number_of(made, "fork")])
    c.watch(made.control, c.TRACES, on=True)
    made.control[c.TRACE_WANTED] = 3
    ring.begin(made.control)
    made.run()
    assert ring.waiting().records.size == 100
    assert made.control[c.TRACED_ROWS] == 9
    ring.end(made.control)
    assert made.control[c.TRACING] == 1
    c.watch(made.control, c.TRACES, on=False)
    assert made.control[c.TRACING] == 0


def test_a_full_ring_counts_and_the_packets_go_on():
    made = rig(500)
    ring = CaptureRing([number_of(made, "in")], [], packets=64)
    ring.begin(made.control)
    made.run()
    packets = ring.waiting()
    assert numbers(packets) == list(range(64))
    assert ring.missed == 436
    assert int((made.seen != 0).sum()) == 500
    ring.free(packets)
    ring.end(made.control)


def test_while_a_worker_runs():
    made = rig(200_000, per_call=50)
    ring = CaptureRing([number_of(made, "in")], [], packets=1 << 10)
    found = []

    def taken():
        packets = ring.waiting()
        found.extend(numbers(packets))
        ring.free(packets)
        return made.given["in"][0] == 0 and not packets.records.size

    ring.begin(made.control)
    with working(made):
        until(taken)
    ring.end(made.control)
    assert len(found) + ring.missed == 200_000
    assert found == sorted(set(found))


class Model:
    """The ring as two queues: what has room is there, in order."""

    def __init__(self, packets, size, snap):
        self.packets, self.size, self.snap = packets, size, snap
        self.queue, self.ends = deque(), deque()
        self.end, self.freed, self.missed = 0, 0, 0

    def add(self, content):
        kept = content[: self.snap]
        end = self.end
        if end % self.size + len(kept) > self.size:
            end += self.size - end % self.size
        if len(self.queue) >= self.packets or end + len(kept) - self.freed > self.size:
            self.missed += 1
            return
        self.queue.append((len(content), kept))
        self.end = end + len(kept)
        self.ends.append(self.end)

    def take(self, n):
        found = [self.queue.popleft() for _ in range(min(n, len(self.queue)))]
        for _ in found:
            self.freed = self.ends.popleft()
        return found


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from([0, 1, 60, 100, 1974, 1975, 5000])),
            st.tuples(st.just("take"), st.integers(1, 5)),
        ),
        max_size=40,
    ),
    st.sampled_from([64, 128, 4096, LONGEST]),
)
def test_the_ring_against_two_queues(steps, snap):
    pool = heap_pool(64)
    size = 4096
    ring = CaptureRing([3], [], snap=snap, packets=8, size=size)
    model = Model(8, size, min(snap, size))
    control = np.zeros(c.CONTROL_WORDS, np.uint64)
    ring.begin(control)
    following, edges = np.full(256, 9, np.uint16), np.zeros(1, np.uint8)
    for i, (what, n) in enumerate(steps):
        if what == "add":
            content = bytes((i + k) % 251 for k in range(n))
            row = chain_of(pool, content)
            rows = np.array([row], np.uint32)
            cap.copy_packets(control, pool.data.reshape(-1), pool.meta, 3, following, rows, edges)
            model.add(content)
            continue
        packets = ring.waiting(n)
        found = [
            (int(record["total"]), packets.data[start : start + record["length"]].tobytes())
            for record, start in zip(packets.records, packets.starts)
        ]
        ring.free(packets)
        assert found == model.take(n)
    assert ring.missed == model.missed


def chain_of(pool, content):
    """Rows 0, 1, 2 ... as one packet; nobody else uses the pool here."""
    parts = [content[at : at + BUF_ROOM] for at in range(0, len(content), BUF_ROOM)] or [b""]
    for row, part in enumerate(parts):
        pool.data[row, HEADROOM : HEADROOM + len(part)] = list(part)
        record = pool.meta[row]
        record["off"], record["end"] = HEADROOM, HEADROOM + len(part)
        last = row == len(parts) - 1
        record["flags"], record["next"] = (0, NIL) if last else (CHAINED, row + 1)
        record["rest"] = 0
    pool.meta[0]["rest"] = len(content) - len(parts[0])
    return 0


def test_what_meta_says_wrongly_is_not_believed():
    pool = heap_pool(4)
    ring = CaptureRing([0], [])
    control = np.zeros(c.CONTROL_WORDS, np.uint64)
    ring.begin(control)
    record = pool.meta[1]
    record["off"], record["end"], record["rest"] = BUF_STRIDE + 5, 5, 10
    rows = np.array([1], np.uint32)
    cap.copy_packets(
        control,
        pool.data.reshape(-1),
        pool.meta,
        0,
        np.zeros(256, np.uint16),
        rows,
        np.zeros(1, np.uint8),
    )
    packets = ring.waiting()
    assert packets.records["length"].tolist() == [0]
    assert packets.records["total"].tolist() == [0]
