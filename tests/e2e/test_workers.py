"""Two workers between Linux hosts: TCP and UDP cross, whoever has which flow, and nothing is lost."""

import threading

import pytest

from e2e import clients
from e2e.clients import IPERF, needs
from e2e.lab import lab, ping, routed, transfer, until
from vforward import DestinationNat, FirewallSettings, Masquerade, Rule
from vforward.control.observe_workers import workers
from vforward.testing.namespaces import veth

pytestmark = pytest.mark.root

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
PORTS = {"lan": f"{LAN}/24", "wan": f"{WAN}/24"}
MODES = [{}, {"mode": "raw"}]
LATE = {("ip4-session", "outside")}
"""What iperf3 resets may be answered by segments that were on their way: with one worker too."""
OUT = Rule(name="out", action="permit", in_="lan")
WEB = Rule(name="web", action="permit", in_="wan", protocol="tcp", to_ports="8000-8100")


@pytest.fixture
def place():
    with lab() as made:
        made.address(f"{H1}/24", f"{H2}/24")
        made.default_routes(LAN, WAN)
        yield made


def many(net, there=H2, n=8, octets=2_000_000):
    """Transfers at a time, each way; asserts that all arrive unchanged."""
    wrong = []

    def move(k):
        try:
            if k % 2:
                transfer(net.h1, net.h2, there, octets + k, port=5000 + k)
            else:
                transfer(net.h2, net.h1, H1, octets + k, port=5000 + k)
        except BaseException as error:  # of a thread, to be told
            wrong.append(error)

    threads = [threading.Thread(target=move, args=(k,)) for k in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong


def shared(net):
    """Whether both workers have received, and sent by themselves."""
    rows = workers(net.view)
    assert all(row.packets for row in rows), rows
    return rows


@pytest.mark.parametrize("options", MODES, ids=str)
def test_flows_in_both_directions(place, options):
    with routed(place, {n: (a, options) for n, a in PORTS.items()}, workers=2) as net:
        net.start()
        assert "1 received" in ping(net.h1, H2, "-c1")
        assert "10 received" in ping(net.h1, H2, "-c10", "-i0.01", "-s", "4000")
        many(net)
        rows = shared(net)
        assert sum(row.handed_off for row in rows) == 0  # each sends by itself
        assert net.drops() == {}


@needs("iperf3")
def test_through_firewall_and_nat(place, tmp_path):
    with routed(place, PORTS, workers=2) as net:
        net.forwarder.set_firewall(FirewallSettings(default="deny"))
        net.forwarder.set_rules([OUT])
        net.forwarder.set_nat([Masquerade(out="wan")])
        net.start()
        assert "1 received" in ping(net.h1, H2, "-c1")
        assert "10 received" in ping(net.h1, H2, "-c10", "-i0.01", "-s", "4000")
        for more in ((), ("-R",), ("-u", "-b6M", "-k300", "-l1200")):
            size = () if "-u" in more else ("-n", "4M")
            with clients.iperf_server(net.h2, H2, tmp_path):
                assert clients.iperf(net.h1, H2, "-P4", *size, *more)
        rows = shared(net)
        assert sum(row.handed_off for row in rows) > 0
        assert net.forwarder.count_sessions(port=IPERF) > 5
        assert all(shard.statistics()["opened"] for shard in net.forwarder.firewall.shards)
        assert int(net.forwarder.firewall.strays[0]) == 0
        assert set(net.drops()) <= LATE


def test_forwarded_ports_have_strays(place):
    with routed(place, PORTS, workers=2) as net:
        net.forwarder.set_firewall(FirewallSettings(default="deny"))
        net.forwarder.set_rules([OUT, WEB])
        net.forwarder.set_nat(
            [DestinationNat(to=WAN, new=H1, protocol="tcp", to_ports="8000-8100")]
        )
        net.start()
        assert "1 received" in ping(net.h1, H2, "-c1")
        for k in range(8):
            through(net, 8000 + k)
        strays = int(net.forwarder.firewall.strays[0])
        assert 0 < strays <= 8
        assert net.drops() == {}
        net.forwarder.kill_sessions()
        until(lambda: not net.forwarder.count_sessions(), "sessions are not ended")
        assert int(net.forwarder.firewall.strays[0]) == 0


def through(net, port):
    """Some bytes from h2 to h1, by the router's own address."""
    import socket

    with net.h1.inside():
        server = socket.create_server((H1, port))
    with net.h2.inside():
        client = socket.socket()
    with server, client:
        server.settimeout(60)
        client.settimeout(60)
        client.connect((WAN, port))
        connection, _ = server.accept()
        with connection:
            connection.settimeout(60)
            client.sendall(b"there")
            assert connection.recv(9) == b"there"
            connection.sendall(b"back")
            assert client.recv(9) == b"back"


@pytest.mark.parametrize("queues", [1, 2])
def test_the_host_at_the_routers_side(place, queues):
    with routed(place, PORTS, workers=2) as net:
        with place.router.inside():
            net.forwarder.add_host("lan-host", "host0", "lan", queues=queues)
        assert len(net.forwarder.interfaces.find("lan-host").port.receivers()) == queues
        net.start()
        assert "1 received" in ping(net.h1, LAN, "-c1")
        for k in range(4):
            transfer(net.h1, place.router, LAN, 500_000, 6000 + k)
            transfer(place.router, net.h1, H1, 500_000, 7000 + k)
        if queues == 2:
            at = [net.packets(name) for name in ("lan-host-rx", "lan-host-rx-1")]
            assert all(at), at


def test_queues_move_under_tcp(place):
    with routed(place, PORTS, workers=2) as net:
        net.start()
        assert "1 received" in ping(net.h1, H2, "-c1")
        done, moves = threading.Event(), 0
        at = {(port, queue): queue for port in PORTS for queue in range(2)}

        def move():
            nonlocal moves
            while not done.wait(0.02):
                for (port, queue), worker in at.items():
                    net.forwarder.move_queue(port, 1 - worker, queue)
                    at[port, queue] = 1 - worker
                    moves += 1

        def placed():
            rows = workers(net.view)
            return {queue: row.number for row in rows for queue in row.queues}

        thread = threading.Thread(target=move)
        thread.start()
        try:
            while moves < 2 * len(at):  # there and back, each of them
                assert thread.is_alive()
                many(net, n=4)
        finally:
            done.set()
            thread.join()
        last = {f"{port} {queue}": worker for (port, queue), worker in at.items()}
        until(lambda: placed() == last, lambda: f"{placed()}, not {last}")
        assert net.drops() == {}


def test_an_interface_that_goes_and_comes_is_shared_again(place):
    with routed(place, PORTS, workers=2) as net:
        net.start()
        assert "1 received" in ping(net.h1, H2, "-c1")
        port = net.forwarder.interfaces.find("wan").port
        place.router.run("ip", "link", "delete", "dev", "wan")
        until(lambda: not port.carrier(), "nobody says that it is gone")
        veth(net.h2, "eth0", place.router, "wan")
        net.h2.address("eth0", f"{H2}/24")
        net.h2.run("ip", "route", "add", "default", "via", WAN)
        until(port.carrier, "it is not taken again")
        until(lambda: "1 received" in ping(net.h1, H2, "-c1", "-W1"), "it does not work")
        net.view.clear()
        many(net)
        shared(net)
        net.but = tuple(net.missing())  # the new interface has counted anew
