"""Route a packet from one memory port to another: no interface, no root, no thread."""

from vforward import Forwarder, MemoryPort
from vforward.testing import packets as pk

HOST = "02:00:00:00:00:01"
FAR_HOST = bytes.fromhex("020000000002")

with Forwarder() as router:
    lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
    wan = router.add_port("wan", MemoryPort(), "10.0.2.1/24")
    router.add_neighbor("10.0.2.2", FAR_HOST, "wan")
    router.build()

    datagram = pk.udp("10.0.1.2", "10.0.2.2", 1000, 53, b"hello")
    packet = pk.ip4("10.0.1.2", "10.0.2.2", pk.PROTO_UDP, datagram, ttl=64)
    lan.send([pk.eth(lan.mac, HOST, pk.ETH_IP4, packet)])
    router.run_until_idle()

    (frame,) = wan.received()
    print("came out of wan:", frame.hex(" "))
    assert frame[:12] == FAR_HOST + wan.mac
    assert frame[22] == 63, "one hop less to live"
