"""l2-flood against the oracle: who gets a copy, with which tags; and no buffer lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.l2 import switch
from oracles import bridge as oracle
from vforward.graph import emit
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, GSO
from vforward.nodes.l2.flood import NODE
from vforward.testing import heap_pool, run_node

DOMAINS = {1: oracle.Domain(), 2: oracle.Domain()}
ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from([port.number for port in switch.PORTS]),
        switch.frames().filter(lambda frame: len(frame) >= 14),
    ),
    min_size=1,
    max_size=20,
)
BROADCAST = b"\xff" * 6 + switch.MACS[0] + b"\x08\x00"


def run(arrivals, vector=256, domains=DOMAINS, **given):
    _, tables, bridge = switch.build(domains)

    def prepare(record, i):
        record["rx_port"] = arrivals[i][0]

    tables |= given.pop("tables", {})
    frames = [frame for _, frame in arrivals]
    return run_node(NODE, frames, meta=prepare, tables=tables, vector=vector, **given), bridge


@settings(max_examples=60, deadline=None)
@given(ARRIVALS, st.sampled_from([1, 3, 256]))
def test_against_the_oracle(arrivals, vector):
    result, bridge = run(arrivals, vector)
    copies = []
    for i, (port, frame) in enumerate(arrivals):
        ways = bridge.flood(port, frame)
        if not ways:
            assert (result.edges[i], result.reason(i)) == ("drop", "alone")
            continue
        *others, last = ways
        assert (result.edges[i], result.frames[i]) == (last.edge, last.frame)
        field = "tx_port" if last.edge == "output" else "rx_port"
        assert result.meta[i][field] == last.port
        copies += others
    assert result.emitted == [(way.edge, way.frame) for way in copies]
    for row, way in zip(result.emitted_rows, copies, strict=True):
        assert result.pool.meta[row]["tx_port" if way.edge == "output" else "rx_port"] == way.port
    assert result.counters["copies"] == len(copies)
    assert result.counters["no-buffer"] == result.counters["no-room"] == 0


def test_a_copy_is_the_packet_in_all_but_its_buffers():
    frame = BROADCAST + bytes(2 * BUF_ROOM)

    def prepare(record, _):
        record["rx_port"], record["flags"] = 1, record["flags"] | GSO | CSUM_PARTIAL
        record["gso_size"], record["hdr_len"], record["csum_start"] = 1448, 66, 172

    _, tables, _ = switch.build(DOMAINS)
    result = run_node(NODE, [frame], meta=prepare, tables=tables)
    assert result.edges == ["bvi"]
    assert [edge for edge, _ in result.emitted] == ["output", "output"]
    two, three = (result.pool.meta[row] for row in result.emitted_rows)
    assert (two["tx_port"], three["tx_port"]) == (2, 3)
    assert (two["hdr_len"], three["hdr_len"]) == (66, 70), "a tag more that every segment repeats"
    for copy in (two, three):
        assert copy["rest"] == result.meta[0]["rest"] > BUF_ROOM
        assert copy["flags"] == result.meta[0]["flags"]
        assert (copy["gso_size"], copy["csum_start"]) == (1448, 172)


@pytest.mark.parametrize(("spare", "copies"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)])
def test_buffers_run_out(spare, copies):
    """A frame of two buffers to three ports and the BVI: what is begun of a copy goes back."""
    pool = heap_pool(2 + spare)
    result, _ = run([(1, BROADCAST + bytes(BUF_ROOM))], pool=pool)
    assert result.edges == ["bvi"]
    assert len(result.emitted) == copies == result.counters["copies"]
    assert result.counters["no-buffer"] == 2 - copies
    assert pool.free == spare - 2 * copies


def test_a_round_has_room_for_so_many():
    emitted = emit.new()
    emitted[emit.LEFT] = 1
    result, _ = run([(1, BROADCAST + bytes(46))], tables={"emitted": emitted})
    assert len(result.emitted) == 1
    assert result.counters["no-room"] == 1
    assert result.edges == ["bvi"]


def test_tags_that_are_not_there():
    """Port 4 takes a tag off what goes out: a frame without one does not go there."""
    result, _ = run([(5, BROADCAST + bytes(46)), (1, BROADCAST + bytes(46))])
    assert result.counters["tags"] == 2
    assert [edge for edge, _ in result.emitted].count("output") == 2
    assert np.array_equal(result.meta["tx_port"][:1], [8])
