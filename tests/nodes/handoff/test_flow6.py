"""ip6-hand-off: by endpoints, quotes and pieces."""

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from nodes.handoff_world import ME, World, piece6
from vforward.nodes.handoff import flow6
from vforward.testing import packets as pk

A, B = "2001:db8::1", "2001:db8:1::2"
NUMBER = {address: int(IPv6Address(address)) for address in (A, B)}
W = World()


def where(*packets):
    return W.run(flow6.NODE, packets)[1]


def udp(src, dst, sport, dport):
    return pk.ip6(src, dst, 17, pk.udp(src, dst, sport, dport, bytes(16)))


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_both_directions_go_where_their_session_is_looked_up(sport, dport):
    home = W.home6(NUMBER[A], NUMBER[B], sport << 16 | dport, 17)
    assert where(udp(A, B, sport, dport), udp(B, A, dport, sport)) == [home, home]


def test_a_ping_and_its_answer_meet():
    homes = set()
    for ident in range(30):
        ask = pk.ip6(A, B, 58, pk.icmp6_echo(A, B, ident, 1))
        answer = pk.ip6(B, A, 58, pk.icmp6_echo(B, A, ident, 1, reply=True))
        one, other = where(ask, answer)
        assert one == other
        homes.add(one)
    assert homes == {0, 1, 2}


def test_an_error_goes_where_the_packet_is_that_it_quotes():
    for sport in range(20):
        packet = udp(A, B, 1000 + sport, 53)
        error = pk.ip6(B, A, 58, pk.icmp6(B, A, 1, 4, bytes(4) + packet))
        assert where(error) == where(packet)


def test_what_is_of_no_flow_stays():
    solicits = pk.neighbor_solicitation(A, B, B)
    short = pk.ip6(A, B, 6, b"\0\1")
    error = pk.ip6(B, A, 58, pk.icmp6(B, A, 1, 4, bytes(44)))
    assert where(pk.ip6(A, B, 58, solicits), short, error) == [ME] * 3


def test_pieces_of_a_datagram_meet_and_datagrams_spread():
    whole = pk.udp(A, B, 1000, 53, bytes(40))
    met = []
    for ident in range(40):
        some = [
            piece6(A, B, whole[:24], ident, 0, True),
            piece6(A, B, whole[24:], ident, 24, False),
        ]
        met.append(set(where(*some)))
    assert all(len(workers) == 1 for workers in met)
    assert set.union(*met) == {0, 1, 2}
