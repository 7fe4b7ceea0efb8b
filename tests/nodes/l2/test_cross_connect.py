"""l2-cross-connect against the oracle."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.l2 import switch
from nodes.network import NAME, NUMBER, run_both
from oracles import bridge
from vforward.nodes.l2.cross_connect import NODE
from vforward.tables.ports import PORT


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(("x0", "x1")), strategies.frames()), min_size=1, max_size=8)
)
def test_against_the_oracle(arrivals):
    arrivals = [(name, frame) for name, frame in arrivals if len(frame) >= 14]

    def prepare(record, i):
        record["rx_port"] = NUMBER[arrivals[i][0]]

    result = run_both(NODE, [frame for _, frame in arrivals], meta=prepare)
    router = strategies.router()
    for i, (name, frame) in enumerate(arrivals):
        want = router.receive(name, frame)
        assert result.edges[i] == "output"
        assert (NAME[int(result.meta[i]["tx_port"])], result.frames[i]) == (want.port, want.frame)


def test_chains():
    result = run_both(NODE, [bytes(9000)], rx_port=NUMBER["x1"])
    assert result.meta[0]["tx_port"] == NUMBER["x0"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 3, 4, 6]),
            st.sampled_from([1, 3, 4, 6]),
            switch.frames().filter(lambda frame: len(frame) >= 14),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_tags_change_on_both_ends(arrivals):
    """Ports of the switch, paired at will: each way is one of its own here."""
    _, tables, reference = switch.build({1: bridge.Domain(), 2: bridge.Domain()})
    ways = sorted({(rx, tx) for rx, tx, _ in arrivals})
    ports = np.zeros(16 + len(ways), PORT)
    ports[:16] = tables["ports"]
    for number, (rx, tx) in enumerate(ways, 16):
        ports[number] = tables["ports"][rx]
        ports[number]["peer"] = tx

    def prepare(record, i):
        record["rx_port"] = 16 + ways.index(arrivals[i][:2])

    frames = [frame for _, _, frame in arrivals]
    result = run_both(NODE, frames, meta=prepare, tables={"ports": ports}, compare=("tx_port",))
    for i, (rx, tx, frame) in enumerate(arrivals):
        one, other = reference.ports[rx], reference.ports[tx]
        came = bridge.retag(frame, one.in_pop, one.in_push)
        want = None if came is None else bridge.retag(came, other.out_pop, other.out_push)
        assert result.edges[i] == ("drop" if want is None else "output")
        assert result.meta[i]["tx_port"] == tx
        if want is not None:
            assert result.frames[i] == want
    assert result.counters == {"tags": result.edges.count("drop")}


def test_reserved_addresses_pass():
    frame = bytes.fromhex("0180c2000000") + bytes(54)
    result = run_both(NODE, [frame], rx_port=NUMBER["x1"])
    assert (result.edges, result.frames) == (["output"], [frame])
