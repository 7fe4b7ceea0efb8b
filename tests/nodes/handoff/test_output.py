"""output-hand-off: by the port's edge, the worker that sends by it."""

import numpy as np

from nodes.handoff_world import World
from vforward.nodes.handoff import output
from vforward.tables.ports import PORT


def test_packets_go_to_who_sends_by_their_port():
    world = World()
    world.tables["ports"] = ports = np.zeros(9, PORT)
    ports["output"] = [0, 1, 2, 3, 1, 2, 3, 1, 2]  # sub-interfaces leave by their port's edge
    world.tables["senders"] = senders = np.zeros(192, np.uint64)
    senders[1:4] = 2, 0, 1

    def change(record, i):
        record["tx_port"] = 1 + i % 8

    result, _ = world.run(output.NODE, [bytes(40)] * 40, change=change)
    wanted = {worker: [] for worker in range(3)}
    for i in range(40):
        wanted[int(senders[ports[1 + i % 8]["output"]])].append(i)
    assert dict(enumerate(world.given)) == wanted
    assert result.counted == {"handed-off": 40}
