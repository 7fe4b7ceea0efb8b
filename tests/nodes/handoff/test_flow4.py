"""ip4-hand-off: by endpoints, quotes and pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.handoff_world import ME, World
from tables.session_world import endpoint
from vforward.nodes.handoff import flow4
from vforward.testing import packets as pk

A, B = "10.0.0.1", "192.0.2.1"
NUMBER = {A: 0x0A000001, B: 0xC0000201}
W = World()


def where(*packets, **options):
    return W.run(flow4.NODE, packets, **options)[1]


def with_ports(protocol, sport, dport):
    body = sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + bytes(16)
    return pk.ip4(A, B, protocol, body), pk.ip4(B, A, protocol, body[2:4] + body[:2] + bytes(16))


@given(st.sampled_from([6, 17, 132]), st.integers(0, 65535), st.integers(0, 65535))
def test_both_directions_go_where_their_session_is_looked_up(protocol, sport, dport):
    home = W.home4(endpoint(NUMBER[A], sport), endpoint(NUMBER[B], dport), protocol)
    assert where(*with_ports(protocol, sport, dport)) == [home, home]


def test_a_ping_and_its_answer_meet_and_two_pings_do_not_have_to():
    homes = set()
    for ident in range(30):
        ask = pk.ip4(A, B, 1, pk.icmp_echo(ident, 1))
        answer = pk.ip4(B, A, 1, pk.icmp_echo(ident, 1, reply=True))
        one, other = where(ask, answer)
        assert one == other == W.home4(endpoint(NUMBER[A], ident), endpoint(NUMBER[B], 0), 1)
        homes.add(one)
    assert homes == {0, 1, 2}


def error(quote, kind=3):
    message = bytes((kind, 3)) + bytes(6) + quote
    total = pk.checksum(message)
    return pk.ip4("198.51.100.1", A, 1, message[:2] + total.to_bytes(2, "big") + message[4:])


def test_an_error_goes_where_the_packet_is_that_it_quotes():
    homes = set()
    for sport in range(30):
        there, back = with_ports(17, 1000 + sport, 53)
        own = where(there)[0]
        assert where(error(there[:28]), error(back[:28])) == [own, own]
        homes.add(own)
    assert homes == {0, 1, 2}


def test_what_is_of_no_flow_stays():
    short = pk.ip4(A, B, 6, b"\0\1")
    timestamp = pk.ip4(A, B, 1, bytes((13,)) + bytes(19))
    assert where(short, timestamp, error(bytes(28)), error(b"")) == [ME] * 4


def pieces(ident, src=A, dst=B):
    whole = pk.udp(src, dst, 1000, 53, bytes(60))
    return [
        pk.ip4(src, dst, 17, whole[:24], ident=ident, flags_mf=True),
        pk.ip4(src, dst, 17, whole[24:48], ident=ident, flags_mf=True, frag_off=24),
        pk.ip4(src, dst, 17, whole[48:], ident=ident, frag_off=48),
    ]


def test_pieces_of_a_datagram_meet_and_datagrams_spread():
    met = [set(where(*pieces(ident))) for ident in range(40)]
    assert all(len(workers) == 1 for workers in met)
    assert set.union(*met) == {0, 1, 2}


@pytest.mark.parametrize("rx_port", [1, 3])
def test_the_zone_counts(rx_port):
    zone = int(W.ports[rx_port]["vrf"])
    ends = [(endpoint(NUMBER[A], 1000 + k), endpoint(NUMBER[B], 53)) for k in range(30)]
    homes = [W.home4(*end, 17, zone) for end in ends]
    assert where(*(with_ports(17, 1000 + k, 53)[0] for k in range(30)), rx_port=rx_port) == homes


@given(st.binary(min_size=20, max_size=60))
def test_no_bytes_are_too_odd(body):
    """Whatever ip4-input lets through: a header that says its own length."""
    packet = pk.ip4(A, B, body[0], body)
    assert where(packet)[0] in (0, 1, 2)
