"""ip6-session: as ip4-session, with extension headers and ICMPv6, without NAT."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.sessions import DROP, MISS, PAST, PAST_TREATED, Table
from oracles import tcp as oracle
from oracles.tcp import ACK, FIN, RST, SYN
from tables.session_world import header
from vforward.layout import PORTS_KNOWN
from vforward.nodes.ip6.session import NODE
from vforward.tables import session as t
from vforward.testing import packets

HOST, SERVER, ROUTER = "2001:db8::1", "2001:db8:1::2", "2001:db8:2::3"
NUMBERS = {name: int.from_bytes(packets.ip6_bytes(name), "big") for name in (HOST, SERVER, ROUTER)}
TCP, UDP, ICMP6 = 6, 17, 58
HOP_BY_HOP = bytes((UDP, 0, 1, 4, 0, 0, 0, 0))


def tcp(d, flags, seq, ack, window=1000, payload=b"", scale=None):
    ends, ports = ((HOST, SERVER), (40000, 443)) if d == 0 else ((SERVER, HOST), (443, 40000))
    return packets.ip6(*ends, TCP, header(flags, seq, ack, window, scale, ports) + payload)


def udp(src, sport, dst, dport):
    return packets.udp(src, dst, sport, dport, b"hello")


def opened(table, protocol=UDP, sport=1000, dport=53, **grant):
    given_ = t.Grant(0, 0, 0, 0, 0, 0)._replace(**grant)
    return table.open6(NUMBERS[HOST], sport, NUMBERS[SERVER], dport, protocol, 0, given_)


SEGMENTS = st.tuples(
    st.integers(0, 1),
    st.sampled_from([SYN, SYN | ACK, ACK, ACK, FIN | ACK, RST, SYN | FIN]),
    st.sampled_from([0, 0, 0, -1, 1, 1000, 70_000]),
    st.sampled_from([0, 0, 0, -1, 1]),
    st.sampled_from([0, 1, 100]),
)


@settings(max_examples=100)
@given(st.lists(SEGMENTS, max_size=12), st.booleans())
def test_tcp_against_the_oracle(walk, handshake):
    table = Table()
    table.put(header(SYN, 100, 0, 1000, 7))
    number = opened(table, TCP, 40000, 443)
    model = oracle.Connection(SYN, 100, 0, 1000, 0, 7)
    steps = [(1, SYN | ACK, 900, 101, b"", 3), (0, ACK, 101, 901, b"", None)] if handshake else []
    for d, flags, seq, ack, size in walk:
        steps.append((d, flags, seq, ack, bytes(size), 2))
    for k, (d, flags, seq, ack, payload, scale) in enumerate(steps):
        if k >= 2 * handshake:
            own, other = model.sides[d], model.sides[1 - d]
            seq, ack = (own.end + seq) % 2**32, (other.end + ack) % 2**32
        verdict = model.segment(d, flags, seq, ack, 1000, len(payload), scale)
        wanted = {"pass": PAST, "again": MISS}.get(verdict, DROP)
        assert table.run(NODE, [tcp(d, flags, seq, ack, 1000, payload, scale)]).edges == [wanted]
        table.sessions.check()
        if verdict == "again":
            assert table.state(number) == "free"
            break
        assert table.state(number) == model.state


def test_udp_through_extension_headers():
    table = Table()
    table.put(bytes(8))
    number = opened(table, treatment=3)
    plain = packets.ip6(SERVER, HOST, UDP, udp(SERVER, 53, HOST, 1000))
    extended = packets.ip6(HOST, SERVER, 0, HOP_BY_HOP + udp(HOST, 1000, SERVER, 53))
    others = packets.ip6(HOST, SERVER, UDP, udp(HOST, 1001, SERVER, 53))
    result = table.run(NODE, [extended, plain, others])
    assert result.edges == [PAST_TREATED, PAST_TREATED, MISS]
    assert result.meta["treatment"].tolist()[:2] == [3, 3]
    assert table.state(number) == "replied"
    assert table.run(NODE, [plain], rx_port=3).edges == [MISS]


def test_pings_and_what_is_of_no_flow():
    table = Table()
    ask, answer = (
        packets.icmp6_echo(HOST, SERVER, 7),
        packets.icmp6_echo(SERVER, HOST, 7, reply=True),
    )
    table.put(ask)
    table.open6(NUMBERS[HOST], 7, NUMBERS[SERVER], 0, ICMP6)
    solicitation = packets.neighbor_solicitation(HOST, SERVER, SERVER)
    frames = [
        packets.ip6(HOST, SERVER, ICMP6, ask),
        packets.ip6(SERVER, HOST, ICMP6, answer),
        packets.ip6(HOST, SERVER, ICMP6, solicitation),
        packets.ip6(HOST, SERVER, 59),
    ]
    assert table.run(NODE, frames).edges == [PAST, PAST, MISS, MISS]


@pytest.mark.parametrize("kind", [3, 8, 13])
def test_the_other_familys_icmp_is_for_the_rules(kind):
    assert Table().run(NODE, [packets.ip6(HOST, SERVER, 1, bytes([kind, *range(9)]))]).edges == [
        MISS
    ]


def test_an_error_goes_with_its_session():
    table = Table()
    table.put(bytes(8))
    opened(table)
    quoted = packets.ip6(HOST, SERVER, UDP, udp(HOST, 1000, SERVER, 53))
    unknown = packets.ip6(HOST, SERVER, UDP, udp(HOST, 1001, SERVER, 53))
    frames = [
        packets.ip6(ROUTER, HOST, ICMP6, packets.icmp6(ROUTER, HOST, 1, 4, bytes(4) + packet))
        for packet in (quoted, unknown)
    ]
    assert table.run(NODE, frames).edges == [PAST, MISS]


def test_what_is_malformed_is_dropped():
    table = Table()
    table.put(header(SYN, 100, 0, 1000))
    opened(table, TCP, 40000, 443)
    cases = {
        packets.ip6(HOST, SERVER, TCP, header(ACK)[:19]): "short",
        packets.ip6(HOST, SERVER, UDP, bytes(7)): "short",
        packets.ip6(HOST, HOST, UDP, udp(HOST, 9, HOST, 9)): "land",
        tcp(0, SYN | FIN, 1, 1): "bad-flags",
        tcp(0, ACK, 101, 1): "bad-state",
        tcp(1, SYN | ACK, 900, 99): "outside",
    }
    result = table.run(NODE, list(cases))
    assert result.edges == [DROP] * len(cases)
    assert [result.reason(i) for i in range(len(cases))] == list(cases.values())


def test_fragments_by_their_datagrams_ports():
    table = Table()
    table.put(bytes(8))
    opened(table)
    first = struct.pack(">BBHI", UDP, 0, 1, 5) + udp(HOST, 1000, SERVER, 53)[:8]
    later = struct.pack(">BBHI", UDP, 0, 8, 5) + b"rest"
    frames = [packets.ip6(HOST, SERVER, 44, piece) for piece in (first, later)]

    def known(record, _):
        record["flags"] |= PORTS_KNOWN
        record["hash"] = 1000 << 16 | 53

    assert table.run(NODE, frames, change=known).edges == [PAST, PAST]


@settings(max_examples=200)
@given(st.binary(max_size=80), st.sampled_from([0, 6, 17, 43, 44, 51, 58, 60, 255]), st.booleans())
def test_any_bytes(payload, following, piece):
    """Nothing is read beyond the packet, and every packet gets an edge."""
    table = Table(3)

    def change(record, _):
        record["flags"] |= PORTS_KNOWN * piece
        record["hash"] = np.uint32(1000 << 16 | 53)

    edges = table.run(NODE, [packets.ip6(HOST, SERVER, following, payload)], change=change).edges
    assert edges[0] in (DROP, MISS)
