"""interface-output: by the edge that the port's record names."""

from nodes.network import N_PORTS, ports, run_both
from vforward.nodes.interface.output import NODE


def test_edges_are_the_ports():
    names = [f"send-{i}" for i in range(N_PORTS)]

    def prepare(record, i):
        record["tx_port"] = 1 + i % (N_PORTS - 1)

    frames = [bytes([i]) * (1 + i) for i in range(50)]
    result = run_both(NODE, frames, meta=prepare, edges=names)
    want = [f"send-{ports()[1 + i % (N_PORTS - 1)]['output']}" for i in range(50)]
    assert (result.edges, result.frames) == (want, frames)


def test_sub_interfaces_leave_by_their_parents_edge():
    table = ports()
    assert table[2]["output"] == table[3]["output"] == table[1]["output"]
