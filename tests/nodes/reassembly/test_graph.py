"""Pieces through the whole graph: they follow their first piece, through NAT too, or go nowhere."""

from itertools import permutations

import pytest

from nodes.ip6.test_reassembly import fragment
from oracles import ip4 as oracle
from vforward import FirewallSettings, Forwarder, Masquerade, MemoryPort, Rule
from vforward.testing import packets as pk

CLIENT, SERVER, OURS = "10.0.1.9", "10.0.2.9", "10.0.2.1"
CLIENT6, SERVER6 = "2001:db8:1::9", "2001:db8:2::9"
LAN_MAC, WAN_MAC = "02:00:00:00:01:09", "02:00:00:00:02:09"
UDP, ICMP, TCP = 17, 1, 6
DATA = bytes(range(61))
DNS = Rule(name="dns", action="permit", protocol="udp", to_ports=53)
PING = Rule(name="ping", action="permit", protocol="icmp", icmp="echo-request")
ORDERS = list(permutations(range(3)))


class Lab:
    """A client at lan, a server at wan, masquerade between them."""

    def __init__(self, router):
        self.router = router
        self.lan = router.add_port("lan", MemoryPort(), ("10.0.1.1/24", "2001:db8:1::1/64"))
        self.wan = router.add_port("wan", MemoryPort(), (f"{OURS}/24", "2001:db8:2::1/64"))
        for address, mac, port in ((CLIENT, LAN_MAC, "lan"), (SERVER, WAN_MAC, "wan"),
                                   (CLIENT6, LAN_MAC, "lan"), (SERVER6, WAN_MAC, "wan")):  # fmt: skip
            router.add_neighbor(address, pk.mac_bytes(mac), port)
        router.set_firewall(FirewallSettings(default="deny"))
        router.set_nat([Masquerade(out="wan")])
        router.build()

    def send(self, port, packets, *, together=True):
        """Send packets, in one vector or one by one; returns what came out of lan and of wan."""
        mac, wire = (LAN_MAC if port is self.lan else WAN_MAC), []
        for packet in packets:
            kind = pk.ETH_IP4 if packet[0] >> 4 == 4 else pk.ETH_IP6
            wire.append(pk.eth(port.mac, mac, kind, packet))
        for some in [wire] if together else [[frame] for frame in wire]:
            port.send(some)
            self.router.run_until_idle()
        return [[frame[14:] for frame in each.received()] for each in (self.lan, self.wan)]

    def counted(self, node):
        member = self.router.graph.members[node]
        return dict(zip(member.node.counter_labels, member.counts.tolist(), strict=True))

    def expire(self):
        """Let all datagrams' time be over."""
        for table in (self.router.firewall.pieces[0].ip4, self.router.firewall.pieces[0].ip6):
            before, table[0]["started"] = int(table[0]["started"]), 0
            self.router.run_until_idle()
            table[0]["started"] = before


@pytest.fixture(scope="module")
def router():
    with Forwarder() as made:
        yield Lab(made)


@pytest.fixture
def lab(router):
    """Rules are a test's own; every buffer is free when it is over."""
    router.router.set_rules([DNS, PING])
    yield router
    router.expire()
    router.router.set_rules([])
    router.router.pool.check()
    assert router.router.firewall.pieces[0].held_rows() == []


def pieces4(src, dst, protocol, message, ident, step=24):
    return oracle.fragment(pk.ip4(src, dst, protocol, message, ident=ident), 20 + step)


def pieces6(src, dst, protocol, message, ident, step=24):
    return [
        pk.ip6(src, dst, 44, fragment(protocol, at, at + step < len(message), ident, part))
        for at in range(0, len(message), step)
        if (part := message[at : at + step])
    ]


def joined6(pieces):
    """The payload of IPv6 pieces put together, each one's place checked."""
    body = b""
    for piece in sorted(pieces, key=lambda p: int.from_bytes(p[42:44], "big")):
        assert int.from_bytes(piece[42:44], "big") & 0xFFF8 == len(body)
        body += piece[48:]
    return body


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", ORDERS)
def test_there_and_back_through_nat(lab, order, together):
    """RFC 3022 section 4.1, RFC 4787 REQ-14: pieces in any order are translated, and no more."""
    sport = 4000 + 2 * ORDERS.index(order) + together
    sent = pieces4(CLIENT, SERVER, UDP, pk.udp(CLIENT, SERVER, sport, 53, DATA), sport)
    assert len(sent) == 3
    back, out = lab.send(lab.lan, [sent[k] for k in order], together=together)
    assert back == []
    whole = oracle.reassemble(out)
    port = int.from_bytes(whole[20:22], "big")
    expected = pk.ip4(OURS, SERVER, UDP, pk.udp(OURS, SERVER, port, 53, DATA), ident=sport, ttl=63)
    assert whole == expected
    reply = pieces4(SERVER, OURS, UDP, pk.udp(SERVER, OURS, 53, port, DATA), sport)
    back, out = lab.send(lab.wan, [reply[k] for k in order], together=together)
    assert out == []
    answer = pk.udp(SERVER, CLIENT, 53, sport, DATA)
    assert oracle.reassemble(back) == pk.ip4(SERVER, CLIENT, UDP, answer, ident=sport, ttl=63)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", ORDERS)
def test_there_and_back_in_ip6(lab, order, together):
    sport = 5000 + 2 * ORDERS.index(order) + together
    message = pk.udp(CLIENT6, SERVER6, sport, 53, DATA)
    sent = pieces6(CLIENT6, SERVER6, UDP, message, sport)
    back, out = lab.send(lab.lan, [sent[k] for k in order], together=together)
    assert back == []
    assert joined6(out) == message
    answer = pk.udp(SERVER6, CLIENT6, 53, sport, DATA)
    reply = pieces6(SERVER6, CLIENT6, UDP, answer, sport)
    back, out = lab.send(lab.wan, [reply[k] for k in order], together=together)
    assert out == []
    assert joined6(back) == answer


def test_long_pings_whose_rule_says_echo_request(lab):
    """Of later pieces nobody knows the type: they go by the first one's session, in its vector too."""
    ask = pieces4(CLIENT, SERVER, ICMP, pk.icmp_echo(7, 1, DATA), 1)
    back, out = lab.send(lab.lan, ask)
    assert back == []
    whole = oracle.reassemble(out)
    assert pk.checksum(whole[20:]) == 0
    ident = int.from_bytes(whole[24:26], "big")
    answer = pieces4(SERVER, OURS, ICMP, pk.icmp_echo(ident, 1, DATA, reply=True), 1)
    back, out = lab.send(lab.wan, answer)
    assert out == []
    assert oracle.reassemble(back)[20:] == pk.icmp_echo(7, 1, DATA, reply=True)


@pytest.mark.parametrize("make", [
    lambda: pieces4(SERVER, OURS, UDP, pk.udp(SERVER, OURS, 53, 9, DATA), 9)[1:],
    lambda: pieces6(SERVER6, CLIENT6, UDP, pk.udp(SERVER6, CLIENT6, 53, 9, DATA), 9)[1:],
])  # fmt: skip
def test_pieces_of_an_unknown_datagram_wait_and_are_dropped_by_the_timer(lab, make):
    before = lab.counted("reassembly-timer")["expired"]
    assert lab.send(lab.wan, make()) == [[], []]
    assert len(lab.router.firewall.pieces[0].held_rows()) == 2
    lab.expire()
    assert lab.counted("reassembly-timer")["expired"] == before + 2
    assert lab.router.firewall.pieces[0].held_rows() == []


def test_what_is_not_let_in_has_no_later_pieces_either(lab):
    """The first piece is denied; the others are too, or have no session."""
    before = lab.counted("ip4-acl")
    asked = pieces4(SERVER, CLIENT, UDP, pk.udp(SERVER, CLIENT, 4000, 80, DATA), 5)
    assert lab.send(lab.wan, asked) == [[], []]
    lab.router.set_rules([Rule(name="first", action="deny", protocol="icmp", icmp="echo-request"),
                          Rule(name="rest", action="permit")])  # fmt: skip
    asked = pieces4(CLIENT, SERVER, ICMP, pk.icmp_echo(8, 1, DATA), 5)
    assert lab.send(lab.lan, asked) == [[], []]
    now = lab.counted("ip4-acl")
    assert {label: now[label] - before[label] for label in now if now[label] != before[label]} == {
        "denied": 4,
        "piece": 2,
    }


def test_a_rule_without_sessions_lets_pieces_through_as_they_are(lab):
    lab.router.set_rules([Rule(name="all", action="permit", protocol="udp", stateful=False)])
    sent = pieces4(CLIENT, SERVER, UDP, pk.udp(CLIENT, SERVER, 4000, 99, DATA), 5)
    _, out = lab.send(lab.lan, [sent[1], sent[0], sent[2]])
    assert oracle.reassemble(out)[20:] == pk.udp(CLIENT, SERVER, 4000, 99, DATA)


def test_tcp_in_pieces(lab):
    """Of an established connection; the window is asked about the first piece alone."""
    lab.router.set_rules([Rule(name="web", action="permit", protocol="tcp", to_ports=80)])
    syn = pk.tcp(CLIENT, SERVER, 4000, 80, seq=100, flags="S", window=1000)
    _, (out,) = lab.send(lab.lan, [pk.ip4(CLIENT, SERVER, TCP, syn)])
    port = int.from_bytes(out[20:22], "big")
    answer = pk.tcp(SERVER, OURS, 80, port, seq=900, ack=101, flags="SA", window=1000)
    lab.send(lab.wan, [pk.ip4(SERVER, OURS, TCP, answer)])
    ends = (CLIENT, SERVER, 4000, 80)
    lab.send(lab.lan, [pk.ip4(CLIENT, SERVER, TCP, pk.tcp(*ends, seq=101, ack=901, flags="A"))])
    data = pk.tcp(*ends, seq=101, ack=901, flags="A", window=1000, payload=DATA)
    sent = pieces4(CLIENT, SERVER, TCP, data, 5)
    _, out = lab.send(lab.lan, sent[::-1])
    whole = oracle.reassemble(out)
    moved = (OURS, SERVER, port, 80)
    assert whole[20:] == pk.tcp(*moved, seq=101, ack=901, flags="A", window=1000, payload=DATA)


def test_an_error_about_a_first_piece_is_translated_back(lab):
    sent = pieces4(CLIENT, SERVER, UDP, pk.udp(CLIENT, SERVER, 4999, 53, DATA), 5)
    _, out = lab.send(lab.lan, sent)
    error = pk.ip4(SERVER, OURS, ICMP, b"\x0b\x01" + bytes(6) + out[0])
    told = bytearray(error)
    told[22:24] = pk.checksum(error[20:]).to_bytes(2, "big")
    (back,), _ = lab.send(lab.wan, [bytes(told)])
    assert back[16:20] == pk.ip4_bytes(CLIENT)
    assert back[28 + 12 : 28 + 16] == pk.ip4_bytes(CLIENT)
    assert back[28 + 20 : 28 + 22] == (4999).to_bytes(2, "big")
    assert pk.checksum(back[20:]) == 0


def test_overlaps_are_refused_and_counted(lab):
    before = lab.counted("ip4-reassembly")
    message = pk.udp(CLIENT, SERVER, 4998, 53, DATA)
    first, second, third = pieces4(CLIENT, SERVER, UDP, message, 5)
    other = pk.ip4(CLIENT, SERVER, UDP, bytes(32), ident=5, frag_off=16, flags_mf=True)
    _, out = lab.send(lab.lan, [second, other, first, third])
    assert out == []
    now = lab.counted("ip4-reassembly")
    assert {label: now[label] - before[label] for label in now if now[label] != before[label]} == {
        "overlap": 1,
        "refused": 3,
    }
