"""A way out that takes no more than 1400 bytes, between hosts that send 1500."""

import pytest

from e2e.lab import lab, ping, routed, transfer

pytestmark = pytest.mark.root

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"


@pytest.fixture
def net():
    with lab() as place:
        ports = {"lan": f"{LAN}/24", "wan": (f"{WAN}/24", {"mtu": 1400})}
        with routed(place, ports) as made:
            place.address(f"{H1}/24", f"{H2}/24")
            place.default_routes(LAN, WAN)
            made.start()
            yield made


def test_a_sender_that_forbids_fragments_is_told(net):
    assert "1 received" in ping(net.h1, H2, "-c1", "-Mdo", "-s1372")
    said = ping(net.h1, H2, "-c1", "-Mdo", "-s1373")
    assert f"From {LAN} icmp_seq=1 Frag needed and DF set (mtu = 1400)" in said


def test_what_may_be_fragmented_is_counted(net):
    assert "0 received" in ping(net.h1, H2, "-c2", "-i0.01", "-W1", "-Mdont", "-s1373")
    net.settle()
    assert net.drops() == {("ip4-rewrite", "needs-fragmentation"): 2}


def test_tcp_finds_the_mtu(net):
    """Its first segments are too long, as super-frames too; what it hears of that makes it send less."""
    transfer(net.h1, net.h2, H2, 5_000_000)
    transfer(net.h2, net.h1, H1, 5_000_000)
    assert net.count("ip4-rewrite", "too-big") > 0
