"""Two workers and NAT: flows are spread over both, and every reply finds its session."""

from vforward import FirewallSettings, Forwarder, Masquerade, MemoryPort, Rule
from vforward.testing import packets as pk

CLIENT, CLIENT_MAC = "10.0.1.9", "02:00:00:00:01:09"
SERVER, SERVER_MAC = "10.0.2.9", "02:00:00:00:02:09"

with Forwarder(workers=2) as router:
    lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
    wan = router.add_port("wan", MemoryPort(), "10.0.2.1/24")
    router.add_neighbor(CLIENT, pk.mac_bytes(CLIENT_MAC), "lan")
    router.add_neighbor(SERVER, pk.mac_bytes(SERVER_MAC), "wan")
    router.set_firewall(FirewallSettings(default="deny"))
    router.set_rules([Rule(action="permit", in_="lan")])
    router.set_nat([Masquerade(out="wan")])
    router.build()

    def send(port, mac, packets):
        """Send UDP packets, and let both workers run until nothing moves."""
        frames = [pk.ip4(src, dst, 17, pk.udp(src, dst, *ends)) for src, dst, *ends in packets]
        port.send([pk.eth(port.mac, mac, pk.ETH_IP4, frame) for frame in frames])
        router.run_until_idle()

    send(lan, CLIENT_MAC, [(CLIENT, SERVER, 4000 + k, 53) for k in range(100)])
    out = wan.received()
    print(len(out), "flows went out")
    ports = [int.from_bytes(frame[34:36], "big") for frame in out]
    send(wan, SERVER_MAC, [(SERVER, "10.0.2.1", 53, port) for port in ports])
    print(len(lan.received()), "replies came back")
    shards = [shard.statistics()["open"] for shard in router.firewall.shards]
    print(sum(shards), "sessions; each worker has some:", all(shards))
    router.move_queue("lan", worker=1)
    send(lan, CLIENT_MAC, [(CLIENT, SERVER, 4000 + k, 53) for k in range(100)])
    print(
        len(wan.received()),
        "more, when lan is the other worker's;",
        router.count_sessions(),
        "sessions",
    )
