"""Route IPv6: a neighbor is asked for its MAC, a packet waits for the answer, one is too long."""

from vforward import Forwarder, MemoryPort
from vforward.control import dissect
from vforward.testing import packets as pk

HOST, HOST_MAC = "2001:db8:1::9", "02:00:00:00:01:09"
ROUTER, FAR, FAR_MAC = "2001:db8:2::1", "2001:db8:2::9", "02:00:00:00:02:09"

with Forwarder() as router:
    lan = router.add_port("lan", MemoryPort(), "2001:db8:1::1/64")
    wan = router.add_port("wan", MemoryPort(mtu=1280), f"{ROUTER}/64")
    router.add_neighbor(HOST, pk.mac_bytes(HOST_MAC), "lan")
    router.build()

    def send(port, sender, packet):
        """Give a port a packet, and show what comes out of both."""
        port.send([pk.eth(port.mac, sender, pk.ETH_IP6, packet)])
        router.run_until_idle()
        for name, out in (("lan", lan), ("wan", wan)):
            for frame in out.received():
                print(f"{name}: {dissect.frame(frame)}")

    def datagram(size):
        return pk.ip6(HOST, FAR, pk.PROTO_UDP, pk.udp(HOST, FAR, 4000, 53, bytes(size)))

    send(lan, HOST_MAC, datagram(100))
    answer = pk.neighbor_advertisement(FAR, ROUTER, FAR, FAR_MAC, flags="SO")
    send(wan, FAR_MAC, pk.ip6(FAR, ROUTER, pk.PROTO_ICMP6, answer, hops=255))
    send(lan, HOST_MAC, datagram(1400))
