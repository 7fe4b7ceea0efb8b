"""ip4-acl in its graph: rules, sessions that begin, what is told to the sender, NAT."""

import pytest

from vforward import FirewallSettings, Forwarder, Masquerade, MemoryPort, Rule, SourceNat
from vforward.testing import packets as pk

CLIENT, CLIENT_MAC = "10.0.1.9", "02:00:00:00:01:09"
SERVER, SERVER_MAC = "10.0.2.9", "02:00:00:00:02:09"
RST_ACK = 0x14


class Lab:
    """A client at lan, a server at wan."""

    def __init__(self, router):
        self.router = router
        self.lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
        self.wan = router.add_port("wan", MemoryPort(), "10.0.2.1/24")
        router.add_neighbor(CLIENT, pk.mac_bytes(CLIENT_MAC), "lan")
        router.add_neighbor(SERVER, pk.mac_bytes(SERVER_MAC), "wan")

    def send(self, port, protocol, src, dst, message):
        """Send a packet; returns what came out of lan and of wan, as IPv4 packets."""
        mac = CLIENT_MAC if port is self.lan else SERVER_MAC
        packet = pk.ip4(src, dst, protocol, message)
        port.send([pk.eth(port.mac, mac, pk.ETH_IP4, packet)])
        self.router.run_until_idle()
        return [[frame[14:] for frame in each.received()] for each in (self.lan, self.wan)]

    def counted(self):
        """What ip4-acl has counted, by label."""
        acl = self.router.graph.members["ip4-acl"]
        return dict(zip(acl.node.counter_labels, acl.counts.tolist(), strict=True))

    def udp(self, port, src, dst, sport, dport):
        return self.send(port, 17, src, dst, pk.udp(src, dst, sport, dport))


@pytest.fixture
def lab():
    with Forwarder() as router:
        yield Lab(router)


def test_a_permitted_flow_gets_its_answers_and_nothing_else_passes(lab):
    lab.router.set_firewall(FirewallSettings(default="deny"))
    lab.router.set_rules([Rule(name="dns", action="permit", protocol="udp", to_ports=53)])
    lab.router.build()
    assert lab.udp(lab.wan, SERVER, CLIENT, 53, 4000) == [[], []]
    assert lab.udp(lab.lan, CLIENT, SERVER, 4000, 80) == [[], []]
    assert [len(out) for out in lab.udp(lab.lan, CLIENT, SERVER, 4000, 53)] == [0, 1]
    assert [len(out) for out in lab.udp(lab.wan, SERVER, CLIENT, 53, 4000)] == [1, 0]
    assert lab.router.count_sessions() == 1
    lab.router.pool.check()


def test_reject_tells_the_sender(lab):
    lab.router.set_firewall(FirewallSettings(default="reject"))
    lab.router.build()
    (told,), sent = lab.udp(lab.lan, CLIENT, SERVER, 4000, 80)
    assert (sent, told[9], told[20:22]) == ([], 1, bytes([3, 13]))
    segment = pk.tcp(CLIENT, SERVER, 4000, 80, seq=7, flags="S")
    (told,), sent = lab.send(lab.lan, 6, CLIENT, SERVER, segment)
    assert (sent, told[9], told[33]) == ([], 6, RST_ACK)
    assert int.from_bytes(told[28:32], "big") == 8


def test_masquerade_there_and_back(lab):
    lab.router.set_firewall(FirewallSettings(default="permit"))
    lab.router.set_nat([Masquerade(out="wan")])
    lab.router.build()
    _, (out,) = lab.udp(lab.lan, CLIENT, SERVER, 4000, 53)
    assert out[12:16] == bytes([10, 0, 2, 1])
    port = int.from_bytes(out[20:22], "big")
    (back,), _ = lab.udp(lab.wan, SERVER, "10.0.2.1", 53, port)
    assert back[16:20] == bytes([10, 0, 1, 9])
    assert int.from_bytes(back[22:24], "big") == 4000


@pytest.mark.parametrize("about", ["error", "timestamp"])
def test_icmp_without_a_session_does_not_get_past_nat(lab, about):
    """It would leave with the client's own address: RFC 5508 section 4.2, REQ-5."""
    lab.router.set_firewall(FirewallSettings(default="permit"))
    lab.router.set_nat([Masquerade(out="wan")])
    lab.router.build()
    quote = pk.ip4(SERVER, CLIENT, 17, pk.udp(SERVER, CLIENT, 53, 4000))
    message = (
        bytes([11, 0, 0, 0]) + bytes(4) + quote if about == "error" else bytes([13] + 19 * [0])
    )
    message = message[:2] + pk.checksum(message).to_bytes(2, "big") + message[4:]
    assert lab.send(lab.lan, 1, CLIENT, SERVER, message) == [[], []]
    assert lab.counted()["untranslated"] == 1
    assert [len(out) for out in lab.send(lab.wan, 1, SERVER, CLIENT, message)] == [1, 0]
    lab.router.set_nat([])
    assert [len(out) for out in lab.send(lab.lan, 1, CLIENT, SERVER, message)] == [0, 1]


def test_who_gets_no_port_is_told(lab):
    """RFC 5508 section 6, REQ-8."""
    lab.router.set_firewall(FirewallSettings(default="permit"))
    lab.router.set_nat([SourceNat(out="wan", pool="192.0.2.1", ports="5000-5001")])
    lab.router.build()
    for client in (4000, 4001):
        back, (out,) = lab.udp(lab.lan, CLIENT, SERVER, client, 53)
        assert (back, out[12:16]) == ([], bytes([192, 0, 2, 1]))
    (told,), sent = lab.udp(lab.lan, CLIENT, SERVER, 4002, 53)
    assert (sent, told[9], told[20:22]) == ([], 1, bytes([3, 13]))
    assert (told[12:16], told[16:20]) == (bytes([10, 0, 1, 1]), bytes([10, 0, 1, 9]))
    assert told[28:] == pk.ip4(CLIENT, SERVER, 17, pk.udp(CLIENT, SERVER, 4002, 53))
    labels = lab.router.graph.members["ip4-acl"]
    counted = dict(zip(labels.node.counter_labels, labels.counts.tolist(), strict=True))
    assert (counted["ports-exhausted"], counted["sessions"]) == (1, 2)
    lab.router.pool.check()
