"""piece-hand-off: pieces whose ports are known go to their flow's worker, all others stay."""

from ipaddress import IPv6Address

from nodes.handoff_world import ME, World, piece6
from tables.session_world import endpoint
from vforward.layout import PORTS_KNOWN
from vforward.nodes.handoff import pieces
from vforward.testing import packets as pk

A, B = "10.0.0.1", "192.0.2.1"
A6, B6 = "2001:db8::1", "2001:db8:1::2"
W = World()


def where(packets, both=None):
    def change(record, i):
        if both is not None:
            record["flags"] |= PORTS_KNOWN
            record["hash"] = both[i]

    return W.run(pieces.NODE, packets, change=change)[1]


def test_whole_packets_stay():
    assert where([pk.ip4(A, B, 17, pk.udp(A, B, k, 53)) for k in range(50)]) == [ME] * 50


def test_pieces_follow_their_ports_first_or_later():
    both = [1000 + k << 16 | 53 for k in range(60)]
    made = [
        pk.ip4(A, B, 17, bytes(24), ident=k, flags_mf=True, frag_off=24 * (k % 2))
        for k in range(60)
    ]
    homes = [W.home4(endpoint(0x0A000001, b >> 16), endpoint(0xC0000201, 53), 17) for b in both]
    assert where(made, both) == homes
    assert set(homes) == {0, 1, 2}


def test_pieces_of_ipv6_too():
    both = [1000 + k << 16 | 53 for k in range(60)]
    udp = pk.udp(A6, B6, 1000, 53, bytes(40))
    made = [
        piece6(A6, B6, udp[:24] if k % 2 else udp[24:], k, 0 if k % 2 else 24, bool(k % 2))
        for k in range(60)
    ]
    src, dst = (int(IPv6Address(address)) for address in (A6, B6))
    assert where(made, both) == [W.home6(src, dst, b, 17) for b in both]
