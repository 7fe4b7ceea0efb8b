"""A forwarder that sleeps: what comes at once then is all forwarded, in each profile."""

import socket

import pytest

from e2e.lab import lab, ping, routed, until
from vforward.graph import control as c
from vforward.graph.worker import PROFILES

pytestmark = pytest.mark.root

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
BURST = 3000


@pytest.fixture(scope="module")
def net():
    with lab() as place, routed(place, {"lan": f"{LAN}/24", "wan": f"{WAN}/24"}) as made:
        place.address(f"{H1}/24", f"{H2}/24")
        place.default_routes(LAN, WAN)
        made.start()
        assert "1 received" in ping(place.h1, H2, "-c1")
        yield made


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_of_a_burst_after_idle_is_lost(net, profile):
    net.forwarder.profile = profile  # while it runs
    net.clear()
    control = net.forwarder.graph.plans[0].control
    with net.h1.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        for _ in range(3):
            slept, sent = int(control[c.SLEEPS]), net.packets("wan-tx")
            until(lambda n=slept: control[c.SLEEPS] > n + 1, "it does not sleep")
            for n in range(BURST):
                sender.sendto(n.to_bytes(8, "big"), (H2, 9))
            until(lambda n=sent: net.packets("wan-tx") >= n + BURST, lambda: str(net.drops()))
    net.settle()
    assert net.drops() == {}
