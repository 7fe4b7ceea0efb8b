"""Real clients across the firewall: state only, masquerade, port forward, hairpin; and who is refused.

h1 eth0 ---- lan [ firewall ] wan ---- eth0 h2 eth1 ---- eth0 far
"""

import contextlib
import errno
import socket
from dataclasses import dataclass
from subprocess import PIPE, Popen

import pytest

from e2e import clients
from e2e.clients import DNS, HTTP, IPERF, KNOWN, TEXTS, needs
from e2e.lab import ipv6, lab, ping, routed, until
from vforward.control.rules import DestinationNat, FirewallSettings, Masquerade, Rule
from vforward.testing.namespaces import namespaces, veth

pytestmark = pytest.mark.root

LAN, WAN, H1, H2, FAR = "10.1.0.1", "192.0.2.1", "10.1.0.2", "192.0.2.2", "198.51.100.2"
OTHER = "10.1.0.3"
"""h1's second address, of somebody else at the same port."""
LAN6, WAN6 = "2001:db8:1::1", "2001:db8:2::1"
H1_6, H2_6, FAR6 = "2001:db8:1::2", "2001:db8:2::2", "2001:db8:3::2"
OUTSIDE4, OUTSIDE6 = "198.51.100.1", "2001:db8:3::1"  # h2's, towards far
UDP = socket.SOCK_DGRAM

OUT = Rule(name="out", action="permit", in_="lan")
MASQUERADE = Masquerade(out="wan")


@dataclass(frozen=True)
class Way:
    """A policy, and whom clients inside reach by it, as whom."""

    nat: tuple
    near: str
    far: str
    router: str
    seen: str
    own: str

    def made(self, row):
        """Whether a session is one of the client's, and translated if it has to be."""
        new = self.seen != self.own and not row["to"].startswith(self.router)
        name = row["nat_from"].rpartition(":")[0]
        return self.own in row["from"] and name == (self.seen if new else "")


WAYS = {
    "filter": Way((), H2, FAR, LAN, H1, H1),
    "filter6": Way((), H2_6, FAR6, LAN6, H1_6, H1_6),
    "masquerade": Way((MASQUERADE,), H2, FAR, LAN, WAN, H1),
}


@contextlib.contextmanager
def _far(place):
    """A namespace behind h2, which routes."""
    with namespaces("far", ipv6=True) as (far,):
        veth(place.h2, "eth1", far, "eth0")
        place.h2.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.eth1.accept_dad=0")
        place.h2.address("eth1", f"{OUTSIDE4}/24")
        far.address("eth0", f"{FAR}/24")
        far.run("ip", "route", "add", "default", "via", OUTSIDE4)
        for host in (place.h2, far):  # each of traceroute's probes is to be answered
            unlimited = ("net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
            host.run("sysctl", "-qw", *unlimited)
        yield far


def _speak_ipv6(place, far):
    """Once the router counts what the hosts send of themselves."""
    ipv6(place.h1, f"{H1_6}/64", via=LAN6)
    ipv6(place.h2, f"{H2_6}/64", via=WAN6)
    quiet = ("accept_dad=0", "router_solicitations=0", "disable_ipv6=0")
    place.h2.run("sysctl", "-qw", *(f"net.ipv6.conf.eth1.{setting}" for setting in quiet))
    place.h2.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    for host, interface, address in ((place.h2, "eth1", OUTSIDE6), (far, "eth0", FAR6)):
        host.run("ip", "address", "add", f"{address}/64", "dev", interface, "nodad")
    far.run("ip", "-6", "route", "add", "default", "via", OUTSIDE6)


@pytest.fixture(scope="module")
def whole():
    ports = {
        "lan": ((f"{LAN}/24", f"{LAN6}/64"), {}),
        "wan": ((f"{WAN}/24", f"{WAN6}/64"), {}),
    }
    with lab() as place, _far(place) as far, routed(place, ports) as made:
        place.address(f"{H1}/24", f"{H2}/24")
        place.default_routes(LAN, WAN)
        place.h1.address("eth0", f"{OTHER}/24")
        made.forwarder.add_route("198.51.100.0/24", via=H2)
        made.forwarder.add_route("2001:db8:3::/64", via=H2_6)
        made.forwarder.set_firewall(FirewallSettings(default="deny"))
        made.far = far
        made.start()
        _speak_ipv6(place, far)
        yield made


@pytest.fixture
def net(whole):
    """The firewall without sessions, which after each test has accounted for every packet."""
    whole.forwarder.kill_sessions()
    until(lambda: not whole.forwarder.count_sessions(), "sessions are not ended")
    whole.clear()
    yield whole
    whole.settle()


@pytest.fixture(params=WAYS)
def way(request, net):
    """A way out; what is refused on it is no client's."""
    found = WAYS[request.param]
    net.forwarder.set_rules([OUT])
    net.forwarder.set_nat(found.nat)
    yield found
    assert net.drops() == {}
    rows = net.forwarder.sessions()
    assert all(found.made(row) for row in rows), rows


def states(net, **only):
    """The states of the sessions that these words choose."""
    return {row["state"] for row in net.forwarder.sessions(**only)}


OVER = {"time-wait", "closed"}


def ends(net):
    """Wait until all connections are over: programs may end before their last segments."""
    until(lambda: states(net, protocol="tcp") <= OVER, lambda: net.forwarder.sessions(), 5)


@needs("iperf3")
@pytest.mark.parametrize("back", [(), ("-R",)], ids=["there", "back"])
def test_iperf_tcp(net, way, back, tmp_path):
    with clients.iperf_server(net.h2, way.near, tmp_path):
        told = clients.iperf(net.h1, way.near, "-n", "30M", *back)
    sent, received = (told[key]["bytes"] for key in ("sum_sent", "sum_received"))
    assert sent >= 30 << 20
    assert sent >= received > sent // 2  # the server does not wait for what is under way at the end
    assert net.forwarder.count_sessions(protocol="tcp", port=IPERF) == 2  # one of them of control
    assert net.forwarder.count_sessions() == net.count("ip4-acl", "sessions") + net.count(
        "ip6-acl", "sessions"
    )
    ends(net)


@needs("iperf3")
@pytest.mark.parametrize("back", [(), ("-R",)], ids=["there", "back"])
def test_iperf_udp(net, way, back, tmp_path):
    with clients.iperf_server(net.h2, way.near, tmp_path):
        told = clients.iperf(net.h1, way.near, "-u", "-b6M", "-k300", "-l1200", *back)["sum"]
    assert told["packets"] > 100
    assert told["lost_packets"] == 0
    assert states(net, protocol="udp") == {"replied"}


@needs("curl")
def test_curl(net, way, tmp_path):
    with clients.web_server(net.h2, way.near, tmp_path) as seen:
        for _ in range(3):
            assert clients.fetched(net.h1, clients.url_of(way.near)) == (0, clients.CONTENT)
        assert seen() == [way.seen] * 3
    assert net.forwarder.count_sessions(protocol="tcp", port=HTTP) == 3
    ends(net)


@needs("dig", "dnsmasq")
def test_dns(net, way, tmp_path):
    """By UDP, by TCP, and by UDP with an answer that is too long for it."""
    with clients.dns_server(net.h2, way.near, tmp_path):
        assert clients.asked(net.h1, way.near, "+notcp").split() == [KNOWN]
        assert states(net) == {"replied"}
        assert clients.asked(net.h1, way.near, "+tcp").split() == [KNOWN]
        assert net.forwarder.count_sessions(protocol="tcp") == 1
        texts = clients.asked(net.h1, way.near, "TXT", "+noedns")
        assert all(text in texts for text in TEXTS)
    assert net.forwarder.count_sessions(protocol="tcp", port=DNS) == 2
    assert net.forwarder.count_sessions(protocol="udp", port=DNS) == 2


def test_ping(net, way):
    for to in (way.near, way.far):
        for size in (0, 56, 1400):
            assert "3 received" in ping(net.h1, to, "-c3", "-l3", "-s", str(size))
    assert "1 received" in ping(net.h1, way.router, "-c1")
    icmp = "icmp6" if ":" in way.near else "icmp"
    assert net.forwarder.count_sessions(protocol=icmp) == 7  # one for each identifier
    assert states(net) == {"replied"}


@needs("traceroute")
@pytest.mark.parametrize("kind", ["-U", "-I"])
def test_traceroute(net, way, kind):
    """The router, h2, far: errors of the last two come back to who has sent the probes."""
    next_hop = H2_6 if ":" in way.far else H2
    assert clients.hops(net.h1, way.far, kind) == [way.router, next_hop, way.far]


@needs("traceroute")
def test_traceroute_by_udp_to_many_ports(net, way):
    """As most people call it: each probe a session of its own, and an error that is related to it."""
    next_hop = H2_6 if ":" in way.far else H2
    assert clients.hops(net.h1, way.far) == [way.router, next_hop, way.far]
    assert net.forwarder.count_sessions(protocol="udp") >= 3


OUTSIDE = [(WAN, H1), (WAN6, H1_6)]


@needs("curl")
@pytest.mark.parametrize("nat", [(), (MASQUERADE,)], ids=["filter", "masquerade"])
def test_from_outside_nothing_begins(net, nat, tmp_path):
    net.forwarder.set_rules([OUT])
    net.forwarder.set_nat(nat)
    for own, inside in OUTSIDE:
        with clients.web_server(net.h1, inside, tmp_path) as seen:
            url = clients.url_of(inside)
            status, _ = clients.fetched(net.h2, url, "--connect-timeout", "0.5")
            assert status == clients.TIMED_OUT
            assert seen() == []
        assert clients.why_not(net.h2, inside, DNS, UDP, 0.3) is TimeoutError
        for to in (inside, own):
            assert "0 received" in ping(net.h2, to, "-c2", "-i0.01", "-W1")
    net.settle()
    drops = net.drops()
    assert set(drops) == {("ip4-acl", "denied"), ("ip6-acl", "denied")}
    assert min(drops.values()) >= 6
    assert net.forwarder.count_sessions() == 0


@needs("curl")
def test_from_outside_refused(net, tmp_path):
    """RST, and ICMP: what a client is told at once, instead of waiting."""
    net.forwarder.set_rules([OUT, Rule(name="no", action="reject", in_="wan")])
    net.forwarder.set_nat([])
    prohibited = {H1: errno.EHOSTUNREACH, H1_6: errno.EACCES}
    for inside, error in prohibited.items():
        with clients.web_server(net.h1, inside, tmp_path) as seen:
            assert clients.fetched(net.h2, clients.url_of(inside))[0] == clients.COULD_NOT_CONNECT
            assert clients.why_not(net.h2, inside, HTTP) == errno.ECONNREFUSED
            assert seen() == []
        assert clients.why_not(net.h2, inside, DNS, UDP) == error
    assert "Packet filtered" in ping(net.h2, H1, "-c1")
    assert "Administratively prohibited" in ping(net.h2, H1_6, "-c1")
    assert net.count("ip4-acl", "rejected") == net.count("ip6-acl", "rejected") == 4
    assert net.forwarder.count_sessions() == 0


@needs("curl")
def test_a_service_that_is_refused_to_those_inside(net, tmp_path):
    no_mail = Rule(name="no-mail", action="reject", in_="lan", protocol="tcp", to_ports=25)
    net.forwarder.set_rules([no_mail, OUT])
    net.forwarder.set_nat([MASQUERADE])
    assert clients.why_not(net.h1, H2, 25) == errno.ECONNREFUSED
    assert net.forwarder.count_sessions() == 0, "that was the firewall"
    assert clients.why_not(net.h1, H2, 26) == errno.ECONNREFUSED
    assert states(net) == {"closed"}, "that was the server"


SERVICES = (
    DestinationNat(to=WAN, protocol="tcp", to_ports=80, new=H1, new_port=HTTP),
    DestinationNat(to=WAN, protocol=["tcp", "udp"], to_ports=IPERF, new=H1),
    DestinationNat(to=WAN, protocol=["tcp", "udp"], to_ports=DNS, new=H1, new_port=5353),
)
SERVED = Rule(
    name="served", action="permit", in_="wan", to=H1, protocol=["tcp", "udp"],
    to_ports=[HTTP, IPERF, 5353],
)  # fmt: skip


@pytest.fixture
def forward(net):
    """Ports of the router's address that lead to a server inside."""
    net.forwarder.set_rules([SERVED, OUT])
    net.forwarder.set_nat([*SERVICES, MASQUERADE])
    return net


@needs("curl")
def test_curl_to_a_forwarded_port(forward, tmp_path):
    with clients.web_server(forward.h1, H1, tmp_path) as seen:
        for client in (forward.h2, forward.far):
            assert clients.fetched(client, clients.url_of(WAN, 80)) == (0, clients.CONTENT)
        assert seen() == [H2, FAR], "the server sees who it is"
        refused = clients.fetched(forward.h2, clients.url_of(WAN, 81), "--connect-timeout", "0.5")
        assert refused[0] == clients.TIMED_OUT
        past = clients.fetched(forward.h2, clients.url_of(H1, 80), "--connect-timeout", "0.5")
        assert past[0] == clients.TIMED_OUT
    rows = forward.forwarder.sessions()
    assert len(rows) == 2
    assert {(row["to"], row["nat_to"]) for row in rows} == {(f"{WAN}:80", f"{H1}:{HTTP}")}
    assert {row["rule"] for row in rows} == {"served"}
    ends(forward)
    forward.settle()
    late = {
        ("ip4-session", "outside")
    }  # on a busy machine: a segment, sent again, of what has ended
    assert {("ip4-acl", "denied")} <= set(forward.drops()) <= {("ip4-acl", "denied"), *late}


@needs("iperf3")
def test_iperf_to_a_forwarded_port(forward, tmp_path):
    with clients.iperf_server(forward.h1, H1, tmp_path):
        for back in ((), ("-R",)):
            told = clients.iperf(forward.far, WAN, "-n", "20M", *back)
            assert told["sum_received"]["bytes"] > 10 << 20
            told = clients.iperf(forward.h2, WAN, "-u", "-b6M", "-k300", "-l1200", *back)["sum"]
            assert told["lost_packets"] == 0 < told["packets"]
    # more where iperf3 was told that the server is busy, and called again
    assert forward.forwarder.count_sessions(protocol="tcp", to=WAN) >= 6
    assert forward.forwarder.count_sessions(protocol="udp", to=WAN, state="replied") == 2
    assert forward.drops() == {}


@needs("dig", "dnsmasq")
def test_dns_to_a_forwarded_port(forward, tmp_path):
    with clients.dns_server(forward.h1, H1, tmp_path, 5353):
        assert clients.asked(forward.far, WAN, "+notcp").split() == [KNOWN]
        assert clients.asked(forward.h2, WAN, "+tcp").split() == [KNOWN]
        texts = clients.asked(forward.far, WAN, "TXT", "+noedns")
    assert all(text in texts for text in TEXTS)
    assert forward.drops() == {}


@needs("curl", "dig", "dnsmasq")
def test_hairpin(forward, tmp_path):
    """From inside to a server inside, by the address that it has outside."""
    with clients.web_server(forward.h1, H1, tmp_path) as seen:
        way = ("--interface", OTHER)
        assert clients.fetched(forward.h1, clients.url_of(WAN, 80), *way) == (0, clients.CONTENT)
        assert seen() == [WAN], "else the answers would go past the router"
    (row,) = forward.forwarder.sessions()
    assert row["from"].startswith(f"{OTHER}:")
    assert row["nat_from"].startswith(f"{WAN}:")
    assert (row["nat_to"], row["in"], row["out"]) == (f"{H1}:{HTTP}", "lan", "lan")
    with clients.dns_server(forward.h1, H1, tmp_path, 5353):
        assert clients.asked(forward.h1, WAN, "-b", OTHER, "+notcp").split() == [KNOWN]
    assert forward.drops() == {}


@needs("curl")
def test_inside_and_outside_at_once(forward, tmp_path):
    """A policy that is put in force anew leaves the connections alone that exist."""
    with clients.web_server(forward.h1, H1, tmp_path):
        slow = forward.h2.command(
            "curl", "-sS", "--limit-rate", "3M", "-o", "/dev/null", "-w", "%{size_download}",
            clients.url_of(WAN, 80),
        )  # fmt: skip
        with Popen(slow, stdout=PIPE, text=True) as running:
            until(lambda: states(forward) == {"established"}, "it does not begin")
            forward.forwarder.set_nat([])
            forward.forwarder.set_rules([])
            assert clients.why_not(forward.h2, WAN, 80, patience=0.5) is TimeoutError
            assert running.communicate(timeout=60)[0] == str(len(clients.CONTENT))
        assert running.returncode == 0
