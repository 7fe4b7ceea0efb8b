# SPDX-License-Identifier: Apache-2.0
"""What a forwarder is put together from: records that nodes read, and what is refused."""

import sys
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_interface

import numpy as np
import pytest

from vforward.control.assembly import Tags
from vforward.control.forwarder import Forwarder
from vforward.errors import ConfigError
from vforward.io.memory import MemoryPort
from vforward.packet import ethernet as eth
from vforward.tables import TableFull
from vforward.tables.addresses import OURS, halves, mapped_int, standing
from vforward.tables.ports import BRIDGED, BVI, CROSS_CONNECTED, NO_MAC, ROUTED

MAC = b"\x02\0\0\0\0\x63"


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with Forwarder("test", buffers=1024) as forwarder:
        yield forwarder


def record(made, name):
    return made.interfaces.record(made.interfaces.find(name))


def test_an_ipv6_address_brings_a_link_local_one(made):
    made.add_port("a", MemoryPort(mac=MAC), ["10.0.1.1/24", "2001:db8::1/64"])
    made.add_port("b", MemoryPort(), ["2001:db8:1::1/64", "fe80::7/64"])
    made.add_port("c", MemoryPort(), "10.0.2.1/24")
    addresses = {i.name: [str(a) for a in i.addresses] for i in made.interfaces}
    assert addresses == {
        "a": ["10.0.1.1/24", "2001:db8::1/64", "fe80::ff:fe00:63/64"],
        "b": ["2001:db8:1::1/64", "fe80::7/64"],
        "c": ["10.0.2.1/24"],
    }
    table = made.neighbors.tables["addresses"]
    for interface in made.interfaces:
        for address in interface.addresses:
            ip = int(ip_interface(address).ip)
            high, low = map(np.uint64, halves(mapped_int(ip) if address.version == 4 else ip))
            assert standing(table, interface.number, high, low) == OURS
    assert record(made, "a")["address"] == 0x0A000101


def test_vrfs_keep_their_routes_apart(made):
    made.add_port("a", MemoryPort(), "10.0.1.1/24")
    made.add_port("b", MemoryPort(), "10.0.1.1/24", vrf="red", urpf="strict")
    made.add_route("10.9.0.0/16", via="10.0.1.2")
    made.add_route("10.9.0.0/16", kind="blackhole", vrf="red", metric=5)
    shown = {(r.vrf, r.prefix): r for r in made.routing.routes()}
    assert shown[0, "10.9.0.0/16"].port == "a"
    assert shown[1, "10.9.0.0/16"].kind == "blackhole"
    assert (record(made, "b")["vrf"], record(made, "b")["urpf"]) == (1, 2)
    made.delete_route("10.9.0.0/16", vrf="red")
    assert (1, "10.9.0.0/16") not in {(r.vrf, r.prefix) for r in made.routing.routes()}
    with pytest.raises(KeyError, match=r"no configured route 10\.9\.0\.0/16 of VRF red"):
        made.delete_route("10.9.0.0/16", vrf="red")
    with pytest.raises(KeyError, match=r"no configured route 10\.9\.0\.0/16 of metric 7 of VRF"):
        made.delete_route("10.9.0.0/16", metric=7)


def test_a_bridge_takes_ports_sub_interfaces_and_a_routed_interface(made):
    for name in "abt":
        made.add_port(name, MemoryPort())
    made.add_vlan("t.10", "t", 10)
    made.add_vlan("t.20", "t", 20, inner=30, dot1ad=True)
    made.add_bridge("office")
    made.add_to_bridge("office", "a", group=4)
    made.add_to_bridge("office", "t.10")
    made.add_to_bridge("office", "t.20", tags=Tags(1, ((eth.VLAN, 40),)))
    made.add_bvi("irb", "office", "10.0.3.1/24", mac=MAC)
    made.add_static_mac("office", b"\x02\0\0\0\0\x01", "a")
    assert [record(made, n)["mode"] for n in ("a", "t", "t.10")] == [BRIDGED, ROUTED, BRIDGED]
    assert (record(made, "a")["filter"], record(made, "irb")["mode"]) == (NO_MAC, BVI)
    tags = [record(made, n) for n in ("a", "t.10", "t.20")]
    assert [(t["in_pop"], t["in_push"], t["out_pop"], t["out_push"]) for t in tags] == [
        (0, 0, 0, 0), (1, 0, 0, 1), (1, 1, 1, 1),
    ]  # fmt: skip
    assert tags[2]["in_tags"][0] == eth.VLAN << 16 | 40
    assert tags[2]["out_tags"][0] == eth.QINQ << 16 | 20
    known = {(k.mac, k.port, k.static) for k in made.bridging.entries()}
    irb = made.interfaces.find("irb").number
    assert known == {(1 << 41 | 1, 1, True), (int.from_bytes(MAC, "big"), irb, True)}
    assert {i.name: i.bridge for i in made.interfaces if i.bridge} == dict.fromkeys(
        ("a", "t.10", "t.20", "irb"), "office"
    )


def test_cross_connects_leave_tags_alone_unless_told(made):
    for name in "ab":
        made.add_port(name, MemoryPort())
    made.add_vlan("a.5", "a", 5)
    made.cross_connect("a.5", "b", (Tags(1), None))
    assert [record(made, n)["mode"] for n in ("a.5", "b")] == [CROSS_CONNECTED] * 2
    assert (record(made, "a.5")["in_pop"], record(made, "a.5")["out_push"]) == (1, 1)
    assert record(made, "b")["peer"] == made.interfaces.find("a.5").number


def test_what_is_refused(made):
    made.add_port("a", MemoryPort(), "10.0.1.1/24")
    made.add_port("b", MemoryPort())
    made.add_port("c", MemoryPort())
    made.add_bridge("office")
    made.add_to_bridge("office", "b")
    for change, message in (
        (lambda: made.add_to_bridge("office", "a"), "a cannot be in it"),
        (lambda: made.add_to_bridge("office", "b"), "one bridge or cross connect only"),
        (lambda: made.cross_connect("b", "c"), "cross connect b - c: b cannot be in it"),
        (lambda: made.cross_connect("c", "c"), "its own peer"),
        (lambda: made.add_to_bridge("ofice", "c"), "no bridge named 'ofice'; there are: office"),
        (lambda: made.add_bvi("irb", "none"), "no bridge named 'none'"),
        (lambda: made.add_bridge("office"), "there is one already"),
        (
            lambda: made.add_to_bridge("office", "c", tags=Tags(1)),
            "pop = 1, but the frames carry 0",
        ),
        (lambda: made.add_route("10.9.0.0/16", via="10.7.0.1"), "next hop without a route"),
        (
            lambda: made.add_route("10.9.0.0/16", via="10.0.1.2", vrf="defualt"),
            "route 10.9.0.0/16: no port is in a VRF 'defualt'; did you mean \"default\"?",
        ),
        (lambda: made.add_route_file("/dev/null", vrf="red"), "no port is in a VRF 'red'"),
        (lambda: made.add_vlan("v", "a", 4095), "VLAN ids are 1 to 4094"),
        (
            lambda: made.add_port("d", MemoryPort(), "10.0.1.1/16"),
            "port d: 10.0.1.1 is an address of a already",
        ),
        (lambda: made.add_vlan("v", "a", 5, "10.0.1.1/24"), "is an address of a already"),
        (lambda: made.add_bvi("irb", "office", "10.0.1.1/24"), "is an address of a already"),
        (lambda: made.add_host("h", "vf-h", "b"), "port h: b can have no host"),
        (lambda: made.add_route("10.9.0.1/16", via="10.0.1.2"), "route 10.9.0.1/16: .*host bits"),
        (lambda: made.add_route("10.9.0.0/16", via="10.0.1"), "route 10.9.0.0/16: '10.0.1' does"),
        (lambda: made.delete_route("10.9.0.0.0/16"), "route 10.9.0.0.0/16: "),
        (lambda: made.add_neighbor("10.0.1", MAC, "a"), "neighbor 10.0.1 of port a: "),
        (
            lambda: made.add_neighbor("10.0.1.2", b"\xff" * 6, "a"),
            "neighbor 10.0.1.2 of port a: ff:ff:ff:ff:ff:ff is no station's MAC",
        ),
        (lambda: made.add_route_file("/dev/null", via="x"), "routes of /dev/null: 'x' does"),
    ):
        with pytest.raises(ConfigError, match=message):
            change()
    assert {i.name for i in made.interfaces} == {"a", "b", "c"}
    assert list(made.interfaces.vrfs) == ["default"]


def test_a_bridge_has_one_routed_interface(made):
    made.add_bridge("office")
    made.add_bvi("irb", "office", "10.0.3.1/24")
    with pytest.raises(ConfigError, match="port second: bridge office has irb as its routed"):
        made.add_bvi("second", "office", "10.0.4.1/24")
    assert made.bridging.tables["domains"][1]["bvi"] == made.interfaces.find("irb").number


def test_a_port_has_one_host(made):
    made.add_port("a", MemoryPort(), "10.0.1.1/24")
    made.add_port("b", MemoryPort())
    record(made, "a")["host"] = made.interfaces.find("b").number
    with pytest.raises(ConfigError, match="port h: a can have no host"):
        made.add_host("h", "vf-h", "a")


def test_what_does_not_come_up_leaves_nothing(made, monkeypatch):
    made.add_port("a", MemoryPort(), "10.0.1.1/24")
    before = made.routing.routes()
    add, closed = made.neighbors.add_address, []

    def full(number, address):
        if str(address) == "10.0.3.1/24":
            msg = "no room"
            raise TableFull(msg, 0)
        add(number, address)

    class Seen(MemoryPort):
        def close(self):
            closed.append(self)
            super().close()

    monkeypatch.setattr(made.neighbors, "add_address", full)
    two = ("10.0.2.1/24", "10.0.3.1/24")
    for change in (
        lambda: made.add_port("b", Seen(), two),
        lambda: made.add_vlan("b", "a", 5, two),
        lambda: made.add_vlan("b", "a", 5, two, inner=6),
    ):
        with pytest.raises(TableFull, match="no room"):
            change()
        assert list(made.interfaces.by_name) == ["a"]
        assert made.routing.routes() == before
        assert set(made.neighbors.tables["addresses"]["port"]) == {0, 1}
        assert not (made.interfaces.vlans == 2).any()
        assert not made.interfaces.inner_vlans.any()
    assert len(closed) == 1
    monkeypatch.undo()


def test_deleting_a_route_makes_no_vrf(made):
    with pytest.raises(KeyError, match="of VRF nosuch"):
        made.delete_route("10.9.0.0/16", vrf="nosuch")
    assert list(made.interfaces.vrfs) == ["default"]


@pytest.mark.parametrize("address", ["10.0.1.9", "fe80::9"])
def test_a_neighbor_is_forgotten(made, address):
    made.add_port("lan", MemoryPort(), "10.0.1.1/24")
    made.add_neighbor(address, b"\2\0\0\0\0\x09", "lan")
    made.delete_neighbor(address, "lan")
    assert made.known_neighbors() == []
    with pytest.raises(KeyError, match=f"no neighbor {address} of port lan is known"):
        made.delete_neighbor(address, "lan")
    with pytest.raises(ConfigError, match="x"):
        made.delete_neighbor("x", "lan")
    with pytest.raises(ConfigError, match="none"):
        made.delete_neighbor(address, "none")


def test_there_is_an_adjacency_for_each_neighbor(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with Forwarder("many", buffers=1024, neighbors=100_000) as forwarder:
        assert forwarder.routing.adjacencies.size > 100_000


def test_a_vrf_for_which_there_is_no_room_is_none(made, monkeypatch):
    def full(_):
        msg = "no room"
        raise TableFull(msg, 0)

    with monkeypatch.context() as patch:
        patch.setattr(made.interfaces, "on_vrf", full)
        for _ in range(2):
            with pytest.raises(TableFull, match="no room"):
                made.add_port("r", MemoryPort(), vrf="red")
    assert list(made.interfaces.vrfs) == ["default"]
    made.add_route("10.9.0.0/16", kind="blackhole", vrf="blue")
    assert made.interfaces.vrfs == {"default": 0, "blue": 1}


def test_vrfs_that_threads_name_at_once_have_numbers_of_their_own(made):
    names = [f"v{n}" for n in range(40)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            numbers = list(pool.map(made.interfaces.vrf, names))
    finally:
        sys.setswitchinterval(before)
    assert sorted(numbers) == list(range(1, 41))
