"""IPv4's numbers, and the checksum of a header without options against the oracle."""

import sys
from ipaddress import IPv4Address, IPv4Network

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oracles import checksum
from strategies import Ip4Spec, ip
from vforward.jit.be import store16
from vforward.jit.kernel import i64, kernel
from vforward.packet import ip4

ROW, OFF = 1, 21
"""The header is the last 20 bytes of all: a load beyond it is one beyond the array."""

words = st.sampled_from([0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF]) | st.integers(0, 0xFFFF)


@kernel
def load(data):
    return ip4.header_words(data, i64(ROW), i64(OFF))


@kernel
def right(a, b, c):
    return ip4.checksum_right(a, b, c)


@kernel
def right_for_each(data, found):
    for check in range(found.size):
        store16(data, i64(ROW), i64(OFF + ip4.CHECKSUM), check)
        a, b, c = ip4.header_words(data, i64(ROW), i64(OFF))
        found[check] = ip4.checksum_right(a, b, c)


def buffers(header):
    data = np.full((ROW + 1, OFF + ip4.HEADER), 0xA5, np.uint8)
    data[ROW, OFF:] = np.frombuffer(header, np.uint8)
    return data


def header_of(listed):
    return b"".join(word.to_bytes(2, "big") for word in listed)


@settings(max_examples=500)
@given(st.lists(words, min_size=10, max_size=10), st.booleans())
@example([0] * 10, False)
@example([0xFFFF] * 8 + [0] * 2, False)  # the first sum of two words carries
@example([0xFFFF] * 4 + [0] * 4 + [0xFFFF] * 2, False)  # the second
@example([0xFFFF] * 10, False)  # both
def test_checksum_right(listed, mend):
    header = header_of(listed)
    if mend:
        empty = header_of([*listed[:5], 0, *listed[6:]])
        header = header_of([*listed[:5], checksum.internet(empty), *listed[6:]])
    found = tuple(map(int, load(buffers(header))))
    assert found == tuple(int.from_bytes(header[i : i + 8], sys.byteorder) for i in (0, 8, 16))
    no_version = not any(header)  # its sum is 0, and only ip4-input's other checks refuse it
    assert bool(right(*map(np.uint64, found))) == (checksum.verifies(header) or no_version)


@pytest.mark.parametrize("force", [None, 0, 1, 0xFFFE])
def test_of_all_checksums_the_right_ones(force):
    """Where 0 is right 0xFFFF is, too: both are zero (RFC 1071 section 1)."""
    header = Ip4Spec(src=ip("10.0.0.9"), dst=ip("192.0.2.1"), force=force).build()
    found = np.zeros(1 << 16, np.uint8)
    right_for_each(buffers(header), found)
    wanted = [
        check
        for check in range(1 << 16)
        if checksum.verifies(header[:10] + check.to_bytes(2, "big") + header[12:])
    ]
    assert wanted == ([0, 0xFFFF] if force == 0 else [int.from_bytes(header[10:12], "big")])
    assert np.flatnonzero(found).tolist() == wanted


def test_where_the_fields_lie():
    from scapy.layers.inet import ICMP, IP, TCP, UDP

    given = {"tos": 0x11, "id": 0x2233, "ttl": 9, "src": "1.2.3.4", "dst": "5.6.7.8"}
    packet = bytes(IP(**given, flags="MF", frag=0x1FFF) / b"abc")
    assert packet[ip4.VERSION_IHL : ip4.LENGTH] == b"\x45\x11"
    assert packet[ip4.LENGTH : ip4.FRAGMENT] == b"\0\x17\x22\x33"
    fragment = int.from_bytes(packet[ip4.FRAGMENT : ip4.TTL], "big")
    assert fragment == ip4.MORE_FRAGMENTS | ip4.OFFSET_MASK
    assert packet[ip4.TTL] == 9
    assert packet[ip4.SRC : ip4.DST] == bytes([1, 2, 3, 4])
    assert packet[ip4.DST : ip4.HEADER] == bytes([5, 6, 7, 8])
    for behind, number in ((ICMP(), ip4.ICMP), (TCP(), ip4.TCP), (UDP(), ip4.UDP)):
        packet = bytes(IP(**given, flags="DF") / behind)
        assert packet[ip4.PROTOCOL] == number
        assert int.from_bytes(packet[ip4.FRAGMENT : ip4.TTL], "big") == ip4.DONT_FRAGMENT


@pytest.mark.parametrize("first", [0, 127, 223, 224, 225, 239, 240, 255])
@pytest.mark.parametrize("rest", [0, 1, 0xFF, 0x100, 0x10000, 0xFFFFFF])
def test_groups(first, rest):
    address = IPv4Address(first << 24 | rest)
    assert (int(address) >= ip4.GROUPS) == (address.is_multicast or address.is_reserved)
    assert (int(address) >> 8 == ip4.LINK_GROUPS) == (address in IPv4Network("224.0.0.0/24"))
    assert (int(address) == ip4.BROADCAST) == (str(address) == "255.255.255.255")
