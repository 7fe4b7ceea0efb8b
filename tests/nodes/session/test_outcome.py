"""The reasons are numbered as the TCP machine's verdicts: a packet's counter is the right one."""

from oracles import checksum
from vforward import FirewallSettings, Forwarder, MemoryPort
from vforward.nodes.ip4 import session as ip4_session
from vforward.nodes.ip6 import session as ip6_session
from vforward.nodes.session.outcome import Count
from vforward.tables import session_tcp
from vforward.testing import packets as pk


def test_reasons_are_verdicts():
    for name in ("OUTSIDE", "BAD_FLAGS", "BAD_STATE", "SHORT"):
        assert Count[name] == getattr(session_tcp, name)
    assert session_tcp.PASS == Count.REOPENED, "0 is no reason to drop"
    assert not Count.REOPENED.drop


def test_both_families_have_the_same():
    assert ip4_session.NODE.counter_labels == ip6_session.NODE.counter_labels
    assert ip4_session.NODE.edge_labels == ip6_session.NODE.edge_labels


CLIENT, CLIENT_MAC = "10.0.1.9", "02:00:00:00:01:09"
SERVER, SERVER_MAC = "10.0.2.9", "02:00:00:00:02:09"
OTHER = "10.0.1.10"


def test_errors_about_sessions_are_believed_or_dropped_and_the_rest_is_for_the_rules():
    with Forwarder() as router:
        lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
        wan = router.add_port("wan", MemoryPort(), "10.0.2.1/24")
        for address in (CLIENT, OTHER):
            router.add_neighbor(address, pk.mac_bytes(CLIENT_MAC), "lan")
        router.add_neighbor(SERVER, pk.mac_bytes(SERVER_MAC), "wan")
        router.set_firewall(FirewallSettings(default="permit"))
        router.build()
        asked = pk.ip4(CLIENT, SERVER, 17, pk.udp(CLIENT, SERVER, 4000, 53))
        lan.send([pk.eth(lan.mac, CLIENT_MAC, pk.ETH_IP4, asked)])
        router.run_until_idle()
        assert len(wan.received()) == 1

        def error(to, quote, wrong=0):
            message = bytes([3, 3, 0, 0]) + bytes(4) + quote
            total = checksum.internet(message) ^ wrong
            message = message[:2] + total.to_bytes(2, "big") + message[4:]
            wan.send([pk.eth(wan.mac, SERVER_MAC, pk.ETH_IP4, pk.ip4(SERVER, to, 1, message))])
            router.run_until_idle()
            return len(lan.received())

        assert error(CLIENT, asked) == 1
        assert error(CLIENT, asked, wrong=1) == 0
        assert error(OTHER, asked) == 0
        nobodys = pk.ip4(CLIENT, SERVER, 17, pk.udp(CLIENT, SERVER, 4001, 53))
        assert error(CLIENT, nobodys) == 1
        member = router.graph.members["ip4-session"]
        assert member.counts[Count.UNBELIEVED] == 2
        router.pool.check()
