"""ip6-reassembly against the oracle: as its sibling, with extension headers and atomic fragments."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.datagrams import ON, TCP, UDP, Cut, compare, cuts_of, traffic
from oracles.reassembly import piece6
from vforward.nodes.ip6.reassembly import NODE
from vforward.testing import packets

ICMP6, HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 58, 0, 43, 44, 60
SRC, DST = "2001:db8::1", "2001:db8:1::1"


def fragment(following: int, offset: int, more: bool, ident: int, body: bytes) -> bytes:
    return struct.pack(">BBHI", following, 0, offset | more, ident) + body


def extension(following: int, words: int = 0) -> bytes:
    return bytes((following, words, 1, 4 + 8 * words)) + bytes(4 + 8 * words)


def packet(cut: Cut, before: int = 0) -> bytes:
    """A piece behind so many options headers."""
    body = fragment(cut.protocol, cut.offset, cut.more, cut.n >> 1 << 20, cut.body)
    following = FRAGMENT
    for _ in range(before):
        body, following = extension(following) + body, DESTINATION
    return packets.ip6(f"2001:db8::{cut.n & 1}", DST, following, body)


@settings(deadline=None, max_examples=300)
@given(traffic(ICMP6), st.sampled_from((1, 3, 256)), st.sampled_from((0, 0, 1, 8, 9)))
def test_against_the_oracle(cuts, vector, before):
    compare(NODE, [packet(cut, before) for cut in cuts], piece6, vector)


headers = st.sampled_from((0, 6, 17, 43, 44, 51, 58, 59, 60, 108, 255))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(headers, headers, st.binary(max_size=64)), max_size=8))
def test_any_bytes(given_packets):
    """Nothing is read beyond a packet, and every one gets an edge."""
    made = [
        packets.ip6(SRC, DST, first, bytes((second,)) + content if content else b"")
        for first, second, content in given_packets
    ]
    compare(NODE, made, piece6)


def test_what_is_whole_passes_untouched():
    """One with a fragment header, too (RFC 6946)."""
    udp = packets.udp(SRC, DST, 1, 2, b"hello")
    atomic = packets.ip6(SRC, DST, FRAGMENT, fragment(UDP, 0, False, 7, udp))
    plain = packets.ip6(SRC, DST, UDP, udp)
    behind = packets.ip6(SRC, DST, HOP_BY_HOP, extension(UDP) + udp)
    result = compare(NODE, [atomic, plain, behind, atomic], piece6)
    assert result.edges == [ON] * 4
    assert result.meta["flags"].tolist() == [0] * 4


def test_first_piece_last():
    first, *others = cuts_of(3, UDP, 60, 24)
    result = compare(NODE, [packet(cut) for cut in (*others, first)], piece6)
    assert result.edges == ["held"] * len(others) + [ON]
    assert [frame[14:] for _, frame in result.emitted] == [packet(cut) for cut in others]
    assert result.meta["hash"][-1] == 1003 << 16 | 53


def test_headers_that_the_first_piece_has_not():
    """RFC 7112: all headers are in the first piece. RFC 1858: of TCP all 20 bytes."""
    cut = [
        fragment(DESTINATION, 0, True, 1, extension(UDP, 1)[:8]),
        fragment(TCP, 0, True, 2, bytes(16)),
        fragment(DESTINATION, 0, True, 3, extension(UDP) + bytes(8)),
        fragment(TCP, 8, False, 4, bytes(16)),
    ]
    result = compare(NODE, [packets.ip6(SRC, DST, FRAGMENT, each) for each in cut], piece6)
    assert result.edges == ["drop", "drop", ON, "drop"]
    assert result.counted == {"tiny": 3}


def test_overlaps_take_the_datagram_with_them():
    first, second, third = cuts_of(1, UDP, 60, 24)
    again = Cut(1, UDP, 16, bytes(16), True)
    result = compare(NODE, [packet(cut) for cut in (second, again, first, third)], piece6)
    assert result.edges == ["held", "drop", "drop", "drop"]
    assert result.counted == {"overlap": 1, "refused": 3}


def test_discovery_in_pieces():
    """RFC 6980: it is dropped."""
    solicitation = packets.neighbor_solicitation(SRC, DST, DST)
    piece = fragment(ICMP6, 0, True, 7, solicitation)
    result = compare(NODE, [packets.ip6(SRC, DST, FRAGMENT, piece)], piece6)
    assert result.counted == {"icmp": 1}
