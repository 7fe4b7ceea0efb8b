"""Shares of a packet socket's frames: by an interpreter of classic BPF, and by Linux."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.io.af_packet_share import program
from vforward.testing import packets as pk

M1, M2 = "02:00:00:00:00:01", "02:00:00:00:00:02"
WORD = 0xFFFFFFFF


class Outside(Exception):
    """A load from behind the frame: Linux then lets the frame go."""


def taken(steps, frame):
    """Whether a filter takes a frame (Linux networking/filter.rst)."""
    a = x = at = 0
    memory = {}

    def load(where, size):
        if where + size > len(frame):
            raise Outside
        return int.from_bytes(frame[where : where + size], "big")

    while True:
        code, so, otherwise, k = steps[at]
        at += 1
        match code:
            case 0x00:
                a = k
            case 0x01:
                x = k
            case 0x20 | 0x28 | 0x30:
                a = load(k, {0x20: 4, 0x28: 2, 0x30: 1}[code])
            case 0x48:
                a = load(x + k, 2)
            case 0x80:
                a = len(frame)
            case 0x60:
                a = memory[k]
            case 0x61:
                x = memory[k]
            case 0xB1:
                x = 4 * (load(k, 1) & 15)
            case 0x02:
                memory[k] = a
            case 0x07:
                x = a
            case 0x0C:
                a = (a + x) & WORD
            case 0x87:
                a = x
            case 0x04:
                a = (a + k) & WORD
            case 0x3D:
                at += so if a >= x else otherwise
            case 0x24:
                a = a * k & WORD
            case 0x74:
                a >>= k
            case 0x94:
                a %= k
            case 0x05:
                at += k
            case 0x15:
                at += so if a == k else otherwise
            case 0x35:
                at += so if a >= k else otherwise
            case 0x45:
                at += so if a & k else otherwise
            case 0x06:
                return k != 0
            case _:
                raise AssertionError(hex(code))


def whose(frame, n):
    """The one socket that takes it."""
    found = [k for k in range(n) if taken(program(k, n), frame)]
    assert len(found) == 1, found
    return found[0]


def frame4(src, dst, sport, dport, protocol=17, options=b"", **ip):
    body = sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + bytes(16)
    return pk.eth(M1, M2, 0x0800, pk.ip4(src, dst, protocol, body, options=options, **ip))


def frame6(src, dst, sport, dport, protocol=6):
    body = sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + bytes(16)
    return pk.eth(M1, M2, 0x86DD, pk.ip6(src, dst, protocol, body))


ADDRESS, PORT = st.integers(0, 2**32 - 1), st.integers(0, 65535)


@given(ADDRESS, ADDRESS, PORT, PORT, st.sampled_from([1, 6, 17, 47, 132]), st.integers(0, 10))
def test_both_directions_of_ipv4_are_one_sockets(src, dst, sport, dport, protocol, words):
    options = bytes(4 * words)
    there = frame4(src, dst, sport, dport, protocol, options)
    assert whose(there, 3) == whose(frame4(dst, src, dport, sport, protocol, options), 3)


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1), PORT, PORT)
def test_both_directions_of_ipv6_are_one_sockets(src, dst, sport, dport):
    src, dst = src.to_bytes(16, "big"), dst.to_bytes(16, "big")
    assert whose(frame6(src, dst, sport, dport), 3) == whose(frame6(dst, src, dport, sport), 3)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_flows_spread(n):
    draw = random.Random(1)
    shares = [0] * n
    for k in range(300 * n):
        if k % 2:
            frame = frame4(0x0A000002, 0x0A000102 + k % 3, 1024 + k, 53)
        else:
            frame = frame6("2001:db8::1", "2001:db8::2", draw.randrange(65536), 443)
        shares[whose(frame, n)] += 1
    assert min(shares) > 200
    assert max(shares) < 420


def test_pieces_of_a_datagram_are_one_sockets():
    owners = {
        whose(frame4(1, 2, 3, 4, flags_mf=True), 3),
        whose(frame4(1, 2, 5, 6, frag_off=24), 3),
    }
    assert len(owners) == 1


@given(st.binary(min_size=14, max_size=80))
def test_every_frame_is_somebodys(frame):
    for kind in (b"\x08\0", b"\x86\xdd", frame[12:14]):
        assert whose(frame[:12] + kind + frame[14:], 3) in (0, 1, 2)
