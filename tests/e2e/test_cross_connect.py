"""Two ports that are a wire: hosts of one subnet notice nothing of it."""

import pytest

from e2e.lab import lab, mac_of, ping, routed, transfer
from vforward.testing.namespaces import offloads

pytestmark = pytest.mark.root

H1, H2 = "10.0.0.1", "10.0.0.2"


@pytest.fixture(scope="module")
def net():
    with lab() as place, routed(place, {"lan": (), "wan": ()}) as made:
        place.address(f"{H1}/24", f"{H2}/24")
        made.forwarder.cross_connect("lan", "wan")
        made.start()
        yield made


def test_arp_and_ping(net):
    assert "10 received" in ping(net.h1, H2, "-c10", "-l10")
    seen = net.h1.run("ip", "neighbor", "show", H2)
    assert mac_of(net.h2) in seen
    assert "ttl=64" in ping(net.h2, H1, "-c1"), "a wire takes no hop"


def test_fragments(net):
    assert "3 received" in ping(net.h1, H2, "-c3", "-l3", "-s", "20000")


@pytest.mark.parametrize("on", [True, False])
def test_tcp(net, on):
    offloads(net.h1, "eth0", on=on)
    try:
        transfer(net.h1, net.h2, H2, 20_000_000)
        transfer(net.h2, net.h1, H1, 20_000_000)
    finally:
        offloads(net.h1, "eth0", on=True)
    net.settle()
    assert net.drops() == {}
