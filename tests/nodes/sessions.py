"""A table of sessions for tests of nodes, and a stand-in for the rules: everything may begin."""

import numpy as np

from tables.session_world import World, endpoint, header
from vforward.tables import session as t
from vforward.tables.ports import PORT
from vforward.testing import run_node

SKIPPED, SKIPPED_TREATED = 0b110, 0b010
FEATURES = 0b1110 | 1 << 62
"""Of a packet that has come to the session node: three features more, and the end."""
MISS, PAST, PAST_TREATED, DROP = "arc-1", "arc-3", "arc-2", "drop"
LENGTH = 14


class Table(World):
    """The table, and the node's other tables."""

    def __init__(self, capacity=63):
        super().__init__(capacity)
        self.ports = np.zeros(4, PORT)
        self.ports["vrf"] = (0, 0, 0, 5)
        self.tables = {
            "sessions": self.array,
            "ports": self.ports,
            "skips": np.array([SKIPPED, SKIPPED_TREATED], np.uint64),
            "work": np.zeros(32 * 256, np.uint64),
        }

    def run(self, node, packets, *, vector=256, rx_port=1, change=None):
        """Let packets (without link header) come to the node. Returns its result."""

        def meta(record, i):
            record["features"] = FEATURES
            if change is not None:
                change(record, i)

        return run_node(
            node, [bytes(LENGTH) + packet for packet in packets], l3=LENGTH, rx_port=rx_port,
            vector=vector, tables=self.tables, meta=meta,
        )  # fmt: skip

    def established(self, src, dst, grant=None, reply=None):
        """Open a TCP session and see its handshake: 100 and 900 are the first numbers."""
        numbers = []
        for d, flags, seq, ack in ((0, 2, 100, 0), (1, 18, 900, 101), (0, 16, 101, 901)):
            self.put(header(flags, seq, ack, 1000))
            if not numbers:
                numbers.append(self.open(src, dst, 6, 0, reply, grant or t.Grant(0, 0, 0, 0, 0, 0)))
            else:
                assert self.advance(numbers[0], d) == 0
        assert self.state(numbers[0]) == "established"
        return numbers[0]


__all__ = ["Table", "endpoint"]
