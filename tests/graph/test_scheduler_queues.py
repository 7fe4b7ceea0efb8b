# SPDX-License-Identifier: Apache-2.0
"""Queues, which pass on what they are given in the next round: cycles, surplus, and how much fits."""

import numpy as np
import pytest

from graph.kernels import QUEUE, Rig, rounds, until, working
from vforward.graph import control as c
from vforward.graph.build import QUEUE_ROOM


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
