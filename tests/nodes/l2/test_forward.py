"""l2-forward against the oracle: where frames go, what is learned, how tags change."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.l2 import switch
from nodes.network import Heap
from oracles import bridge as oracle
from vforward.layout import HEADROOM
from vforward.nodes.l2.forward import NODE
from vforward.tables.mac import LARGE, MacTable
from vforward.testing import run_node

LEARNING = ("learned", "moved", "static", "over-limit", "table-full")
ARRIVALS = st.lists(
    st.tuples(st.sampled_from([port.number for port in switch.PORTS]), switch.frames()),
    min_size=1,
    max_size=30,
)


def run(tables, arrivals, vector, **given):
    def prepare(record, i):
        record["rx_port"] = arrivals[i][0]

    return run_node(
        NODE, [frame for _, frame in arrivals], meta=prepare, tables=tables, vector=vector, **given
    )


def same(result, i, want):
    """Whether packet i went the oracle's way."""
    assert (result.edges[i], result.frames[i]) == (want.edge, want.frame)
    if want.edge == "drop":
        assert result.reason(i) == want.reason
    elif want.edge == "output":
        assert result.meta[i]["tx_port"] == want.port
    elif want.edge == "bvi":
        assert result.meta[i]["rx_port"] == want.port


@settings(max_examples=150, deadline=None)
@given(
    ARRIVALS,
    st.tuples(switch.SETTINGS, switch.SETTINGS),
    st.booleans(),
    st.sampled_from([1, 3, 256]),
)
def test_against_the_oracle(arrivals, domains, plain, vector):
    bridging, tables, bridge = switch.build(dict(enumerate(domains, 1)), plain=plain)
    result = run(tables, arrivals, vector)
    wanted = [bridge.forward(port, frame) for port, frame in arrivals]
    for i, want in enumerate(wanted):
        same(result, i, want)
    reasons = Counter(want.reason for want in wanted if want.reason)
    assert {k: n for k, n in result.counted.items() if k not in LEARNING} == dict(reasons)
    bridging.check()
    known = {(e.domain, e.mac): e.port for e in bridging.entries()}
    assert known == {
        (f"domain {domain}", int.from_bytes(mac, "big")): port
        for (domain, mac), port in bridge.table.items()
    }
    for number, domain in bridge.domains.items():
        found = bridging.counters()[f"domain {number}"]
        assert found == (bridge.learned(number), domain.moves)
    assert result.counters["moved"] == sum(d.moves for d in bridge.domains.values())
    assert result.counters["learned"] == len(bridge.table) - len(bridge.static)


@pytest.mark.parametrize("vector", [1, 3, 256])
def test_a_large_table(vector):
    """The way that asks for lines ahead gives the same."""
    heap: Any = Heap()
    _, tables, bridge = switch.build({1: oracle.Domain(), 2: oracle.Domain()})
    tables["mac"] = MacTable(heap, tables["domains"], LARGE).table
    macs = [bytes([2, 0, 0, 0, 1, k]) for k in range(250)]
    arrivals = [(1 + k % 2, macs[(7 * k + 3) % 250] + macs[k] + bytes(48)) for k in range(250)] * 2
    result = run(tables, arrivals, vector)
    for i, (port, frame) in enumerate(arrivals):
        same(result, i, bridge.forward(port, frame))
    assert result.counters["learned"] == 250
    assert "output" in result.edges


def test_a_port_that_has_left():
    bridging, tables, _ = switch.build({1: oracle.Domain(), 2: oracle.Domain()})
    a, b = switch.MACS[:2]
    assert run(tables, [(1, b + a + bytes(48)), (2, a + b + bytes(48))], 256).edges == [
        "flood",
        "output",
    ]
    bridging.delete_member(1, 1)
    result = run(tables, [(2, a + b + bytes(48)), (1, b + a + bytes(48))], 256)
    assert result.edges == ["flood", "drop"]
    assert result.reason(1) == "unknown"


def test_no_room_for_a_tag():
    _, tables, _ = switch.build({1: oracle.Domain(), 2: oracle.Domain()})

    def prepare(record, i):
        record["rx_port"] = 4
        record["off"], record["end"] = 3, record["end"] - HEADROOM + 3

    frame = b"\xff" * 6 + switch.MACS[0] + bytes(48)
    result = run_node(NODE, [frame], meta=prepare, tables=tables)
    assert result.edges == ["drop"]
    assert result.reason(0) == "tags"
