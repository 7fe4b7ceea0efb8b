"""ND frames of the control plane against the oracle, and as Scapy reads them."""

from hypothesis import given
from hypothesis import strategies as st

from oracles import ethernet
from oracles import nd as oracle
from vforward.packet import nd

macs = st.integers(1, 2**48 - 1)
ips = st.one_of(st.integers(0, 2**128 - 1), st.sampled_from([0, 1, 2**128 - 1, 0xFF << 120]))
tags = st.sampled_from([b"", ethernet.tag_of(10), b"\x88\xa8\x00\x05\x81\x00\x0f\xfe"])
TYPE = b"\x86\xdd"


def wire(mac):
    return mac.to_bytes(6, "big")


@given(mac=macs, source=ips, target=ips, to=st.one_of(st.just(0), macs), tag=tags)
def test_a_solicitation_is_what_the_oracle_asks(mac, source, target, to, tag):
    frame = nd.solicitation(mac, source, target, to=to, tags=tag)
    dst = wire(to) if to else oracle.group_mac(target & 0xFFFFFF | 0xFF000000)
    packet = oracle.solicitation(wire(mac), source, target, target if to else None)
    assert frame == dst + wire(mac) + tag + TYPE + packet


@given(mac=macs, target=ips, tag=tags)
def test_an_announcement_is_an_unsolicited_advertisement(mac, target, tag):
    frame = nd.announcement(mac, target, tags=tag)
    flags = oracle.ROUTER | oracle.OVERRIDE
    packet = oracle.advertisement(wire(mac), target, oracle.ALL_NODES, flags)
    assert frame == b"\x33\x33\0\0\0\1" + wire(mac) + tag + TYPE + packet


def test_scapy_reads_them():
    from scapy.layers.inet6 import (
        ICMPv6ND_NA,
        ICMPv6ND_NS,
        ICMPv6NDOptDstLLAddr,
        ICMPv6NDOptSrcLLAddr,
        IPv6,
    )
    from scapy.layers.l2 import Dot1Q, Ether

    mac, own, target = 0x02_00_00_00_00_01, 0x20010DB8 << 96 | 1, 0x20010DB8 << 96 | 0xABCDEF
    asked = Ether(nd.solicitation(mac, own, target, tags=ethernet.tag_of(7)))
    assert (asked.dst, asked.src, asked[Dot1Q].vlan) == (
        "33:33:ff:ab:cd:ef",
        "02:00:00:00:00:01",
        7,
    )
    assert (asked[IPv6].src, asked[IPv6].dst) == ("2001:db8::1", "ff02::1:ffab:cdef")
    assert (asked[IPv6].hlim, asked[ICMPv6ND_NS].tgt) == (255, "2001:db8::ab:cdef")
    assert asked[ICMPv6NDOptSrcLLAddr].lladdr == "02:00:00:00:00:01"
    told = Ether(nd.announcement(mac, own))
    said = told[ICMPv6ND_NA]
    assert (told.dst, said.tgt, said.R, said.S, said.O) == (
        "33:33:00:00:00:01",
        "2001:db8::1",
        1,
        0,
        1,
    )
    assert said[ICMPv6NDOptDstLLAddr].lladdr == "02:00:00:00:00:01"
    for read in (asked, told):  # the checksums: Scapy computes them anew
        again = read.copy()
        del again[IPv6].payload.cksum
        assert bytes(again) == bytes(read)
