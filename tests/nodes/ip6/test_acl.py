"""ip6-acl in its graph: rules, sessions that begin, neighbor discovery in spite of all rules."""

from vforward import FirewallSettings, Forwarder, MemoryPort, Rule
from vforward.testing import packets as pk

CLIENT, CLIENT_MAC = "2001:db8:1::9", "02:00:00:00:01:09"
SERVER, SERVER_MAC = "2001:db8:2::9", "02:00:00:00:02:09"
ICMP6 = 58


def test_a_ping_gets_its_answer_and_discovery_passes():
    with Forwarder() as router:
        lan = router.add_port("lan", MemoryPort(), "2001:db8:1::1/64")
        wan = router.add_port("wan", MemoryPort(), "2001:db8:2::1/64")
        router.add_neighbor(CLIENT, pk.mac_bytes(CLIENT_MAC), "lan")
        router.add_neighbor(SERVER, pk.mac_bytes(SERVER_MAC), "wan")
        router.set_firewall(FirewallSettings(default="deny"))
        rule = Rule(name="ping", action="permit", in_="lan", protocol="icmp6", icmp="echo-request")
        router.set_rules([rule])
        router.build()

        def send(port, mac, to, src, dst, message, hops=64):
            packet = pk.ip6(src, dst, ICMP6, message, hops=hops)
            port.send([pk.eth(to, mac, 0x86DD, packet)])
            router.run_until_idle()
            return [len(each.received()) for each in (lan, wan)]

        ask = pk.icmp6_echo(CLIENT, SERVER, 7, 1)
        answer = pk.icmp6_echo(SERVER, CLIENT, 7, 1, reply=True)
        question = pk.icmp6_echo(SERVER, CLIENT, 7, 1)
        assert send(wan, SERVER_MAC, wan.mac, SERVER, CLIENT, question) == [0, 0]
        assert send(wan, SERVER_MAC, wan.mac, SERVER, CLIENT, answer) == [0, 0]
        assert send(lan, CLIENT_MAC, lan.mac, CLIENT, SERVER, ask) == [0, 1]
        assert send(wan, SERVER_MAC, wan.mac, SERVER, CLIENT, answer) == [1, 0]
        group = "ff02::1:ff00:1"
        solicitation = pk.neighbor_solicitation(CLIENT, group, "2001:db8:1::1", CLIENT_MAC)
        assert send(lan, CLIENT_MAC, "33:33:ff:00:00:01", CLIENT, group, solicitation, 255) == [
            1,
            0,
        ]
        router.pool.check()
