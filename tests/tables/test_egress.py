"""Which port a packet would leave by: against ip4-lookup's own choice, and the cases it has none."""

from ipaddress import IPv6Address

import numpy as np
import pytest

from vforward.jit.kernel import kernel
from vforward.layout import BUF_STRIDE, META
from vforward.memory.arena import Arena
from vforward.packet.flow_hash import hash4, hash6
from vforward.tables import egress
from vforward.tables.adjacency import ADJACENCY, Way
from vforward.tables.fib import Fib4, Fib6

L3 = 152
WAYS = (Way.ERROR, Way.REWRITE, Way.RESOLVE, Way.NOTIFY, Way.LOCAL, Way.DROP, Way.MULTIPATH)
PORTS = (egress.NOWHERE, 11, 12, 13, egress.SELF, egress.NOWHERE)


@kernel
def out4(data, meta, dst, vrf, routes):
    return egress.egress4(data, meta, 0, dst, vrf, routes)


@kernel
def out6(data, meta, high, low, vrf, routes):
    return egress.egress6(data, meta, 0, high, low, vrf, routes)


@kernel
def flows(data, l3, end):
    return hash4(data, 0, l3, end), hash6(data, 0, l3, end)


@pytest.fixture
def arena():
    with Arena.create("test-egress") as made:
        yield made


def adjacencies():
    table = np.zeros(8, ADJACENCY)
    table["edge"][: len(WAYS)] = WAYS
    table["tx_port"][:6] = 10 + np.arange(6)
    table[6]["first"], table[6]["mask"] = 4, 3
    return table


BUCKETS = np.array([0, 0, 0, 0, 1, 2, 3, 4], np.uint32)


def packet():
    data = np.zeros((1, BUF_STRIDE), np.uint8)
    data[0, L3] = 0x45
    data[0, L3 + 9] = 17
    meta = np.zeros(1, META)
    meta["l3"], meta["end"] = L3, L3 + 60
    return data, meta


def test_ip4(arena):
    fib = Fib4(arena, n_vrfs=2)
    for k in range(1, 7):
        fib.add(0x0A000000 + (k << 16), 16, k, 1)
    routes = (fib.root, fib.nodes, adjacencies(), BUCKETS)
    data, meta = packet()
    for k, port in enumerate(PORTS):
        assert out4(data, meta, 0x0A000001 + (k << 16), 1, routes) == port
    assert out4(data, meta, 0x0A010001, 0, routes) == egress.NOWHERE
    flow = int(flows(data, L3, L3 + 60)[0])
    assert out4(data, meta, 0x0A060001, 1, routes) == PORTS[BUCKETS[4 + (flow & 3)]]


def test_ip6(arena):
    fib = Fib6(arena, n_vrfs=2)
    for k in range(1, 7):
        fib.add(int(IPv6Address(f"2001:db8:{k}::")), 48, k, 1)
    routes = (fib.root, fib.nodes, adjacencies(), BUCKETS)
    data, meta = packet()

    def out(text, vrf=1):
        whole = int(IPv6Address(text))
        return out6(data, meta, np.uint64(whole >> 64), np.uint64(whole & 2**64 - 1), vrf, routes)

    for k, port in enumerate(PORTS):
        assert out(f"2001:db8:{k}::1") == port
    assert out("2001:db8:1::1", 0) == egress.NOWHERE
    flow = int(flows(data, L3, L3 + 60)[1])
    assert out("2001:db8:6::1") == PORTS[BUCKETS[4 + (flow & 3)]]
