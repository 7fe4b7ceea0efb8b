"""A plug-in: drops packets with few hops left. Into a running router: vforward node load hop_guard.py."""

from vforward import Labels, Node, Plugin, Table, kernel
from vforward.graph.arcs import proceed
from vforward.jit.kernel import i64, u64
from vforward.layout import U64, Counts, Data, Edges, Meta, Rows
from vforward.packet.ip4 import TTL
from vforward.testing import packets


class Edge(Labels):
    DROP = 0, "see the counters"


class Count(Labels):
    NEARLY_EXPIRED = 0, "its TTL is below 10"


@kernel
def guard(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, seen: U64) -> None:
    for i in range(idx.size):
        row = i64(idx[i])
        seen[i64(meta[row].rx_port) % seen.size] += u64(1)
        edge[i] = proceed(meta, row)  # to the next feature of its port
        if data[row, i64(meta[row].l3) + TTL] < 10:
            count[Count.NEARLY_EXPIRED] += u64(1)
            edge[i] = Edge.DROP


def check(trial):
    """What this raises refuses it, before it is loaded."""
    assert trial([packets.ip4("192.0.2.9", "198.51.100.7", 17, ttl=9)]).edges == ["drop"]


NODE = Node("hop-guard", guard, Edge, Count)
TABLES = {"seen": Table(256, "u8")}  # packets by port: when it is replaced they are kept
PLUGIN = Plugin(NODE, "ip4-input", before="session", tables=TABLES, check=check)
if __name__ == "__main__":
    print("vforward node load", __file__.rpartition("/")[2])
