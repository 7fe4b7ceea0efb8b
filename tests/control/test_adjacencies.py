# SPDX-License-Identifier: Apache-2.0
"""Adjacencies: uses, headers, and that nothing is written while workers may read it."""

import numpy as np
import pytest

from nodes.network import Heap
from vforward.control.adjacencies import (
    BLACKHOLE,
    FIXED,
    LOCAL,
    NO_ROUTE6,
    RESERVED,
    Adjacencies,
    is_ip4,
)
from vforward.errors import ConfigError, VforwardError
from vforward.tables.addresses import mapped_int
from vforward.tables.adjacency import NO_ROUTE, Way
from vforward.tables.ports import PORT

MAC, OTHER = b"\x02\0\0\0\0\x19", b"\x06\0\0\0\0\x2a"
HOP4, HOP6 = mapped_int(0x0A000109), 0x20010DB8 << 96 | 9


class Bench:
    def __init__(self, n=RESERVED + 4):
        self.ports = np.zeros(3, PORT)
        self.ports["mac"], self.ports["mtu"] = 0x020000000001, [0, 1500, 9000]
        self.it = Adjacencies(Heap(), self.ports, n)
        self.quiet = True
        self.it.quiesce = lambda: self.quiet

    def way(self, number):
        return Way(int(self.it.table[number]["edge"]))


def test_fixed_ones():
    bench = Bench()
    assert bench.way(LOCAL) == Way.LOCAL
    assert bench.way(BLACKHOLE) == Way.DROP
    assert bench.way(NO_ROUTE) == bench.way(NO_ROUTE6) == Way.ERROR
    assert bench.it.table[NO_ROUTE]["icmp"] == 3 << 8
    assert bench.it.table[NO_ROUTE6]["icmp"] == 1 << 8
    for number in FIXED:
        assert bench.it.hold(number) == number
        assert not bench.it.release(number)
    assert not bench.it.waiting


def test_families():
    assert is_ip4(HOP4)
    assert not is_ip4(HOP6)
    assert not is_ip4(0)


def test_who_uses_a_hop_shares_its_record():
    bench = Bench()
    number = bench.it.hop((2, HOP6))
    record = bench.it.table[number]
    assert record["next_hop"].tolist() == [0x20010DB8 << 32, 9]
    assert (record["tx_port"], record["mtu"], bench.way(number)) == (2, 9000, Way.RESOLVE)
    assert bench.it.hop((2, HOP6)) == number
    assert bench.it.hop((1, HOP6)) != number
    assert bench.it.users(number) == 2
    assert not bench.it.release(number)
    assert bench.it.release(number)
    assert bench.it.users(number) == 0
    again = bench.it.hop((2, HOP6))
    assert again != number  # workers may still read that one


def test_none_is_free_before_a_quiet_point():
    bench = Bench()
    numbers = [bench.it.hop((1, i)) for i in range(3)]
    with pytest.raises(ConfigError, match="in use"):
        bench.it.hop((1, 3))
    assert (1, 3) not in bench.it._hops
    bench.quiet = False
    bench.it.release(numbers[1])
    assert bench.it.waiting
    with pytest.raises(ConfigError, match="in use"):
        bench.it.take()
    bench.quiet = True
    assert bench.it.hop((1, 3)) == numbers[1]
    assert not bench.it.waiting
    assert bench.it.free == 0


def test_what_a_hop_left_is_not_the_next_ones():
    bench = Bench(RESERVED + 2)
    number = bench.it.hop((1, HOP4))
    bench.it.write(number, MAC)
    bench.it.release(number)
    assert bench.it.hop((2, HOP6)) == number
    assert bench.way(number) == Way.RESOLVE
    assert bench.it.table[number]["rewrite_len"] == 0
    bench.it.write(number, OTHER)
    assert bench.it.table[number]["rewrite"].tobytes().endswith(b"\x86\xdd")


def test_headers():
    bench = Bench()
    number = bench.it.hop((1, HOP4))
    bench.ports[1]["tags"], bench.ports[1]["tpid"] = 2, 0x88A8
    bench.ports[1]["vlan"], bench.ports[1]["inner"] = 5, 6
    bench.it.write(number, MAC)
    record = bench.it.table[number]
    expected = MAC + bytes.fromhex("020000000001 88a80005 81000006 0800")
    assert record["rewrite_len"] == len(expected) == 22
    assert record["rewrite"].tobytes() == b"\0\0" + expected


@pytest.mark.parametrize("stale", [False, True])
def test_bytes_in_use_are_not_written(stale):
    bench = Bench()
    bench.ports[1]["tags"], bench.ports[1]["tpid"], bench.ports[1]["vlan"] = 1, 0x8100, 5
    number = bench.it.hop((1, HOP4))
    bench.it.stale(number)
    assert bench.way(number) == Way.RESOLVE  # there is nothing to be stale
    bench.it.write(number, MAC)
    if stale:
        bench.it.stale(number)
    was = bench.way(number)
    assert was == (Way.NOTIFY if stale else Way.REWRITE)
    bytes_before = bench.it.table[number]["rewrite"].tobytes()
    bench.quiet = False
    with pytest.raises(VforwardError, match="old header"):
        bench.it.write(number, OTHER)
    assert bench.way(number) == was
    bench.it.leave(number)
    with pytest.raises(VforwardError, match="old header"):
        bench.it.write(number, OTHER)
    assert bench.way(number) == Way.RESOLVE
    assert bench.it.table[number]["rewrite"].tobytes() == bytes_before
    bench.it.write(number, MAC)  # these are there
    assert bench.way(number) == Way.REWRITE
    bench.quiet = True
    bench.it.write(number, OTHER)
    assert bench.it.table[number]["rewrite"].tobytes()[6:12] == OTHER
