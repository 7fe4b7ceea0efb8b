# SPDX-License-Identifier: Apache-2.0
"""Interfaces: numbers, VRFs, and tags that lead ethernet-input to the right sub-interface."""

from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.network import Heap
from vforward.control.interfaces import PORTS_MAX, VRFS_MAX, Interfaces, link_local
from vforward.errors import ConfigError
from vforward.io.memory import MemoryPort
from vforward.nodes.ethernet.input import NODE
from vforward.tables.ports import BRIDGED, CROSS_CONNECTED, HOST, NO_MAC
from vforward.testing import run_node

MAC = b"\x02\0\0\0\0\x01"
DOT1Q, DOT1AD = b"\x81\x00", b"\x88\xa8"


def interfaces(routed=True):
    made = Interfaces(Heap())
    main = made.new("lan", "memory", "10.0.0.1/24")
    main.port = MemoryPort(mac=MAC)
    if routed:
        made.up(main, MAC, 1500, 0)
    return made


def sub(made, vlan, inner=0, *, dot1ad=False, name=None):
    interface = made.new(name or f"lan.{vlan}.{inner}", "vlan")
    made.tag(interface, "lan", vlan, inner, dot1ad=dot1ad)
    made.up(interface, MAC, 1500, 0)
    made.lay_vlan(interface)
    return interface


def tag(vid, tpid=DOT1Q, pcp=0):
    return tpid + (pcp << 13 | vid).to_bytes(2, "big")


def frame(*tags, kind=b"\x08\x00", to=MAC):
    return to + b"\x02\0\0\0\0\x63" + b"".join(tags) + kind + bytes(46)


def arrive(made, *frames):
    """The edge, the port and the bytes of Ethernet header that ethernet-input finds of each."""
    result = run_node(NODE, frames, tables=made.tables, rx_port=1)
    at = result.meta
    return [
        (edge, made.name_of(int(at[i]["rx_port"])), int(at[i]["l3"]) - int(at[i]["off"]))
        if edge != "drop"
        else ("drop", result.reason(i))
        for i, edge in enumerate(result.edges)
    ]


def test_two_tags_are_a_sub_interface_of_their_own():
    made = interfaces()
    sub(made, 10)
    sub(made, 10, 20)
    sub(made, 30, 40)
    sub(made, 50, 60, dot1ad=True)
    assert arrive(
        made,
        frame(),
        frame(tag(10, pcp=5)),
        frame(tag(10), tag(20)),
        frame(tag(30), tag(40)),
        frame(tag(50, DOT1AD), tag(60)),
        frame(tag(50, DOT1AD), tag(60), kind=b"\x86\xdd"),
        frame(tag(0)),
    ) == [
        ("ip4", "lan", 14),
        ("ip4", "lan.10.0", 18),
        ("ip4", "lan.10.20", 22),
        ("ip4", "lan.30.40", 22),
        ("ip4", "lan.50.60", 22),
        ("ip6", "lan.50.60", 22),
        ("ip4", "lan", 18),
    ]


def test_what_no_sub_interface_claims_is_dropped_by_a_routed_port():
    made = interfaces()
    sub(made, 10)
    sub(made, 30, 40)
    assert arrive(
        made,
        frame(tag(11)),
        frame(tag(10, DOT1AD)),
        frame(tag(30)),
        frame(tag(30), tag(41)),
        frame(tag(30), tag(40), to=b"\x02\0\0\0\0\x02"),
        frame(tag(10), tag(20)),
        frame(tag(30))[:17],
        (frame(tag(30), tag(40)))[:21],
    ) == [("drop", "unknown-vlan")] * 4 + [
        ("drop", "not-for-us"),
        ("drop", "unknown-ethertype"),
        ("drop", "truncated"),
        ("drop", "unknown-vlan"),
    ]


def test_a_bridged_port_keeps_what_no_sub_interface_claims():
    made = interfaces()
    routed = sub(made, 10)
    made.record(made.find("lan"))["filter"] = NO_MAC
    made.record(made.find("lan"))["mode"] = BRIDGED
    found = arrive(made, frame(), frame(tag(10)), frame(tag(11)), frame(tag(0)), frame()[:13])
    assert found[:2] == [("bridge", "lan", 0), ("ip4", routed.name, 18)]
    assert [f[:2] for f in found[2:4]] == [("bridge", "lan")] * 2
    assert found[4] == ("drop", "truncated")


@pytest.mark.parametrize(("mode", "edge"), [(CROSS_CONNECTED, "cross-connect"), (HOST, "host")])
def test_other_modes(mode, edge):
    made = interfaces()
    made.record(made.find("lan"))["filter"] = NO_MAC
    made.record(made.find("lan"))["mode"] = mode
    assert [f[0] for f in arrive(made, frame(), frame(tag(5)), frame(kind=b"\x08\x06"))] == [
        edge
    ] * 3


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 3), st.booleans()), max_size=8, unique=True
    )
)
def test_every_pair_of_tags_finds_its_own(wanted):
    made = interfaces()
    there = {}
    for vlan, inner, dot1ad in wanted:
        taken = any(v == vlan and (i == inner or d != dot1ad) for v, i, d in there)
        if taken:
            with pytest.raises(ConfigError, match=f"VLAN {vlan}.* on lan is taken"):
                sub(made, vlan, inner, dot1ad=dot1ad, name="refused")
            made.forget(made.find("refused"))
        else:
            there[vlan, inner, dot1ad] = sub(made, vlan, inner, dot1ad=dot1ad).name
    for vlan in range(1, 5):
        for inner in range(4):
            for dot1ad in (False, True):
                outer = tag(vlan, DOT1AD if dot1ad else DOT1Q)
                got = arrive(made, frame(outer, tag(inner)) if inner else frame(outer))[0]
                if name := there.get((vlan, inner, dot1ad)):
                    assert got == ("ip4", name, 22 if inner else 18)
                else:
                    one_tag = inner and (vlan, 0, dot1ad) in there
                    assert got == ("drop", "unknown-ethertype" if one_tag else "unknown-vlan")


def test_vrfs_are_numbered_as_they_are_named():
    made = Interfaces(Heap())
    for i, name in enumerate(["default", "red", "blue", "red"]):
        made.new(f"p{i}", "memory", vrf=name)
    assert [int(made.ports[i]["vrf"]) for i in range(1, 5)] == [0, 1, 2, 1]
    for i in range(VRFS_MAX - 3):
        made.vrf(f"v{i}")
    with pytest.raises(ConfigError, match=f"VRF 'more': there are {VRFS_MAX} already"):
        made.vrf("more")


def test_what_is_refused():
    made = interfaces()
    with pytest.raises(ConfigError, match="port 'lan': the name is taken"):
        made.new("lan", "memory")
    with pytest.raises(ConfigError, match="an address is written"):
        made.new("a", "memory", "10.0.0.256/24")
    with pytest.raises(ConfigError, match="urpf is 'maybe'; allowed: loose, strict"):
        made.new("b", "memory", urpf="maybe")
    with pytest.raises(ConfigError, match="no port named 'c'; there are: lan"):
        made.find("c")
    for vlan, inner in ((0, 0), (4095, 0), (1, 4095)):
        with pytest.raises(ConfigError, match="VLAN ids are 1 to 4094"):
            sub(made, vlan, inner, name=f"bad{vlan}.{inner}")
    for i in range(len(made.by_name) + 1, PORTS_MAX):
        made.new(f"p{i}", "memory")
    with pytest.raises(ConfigError, match=f"there are {PORTS_MAX - 1} ports already"):
        made.new("more", "memory")


def test_link_local_addresses_follow_the_mac():
    """RFC 4291 appendix A's rule on the MAC 34-56-78-9A-BC-DE."""
    made = link_local(bytes.fromhex("3456789abcde"))
    assert made == ip_interface("fe80::3656:78ff:fe9a:bcde/64")
