# SPDX-License-Identifier: Apache-2.0
"""rtnetlink messages, judged by the kernel and shown by `ip`."""

import contextlib
import ipaddress
import socket

import pytest

from vforward.io.rtnetlink import PRIORITY, PROTOCOL, RtNetlink
from vforward.testing.namespaces import namespaces

pytestmark = pytest.mark.root

MAC = b"\x02\x00\x00\x00\x00\x77"
TABLE = 100_077


@pytest.fixture
def place():
    with namespaces("host", ipv6=True) as (host,):
        host.run("ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1")
        host.run("ip", "link", "set", "dev", "d1", "up")
        with host.inside():
            netlink = RtNetlink()
            index = socket.if_nametoindex("d0")
        with contextlib.closing(netlink):
            yield host, netlink, index


def test_a_link_is_set_up(place):
    host, netlink, index = place
    netlink.set_link(index, mac=MAC, mtu=1400, up=True)
    shown = host.run("ip", "link", "show", "dev", "d0")
    assert "UP" in shown
    assert "mtu 1400" in shown
    assert "02:00:00:00:00:77" in shown


@pytest.mark.parametrize("text", ["10.0.0.1/24", "2001:db8::1/64"])
def test_addresses_come_and_go(place, text):
    host, netlink, index = place
    netlink.set_link(index, mac=MAC, mtu=1500, up=True)
    interface = ipaddress.ip_interface(text)
    for _ in range(2):  # the second time nothing changes
        netlink.add_address(index, interface)
        shown = host.run("ip", "address", "show", "dev", "d0")
        assert shown.count(f" {text} ") == 1
        assert "tentative" not in shown.split(text)[1].splitlines()[0]
    routes = host.run("ip", f"-{interface.version}", "route", "show", "dev", "d0")
    assert str(interface.network) in routes
    for _ in range(2):
        netlink.delete_address(index, interface)
        assert text not in host.run("ip", "address", "show", "dev", "d0")


@pytest.mark.parametrize("text", ["10.0.0.1/24", "2001:db8::1/64"])
def test_what_an_address_sends_is_routed_by_its_table(place, text):
    host, netlink, index = place
    interface = ipaddress.ip_interface(text)
    version = f"-{interface.version}"
    far = {4: "192.0.2.9", 6: "2001:db8:9::9"}[interface.version]
    netlink.set_link(index, mac=MAC, mtu=1500, up=True)
    netlink.add_address(index, interface)
    for _ in range(2):
        netlink.add_default_route(index, interface.version, TABLE)
        netlink.add_rule(interface.ip, TABLE)
    rules = host.run("ip", version, "rule", "show")
    assert rules.count(f"{PRIORITY}:\tfrom {interface.ip} lookup {TABLE}") == 1
    assert f"proto {PROTOCOL}" in rules
    assert host.run("ip", version, "route", "show", "table", str(TABLE)).startswith(
        "default dev d0"
    )
    found = host.run("ip", version, "route", "get", far, "from", str(interface.ip))
    assert "dev d0" in found
    assert "default" not in host.run("ip", version, "route", "show")  # the main table's
    netlink.delete_rule(interface.ip, TABLE + 1)  # another one's
    assert f"from {interface.ip} lookup {TABLE}" in host.run("ip", version, "rule", "show")
    for _ in range(2):
        netlink.delete_rule(interface.ip, TABLE)
        netlink.delete_default_route(index, interface.version, TABLE)
    assert str(interface.ip) not in host.run("ip", version, "rule", "show")
    assert "default" not in host.run(
        "ip", version, "route", "show", "table", str(TABLE), check=False
    )


def test_drops_are_those_that_ip_shows(place):
    host, netlink, index = place
    netlink.set_link(index, mac=MAC, mtu=1500, up=True)
    shown = host.run("ip", "-s", "link", "show", "dev", "d0").splitlines()
    titles, values = shown[-2].split()[1:], shown[-1].split()
    assert titles[3] == "dropped"
    assert netlink.dropped(index) == int(values[3])


def test_queueing_is_what_ip_shows(place):
    host, netlink, index = place
    netlink.set_link(index, mac=MAC, mtu=1500, up=True)
    shown = host.run("ip", "-d", "link", "show", "dev", "d0").split()
    queues = [int(shown[shown.index(f"num{way}queues") + 1]) for way in ("rx", "tx")]
    assert netlink.queueing(index) == ("noqueue", *queues)
    host.run("tc", "qdisc", "add", "dev", "d0", "root", "pfifo")
    assert netlink.queueing(index) == ("pfifo", *queues)


def test_what_the_kernel_refuses_is_an_error(place):
    _, netlink, _ = place
    with pytest.raises(OSError, match="No such device"):
        netlink.set_link(9999, mac=MAC, mtu=1500)
    with pytest.raises(OSError, match="No such device"):
        netlink.add_address(9999, ipaddress.ip_interface("10.0.0.1/24"))
