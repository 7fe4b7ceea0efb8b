"""ip4-reassembly against the oracle: pieces that fit, copies, overlaps, tiny and hostile ones."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.datagrams import ON, TCP, UDP, Cut, compare, cuts_of, traffic
from oracles.reassembly import piece4
from vforward.nodes.ip4.reassembly import NODE
from vforward.testing import packets

ICMP = 1
SRC, DST = "10.0.0.1", "192.0.2.1"


def packet(cut: Cut, **more) -> bytes:
    """A piece; what is not to be told apart by its identification is by its protocol or source."""
    src, ident = f"10.0.0.{cut.n & 1}", cut.n >> 1
    return packets.ip4(
        src, DST, cut.protocol, cut.body,
        ident=ident, frag_off=cut.offset, flags_mf=cut.more, **more,
    )  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(traffic(ICMP), st.sampled_from((1, 3, 256)), st.sampled_from((b"", b"\x01" * 8)))
def test_against_the_oracle(cuts, vector, options):
    compare(NODE, [packet(cut, options=options) for cut in cuts], piece4, vector)


words = st.tuples(
    st.sampled_from((0, 1, 2, 3, 8191, 8190, 100)),
    st.booleans(),
    st.sampled_from((1, 6, 17, 47, 132)),
    st.integers(0, 40),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(words, max_size=12), st.binary(min_size=40, max_size=40))
def test_any_pieces(given_words, content):
    """Nothing is read beyond a packet, and every one gets an edge."""
    pieces = [
        packets.ip4(SRC, DST, protocol, content[:n], frag_off=8 * unit, flags_mf=more)
        for unit, more, protocol, n in given_words
    ]
    compare(NODE, pieces, piece4)


def test_what_is_whole_passes_untouched():
    whole = packets.ip4(SRC, DST, UDP, bytes(8), flags_df=True)
    result = compare(NODE, [whole] * 3, piece4)
    assert result.edges == [ON] * 3
    assert result.meta["flags"].tolist() == [0] * 3


def test_first_piece_last():
    first, *others = cuts_of(3, UDP, 60, 24)
    result = compare(NODE, [packet(cut) for cut in (*others, first)], piece4)
    assert result.edges == ["held"] * len(others) + [ON]
    assert [frame[14:] for _, frame in result.emitted] == [packet(cut) for cut in others]
    assert result.meta["hash"][-1] == 1003 << 16 | 53


def test_tiny_pieces_of_tcp():
    """RFC 1858: flags in the second piece. RFC 3128: the second piece overwrites them."""
    tiny = packets.ip4(SRC, DST, TCP, bytes(8), flags_mf=True)
    flags = packets.ip4(SRC, DST, TCP, bytes(16), frag_off=8)
    assert compare(NODE, [tiny, flags], piece4).counted == {"tiny": 1, "refused": 1}
    assert compare(NODE, [flags], piece4).counted == {"tiny": 1}


def test_teardrop_and_ping_of_death():
    inside = [packets.ip4(SRC, DST, UDP, bytes(40), flags_mf=True),
              packets.ip4(SRC, DST, UDP, bytes(4), frag_off=24)]  # fmt: skip
    assert compare(NODE, inside, piece4).counted == {"copy": 1}
    long = packets.ip4(SRC, DST, ICMP, bytes(400), frag_off=65528 - 8)
    assert compare(NODE, [long], piece4).counted == {"bad-length": 1}


def test_an_icmp_error_in_pieces():
    error = struct.pack(">BBHI", 3, 1, 0, 0) + bytes(24)
    pieces = [packets.ip4(SRC, DST, ICMP, error, flags_mf=True),
              packets.ip4(SRC, DST, ICMP, bytes(8), frag_off=32)]  # fmt: skip
    assert compare(NODE, pieces, piece4).counted == {"icmp": 1, "refused": 1}


def test_long_pieces_count_by_their_buffers():
    """Of 14 buffers that may wait each takes 5, so the third of them does not."""
    later = [Cut(n, UDP, 8000, bytes(9000), False) for n in range(3)]
    result = compare(NODE, [packet(cut) for cut in later], piece4)
    assert result.edges == ["held", "held", "drop"]
    assert result.counted == {"queue-full": 1}
