"""nd-resolve: which next hop a packet is held for. What holding is, test_hold says."""

import numpy as np
import pytest

from vforward.nodes.nd.resolve import NODE
from vforward.nodes.neighbor import events as ev
from vforward.tables import held as table
from vforward.tables.addresses import halves
from vforward.tables.adjacency import ADJACENCY
from vforward.testing import run_node

HOP = 0xFE80 << 112 | 0x77
VIA, GLEAN = 1, 2
TOP = 2**128 - 1


def make_tables():
    adjacencies = np.zeros(3, ADJACENCY)
    adjacencies["tx_port"] = 3
    adjacencies[VIA]["next_hop"] = halves(HOP)
    held = table.prepare(np.zeros(table.items_for(64), table.HELD), 100)
    ring = np.zeros(ev.items_for(16), np.uint64)
    return {"adjacencies": adjacencies, "held": held, "events": ring}


def packet(dst):
    return bytes([0x60]) + bytes(23) + dst.to_bytes(16, "big")


@pytest.mark.parametrize("vector", [1, 256])
@pytest.mark.parametrize("dst", [1, 1 << 64, TOP, 0x20010DB8 << 96 | 9])
def test_the_next_hop_or_else_the_destination(dst, vector):
    tables = make_tables()
    ways = [VIA, GLEAN, GLEAN, VIA]

    def prepare(record, i):
        record["adjacency"] = ways[i]

    result = run_node(
        NODE, [b"\x5a" * 14 + packet(dst)] * 4, l3=14, tables=tables, meta=prepare, vector=vector
    )
    assert result.edges == ["held"] * 4
    told = [(e.kind, e.flags, e.port, e.ip, e.mac) for e in ev.drain(tables["events"])]
    assert told == [(ev.RESOLVE, 0, 3, HOP, 0), (ev.RESOLVE, 0, 3, dst, 0)]
    table.check(tables["held"])
    assert sorted(table.held_rows(tables["held"])) == result.held == sorted(result.rows.tolist())
    result.pool.check(held=result.held)
