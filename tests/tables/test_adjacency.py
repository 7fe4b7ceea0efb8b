"""An adjacency's header in front of a packet, and what control and the look-ups rely on in its record."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vforward.jit.kernel import i64, kernel
from vforward.layout import BUF_STRIDE, META
from vforward.nodes.ip4 import lookup as ip4_lookup
from vforward.nodes.ip6 import lookup as ip6_lookup
from vforward.tables.adjacency import ADJACENCY, REWRITE_MAX, Way, put_header

ROW, NUMBER = 1, 2


@kernel
def put(data, meta, l3, adjacencies):
    put_header(data, meta, i64(ROW), l3, adjacencies[NUMBER])


@given(
    l3=st.integers(REWRITE_MAX, BUF_STRIDE),
    length=st.sampled_from([0, 14, 18, 22, REWRITE_MAX]),
    room=st.binary(min_size=REWRITE_MAX, max_size=REWRITE_MAX),
)
@example(l3=REWRITE_MAX, length=14, room=bytes(range(REWRITE_MAX)))  # as near to the row before
@example(l3=BUF_STRIDE, length=REWRITE_MAX, room=bytes(range(REWRITE_MAX)))
def test_a_header_ends_where_the_packet_begins(l3, length, room):
    """Nothing else changes but the bytes in front of it that were nobody's."""
    data, meta = np.full((3, BUF_STRIDE), 0xA5, np.uint8), np.zeros(3, META)
    meta.view(np.uint8)[:] = 0x77
    table = np.zeros(3, ADJACENCY)
    table[NUMBER]["rewrite"] = np.frombuffer(room, np.uint64)
    table[NUMBER]["rewrite_len"], table[NUMBER]["tx_port"] = length, 0xFFFE
    after, record = data.copy(), meta.copy()
    after[ROW, l3 - length : l3] = list(room[REWRITE_MAX - length :])
    record[ROW]["off"], record[ROW]["tx_port"] = l3 - length, 0xFFFE
    put(data, meta, l3, table)
    data[ROW, l3 - REWRITE_MAX : l3 - length] = 0xA5
    assert (data == after).all()
    assert meta.tobytes() == record.tobytes()


def test_a_field_is_stored_at_once():
    """Packets are looked up meanwhile: a store that lies across words could be seen by halves."""
    for name in ADJACENCY.names:
        kind, at = ADJACENCY.fields[name][:2]
        assert at % kind.base.itemsize == 0, name
    kind, at = ADJACENCY.fields["rewrite"][:2]
    assert (at, kind.itemsize) == (0, REWRITE_MAX)  # control.adjacencies stores single words of it
    assert REWRITE_MAX >= 14 + 2 * 4


@pytest.mark.parametrize("lookup", [ip4_lookup, ip6_lookup])
def test_all_ways_but_one_are_edges_of_both_lookups(lookup):
    edges = {edge.name: int(edge) for edge in lookup.Edge}
    assert edges | {"MULTIPATH": Way.MULTIPATH} == {way.name: int(way) for way in Way}
    assert Way.MULTIPATH not in edges.values()
