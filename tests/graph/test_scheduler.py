# SPDX-License-Identifier: Apache-2.0
"""The compiled scheduler: no packet lost or doubled, the same result at every vector size."""

import os
import time
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.kernels import IDLE, QUEUE, SAME, Rig, rounds, until, working
from vforward.graph import control as c
from vforward.graph import scheduler
from vforward.graph.build import QUEUE_ROOM
from vforward.graph.node import MORE
from vforward.io import shim
from vforward.io.libc import libc_address
from vforward.jit.kernel import kernel
from vforward.layout import EDGE_HELD

SIZES = [1, 2, 3, 64, 255, 256]


@st.composite
def graphs(draw):
    """Nodes 0..n-1, each with edges to later ones or the sink (n), and how packets choose."""
    n = draw(st.integers(1, 12))
    nodes = []
    for k in range(n):
        to = draw(st.lists(st.integers(k + 1, n), min_size=1, max_size=5))
        held = [EDGE_HELD] if draw(st.booleans()) else []
        ways = draw(st.lists(st.sampled_from([*range(len(to)), *held]), min_size=1, max_size=20))
        nodes.append((to, ways))
    inputs = draw(
        st.lists(
            st.tuples(st.integers(0, n), st.integers(0, 700), st.sampled_from([0, 1, 7, 255])),
            min_size=1,
            max_size=3,
        )
    )
    return nodes, inputs


def walk(nodes, start, number):
    """What packet ``number`` leaves in ``seen``, None when it was held; and the edges taken."""
    at, scratch, taken = start, 0, []
    while at < len(nodes):
        to, ways = nodes[at]
        edge = ways[number % len(ways)]
        scratch = (scratch * 31 + at + 1) % 2**64
        taken.append((at, edge))
        if edge == EDGE_HELD:
            return None, taken
        at = to[edge]
    return (scratch + 1) % 2**64, taken


@settings(max_examples=40)
@given(graph=graphs(), vector=st.sampled_from(SIZES), tracing=st.booleans())
def test_packets_go_where_they_should_at_every_vector_size(graph, vector, tracing):
    nodes, inputs = graph
    packets = sum(n for _, n, _ in inputs)
    rig = Rig(buffers=4096, packets=max(1, packets))
    names = [*(f"n{k}" for k in range(len(nodes))), "sink"]
    first = 0
    wanted, edges, held = np.zeros(max(1, packets), np.uint64), {}, 0
    for k, (start, n, per_call) in enumerate(inputs):
        rig.source(n, [names[start]], name=f"in{k}", first=first, per_call=per_call)
        for number in range(first, first + n):
            end, taken = walk(nodes, start, number)
            held += end is None
            wanted[number] = end or 0
            for step in taken:
                edges[step] = edges.get(step, 0) + 1
        first += n
    for k, (to, ways) in enumerate(nodes):
        rig.branch(names[k], [names[t] for t in to], ways)
    rig.sink()
    rig.build(vector)
    rig.control[c.TRACING] = tracing
    rig.run()
    assert (rig.seen == wanted).all()
    assert {
        (k, edge): n for k in range(len(nodes)) for edge, n in rig.taken(names[k]).items()
    } == edges
    assert rig.count("sink") == packets - held
    assert rig.pool.free == 4096 - held


@pytest.mark.parametrize("n", [62, 63, 64, 65, 128, 200])
def test_more_nodes_than_bits_in_a_word(n):
    rig = Rig(packets=300)
    names = [f"n{k}" for k in range(n)]
    rig.source(300, [names[0]])
    for k, name in enumerate(names):  # half of the packets skip the next node
        after = [*names[k + 1 : k + 3], "sink", "sink"][:2]
        rig.branch(name, after, [0, 1, 0, 0, 1])
    rig.sink()
    rig.build().run().check()
    assert rig.count("sink") == 300


def test_a_word_of_queues_beyond_the_first():
    """Inputs and queues of more than 64: bits of the next round in a second word."""
    rig = Rig(buffers=1024)
    names = [f"q{k}" for k in range(70)]
    rig.source(100, ["q0"])
    for name, to in zip(names, [*names[1:], "sink"], strict=True):
        rig.branch(name, [to], node=QUEUE)
    rig.sink()
    rig.build().run().check()
    assert rig.count("sink") == 100


def test_inputs_feed_one_node_together():
    rig = Rig(packets=768)
    for k in range(3):
        rig.source(256, ["a"], name=f"in{k}", first=256 * k)
    rig.add(SAME, "a", ["sink"])
    rig.sink()
    rig.build().run().check()
    assert (rig.stats("a")[c.PACKETS], rig.stats("a")[c.CALLS]) == (768, 3)


def queue_rig(packets, to_queue, vector=256, **options):
    rig = Rig(buffers=4096, packets=packets)
    rig.source(packets, ["a"], **options)
    rig.branch("a", ["sink", "q"], to_queue)
    rig.branch("q", ["sink"], node=QUEUE)
    rig.sink()
    return rig.build(vector)


def test_a_queue_passes_on_in_the_next_round():
    rig = queue_rig(100, [1])
    rig.run().check()
    assert rig.count("q") == 100
    assert rounds(rig) == 3, "in; through the queue; idle"


@pytest.mark.parametrize("vector", [1, 7, 256])
def test_a_full_queue_gives_its_surplus_to_the_last_node(vector):
    rig = Rig(buffers=4096)
    for k in range(8):
        rig.source(256, ["a"], name=f"in{k}", first=256 * k)
    rig.branch("a", ["q"])
    rig.branch("q", ["sink"], node=QUEUE)
    rig.sink()
    rig.build(vector).run().check()
    surplus = int(rig.stats("q")[c.FULL])
    assert surplus == (2048 - QUEUE_ROOM if vector == 256 else 0)
    assert rig.count("q") == 2048 - surplus
    assert rig.count("sink") == 2048
    assert rig.taken("a") == {0: 2048}


def test_two_full_queues_and_their_surplus_fit():
    """The most rows that a round can hold: none is written behind a frame's end."""
    rig = Rig(buffers=8192, packets=8192)
    for k in range(4):
        rig.source(2048, ["a"], name=f"in{k}", first=2048 * k)
    rig.branch("a", ["q", "p"], [0, 1])
    rig.branch("q", ["b"], node=QUEUE)
    rig.branch("p", ["b"], node=QUEUE)
    rig.branch("b", ["q", "p", "sink"], [0, 1, 0, 1, 2])
    rig.sink()
    rig.build()
    room = rig.graph._frames[0].shape[1]
    guard = np.full((len(rig.graph.order), room + 64), 0xDEADBEEF, np.uint32)
    words = rig.plan.nodes
    for k in range(len(words)):
        words[k]["frame"] = guard[k].ctypes.data
    with working(rig):  # most of them circle for ever
        until(lambda: rig.stats("q")[c.FULL] and rig.stats("p")[c.FULL] and rounds(rig) > 100)
    assert (guard[:, room:] == 0xDEADBEEF).all()
    waiting = int(words["waiting"].sum())
    assert waiting <= 2 * QUEUE_ROOM
    assert rig.count("sink") + waiting == 8192
    assert rig.pool.free == 8192 - waiting


@pytest.mark.parametrize("vector", [1, 5, 256])
def test_a_packet_may_go_round_a_cycle(vector):
    """Through the queue three times each, then out: edges by number of a counter in steps."""
    rig = Rig(packets=300)
    rig.source(300, ["a"])
    rig.branch("a", ["sink", "q"], [0, 1, 0])
    rig.branch("q", ["b"], node=QUEUE)
    rig.branch("b", ["sink"])
    rig.sink()
    rig.build(vector).run().check()
    assert (rig.count("q"), rig.count("sink")) == (100, 300)


def test_a_queue_may_lead_to_itself():
    """Packets circle for ever; a packet lives in the queue until the worker is stopped."""
    rig = Rig(buffers=512)
    rig.source(50, ["q"])
    rig.branch("q", ["q", "sink"], [0, 0, 1], node=QUEUE)
    rig.sink()
    rig.build(7)
    with working(rig):
        until(lambda: rig.stats("q")[c.PACKETS] > 5000)
    assert rig.count("sink") == len([k for k in range(50) if k % 3 == 2])
    q = rig.plan.nodes[rig.graph.members["q"].number]
    waiting = int(q["waiting"])
    assert waiting == 50 - rig.count("sink")


def test_stats_say_calls_packets_and_clocks():
    rig = Rig()
    rig.source(1000, ["a"])
    rig.branch("a", ["b", "sink"], [0, 0, 0, 1])
    rig.branch("b", ["sink"])
    rig.sink()
    rig.build(256).run()
    found = {name: rig.stats(name)[: c.FULL + 1].tolist() for name in ("source", "a", "b", "sink")}
    calls = {name: (row[c.CALLS], row[c.PACKETS]) for name, row in found.items()}
    assert calls["source"] == calls["a"] == (4, 1000)
    assert calls["b"] == (4, 750)
    assert calls["sink"][1] == 1000
    assert all(0 < row[c.CLOCKS] < 10**10 for row in found.values())
    assert found["source"][c.EMPTY_CALLS] == 1
    assert found["source"][c.EMPTY_CLOCKS] > 0
    assert not any(row[c.FULL] for row in found.values())
    assert rig.taken("a") == {0: 750, 1: 250}
    assert rig.control[c.BUSY_ROUNDS] == 4
    assert rig.control[c.NOW] > rig.control[c.STARTED]
    assert rig.control[c.STATE] == c.STOPPED


def test_the_clocks_of_all_nodes_are_those_of_the_run():
    """Nothing is left out of the sum: within what the interpreter adds around it."""
    rig = Rig(buffers=4096)
    rig.source(256 * 2000, ["a"])
    for name, to in (("a", "b"), ("b", "sink")):
        rig.branch(name, [to])
    rig.sink()
    rig.build().run()
    total = sum(
        int(rig.stats(m.name)[c.CLOCKS] + rig.stats(m.name)[c.EMPTY_CLOCKS])
        for m in rig.graph.order
    )
    lasted = int(rig.control[c.NOW] - rig.control[c.STARTED])
    assert 0.8 * lasted < total <= lasted


@pytest.mark.parametrize("result", [0, -1, -11, -(2**40)])
def test_an_input_that_fails_brings_nothing(result):
    """A result below 0 is a system call's error: no packets, no frame, no wrong sums."""
    rig = Rig(buffers=512)
    rig.add(IDLE, "idle", ["sink"], result=np.array([result]).view(np.uint64))
    rig.source(10, ["sink"])
    rig.sink()
    rig.build().run().check()
    assert rig.stats("idle")[: c.CLOCKS].tolist() == [0, 0]
    assert rig.stats("idle")[c.EMPTY_CALLS] == 2


@pytest.mark.parametrize(("vector", "calls"), [(0, 300), (1, 300), (257, 2), (2**63, 300)])
def test_a_senseless_vector_size_does_no_harm(vector, calls):
    rig = Rig(packets=300)
    rig.source(300, ["a"])
    rig.branch("a", ["sink"])
    rig.sink()
    rig.build(vector).run().check()
    assert rig.stats("a")[c.CALLS] == calls


def test_run_until_idle_may_be_repeated():
    rig = Rig()
    left = rig.source(10, ["sink"])
    rig.sink()
    rig.build().run()
    left[0] = 5
    rig.run().check()
    assert rig.count("sink") == 15


def test_pause_resume_stop_from_another_thread():
    rig = Rig()
    rig.source(2**60, ["a"], ways=[0])
    rig.branch("a", ["sink"])
    rig.sink()
    rig.build()
    with working(rig) as thread:
        until(lambda: rig.stats("sink")[c.PACKETS] > 1000)
        assert rig.control[c.STATE] == c.RUNNING
        rig.control[c.COMMAND] = c.PAUSE
        until(lambda: rig.control[c.STATE] == c.PAUSED)
        at, seen = rounds(rig), int(rig.stats("sink")[c.PACKETS])
        until(lambda: rounds(rig) > at)  # a quiet point comes in a pause too
        assert rig.stats("sink")[c.PACKETS] == seen
        rig.check()  # no packet is under way between rounds
        rig.control[c.COMMAND] = c.RUN
        until(lambda: rig.stats("sink")[c.PACKETS] > seen)
        rig.control[c.VECTOR] = 3
        until(lambda: rounds(rig) > at + 2)
        rig.control[c.COMMAND] = c.STOP
        thread.join(20)
        assert rig.control[c.STATE] == c.STOPPED
    rig.check()


def sleeping_rig(*descriptors):
    rig = Rig()
    left = rig.source(0, ["sink"])
    rig.sink()
    return rig, left, let_sleep(rig.build(), *descriptors)


def let_sleep(rig, *descriptors):
    """Let a worker that has nothing to do sleep. Returns what wakes it."""
    wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    fds = [fd | 1 << 32 for fd in (wake, *descriptors)]  # POLLIN
    rig.plan = rig.plan._replace(polled=np.array(fds, np.uint64))
    rig.control[c.POLL], rig.control[c.READ] = shim.address("vf_ppoll"), libc_address("read")
    rig.control[c.SPIN_ROUNDS] = 100
    return wake


def test_while_an_input_has_more_to_do_no_worker_sleeps():
    """Else it would do a round's worth in each POLL_NS."""
    rig = Rig()
    result = np.array([MORE]).view(np.uint64)
    rig.add(IDLE, "idle", ["sink"], result=result)
    rig.sink()
    wake = let_sleep(rig.build())
    try:
        with working(rig):
            until(lambda: rounds(rig) > 1000)
            assert rig.control[c.SLEEPS] == 0
            result[0] = 0
            until(lambda: rig.control[c.SLEEPS] > 0)
        assert rig.stats("idle")[: c.CLOCKS].tolist() == [0, 0], "it has received nothing"
    finally:
        os.close(wake)


def test_an_idle_worker_sleeps_and_is_woken():
    rig, left, wake = sleeping_rig()
    try:
        with working(rig):
            until(lambda: rig.control[c.SLEEPS] > 3)
            slow = rounds(rig)
            time.sleep(0.2)
            assert rounds(rig) - slow < 100, "it spins"
            left[0] = 10
            os.eventfd_write(wake, 1)
            start = time.monotonic()
            until(lambda: rig.count("sink") == 10)
            assert time.monotonic() - start < 5
            with pytest.raises(BlockingIOError):
                os.eventfd_read(wake)  # emptied, or it would never sleep again
            slow = int(rig.control[c.SLEEPS])
            until(lambda: rig.control[c.SLEEPS] > slow + 1)
    finally:
        os.close(wake)


def test_a_ready_descriptor_wakes_too():
    reader, writer = os.pipe()
    rig, _, wake = sleeping_rig(reader)
    try:
        with working(rig):
            until(lambda: rig.control[c.SLEEPS] > 3)
            slept = int(rig.control[c.SLEEPS])
            os.write(writer, b"x")  # stays readable: ppoll returns at once from here on
            start = time.monotonic()
            until(lambda: rig.control[c.SLEEPS] > slept + 1000)
            assert time.monotonic() - start < 10, "it waited its time out each round"
    finally:
        for fd in (reader, writer, wake):
            os.close(fd)


@pytest.mark.parametrize(
    ("per_call", "queued", "gathers"),
    [(1, False, True), (63, False, True), (64, False, False), (1, True, False)],
)
def test_after_few_packets_more_may_gather_but_none_waits_in_a_queue(per_call, queued, gathers):
    """A quarter of a vector is not few. A nap is never shorter than it should be.

    Where none is meant they would take 40 s, longer than until waits.
    """
    rig = Rig(buffers=4096)
    times = 20
    rig.source(times * per_call, ["before" if queued else "sink"], per_call=per_call)
    if queued:  # behind a node: what an input gives a queue is taken up in the same round
        rig.branch("before", ["queue"])
        rig.branch("queue", ["sink"], node=QUEUE)
    rig.sink()
    wake = let_sleep(rig.build())
    rig.control[c.GATHER] = 5_000_000 if gathers else 2_000_000_000
    try:
        start = time.monotonic()
        with working(rig):
            left = rig.given["source"]
            until(lambda: left[0] == 0 if queued else rig.count("sink") == times * per_call)
            rig.control[c.GATHER] = 0
        if gathers:
            assert time.monotonic() - start >= (times - 1) * 0.005
        if queued:
            rig.run()
        rig.check()
    finally:
        os.close(wake)


def test_a_paused_worker_sleeps_too():
    rig, _, wake = sleeping_rig()
    try:
        with working(rig):
            rig.control[c.COMMAND] = c.PAUSE
            until(lambda: rig.control[c.STATE] == c.PAUSED)
            at = rounds(rig)
            time.sleep(0.2)
            assert 0 < rounds(rig) - at < 100
    finally:
        os.close(wake)


def test_a_worker_that_may_not_sleep_spins():
    rig = Rig()
    rig.source(0, ["sink"])
    rig.sink()
    rig.build()
    with working(rig):
        until(lambda: rounds(rig) > 10_000)
    assert rig.control[c.SLEEPS] == 0


def test_other_threads_run_beside_the_worker():
    rig = Rig()
    rig.source(2**60, ["sink"])
    rig.sink()
    rig.build()
    with working(rig) as thread:
        until(lambda: rounds(rig) > 0)
        assert sum(1 for _ in range(100_000)) == 100_000
        assert thread.is_alive()


class Timed(NamedTuple):
    """What of a plan _note_time uses."""

    control: np.ndarray


@kernel
def note(g, clocks):
    scheduler._note_time(g, np.uint64(clocks))


@given(st.lists(st.one_of(st.integers(0, 40).map(lambda n: (1 << n) - 1), st.integers(0, 1 << 40))))
def test_how_long_rounds_take_is_counted_by_powers_of_two(times):
    g = Timed(np.zeros(c.CONTROL_WORDS, np.uint64))
    wanted = [0] * c.ROUND_BUCKETS
    for clocks in times:
        note(g, clocks)
        fits = [k for k in range(c.ROUND_BUCKETS - 1) if clocks < c.round_clocks(k)]
        wanted[min(fits, default=c.ROUND_BUCKETS - 1)] += 1
    assert g.control[c.ROUND_TIMES :][: c.ROUND_BUCKETS].tolist() == wanted
    assert int(g.control[c.ROUND_CLOCKS]) == sum(times)
    assert c.ROUND_TIMES + c.ROUND_BUCKETS <= c.CONTROL_WORDS


def test_every_round_with_packets_is_timed():
    rig = Rig()
    rig.source(1000, ["sink"], per_call=10)
    rig.sink()
    rig.build().run()
    assert int(rig.control[c.ROUND_TIMES :][: c.ROUND_BUCKETS].sum()) == 100
    assert rig.control[c.BUSY_ROUNDS] == 100
    assert rig.control[c.ROUND_CLOCKS] > 0
