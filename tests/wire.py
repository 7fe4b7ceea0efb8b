"""Ports under test, two of them wired to each other, with a compiled scheduler between."""

from vforward.graph import control
from vforward.graph.build import Graph
from vforward.graph.node import Labels, Node
from vforward.graph.scheduler import run
from vforward.io.null import swallow
from vforward.io.port import TxCount
from vforward.memory.pool import Pool


class NoEdge(Labels):
    pass


SINK = Node("sink", swallow, NoEdge, TxCount)


class Wire:
    """Two ports, each of which sends what the other receives; what cannot be sent is swallowed."""

    def __init__(self, arena, a, b, buffers=1024):
        self.pool = Pool(arena, buffers)
        self.ports = (a, b)
        self.graph = Graph(arena, self.pool)
        self.graph.add(SINK, "drop")
        for number, port in enumerate(self.ports):
            port.open(number, self.pool)
            node, tables = port.tx()
            self.graph.add(node, f"tx{number}", **tables)
            self.graph.wire(f"tx{number}", "drop", "drop")
        for number, port in enumerate(self.ports):
            if port.rx() is None:
                continue
            node, tables = port.rx()
            self.graph.add(node, f"rx{number}", **tables)
            self.graph.wire(f"rx{number}", "next", f"tx{1 - number}")
        self.plan = self.graph.build()

    def run(self, vector=256):
        self.plan.control[control.VECTOR] = vector
        run(self.plan.words(), True)

    def counts(self, name):
        member = self.graph.members[name]
        return dict(zip(member.node.counter_labels, member.counts.tolist(), strict=True))

    def close(self):
        for port in self.ports:
            port.close()
        assert self.pool.free == self.pool.size
        self.pool.check()
