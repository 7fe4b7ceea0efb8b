"""What nodes that hand off take, for three workers, and what they have handed over."""

import numpy as np

from nodes.ip6.test_reassembly import fragment
from nodes.network import Heap
from nodes.sessions import Table
from vforward.jit.kernel import i64, kernel, u64
from vforward.rings.mpsc import Ring
from vforward.tables import flow_home, handoff, strays
from vforward.tables import session as t
from vforward.testing import packets as pk

WORKERS, ME = 3, 1
STAYS = "arc-1"
"""The edge of what is this worker's: the next feature."""
IDLE = np.zeros(1, np.uint64)


class World(Table):
    """Worker ME's tables. room: of each ring."""

    def __init__(self, room=512):
        super().__init__()
        self.strays = strays.make(Heap(), 64)
        self.sessions.share(ME, WORKERS, bytes(range(16)), self.strays)
        self.handoff = handoff.make(WORKERS)
        self.rings = [Ring.make(room) for _ in range(WORKERS)]
        for worker, ring in enumerate(self.rings):
            handoff.set_ring(self.handoff, worker, ring.array)
            handoff.set_bell(self.handoff, worker, IDLE.ctypes.data, 0, 0)
        self.tables["handoff"] = self.handoff

    def run(self, node, packets, **options):
        """As Table.run; besides, the worker that each packet went to, None: it was dropped."""
        result = super().run(node, packets, **options)
        workers = [ME if edge == STAYS else None for edge in result.edges]
        places = {row: i for i, row in enumerate(result.rows.tolist())}
        self.given = [[places[row] for row in ring.pop(ring.slots).tolist()] for ring in self.rings]
        for worker, some in enumerate(self.given):
            assert some == sorted(some), "out of order"
            for i in some:
                assert result.edges[i] == "held"
                workers[i] = worker
        return result, workers

    def home4(self, src, dst, protocol, zone=0):
        return int(_home4(self.array, src, dst, protocol, zone))

    def home6(self, src, dst, both, protocol, zone=0):
        words = [np.uint64(n) for a in (src, dst) for n in (a >> 64, a & 2**64 - 1)]
        return int(_home6(self.array, *words, both, protocol, zone))


@kernel
def _home4(sessions, src, dst, protocol, zone):
    s = t.shard(sessions)
    return flow_home.worker_of(s, flow_home.mixed4(s, i64(src), i64(dst), i64(protocol), i64(zone)))


@kernel
def _home6(sessions, a, b, c, d, both, protocol, zone):
    s = t.shard(sessions)
    return flow_home.worker_of(
        s,
        flow_home.mixed6(s, u64(a), u64(b), u64(c), u64(d), i64(both), i64(protocol), i64(zone)),
    )


def piece6(src, dst, body, ident, offset, more):
    """A piece of a UDP datagram over IPv6."""
    return pk.ip6(src, dst, 44, fragment(17, offset, more, ident, body))
