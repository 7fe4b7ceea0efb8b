# SPDX-License-Identifier: Apache-2.0
"""host-input and host-punt behind a real TAP: the kernel believes the answers, and gets its packets."""

import select
import socket
import uuid
from ipaddress import ip_address

import numpy as np
import pytest

from nodes.host.test_input import OWN, number
from vforward.graph.build import Graph
from vforward.graph.node import Labels, Node
from vforward.graph.scheduler import run
from vforward.io.null import swallow
from vforward.io.port import TxCount
from vforward.io.tap import TapPort
from vforward.jit.kernel import kernel
from vforward.layout import Counts, Data, Edges, Meta, Rows
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.nodes.host import input as host_input
from vforward.nodes.host import punt
from vforward.tables import addresses as address_table
from vforward.tables.ports import HOST, PORT, ROUTED
from vforward.testing.namespaces import namespaces

pytestmark = pytest.mark.root

LAN, TAP = 1, 2
MAC = b"\x02\x00\x00\x00\x00\x01"
PORT_NUMBER = 4000


class Turn(Labels):
    BACK = 0, "turned round"


class NoEdge(Labels):
    pass


@kernel
def turn(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    """In the place of the router: addresses and UDP ports change places, so checksums stay right."""
    for i in range(idx.size):
        row = np.int64(idx[i])
        l3 = np.int64(meta[row].l3)
        at, size, l4 = (l3 + 12, 4, l3 + 20) if data[row, l3] >> 4 == 4 else (l3 + 8, 16, l3 + 40)
        for k in range(size):
            data[row, at + k], data[row, at + size + k] = (
                data[row, at + size + k],
                data[row, at + k],
            )
        for k in range(2):
            data[row, l4 + k], data[row, l4 + 2 + k] = data[row, l4 + 2 + k], data[row, l4 + k]
        edge[i] = Turn.BACK


SINK = Node("sink", swallow, NoEdge, TxCount)
TURN = Node("turn", turn, Turn)


def tables():
    ports = np.zeros(3, PORT)
    ports["mac"] = int.from_bytes(MAC, "big")
    ports["mode"] = (0, ROUTED, HOST)
    ports["host"][LAN], ports["peer"][TAP] = TAP, LAN
    addresses = np.zeros(8, address_table.ADDRESS)
    for text in OWN[LAN]:
        address_table.add(addresses, LAN, number(text), 128)
    return ports, addresses


@pytest.mark.parametrize(
    ("own", "far"),
    [
        ("10.0.0.1", "10.0.0.9"),
        ("10.0.0.1", "192.0.2.9"),
        ("2001:db8::1", "2001:db8::9"),
        ("2001:db8::1", "2001:db8:99::9"),
    ],
)
def test_a_program_on_the_host_speaks_with_the_world(own, far):
    length = 24 if "." in own else 64
    ports, addresses = tables()
    with (
        namespaces("host") as (host,),
        Arena.create(f"test-{uuid.uuid4().hex[:12]}") as arena,
    ):
        pool = Pool(arena, 1024)
        port = TapPort("t", MAC, addresses=[f"{own}/{length}"])
        with host.inside():
            port.open(TAP, pool)
            kind = socket.AF_INET if "." in own else socket.AF_INET6
            program = socket.socket(kind, socket.SOCK_DGRAM)
        graph = Graph(arena, pool)
        graph.add(SINK, "drop")
        for (node, extra), name in ((port.rx(), "rx"), (port.tx(), "tx")):
            graph.add(node, name, **extra)
        graph.add(host_input.NODE, ports=ports, addresses=addresses)
        graph.add(punt.NODE, ports=ports)
        graph.add(TURN)
        graph.wire("rx", "next", "host-input")
        for way, to in {
            **dict.fromkeys(("ip4", "ip6"), "turn"),
            "reply": "tx",
            "output": "drop",
            "drop": "drop",
        }.items():
            graph.wire("host-input", way, to)
        graph.wire("turn", "back", "host-punt")
        graph.wire("host-punt", "output", "tx")
        graph.wire("host-punt", "drop", "drop")
        graph.wire("tx", "drop", "drop")
        plan = graph.build()
        run(plan.words(), True)  # compiles: the kernel would not wait for its answer so long
        with program:
            program.bind((own, PORT_NUMBER))
            program.settimeout(5)
            for n in range(3):
                program.sendto(b"hello %d" % n, (far, PORT_NUMBER + 1))
            for _ in range(200):
                run(plan.words(), True)
                if select.select([program], [], [], 0.01)[0]:
                    break
            for _ in range(20):
                run(plan.words(), True)
            for n in range(3):
                said, who = program.recvfrom(100)
                assert said == b"hello %d" % n
                assert (ip_address(who[0]), who[1]) == (ip_address(far), PORT_NUMBER + 1)
            neighbors = host.run("ip", "neighbor", "show", "dev", "t")
            assert f"{far} lladdr 00:00:00:00:00:01" in neighbors
            assert "REACHABLE" in neighbors.split(far)[1].splitlines()[0]
        port.close()
        pool.check()
