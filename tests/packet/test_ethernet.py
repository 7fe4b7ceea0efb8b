"""Ethernet's numbers against the oracle, and what is behind tags, at every truncation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import ethernet as oracle
from vforward.jit.kernel import i64, kernel
from vforward.layout import BUF_STRIDE, HEADROOM
from vforward.packet import ethernet as eth

MACS = bytes(range(0x20, 0x2C))
TYPES = (0, 46, 1500, 0x0081, 0x0800, 0x0806, 0x86DD, 0x8101, 0x9100, 0xA888, 0xFFFF)
"""None is a tag's; some nearly."""


@kernel
def behind(data, off, end):
    return eth.behind_tags(data, i64(1), off, end)


def word(value):
    return value.to_bytes(2, "big")


tags = st.tuples(
    st.sampled_from([oracle.VLAN, oracle.QINQ]),
    st.sampled_from([0, 1, 0x0FFF, 0xFFFF, oracle.VLAN, oracle.QINQ, oracle.IP4]),
)


@given(st.lists(tags, max_size=4), st.sampled_from(TYPES), st.sampled_from([0, 1, HEADROOM, -1]))
def test_behind_tags(tags, kind, off):
    """What is behind the end is there, and must not count."""
    frame = MACS + b"".join(word(tpid) + word(tci) for tpid, tci in tags) + word(kind) + b"\x08\0"
    off = BUF_STRIDE - len(frame) if off < 0 else off
    data = np.full((3, BUF_STRIDE), 0x08, np.uint8)
    data[1, off : off + len(frame)] = np.frombuffer(frame, np.uint8)
    l3 = 14 + 4 * len(tags)
    for n in range(len(frame) + 1):
        found = len(tags) <= 2 and n >= l3
        assert behind(data, off, off + n) == ((off + l3, kind) if found else (-1, 0))


def test_where_the_fields_lie():
    frame = oracle.header(MACS[:6], MACS[6:], oracle.ARP, oracle.tag_of(4094))
    assert frame[eth.DST : eth.SRC] == MACS[:6]
    assert frame[eth.SRC : eth.TYPE] == MACS[6:]
    assert frame[eth.TYPE : eth.HEADER] == word(eth.VLAN)
    assert int.from_bytes(frame[eth.HEADER : eth.TYPE + eth.TAG], "big") & eth.VID_MASK == 4094
    assert frame[eth.TYPE + eth.TAG :] == word(eth.ARP)
    assert (eth.IP4, eth.IP6, eth.QINQ) == (oracle.IP4, oracle.IP6, oracle.QINQ)


@pytest.mark.parametrize("bit", range(48))
def test_bits_of_a_mac(bit):
    """IEEE 802-2014 section 8.2: the two lowest of the first byte."""
    mac = (1 << bit).to_bytes(6, "big")
    assert bool(1 << bit & eth.GROUP_BIT) == oracle.is_multicast(mac)
    assert bool(1 << bit & eth.LOCAL_BIT) == bool(mac[0] & 2)
    assert 1 << bit & eth.BROADCAST
