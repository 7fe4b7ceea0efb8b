"""ICMPv6's checksum and ND's groups, against the oracle, scapy and the RFCs' examples."""

import logging
import warnings
from ipaddress import IPv6Address

import numpy as np
import pytest

from nodes.network6 import Ip6Spec, a
from oracles import icmp6 as oracle
from vforward.layout import BUF_ROOM, HEADROOM
from vforward.memory.chain import fill
from vforward.packet import icmp6
from vforward.testing import heap_pool

logging.getLogger("scapy").setLevel(logging.CRITICAL)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6

SRC, DST = a("fe80::9"), a("ff02::1:ff00:1")


def placed(packet):
    pool = heap_pool(40)
    (row,) = pool.take(1)
    source = np.frombuffer(packet, np.uint8)
    assert fill(pool.data, pool.meta, pool.caches[0], row, source.ctypes.data, len(packet), 1)
    return pool, int(row)


@pytest.mark.parametrize(
    "size", [0, 1, 2, 7, 8, 1500, BUF_ROOM - 48, BUF_ROOM - 47, BUF_ROOM - 46, 9001, 65000]
)
def test_checksums_of_chains(size):
    message = b"\x80\0\0\0\1\2\3\4" + bytes(i * 7 & 255 for i in range(size))
    packet = Ip6Spec(src=SRC, dst=DST).icmp(message).build()
    pool, row = placed(packet)
    l3, l4 = HEADROOM, HEADROOM + 40
    assert icmp6.message_sum(pool.data, pool.meta, row, l3, l4) == 0xFFFF
    pool.data[row, l4 + 2 : l4 + 4] = 0xEE
    assert icmp6.message_sum(pool.data, pool.meta, row, l3, l4) != 0xFFFF
    icmp6.put_checksum(pool.data, pool.meta, row, l3, l4)
    assert pool.data[row, l4 + 2 : l4 + 4].tobytes() == packet[42:44]
    assert packet[42:44] == oracle.with_checksum(SRC, DST, message)[2:4]


@pytest.mark.parametrize(
    "upper", [ICMPv6EchoRequest(id=7, data=b"abc"), ICMPv6ND_NS(tgt="fe80::1")]
)
def test_scapy_agrees(upper):
    pool, row = placed(bytes(IPv6(src=str(SRC), dst=str(DST)) / upper))
    assert icmp6.message_sum(pool.data, pool.meta, row, HEADROOM, HEADROOM + 40) == 0xFFFF


def test_groups_of_nd():
    """The example of RFC 4291 section 2.7.1, and its MAC by RFC 2464 section 7."""
    address, group = IPv6Address("4037::01:800:200e:8c6c"), IPv6Address("ff02::1:ff0e:8c6c")
    assert icmp6.solicited_node(int(address)) == int(group)
    assert int(group) >> 64 == icmp6.SOLICITED_NODE_HIGH
    assert icmp6.group_mac(int(group)) == 0x3333FF0E8C6C
