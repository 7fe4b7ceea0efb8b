# SPDX-License-Identifier: Apache-2.0
"""Two hosts in a bridge that has a routed interface (BVI), and one behind a routed port."""

import pytest

from e2e.lab import ipv6, lab, ping, routed, transfer
from vforward.testing.namespaces import offloads

pytestmark = pytest.mark.root

OFFICE, DMZ = "10.1.0.1", "10.3.0.1"
H1, H2, H3 = "10.1.0.2", "10.1.0.3", "10.3.0.2"
OFFICE6, DMZ6 = "2001:db8:1::1", "2001:db8:3::1"
H1_6, H2_6, H3_6 = "2001:db8:1::2", "2001:db8:1::3", "2001:db8:3::2"


@pytest.fixture(scope="module")
def whole():
    ports = {"lan": (), "wan": (), "dmz": ((f"{DMZ}/24", f"{DMZ6}/64"), {})}
    with lab(3) as place, routed(place, ports) as made:
        made.forwarder.add_bridge("office")
        for port in ("lan", "wan"):
            made.forwarder.add_to_bridge("office", port)
        made.forwarder.add_bvi("bvi", "office", (f"{OFFICE}/24", f"{OFFICE6}/64"))
        place.address(f"{H1}/24", f"{H2}/24", f"{H3}/24")
        place.default_routes(OFFICE, OFFICE, DMZ)
        made.start()
        ipv6(place.h1, f"{H1_6}/64", via=OFFICE6)
        ipv6(place.h2, f"{H2_6}/64", via=OFFICE6)
        ipv6(place.h3, f"{H3_6}/64", via=DMZ6)
        yield made


@pytest.fixture
def net(whole):
    """The forwarder, which after each test has accounted for every packet."""
    whole.clear()
    yield whole
    whole.settle()


@pytest.mark.parametrize("to", [H2, H2_6], ids=["4", "6"])
def test_the_router_asks_through_the_bridge(net, to):
    """From behind the routed port, before anybody in the bridge has said a word to the router."""
    assert "1 received" in ping(net.h3, to, "-c1")
    assert net.count("l2-flood", "copies") > 0


@pytest.mark.parametrize("own", [OFFICE, OFFICE6], ids=["4", "6"])
def test_ping_of_the_bvi(net, own):
    for host in (net.h1, net.h2):
        assert "3 received" in ping(host, own, "-c3", "-l3", "-s1400")


@pytest.mark.parametrize("to", [H3, H3_6], ids=["4", "6"])
def test_ping_out_of_the_bridge(net, to):
    for host in (net.h1, net.h2):
        said = ping(host, to, "-c3", "-l3")
        assert "3 received" in said
        assert "ttl=63" in said, "a router takes a hop"


@pytest.mark.parametrize("to", [H2, H2_6], ids=["4", "6"])
def test_ping_inside_of_the_bridge(net, to):
    said = ping(net.h1, to, "-c3", "-l3")
    assert "3 received" in said
    assert "ttl=64" in said, "a bridge takes none"


def test_errors_come_from_the_bvi(net):
    assert f"From {OFFICE} icmp_seq=1 Time to live exceeded" in ping(net.h1, H3, "-c1", "-t1")
    said = ping(net.h2, H3_6, "-c1", "-t1")
    assert f"From {OFFICE6} icmp_seq=1 Time exceeded: Hop limit" in said


@pytest.mark.parametrize("size", [4000, 60_000])
def test_fragments_both_ways(net, size):
    assert "2 received" in ping(net.h1, H3, "-c2", "-l2", f"-s{size}")
    assert "2 received" in ping(net.h3, H1, "-c2", "-l2", f"-s{size}")


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize(("h1", "h3"), [(H1, H3), (H1_6, H3_6)], ids=["4", "6"])
def test_tcp_out_of_the_bridge_and_in(net, h1, h3, on):
    offloads(net.h1, "eth0", on=on)
    try:
        transfer(net.h1, net.h3, h3, 10_000_000)
        transfer(net.h3, net.h1, h1, 10_000_000)
    finally:
        offloads(net.h1, "eth0", on=True)


def test_a_route_via_a_host_in_the_bridge(net):
    """192.0.2.1 is on h2's loopback."""
    net.h2.run("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
    net.forwarder.add_route("192.0.2.0/24", via=H2)
    try:
        assert "3 received" in ping(net.h3, "192.0.2.1", "-c3", "-l3")
    finally:
        net.forwarder.delete_route("192.0.2.0/24")
        net.h2.run("ip", "address", "del", "192.0.2.1/32", "dev", "lo")
