"""nat: the choice of a new source against what is asked of it, and the arithmetic of fixed rules."""

from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.network import Heap
from oracles import nat as oracle
from tables.nat_sessions import endpoint, put, table
from vforward.jit.be import load32
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import BUF_STRIDE, META
from vforward.memory.arena import Arena
from vforward.packet import ports
from vforward.packet.translate import translate4
from vforward.tables import TableFull
from vforward.tables.nat import (
    HIGH,
    LOW,
    MASQUERADE,
    NAT_POOL,
    NONE,
    POOLS_MAX,
    TRIES,
    NatPools,
    choose4,
    static4,
)
from vforward.tables.policy import REWRITE
from vforward.tables.session import HOME_SEED, WORKER, WORKERS, shard
from vforward.tables.session_follow import belongs, new_ends4
from vforward.tables.session_index import find4
from vforward.tables.session_open import open4
from vforward.testing import packets

TCP, UDP, ICMP, SCTP, GRE = 6, 17, 1, 132, 47
CLIENT, SERVER = (0x0A000009, 5000), (0xC6336407, 80)
FIRST, LAST = 0xCB007100, 0xCB00710F
SEED = 0x0123456789ABCDEF


@kernel
def _choose(sessions, pools, pool, address, src, dst, protocol, zone, seed):
    return choose4(
        shard(sessions),
        pools,
        i64(pool),
        i64(address),
        i64(src),
        i64(dst),
        protocol,
        zone,
        u64(seed),
    )


@kernel
def _static(rewrites, end, protocol):
    return static4(rewrites[0], end, protocol)


def pools():
    return NatPools(cast("Arena", Heap()))


def choose(
    sessions, nat, pool, *, address=0, src=CLIENT, dst=SERVER, protocol=UDP, zone=0, seed=SEED
):
    found = _choose(
        sessions,
        nat.table,
        pool,
        address,
        endpoint(src),
        endpoint(dst),
        protocol,
        zone,
        np.uint64(seed),
    )
    return None if found == NONE else (found >> 16, found & 0xFFFF)


def taken(sessions, end, dst=SERVER, protocol=UDP, zone=0):
    """A session whose replies go to end."""
    put(sessions, (0x0AFF0000 + end[1], end[1]), dst, protocol, translated=(end, dst), zone=zone)


def test_the_port_is_kept_where_it_is_free():
    sessions, nat = table(), pools()
    pool = nat.add(FIRST, LAST)
    address, port = choose(sessions, nat, pool)
    assert FIRST <= address <= LAST
    assert port == CLIENT[1]
    taken(sessions, (address, port))
    again = choose(sessions, nat, pool)
    assert again[0] == address
    assert LOW <= again[1] != port
    assert again[1] % 2 == port % 2  # RFC 4787, REQ-4


def test_a_port_serves_many_destinations_but_each_once():
    sessions, nat = table(), pools()
    pool = nat.add(FIRST, FIRST)
    taken(sessions, (FIRST, CLIENT[1]))
    for other in ((SERVER[0], 81), (SERVER[0] + 1, 80)):
        assert choose(sessions, nat, pool, dst=other) == (FIRST, CLIENT[1])
    assert choose(sessions, nat, pool, protocol=TCP) == (FIRST, CLIENT[1])
    assert choose(sessions, nat, pool, zone=1) == (FIRST, CLIENT[1])
    assert choose(sessions, nat, pool) != (FIRST, CLIENT[1])


def test_a_source_always_gets_the_same_address():
    """RFC 4787, REQ-2; and sources are spread."""
    sessions, nat = table(), pools()
    pool = nat.add(FIRST, LAST)
    got = {}
    for host in range(200):
        found = {
            choose(sessions, nat, pool, src=(0x0A000000 + host, port), dst=(7, port), protocol=p)[0]
            for port in (1024, 5000, 65535)
            for p in (TCP, UDP)
        }
        assert len(found) == 1
        got[host] = found.pop()
    assert set(got.values()) == set(range(FIRST, LAST + 1))


def test_a_source_endpoint_gets_the_same_port_for_all_destinations():
    """RFC 4787, REQ-1, as far as ports are free."""
    sessions, nat = table(), pools()
    pool = nat.add(FIRST, FIRST)
    ports = {choose(sessions, nat, pool, src=(9, 80), dst=(n + 1, n))[1] for n in range(50)}
    assert len(ports) == 1
    assert ports.pop() >= LOW


def test_the_secret_matters():
    sessions, nat = table(), pools()
    pool = nat.add(FIRST, LAST)
    found = {choose(sessions, nat, pool, src=(9, 80), seed=SEED + n) for n in range(50)}
    assert len(found) > 40


@pytest.mark.parametrize("n", [1, 2, 3, 100, TRIES])
@pytest.mark.parametrize("protocol", [TCP, UDP, ICMP])
def test_all_of_a_small_range_is_found(n, protocol):
    sessions, nat = table(), pools()
    pool = nat.add(FIRST, FIRST, 40001, 40000 + n)
    dst = (SERVER[0], 0 if protocol == ICMP else 80)
    found = set()
    for _ in range(n):
        end = choose(sessions, nat, pool, dst=dst, protocol=protocol)
        assert end[0] == FIRST
        found.add(end[1])
        taken(sessions, end, dst, protocol)
    assert found == set(range(40001, 40001 + n))
    assert choose(sessions, nat, pool, dst=dst, protocol=protocol) is None
    assert nat.statistics()[1][1:] == (FIRST, FIRST, 40001, 40000 + n, n, 1)


def test_a_large_range_is_filled_far():
    """Work is bounded, so some choices fail before all is in use; not before nearly all is."""
    n = 2000
    sessions, nat = table(n + 10), pools()
    pool = nat.add(FIRST, FIRST, 30000, 30000 + n - 1)
    ends, k = set(), 0
    while (end := choose(sessions, nat, pool, src=(0x0A000000 + k, 1000))) is not None:
        assert end not in ends
        assert 30000 <= end[1] < 30000 + n
        ends.add(end)
        taken(sessions, end)
        k += 1
    assert len(ends) > 0.9 * n
    assert nat.statistics()[1].allocated == k


def test_masquerade():
    sessions, nat = table(), pools()
    address = 0xC0000201
    assert choose(sessions, nat, MASQUERADE, address=address) == (address, CLIENT[1])
    assert choose(sessions, nat, MASQUERADE) is None  # the port that it leaves by has no address
    narrow = nat.add(low=2000, high=2001)
    assert choose(sessions, nat, narrow, address=address)[1] in (2000, 2001)


def test_what_has_no_ports_or_keeps_them():
    sessions, nat = table(), pools()
    pool = nat.add(FIRST, FIRST, 40000, 50000)
    for protocol, port in ((SCTP, 5000), (GRE, 0), (47, 0), (0, 0)):
        src, dst = (CLIENT[0], port), (SERVER[0], port)
        assert choose(sessions, nat, pool, src=src, dst=dst, protocol=protocol) == (FIRST, port)
    taken(sessions, (FIRST, 5000), (SERVER[0], 5000), SCTP)
    assert choose(sessions, nat, pool, dst=(SERVER[0], 5000), protocol=SCTP) is None


def test_identifiers_of_icmp():
    sessions, nat = table(), pools()
    pool = nat.add(FIRST, FIRST)
    dst = (SERVER[0], 0)
    assert choose(sessions, nat, pool, src=(9, 4000), dst=dst, protocol=ICMP) == (FIRST, 4000)
    taken(sessions, (FIRST, 4000), dst, ICMP)
    other = choose(sessions, nat, pool, src=(9, 4000), dst=dst, protocol=ICMP)
    assert other[1] not in (4000, 0)


def test_who_talks_to_itself_does_not_keep_its_port():
    """A hairpin whose replies would be its own packets."""
    sessions, nat = table(), pools()
    found = choose(sessions, nat, MASQUERADE, address=FIRST, src=CLIENT, dst=CLIENT)
    assert found[0] == FIRST
    assert found[1] != CLIENT[1]
    hairpin = choose(sessions, nat, MASQUERADE, address=FIRST, src=CLIENT, dst=(CLIENT[0], 80))
    assert hairpin == (FIRST, CLIENT[1])


@settings(max_examples=400)
@given(
    st.integers(1, 0xFFFF),
    st.sampled_from((0, 1, 2, 127, 128, 129, 1000, 0xFFFF)),
    st.integers(0, 0xFFFF),
    st.sampled_from((TCP, UDP, ICMP)),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from((0, 1, 5, 1 << 31)),
)
def test_whatever_is_asked_the_answer_is_in_range(low, more, port, protocol, seed, first, size):
    high, last = min(low + more, 0xFFFF), min(first + size, 0xFFFFFFFF)
    nat = pools()
    pool = nat.add(first, last if first else 0, low, high)
    found = choose(table(4), nat, pool, src=(9, port), protocol=protocol, seed=seed)
    if first == 0:
        assert found is None
        return
    assert first <= found[0] <= last
    assert low <= found[1] <= high
    assert found[1] == port or not low <= port <= high


@settings(max_examples=500)
@given(
    st.sampled_from((0, 0xFFFFFF00, 0xFFFF0000, 0xFFFFFFFF)),
    st.sampled_from((0, 0x0A0000FF, 0xFFFFFFFF)),
    st.sampled_from((0, 1, 80, 0xFFFF)),
    st.sampled_from((0, 1, 8080, 0xFFFF)),
    st.sampled_from((TCP, UDP, ICMP, SCTP, GRE, 33, 136)),
    st.tuples(st.sampled_from((0, 0xCB007105, 0xFFFFFFFF)), st.sampled_from((0, 1, 85, 0xFFFF))),
)
def test_static_as_the_oracle(keep, address, first, port, protocol, end):
    rules = np.zeros(1, REWRITE)
    for name, value in {"keep": keep, "address": address, "first": first, "port": port}.items():
        rules[name] = value
    got = _static(rules, endpoint(end), protocol)
    assert (got >> 16, got & 0xFFFF) == oracle.static(keep, address, first, port, protocol, end)


@kernel
def _begin(sessions, pools, data, meta, l3, l4, protocol, known, server, address):
    """What is done with a session's first packet: both translations, known to server, and a source."""
    s = shard(sessions)
    both = ports.load(data, 1, l4, protocol, i64(meta[1].end))
    src = load32(data, 1, l3 + 12) << 16 | both >> 16
    source = choose4(s, pools, 0, i64(address), src, server, protocol, 0, u64(1))
    grant = (0, 0, 0, 0, 0, 0)
    number = open4(
        s, data, meta, i64(1), l4, src, known, server, source, protocol, i64(0), grant
    )  # fmt: skip
    done = translate4(data, meta, i64(1), l3, l4, protocol, source, server)
    return number if done else i64(-100)


@kernel
def _go_on(sessions, data, meta, l3, l4, protocol):
    """What is done with those that follow."""
    s = shard(sessions)
    both = ports.load(data, 1, l4, protocol, i64(meta[1].end))
    src = load32(data, 1, l3 + 12) << 16 | both >> 16
    dst = load32(data, 1, l3 + 16) << 16 | both & 0xFFFF
    found = find4(s, src, dst, protocol, i64(0))
    if found < 0 or not belongs(s, found):
        return i64(-1)
    new_src, new_dst = new_ends4(s, found)
    translate4(data, meta, i64(1), l3, l4, protocol, new_src, new_dst)
    return found >> 2


def through(kernel, sessions, packet, protocol, *more):
    """(what a kernel says, the packet then)."""
    data, meta = np.zeros((2, BUF_STRIDE), np.uint8), np.zeros(2, META)
    data[1, 152 : 152 + len(packet)] = np.frombuffer(packet, np.uint8)
    meta[1]["l3"], meta[1]["end"] = 152, 152 + len(packet)
    front, behind = more[:1], more[1:]
    said = kernel(sessions, *front, data, meta, 152, 172, protocol, *behind)
    return said, data[1, 152 : 152 + len(packet)].tobytes()


def talk(protocol, src, dst):
    """A packet from one (address, port) to another."""
    ends = src[0], dst[0], src[1], dst[1]
    body = packets.tcp(*ends, flags="S") if protocol == TCP else packets.udp(*ends, b"abc")
    return packets.ip4(src[0], dst[0], protocol, body)


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("server", [SERVER, (CLIENT[0] + 1, 8080), (CLIENT[0], 8080), CLIENT])
def test_a_conversation(protocol, server):
    """By a public address to a server outside, on the same side (a hairpin), or in the client."""
    sessions, nat = table(), pools()
    known = (FIRST, server[1])
    first = talk(protocol, CLIENT, known)
    number, out = through(
        _begin, sessions, first, protocol, nat.table, endpoint(known), endpoint(server), FIRST
    )
    assert number > 0
    source = FIRST, int.from_bytes(out[20:22], "big")
    assert out == talk(protocol, source, server)
    assert through(_go_on, sessions, first, protocol) == (number, out)
    reply = through(_go_on, sessions, talk(protocol, server, source), protocol)
    assert reply == (number, talk(protocol, known, CLIENT))
    assert through(_go_on, sessions, out, protocol)[0] == -1  # it does not come in like that


def test_pools_come_and_go():
    nat = pools()
    assert nat.statistics() == [(MASQUERADE, 0, 0, LOW, HIGH, 0, 0)]
    numbers = [nat.add(FIRST, LAST) for _ in range(POOLS_MAX - 1)]
    assert numbers == list(range(1, POOLS_MAX))
    with pytest.raises(TableFull, match="63 pools"):
        nat.add(FIRST, LAST)
    nat._cleared[0][7]["allocated"] = 5  # as `vforward clear` does
    nat.delete(7)
    assert nat.add(1, 2, 3, 4) == 7
    assert nat._cleared[0][7]["allocated"] == 0
    assert nat.statistics()[7] == (7, 1, 2, 3, 4, 0, 0)


@pytest.mark.parametrize(
    "bad", [(2, 1), (0, 1), (1, 1 << 32), (-1, 1), (1, 1, 0, 5), (1, 1, 6, 5), (1, 1, 1, 65536)]
)
def test_bad_pools(bad):
    with pytest.raises(ValueError, match="no range"):
        pools().add(*bad)


@pytest.mark.parametrize("number", [MASQUERADE, 5, -1, POOLS_MAX])
def test_what_cannot_be_deleted(number):
    with pytest.raises(KeyError):
        pools().delete(number)


def test_a_pool_is_a_cache_line():
    assert NAT_POOL.itemsize == 64


def test_several_workers_never_choose_the_same_and_count_apart():
    """Each takes what its own flows' replies come to, and so nobody looks into another's sessions."""
    tables = [table() for _ in range(3)]
    for worker, sessions in enumerate(tables):
        sessions[[WORKERS, WORKER]] = 3, worker
        sessions[HOME_SEED : HOME_SEED + 2] = 12345, 67890
    nat = NatPools(cast("Arena", Heap()), ["a", "b", "c"])
    pool = nat.add(FIRST, FIRST, 2000, 2299)
    got = [[], [], []]
    for worker, sessions in enumerate(tables):
        nat.table = nat.tables[worker]
        for k in range(60):
            end = choose(sessions, nat, pool, src=(CLIENT[0] + k, 2000 + k))
            assert end is not None
            taken(sessions, end)
            got[worker].append(end)
    ends = [end for some in got for end in some]
    assert len(set(ends)) == len(ends) == 180
    nat.table = nat.tables[0]
    assert nat.statistics()[1][5:] == (180, 0)


def test_a_range_of_few_ports_may_have_none_for_a_worker():
    sessions, nat = table(), pools()
    sessions[[WORKERS, WORKER]] = 2, 0
    pool = nat.add(FIRST, FIRST, 2000, 2000)
    got = [choose(sessions, nat, pool, dst=(SERVER[0], port)) for port in range(100)]
    assert 20 < got.count(None) < 80
