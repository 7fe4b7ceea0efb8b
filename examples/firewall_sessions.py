"""A rule lets one flow begin; its reply passes without one, and the session is listed and ended."""

from vforward import FirewallSettings, Forwarder, MemoryPort, Rule
from vforward.testing import packets as pk

CLIENT, CLIENT_MAC = "10.0.1.9", "02:00:00:00:01:09"
SERVER, SERVER_MAC = "10.0.2.9", "02:00:00:00:02:09"

with Forwarder() as router:
    lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
    wan = router.add_port("wan", MemoryPort(), "10.0.2.1/24")
    router.add_neighbor(CLIENT, pk.mac_bytes(CLIENT_MAC), "lan")
    router.add_neighbor(SERVER, pk.mac_bytes(SERVER_MAC), "wan")
    router.set_firewall(FirewallSettings(default="deny"))
    dns = Rule(name="dns", action="permit", in_="lan", protocol="udp", to_ports=53)
    router.set_rules([dns])
    router.build()

    def send(port, other, mac, src, dst, sport, dport):
        """Send a UDP packet; say whether it came out at the other side."""
        packet = pk.ip4(src, dst, pk.PROTO_UDP, pk.udp(src, dst, sport, dport))
        port.send([pk.eth(port.mac, mac, pk.ETH_IP4, packet)])
        router.run_until_idle()
        print(f"{src}:{sport} > {dst}:{dport}", "passed" if other.received() else "denied")

    send(wan, lan, SERVER_MAC, SERVER, CLIENT, 53, 4000)
    send(lan, wan, CLIENT_MAC, CLIENT, SERVER, 4000, 80)
    send(lan, wan, CLIENT_MAC, CLIENT, SERVER, 4000, 53)
    send(wan, lan, SERVER_MAC, SERVER, CLIENT, 53, 4000)
    for session in router.sessions(protocol="udp"):
        print(*(session[key] for key in ("protocol", "from", "to", "state", "rule")))
    router.kill_sessions(port=53)
    router.run_until_idle()
    print(router.count_sessions(), "sessions")
