"""ip4-session against the oracles of TCP and of the table: hits, misses, drops, translation."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.sessions import DROP, MISS, PAST, PAST_TREATED, Table
from oracles import tcp as oracle
from oracles.tcp import ACK, FIN, RST, SYN
from tables.session_world import endpoint, header
from vforward.layout import PORTS_KNOWN
from vforward.nodes.ip4.session import NODE
from vforward.tables import session as t
from vforward.testing import packets

HOST, SERVER = 0x0A000001, 0xC0000201
SRC, DST = endpoint(HOST, 40000), endpoint(SERVER, 443)
UDP, TCP, ICMP = 17, 6, 1


def ip4(src, dst, protocol, message, **more):
    return packets.ip4(src >> 16, dst >> 16, protocol, message, **more)


def udp(src, dst, payload=b"hello", **more):
    message = packets.udp(src >> 16, dst >> 16, src & 0xFFFF, dst & 0xFFFF, payload)
    return ip4(src, dst, UDP, message, **more)


def tcp(src, dst, flags, seq, ack, window=1000, payload=b"", scale=None):
    ports = (src & 0xFFFF, dst & 0xFFFF)
    return ip4(src, dst, TCP, header(flags, seq, ack, window, scale, ports) + payload)


class Flow:
    """A connection as the oracle has it, and as the table does."""

    def __init__(self, table, n):
        self.table = table
        self.ends = (endpoint(HOST + n, 1000 + n), DST)
        self.oracle = None

    def segment(self, d, flags, seq, ack, window, payload, scale):
        src, dst = self.ends[d], self.ends[1 - d]
        return tcp(src, dst, flags, seq, ack, window, bytes(payload), scale)

    def expect(self, d, flags, seq, ack, window, payload, scale):
        """What becomes of it."""
        if self.oracle is None:
            return DROP if oracle.kind_of(flags) == "bad" else MISS
        verdict = self.oracle.segment(d, flags, seq, ack, window, payload, scale)
        if verdict == "again":
            self.oracle = None
        return {"pass": PAST, "again": MISS}.get(verdict, DROP)

    def missed(self, d, flags, seq, ack, window, payload, scale):
        """The rules let it begin a session."""
        self.table.put(header(flags, seq, ack, window, scale), payload)
        number = self.table.open(self.ends[d], self.ends[1 - d], 6)
        if number > 0:
            self.oracle = oracle.Connection(flags, seq, ack, window, payload, scale)
            self.ends = (self.ends[d], self.ends[1 - d])

    def numbers(self, d, seq_at, seq_off, ack_at, ack_off, payload):
        if self.oracle is None:
            return 1000 + seq_off, 0
        own, other = self.oracle.sides[d], self.oracle.sides[1 - d]
        seq = {"end": own.end, "allowed": own.allowed - payload, "low": own.end - other.window}[
            seq_at
        ]
        ack = {"end": other.end, "back": other.end - 66_000}[ack_at]
        return (seq + seq_off) % 2**32, (ack + ack_off) % 2**32


SEGMENTS = st.tuples(
    st.integers(0, 1),
    st.sampled_from([SYN, SYN | ACK, ACK, ACK, ACK, FIN | ACK, RST, SYN | FIN, 0]),
    st.sampled_from(["end", "end", "end", "allowed", "low"]),
    st.sampled_from([0, 0, 0, -1, 1]),
    st.sampled_from(["end", "end", "back"]),
    st.sampled_from([0, 0, 0, -1, 1]),
    st.sampled_from([0, 1, 1000, 0xFFFF]),
    st.sampled_from([0, 0, 1, 100]),
    st.sampled_from([None, 0, 7]),
)
GOOD = [
    (0, SYN, "end", 0, "end", 0, 1000, 0, None),
    (1, SYN | ACK, "end", 0, "end", 0, 1000, 0, None),
    (0, ACK, "end", 0, "end", 0, 1000, 0, None),
]


@settings(max_examples=60)
@given(
    st.lists(st.lists(SEGMENTS, min_size=12, max_size=12), min_size=1, max_size=6),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([1, 256]),
)
def test_tcp_against_the_oracle(walks, good, vector):
    """A segment of each connection at a time."""
    table = Table()
    flows = [Flow(table, n) for n in range(len(walks))]
    for k in range(12):
        segments = []
        for flow, walk in zip(flows, walks, strict=True):
            d, flags, seq_at, seq_off, ack_at, ack_off, window, payload, scale = (
                GOOD[k] if k < good else walk[k]
            )
            seq, ack = flow.numbers(d, seq_at, seq_off, ack_at, ack_off, payload)
            segments.append((d, flags, seq, ack, window, payload, scale))
        frames = [flow.segment(*s) for flow, s in zip(flows, segments, strict=True)]
        wanted = [flow.expect(*s) for flow, s in zip(flows, segments, strict=True)]
        result = table.run(NODE, frames, vector=vector)
        assert result.edges == wanted
        assert sum(v for k, v in result.counters.items() if k != "reopened") == wanted.count(DROP)
        for flow, segment, edge in zip(flows, segments, wanted, strict=True):
            if edge == MISS:
                flow.missed(*segment)
        table.sessions.check()


def test_udp_in_both_directions():
    table = Table()
    both = [udp(SRC, DST), udp(DST, SRC)]
    assert table.run(NODE, both).edges == [MISS, MISS]
    table.put(bytes(8))
    number = table.open(SRC, DST)
    assert table.run(NODE, [udp(SRC, DST), udp(DST, SRC), udp(SRC, DST)]).edges == [PAST] * 3
    assert table.state(number) == "replied"
    assert table.run(NODE, both).edges == [PAST] * 2
    assert table.run(NODE, both, rx_port=3).edges == [MISS] * 2, "another zone"


def test_a_treatment_is_noted_and_leaves_policing_on():
    table = Table()
    table.put(bytes(8))
    number = table.open(SRC, DST, grant=t.Grant(0, 77, 0, 0, 0, 0))
    for _ in range(2):
        result = table.run(NODE, [udp(DST, SRC)])
        assert result.edges == [PAST_TREATED]
        assert result.meta["treatment"].tolist() == [77]
    assert table.state(number) == "replied"


def test_nat_both_ways():
    table = Table()
    outside = endpoint(0xC6336407, 5555)
    table.established(SRC, DST, reply=(DST, outside))
    out, back, direct = (
        (SRC, DST, ACK, 101, 901),
        (DST, outside, ACK, 901, 101),
        (DST, SRC, ACK, 901, 101),
    )
    result = table.run(NODE, [tcp(*out), tcp(*back), tcp(*direct)])
    assert result.edges == [PAST, PAST, MISS]
    ends = [struct.unpack(">IIHH", frame[26:38]) for frame in result.frames]
    assert ends[0] == (outside >> 16, SERVER, 5555, 443)
    assert ends[1] == (SERVER, HOST, 443, 40000)
    assert ends[2] == (SERVER, HOST, 443, 40000)
    assert (
        packets.checksum(result.frames[0][14:34]) == packets.checksum(result.frames[1][14:34]) == 0
    )


def test_nat_of_udp_that_was_not_answered_yet():
    table = Table()
    outside = endpoint(0xC6336407, 5555)
    table.put(bytes(8))
    table.open(SRC, DST, reply=(DST, outside))
    for _ in range(2):
        result = table.run(NODE, [udp(SRC, DST), udp(DST, outside)])
        assert result.edges == [PAST, PAST]
        assert result.frames[0][14:] == udp(outside, DST)
        assert result.frames[1][14:] == udp(DST, SRC)


def test_pings():
    table = Table()
    ask = packets.icmp_echo(7, 1)
    answer = packets.icmp_echo(7, 1, reply=True)
    table.put(ask)
    table.open(endpoint(HOST, 7), endpoint(SERVER, 0), ICMP)
    frames = [
        packets.ip4(HOST, SERVER, ICMP, ask),
        packets.ip4(SERVER, HOST, ICMP, answer),
        packets.ip4(SERVER, HOST, ICMP, ask),
        packets.ip4(SERVER, HOST, 47, b"gre!"),
    ]
    assert table.run(NODE, frames).edges == [PAST, PAST, MISS, MISS]


@pytest.mark.parametrize("kind", [1, 128, 135])
def test_the_other_familys_icmp_is_for_the_rules(kind):
    assert Table().run(NODE, [packets.ip4(HOST, SERVER, 58, bytes([kind, *range(9)]))]).edges == [
        MISS
    ]


def test_an_error_goes_with_its_session():
    table = Table()
    table.put(bytes(8))
    table.open(SRC, DST)
    quoted = struct.pack(">BBHI", 3, 1, 0, 0) + udp(SRC, DST)
    error = quoted[:2] + packets.checksum(quoted).to_bytes(2, "big") + quoted[4:]
    frames = [
        packets.ip4("192.0.2.99", HOST, ICMP, error),
        packets.ip4("192.0.2.99", HOST + 1, ICMP, error),
        packets.ip4("192.0.2.99", HOST, ICMP, b"\x0d" + error[1:]),
    ]
    assert table.run(NODE, frames).edges == [PAST, "drop", MISS]


def test_what_is_malformed_is_dropped():
    table = Table()
    table.established(SRC, DST)
    cut = tcp(SRC, DST, ACK, 101, 901)
    low = bytearray(cut)
    low[32] = 0x40
    cases = {
        ip4(SRC, DST, TCP, header(ACK, 101, 901)[:19]): "short",
        ip4(SRC, DST, UDP, bytes(7)): "short",
        bytes(low): "short",
        tcp(SRC, DST, SYN | FIN, 101, 901): "bad-flags",
        tcp(DST, DST, SYN, 1, 0): "land",
        udp(DST, DST): "land",
        tcp(SRC, DST, ACK, 101 + 2**31, 901): "outside",
        tcp(DST, SRC, RST, 901 + 70_000, 0): "outside",
        ip4(SRC, DST + (1 << 16), TCP, header(0, 1, 1)): "bad-flags",
    }
    result = table.run(NODE, list(cases))
    assert result.edges == [DROP] * len(cases)
    assert [result.reason(i) for i in range(len(cases))] == list(cases.values())


def test_fragments_by_their_datagrams_ports():
    table = Table()
    table.established(SRC, DST)
    ports = (SRC & 0xFFFF) << 16 | DST & 0xFFFF
    first = ip4(
        SRC, DST, TCP, header(ACK, 101, 901, 1000, None, (40000, 443)) + bytes(4), flags_mf=True
    )
    later = ip4(SRC, DST, TCP, bytes(40), frag_off=24)
    before = table.hot[1].copy()

    def known(record, _):
        record["flags"] |= PORTS_KNOWN
        record["hash"] = ports

    assert table.run(NODE, [later], change=known).edges == [PAST]
    assert table.hot[1] == before
    assert table.run(NODE, [first], change=known).edges == [PAST]
    assert int(table.hot[1]["end"][0]) == int(before["maxend"][0])


def test_options_of_ip():
    table = Table()
    table.established(SRC, DST)
    packet = packets.ip4(
        HOST, SERVER, TCP, header(ACK, 101, 901, 9, None, (40000, 443)), options=b"\x01" * 4
    )
    assert table.run(NODE, [packet]).edges == [PAST]


def test_chains_count_with_all_their_bytes():
    table = Table()
    table.put(header(SYN, 100, 0, 1000, 7))
    number = table.open(SRC, DST, 6)
    table.put(header(SYN | ACK, 900, 101, 65000, 7))
    assert table.advance(number, 1) == 0
    table.put(header(ACK, 101, 901, 1000))
    assert table.advance(number, 0) == 0
    table.put(header(ACK, 901, 101, 1000))
    assert table.advance(number, 1) == 0
    frame = tcp(SRC, DST, ACK, 101, 901, payload=bytes(6000))
    assert table.run(NODE, [frame]).edges == [PAST]
    assert int(table.hot[number]["end"][0]) == 101 + 6000


def test_a_new_connection_with_the_ports_of_one_that_is_over():
    table = Table()
    number = table.established(SRC, DST)
    result = table.run(NODE, [tcp(DST, SRC, RST, 901, 0), tcp(SRC, DST, SYN, 5, 0)])
    assert result.edges == [PAST, MISS]
    assert result.counters["reopened"] == 1
    assert table.state(number) == "free"


def test_many_flows_and_a_full_index():
    """All are found, in both directions, whichever bucket they are in."""
    table = Table(1023)
    table.put(bytes(8))
    ends = [endpoint(0x0A000000 + n, n) for n in range(1023)]
    for src in ends:
        assert table.open(src, DST) > 0
    there = table.run(NODE, [udp(src, DST) for src in ends])
    back = table.run(NODE, [udp(DST, src) for src in ends])
    again = table.run(NODE, [udp(src, DST) for src in ends])
    assert set(there.edges) == set(back.edges) == set(again.edges) == {PAST}
    others = table.run(NODE, [udp(src + 1, DST) for src in ends if src + 1 not in ends])
    assert set(others.edges) == {MISS}
    assert (table.hot["state"][1:] == t.REPLIED).all()
    table.sessions.check()


def test_when_it_was_seen():
    table = Table()
    number = table.established(SRC, DST)
    table.at(99)
    table.run(NODE, [tcp(SRC, DST, ACK, 101, 901)])
    assert int(table.hot[number]["seen"]) == 99
    assert np.uint16(99) == table.hot[number]["seen"]
