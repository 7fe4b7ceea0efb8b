# SPDX-License-Identifier: Apache-2.0
"""Features: in order, per port, switched while packets run."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.kernels import FEATURE, IDLE, START, Rig, rounds, until, working
from vforward.errors import WiringError
from vforward.graph import control as c
from vforward.graph.arcs import END, begin, proceed_past, quiet
from vforward.jit.kernel import kernel
from vforward.layout import ARC_BITS, EDGE_ARC, META

NAMES = ["f0", "f1", "f2", "f3"]
STEP = np.zeros(1, np.uint64)


@kernel
def is_quiet(masks):
    return quiet(masks)


@kernel
def past(meta, mask, skip):
    first = begin(meta, 0, mask)
    return first, proceed_past(meta, 0, skip), meta[0].features


@given(st.sets(st.integers(0, 61), min_size=1), st.sets(st.integers(0, 61)))
def test_features_are_passed_by(features, skipped):
    mask = sum(1 << k for k in features) | END
    skip = np.uint64(sum(1 << k for k in skipped))
    first, second, left = past(np.zeros(1, META), np.uint64(mask), skip)
    assert first == EDGE_ARC + min(features)
    rest = sorted(features - {min(features)} - skipped)
    assert second == EDGE_ARC + (rest[0] if rest else ARC_BITS - 1)
    assert int(left) == (sum(1 << k for k in rest[1:]) | END if rest else 0)


def rig_with_arc(packets=(10, 10), buffers=2048, names=NAMES, n_ports=4):
    rig = Rig(buffers=buffers, packets=min(4096, max(1, sum(packets))), n_ports=n_ports)
    first = 0
    for port, n in enumerate(packets):
        rig.source(n, ["start"], name=f"in{port}", first=first, port=port)
        first += n
    rig.add(START, "start")
    for k, name in enumerate(names):
        rig.add(FEATURE, name, step=np.array([k + 1], np.uint64))
    rig.sink()
    rig.arc = rig.graph.arc("arc", starts=["start"], features=names, end="sink")
    return rig.build()


def trail(steps):
    """What a packet that passed these features leaves in ``seen``."""
    scratch = 0
    for step in steps:
        scratch = scratch * 31 + step + 1
    return scratch + 1


@given(st.lists(st.sets(st.integers(0, 3)), min_size=2, max_size=2))
def test_each_ports_packets_pass_its_features_in_order(features):
    rig = rig_with_arc()
    for port, chosen in enumerate(features):
        for k in sorted(chosen, reverse=True):
            rig.arc.enable(NAMES[k], port)
    rig.run()
    assert rig.seen[:10].tolist() == [trail(sorted(features[0]))] * 10
    assert rig.seen[10:].tolist() == [trail(sorted(features[1]))] * 10
    rig.pool.check()


def test_enable_and_disable_are_of_one_port_and_feature():
    rig = rig_with_arc()
    arc = rig.arc
    assert arc.masks[:-1].tolist() == [END] * 4
    assert is_quiet(arc.masks)
    arc.enable("f2", 1)
    arc.enable("f2", 1)
    arc.enable("f0", 3)
    assert arc.masks[:-1].tolist() == [END, END | 4, END, END | 1]
    assert not is_quiet(arc.masks)
    arc.disable("f2", 1)
    arc.disable("f1", 3)
    assert arc.masks[:-1].tolist() == [END, END, END, END | 1]
    assert not is_quiet(arc.masks)
    arc.disable("f0", 3)
    assert is_quiet(arc.masks)


def test_an_unknown_feature():
    rig = rig_with_arc()
    with pytest.raises(WiringError, match=r"arc arc: no feature 'f9'; it has: f0, f1, f2, f3"):
        rig.arc.enable("f9", 0)
    with pytest.raises(WiringError):
        rig.arc.disable("f9", 0)


def test_features_are_switched_while_packets_run():
    """No packet is lost, and soon after a switch all take the new way."""
    rig = rig_with_arc(packets=(10**12, 0))
    with working(rig):
        for _ in range(20):
            rig.arc.enable("f1", 0)
            at = int(rig.stats("f1")[c.PACKETS])
            until(lambda at=at: rig.stats("f1")[c.PACKETS] > at)
            rig.arc.disable("f1", 0)
            at = rounds(rig)
            until(lambda at=at: rounds(rig) > at + 1)
            at = int(rig.stats("f1")[c.PACKETS]), int(rig.stats("sink")[c.PACKETS])
            until(lambda at=at: rig.stats("sink")[c.PACKETS] > at[1])
            assert rig.stats("f1")[c.PACKETS] == at[0]
    rig.check()


@pytest.mark.parametrize("n", [0, 1, ARC_BITS - 1])
def test_an_arc_of_any_length(n):
    rig = rig_with_arc(names=[f"n{k}" for k in range(n)], packets=(5, 0))
    for k in range(n):
        rig.arc.enable(f"n{k}", 0)
    rig.run()
    assert set(rig.seen[:5].tolist()) == {trail(range(n)) % 2**64}


def test_too_many_features_or_one_twice():
    rig = Rig(buffers=16)
    for names in ([f"n{k}" for k in range(ARC_BITS)], ["a", "b", "a"]):
        with pytest.raises(WiringError, match=rf"arc x: {len(names)} features"):
            rig.graph.arc("x", starts=[], features=names, end="sink")


def test_unknown_nodes_on_an_arc():
    rig = Rig(buffers=16)
    rig.sink()
    with pytest.raises(WiringError, match="no node 'nobody'"):
        rig.graph.arc("a", starts=["nobody"], features=[], end="sink")
    rig.graph.arc("b", starts=[], features=["nobody"], end="sink")
    with pytest.raises(WiringError, match="no node 'nobody'"):
        rig.graph.build()


@pytest.mark.parametrize(("starts", "features"), [(["s"], []), ([], ["f"]), (["f"], [])])
def test_a_node_on_two_arcs_is_refused(starts, features):
    """Their edges would have the same numbers."""
    rig = Rig(buffers=16)
    rig.add(START, "s")
    rig.add(FEATURE, "f", step=STEP)
    rig.sink()
    rig.graph.arc("one", starts=["s"], features=["f"], end="sink")
    rig.graph.arc("two", starts=starts, features=features, end="sink")
    with pytest.raises(WiringError, match=r"on arc two and on arc one"):
        rig.graph.build()


def test_an_input_is_no_feature():
    rig = Rig(buffers=16)
    rig.sink()
    rig.add(START, "s")
    rig.add(IDLE, "in", ["sink"], result=STEP)
    rig.graph.arc("one", starts=["s"], features=["in"], end="sink")
    with pytest.raises(WiringError, match="arc one: in is an input"):
        rig.graph.build()
