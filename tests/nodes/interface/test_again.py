"""again: where it sends what it is given, without features on and with them."""

import numpy as np

from vforward.graph.arcs import END
from vforward.nodes.interface.again import NODE
from vforward.testing.run_node import run_node


def masks(port_1):
    given = np.full(4, END, np.uint64)
    given[1] |= np.uint64(port_1)
    given[-1] = np.bitwise_or.reduce(given[:-1])
    return {"features": given}


def test_without_features_all_goes_to_the_end():
    result = run_node(NODE, [b"a" * 60, b"b" * 60], rx_port=1, tables=masks(0))
    assert set(result.edges) == {"arc-end"}


def test_a_packet_takes_the_features_of_the_port_it_came_by():
    def port(record, i):
        record["rx_port"] = i

    result = run_node(NODE, [b"a" * 60] * 3, tables=masks(0b110), meta=port)
    assert result.edges == ["arc-end", "arc-1", "arc-end"]
    assert int(result.meta[1]["features"]) == END | 0b100
