# SPDX-License-Identifier: Apache-2.0
"""Interfaces that go and come back under load; rings that overflow; readers that stop."""

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.lab import Lab, lab, ping, routed, transfer, until
from vforward.testing.namespaces import namespaces, veth

pytestmark = pytest.mark.root

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
HOST_LAWS = [
    f"{port}: {law}"
    for port in ("lan", "wan")
    for law in ("sent = received by the host", "sent by the host = received")
]
"""Laws that do not hold: an interface takes what it counted, and what was under way, with it."""


@pytest.fixture(params=["ring", "xdp"])
def net(request):
    """By what the ports receive; they are looked after in the router's namespace."""
    with lab() as place:
        more = {"mode": request.param, "netns": place.router.path}
        ports = {"lan": (f"{LAN}/24", more), "wan": (f"{WAN}/24", more)}
        with routed(place, ports) as made:
            place.address(f"{H1}/24", f"{H2}/24")
            place.default_routes(LAN, WAN)
            made.start()
            made.but = HOST_LAWS
            assert "1 received" in ping(place.h1, H2, "-c1")
            yield made


SENDER = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    while True:
        sender.sendto(bytes(100), (sys.argv[1], 9))
"""


@contextlib.contextmanager
def flood(net):
    """Datagrams from h1 to h2 meanwhile."""
    command = net.h1.command(sys.executable, "-c", SENDER, H2)
    with subprocess.Popen(command) as sender:
        try:
            until(lambda: net.packets("wan-tx") > 1000, "nothing is forwarded")
            yield
        finally:
            sender.kill()


def port_of(net, name):
    return net.forwarder.interfaces.find(name).port


def works(net):
    """Whether a ping gets through, both ports' interfaces being there."""
    return "1 received" in net.h1.run("ping", "-c1", "-W1", H2, check=False)


def test_deleted_under_load_and_made_anew(net):
    with flood(net):
        for _ in range(3):
            dropped = net.count("wan-tx", "link-down")
            net.lab.router.run("ip", "link", "delete", "dev", "wan")
            until(lambda: "no interface 'wan'" in port_of(net, "wan").peer(), "nobody notices")
            until(lambda n=dropped: net.count("wan-tx", "link-down") > n, "no drop is counted")
            assert port_of(net, "lan").carrier()
            veth(net.h2, "eth0", net.lab.router, "wan")
            net.h2.address("eth0", f"{H2}/24")
            net.h2.run("ip", "route", "add", "default", "via", WAN)
            until(lambda: port_of(net, "wan").carrier(), "it is not taken again")
            until(lambda: works(net), "nothing is forwarded any more")
    transfer(net.h1, net.h2, H2, 1_000_000)
    transfer(net.h2, net.h1, H1, 1_000_000)


def test_set_down_and_up(net):
    with flood(net):
        for _ in range(3):
            dropped = net.count("wan-tx", "link-down")
            net.lab.router.run("ip", "link", "set", "dev", "wan", "down")
            until(lambda n=dropped: net.count("wan-tx", "link-down") > n, "no drop is counted")
            net.lab.router.run("ip", "link", "set", "dev", "wan", "up")
            until(lambda: works(net), "nothing is forwarded any more")
    transfer(net.h1, net.h2, H2, 1_000_000)


def test_moved_to_another_namespace_and_back(net):
    with namespaces("elsewhere") as (elsewhere,):
        router = net.lab.router
        router.run("ip", "link", "set", "dev", "wan", "netns", str(elsewhere.pid))
        until(lambda: "no interface 'wan'" in port_of(net, "wan").peer(), "nobody notices")
        elsewhere.run("ip", "link", "set", "dev", "wan", "netns", str(router.pid))
        router.run("ip", "link", "set", "dev", "wan", "up")
        until(lambda: works(net), "nothing is forwarded any more")
    transfer(net.h1, net.h2, H2, 1_000_000)


def test_the_namespace_of_a_host_is_removed_under_load():
    """Its veth pair goes with it. Another host with another pair takes its place."""
    with contextlib.ExitStack() as stack:
        router, h1 = stack.enter_context(namespaces("router", "h1"))
        far, later = (stack.enter_context(contextlib.ExitStack()) for _ in range(2))
        (h2,) = far.enter_context(namespaces("h2"))
        veth(h1, "eth0", router, "lan")
        veth(h2, "eth0", router, "wan")
        place = Lab(router, [h1, h2])
        net = stack.enter_context(routed(place, {"lan": f"{LAN}/24", "wan": f"{WAN}/24"}))
        place.address(f"{H1}/24", f"{H2}/24")
        place.default_routes(LAN, WAN)
        net.start()
        net.but = HOST_LAWS
        with flood(net):
            far.close()
            until(lambda: "no interface 'wan'" in port_of(net, "wan").peer(), "nobody notices")
            dropped = net.count("wan-tx", "link-down")
            assert port_of(net, "lan").carrier()
            assert "1 received" in ping(h1, LAN, "-c1")
            (again,) = later.enter_context(namespaces("h2"))
            place.hosts[1] = net.h2 = again
            veth(again, "eth0", router, "wan")
            again.address("eth0", f"{H2}/24")
            again.run("ip", "route", "add", "default", "via", WAN)
            until(lambda: port_of(net, "wan").carrier(), "it is not taken again")
            until(lambda: works(net), "nothing is forwarded any more")
        assert dropped > 0
        transfer(net.h1, net.h2, H2, 1_000_000)
        transfer(net.h2, net.h1, H1, 1_000_000)


def test_the_routers_own_namespace_is_removed_under_load():
    """Its name, and all others in it: the ports keep it, work on, and leave nothing of it behind."""
    with contextlib.ExitStack() as stack:
        h1, h2 = stack.enter_context(namespaces("h1", "h2"))
        its = stack.enter_context(contextlib.ExitStack())
        (router,) = its.enter_context(namespaces("router"))
        veth(h1, "eth0", router, "lan")
        veth(h2, "eth0", router, "wan")
        place = Lab(router, [h1, h2])
        options = {"netns": router.path, "set_up": True}
        ports = {"lan": (f"{LAN}/24", options), "wan": (f"{WAN}/24", options)}
        with routed(place, ports) as net:
            place.address(f"{H1}/24", f"{H2}/24")
            place.default_routes(LAN, WAN)
            net.start()
            with flood(net):
                its.close()
                assert not Path(router.path).exists()
                before = net.packets("wan-tx")
                until(lambda: net.packets("wan-tx") > before + 10_000, "nothing is forwarded")
                assert "3 received" in ping(h2, H1, "-c3", "-i0.2")
            transfer(h1, h2, H2, 1_000_000)
            assert port_of(net, "lan").carrier()
            assert port_of(net, "wan").carrier()
        for host in (h1, h2):  # the other ends go when Linux has cleaned up
            until(lambda host=host: "eth0" not in host.run("ip", "link"), "something holds it")


@pytest.mark.parametrize(
    ("rate", "limit", "reason"),
    [("1mbit", "3000", "no-buffers"), ("20mbit", "20mb", "ring-full")],
    ids=["ENOBUFS", "EAGAIN"],
)
def test_a_way_out_that_is_full(rate, limit, reason):
    """A slow queueing discipline drops, or fills the socket's send buffer: asked again, and counted."""
    with lab() as place:
        shape = ("tbf", "rate", rate, "burst", "2000", "limit", limit)
        place.router.run("tc", "qdisc", "add", "dev", "wan", "root", *shape)
        with routed(place, {"lan": f"{LAN}/24", "wan": f"{WAN}/24"}) as net:
            place.address(f"{H1}/24", f"{H2}/24")
            place.default_routes(LAN, WAN)
            net.start()
            assert "1 received" in ping(net.h1, H2, "-c1")
            with flood(net):
                until(lambda: net.count("wan-tx", reason) > 1000, "no drop is counted")
                until(
                    lambda: "1 received" in ping(net.h1, LAN, "-c1", "-W1"),
                    "the other port does not work",
                )
            net.settle()
            overrun = {("lan", "kernel-ring-full")}  # by the flood, now and then
            assert set(net.drops()) - overrun == {("wan-tx", reason)}
            transfer(net.h2, net.h1, H1, 300_000)


def test_an_overflow_is_counted_and_nothing_else_lost(net):
    """What the ring had no room for while the worker stood still is all that is missing."""
    net.settle()
    net.clear()
    net.forwarder.stop()
    with net.h1.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    slots, _ = port_of(net, "lan").slots
    with sender:
        for n in range(slots + 5000):
            sender.sendto(n.to_bytes(8, "big"), (H2, 9))
    net.forwarder.start()
    until(lambda: net.count("lan", "kernel-ring-full") > 0, "no drop is counted")
    net.settle([law for law in HOST_LAWS if "= received" not in law])
    assert net.count("lan", "kernel-ring-full") >= 4000


def test_a_reader_that_stops_and_goes_on(net):
    """A TCP receiver that does not read for a while stops the sender, and nothing is lost."""
    with net.h2.inside():
        server = socket.create_server((H2, 5001))
    with net.h1.inside():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with server, client:
        client.connect((H2, 5001))
        connection, _ = server.accept()
        client.setblocking(False)
        sent, got = 0, 0
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                sent += client.send(bytes(65536))
            except BlockingIOError:
                time.sleep(0.01)
        client.setblocking(True)
        client.shutdown(socket.SHUT_WR)
        with connection:
            connection.settimeout(30)
            while part := connection.recv(1 << 16):
                got += len(part)
        assert got == sent > 0
    net.settle(HOST_LAWS)
    assert net.drops() == {}
