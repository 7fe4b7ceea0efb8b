"""IPv6's helpers of kernels, each called by itself, against the oracle."""

from ipaddress import IPv6Address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes import network6 as net
from nodes.network6 import EXTENSIONS, Ip6Spec
from oracles import checksum
from oracles import ip6 as oracle
from vforward.jit.kernel import kernel
from vforward.layout import BUF_STRIDE
from vforward.packet import ip6

ROW, L3 = 1, 152


@kernel
def load(data, row, off):
    return ip6.load_address(data, row, off)


@kernel
def store(data, row, off, high, low):
    ip6.store_address(data, row, off, high, low)


@kernel
def kinds(high, low):
    return ip6.is_link_local(high), ip6.is_multicast(high), ip6.is_zero(high, low)


def buffers(packet):
    data = np.full((3, BUF_STRIDE), 0xA5, np.uint8)
    data[ROW, L3 : L3 + len(packet)] = np.frombuffer(packet, np.uint8)
    return data


def halves(address):
    return np.uint64(int(address) >> 64), np.uint64(int(address) & (1 << 64) - 1)


def test_addresses_are_loaded_and_stored_as_halves():
    address = IPv6Address("2001:db8::89ab:cdef:123:4567")
    data = buffers(bytes(100))
    store(data, ROW, L3 + 3, *halves(address))
    assert data[ROW, L3 + 3 : L3 + 19].tobytes() == address.packed
    assert data[ROW, L3 + 2] == data[ROW, L3 + 19] == 0
    assert load(data, ROW, L3 + 3) == halves(address)


@pytest.mark.parametrize("address", net.ADDRESSES, ids=str)
def test_kinds_of_addresses(address):
    want = (address.is_link_local, address.is_multicast, address.is_unspecified)
    assert tuple(map(bool, kinds(*halves(address)))) == want


def test_where_the_fields_lie():
    packet = Ip6Spec(b"abc", 17, flow=0x0123456, hops=9, src=net.OWN[0], dst=net.OWN[1]).build()
    assert packet[ip6.VERSION_CLASS_FLOW : ip6.LENGTH] == bytes.fromhex("60123456")
    assert packet[ip6.LENGTH : ip6.NEXT_HEADER] == b"\0\3"
    assert (packet[ip6.NEXT_HEADER], packet[ip6.HOP_LIMIT]) == (ip6.UDP, 9)
    assert packet[ip6.SRC : ip6.DST] == net.OWN[0].packed
    assert packet[ip6.DST : ip6.HEADER] == net.OWN[1].packed


@given(st.sampled_from(net.ADDRESSES), st.sampled_from(net.ADDRESSES), st.integers(0, 0x1FFFF))
def test_pseudo_header(src, dst, length):
    data = buffers(Ip6Spec(src=src, dst=dst).build())
    pseudo = src.packed + dst.packed + length.to_bytes(4, "big") + bytes([0, 0, 0, 58])
    assert ip6.pseudo_sum(data, ROW, L3, length, 58) == checksum.ones_sum(pseudo)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(EXTENSIONS), max_size=5),
    st.sampled_from((58, 17, 6, 0, 59, 43, 44, 50, 60)),
)
def test_upper_at_every_truncation(headers, proto):
    packet = Ip6Spec(bytes(8), proto, headers=headers).build()
    data = buffers(packet)
    for n in range(40, len(packet) + 1):
        assert ip6.upper(data, ROW, L3, L3 + n) == (
            (found := oracle.upper(packet[:n]))[0],
            L3 + found[1],
        )


@pytest.mark.parametrize("n", [7, 8, 9, 20])
def test_upper_goes_through_so_many(n):
    packet = Ip6Spec(bytes(8), 6, headers=[(60, net.options())] * n).build()
    protocol, _ = ip6.upper(buffers(packet), ROW, L3, L3 + len(packet))
    assert protocol == (6 if n <= ip6.HEADERS_MAX else 60)
