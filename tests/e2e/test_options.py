"""A router's settings: whatever they are, TCP crosses and every packet is accounted for."""

import pytest

from e2e.lab import ping, routed, transfer
from vforward import ConfigError, Forwarder

pytestmark = pytest.mark.root

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
PORTS = {"lan": f"{LAN}/24", "wan": f"{WAN}/24"}


@pytest.mark.parametrize(
    "options",
    [{"vector": 1}, {"vector": 3}, {"idle": "spin"}, {"buffers": 1024}],
    ids=str,
)
def test_settings(place, options):
    place.address(f"{H1}/24", f"{H2}/24")
    place.default_routes(LAN, WAN)
    with routed(place, PORTS, **options) as net:
        net.start()
        assert "1 received" in ping(
            net.h1, H2, "-c1"
        )  # alone, as 8 packets may wait for a neighbor
        assert "10 received" in ping(net.h1, H2, "-c10", "-l10", "-s", "4000")
        transfer(net.h1, net.h2, H2, 20_000_000)
        transfer(net.h2, net.h1, H1, 20_000_000)


def test_too_few_buffers_are_refused():
    with pytest.raises(ConfigError, match="buffers is 256; at least 1024"):
        Forwarder(buffers=256)


def test_a_small_ring(place):
    """What the kernel drops since the ring is full is counted, and TCP sends it again."""
    place.address(f"{H1}/24", f"{H2}/24")
    place.default_routes(LAN, WAN)
    with routed(place, {n: (a, {"ring_mib": 1}) for n, a in PORTS.items()}) as net:
        net.start()
        transfer(net.h1, net.h2, H2, 20_000_000)


def test_pause_and_resume(place):
    """Nothing moves meanwhile, and nothing is lost."""
    place.address(f"{H1}/24", f"{H2}/24")
    place.default_routes(LAN, WAN)
    with routed(place, PORTS) as net:
        net.start()
        assert "1 received" in ping(net.h1, H2, "-c1")
        net.forwarder.workers[0].pause()
        before = net.view.runtime().packets
        assert "0 received" in ping(net.h1, H2, "-c3", "-i0.01", "-W1")
        assert net.view.runtime().packets == before
        net.forwarder.workers[0].resume()
        net.settle()
        assert net.view.runtime().packets >= before + 3
        assert "1 received" in ping(net.h1, H2, "-c1")
