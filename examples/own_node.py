"""A node of one's own, in a graph of one's own: packets near the end of their life stop here."""

import numpy as np

from vforward import Arena, Graph, Labels, MemoryPort, Node, Pool, Worker, kernel
from vforward.layout import Counts, Data, Edges, Meta, Rows
from vforward.nodes.interface import drop
from vforward.testing import packets as pk


class Edge(Labels):
    FORWARD = 0, "lives long enough"
    DROP = 1, "see the counters"


class Count(Labels):
    NEARLY_EXPIRED = 0, "its TTL is below 10"


@kernel
def guard(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    for i in range(idx.size):
        edge[i] = data[idx[i], np.int64(meta[idx[i]].off) + 22] < 10
        count[Count.NEARLY_EXPIRED] += np.uint64(edge[i])


with Arena.create("own-node") as arena:
    graph, port = Graph(arena, Pool(arena, 1024)), MemoryPort()
    port.open(1, graph.pool)
    for name, (node, tables) in {"in": port.rx(), "out": port.tx()}.items():
        graph.add(node, name, **tables)
    graph.add(Node("guard", guard, Edge, Count))
    graph.add(drop.NODE)
    for way in ("in next guard", "guard forward out", "guard drop drop", "out drop drop"):
        graph.wire(*way.split())
    worker = Worker(graph.build())
    packets = [pk.ip4("10.0.0.1", "10.0.0.2", pk.PROTO_UDP, ttl=ttl) for ttl in (64, 9)]
    port.send([pk.eth(1, 2, pk.ETH_IP4, packet) for packet in packets])
    worker.run_until_idle()
    print(len(port.received()), "came through,", graph.members["guard"].counts[0], "did not")
