"""The bridge's nodes together, under the scheduler: every frame goes where the oracle says."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.kernels import Heap
from nodes.l2 import switch
from oracles import bridge as oracle
from vforward.graph import control as c
from vforward.graph import scheduler
from vforward.graph.build import Graph
from vforward.graph.node import Kind, Labels, Node
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD, U32, U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.interface import drop
from vforward.nodes.l2 import bvi_input, bvi_output, flood, forward
from vforward.testing import heap_pool
from vforward.testing.run_node import _bytes, _packets

N_PORTS = 16


class Next(Labels):
    NEXT = 0, "all"


class Nothing(Labels):
    """No edges."""


@kernel
def feed(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, rows: U32, fed: U64, wait: U64
) -> int:
    """Hand on the rows, in order; fed[0] counts them. Not before wait[0] is wait[1]."""
    n = min(idx.size, rows.size - i64(fed[0])) if wait[0] == wait[1] else 0
    for i in range(n):
        idx[i] = rows[i64(fed[0]) + i]
        edge[i] = Next.NEXT
    fed[0] += u64(n)
    return n


@kernel
def keep(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, kept: U64, inward: U64
) -> None:
    """Note port << 32 | row of each; kept[0] counts them. The port: rx_port if inward."""
    for i in range(idx.size):
        row = i64(idx[i])
        port = i64(meta[row].rx_port) if inward[0] else i64(meta[row].tx_port)
        kept[0] += u64(1)
        kept[i64(kept[0])] = u64(port << 32 | row)
        edge[i] = EDGE_HELD


FEED = Node("feed", feed, Next, kind=Kind.INPUT)
KEEP = Node("keep", keep, Nothing)


def run(arrivals, vector):
    """What left by each port, and the pool's state checked."""
    _, tables, reference = switch.build({1: oracle.Domain(), 2: oracle.Domain()})
    pool = heap_pool(1024)
    free = pool.free
    rows = _packets(pool, [frame for _, frame in arrivals], 0, 0)
    # What the router sends by a BVI comes by the queue.
    inward = np.array([port != 7 for port, _ in arrivals])
    pool.meta["rx_port"][rows] = pool.meta["tx_port"][rows] = [port for port, _ in arrivals]
    graph = Graph(Heap(), pool, N_PORTS)
    kept = np.zeros(4096, np.uint64)
    graph.tables |= {**tables, "kept": kept}
    wait = np.zeros(2, np.uint64)
    for name, given_rows in (("ports-rx", rows[inward]), ("router", rows[~inward])):
        fed = np.array([0, len(given_rows)], np.uint64)
        graph.add(FEED, name, rows=given_rows.copy(), fed=fed, wait=wait)
        wait = fed
    for module in (forward, flood, bvi_input, bvi_output, drop):
        graph.add(module.NODE)
    graph.add(KEEP, "out", inward=np.zeros(1, np.uint64))
    graph.add(KEEP, "in", inward=np.ones(1, np.uint64))
    for name, edge, to in (
        ("ports-rx", "next", "l2-forward"),
        ("router", "next", "bvi-output"),
        ("bvi-output", "next", "l2-forward"),
        ("l2-forward", "output", "out"),
        ("l2-forward", "flood", "l2-flood"),
        ("l2-forward", "bvi", "bvi-input"),
        ("l2-flood", "output", "out"),
        ("l2-flood", "bvi", "bvi-input"),
        *(("bvi-input", edge, "in") for edge in ("ip4", "ip6", "arp")),
        *((name, "drop", "drop") for name in ("l2-forward", "l2-flood", "bvi-input")),
    ):
        graph.wire(name, edge, to)
    plan = graph.build()
    plan.control[c.VECTOR] = vector
    scheduler.run(plan.words(), True)
    words = kept[1 : 1 + int(kept[0])].astype(np.int64)
    found = Counter((int(word >> 32), _bytes(pool, int(word & 0xFFFFFFFF))) for word in words)
    pool.put((words & 0xFFFFFFFF).astype(np.uint32))
    pool.check()
    assert pool.free == free, "a buffer lost"
    return found, reference


def reaches_router(frame):
    """Whether bvi-input takes it: to the BVI's MAC or a group, with an EtherType of the router's."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind in (switch.C_TAG, switch.S_TAG) and int.from_bytes(frame[14:16], "big") & 0xFFF == 0:
        kind = int.from_bytes(frame[16:18], "big")
    return kind in (0x0800, 0x0806, 0x86DD)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8]), switch.frames()),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([1, 3, 256]),
)
def test_against_the_oracle(arrivals, vector):
    found, reference = run(arrivals, vector)
    wanted: Counter[tuple[int, bytes]] = Counter()
    # What the router sends comes after all else.
    for port, frame in sorted(arrivals, key=lambda arrival: arrival[0] == 7):
        way = reference.forward(port, frame)
        ways = reference.flood(port, way.frame) if way.edge == "flood" else [way]
        for each in ways:
            if each.edge == "output" or (each.edge == "bvi" and reaches_router(each.frame)):
                wanted[each.port, each.frame] += 1
    assert found == wanted
