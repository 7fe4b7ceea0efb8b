"""Serve a forwarder's API, and use it: a route is added while it runs, and a packet is captured."""

from vforward import Client, Forwarder, MemoryPort
from vforward.control.show_capture import records
from vforward.testing import packets as pk

HOST, NEXT = "02:00:00:00:01:09", "02:00:00:00:02:09"
UDP = pk.ip4("10.0.1.9", "10.9.0.1", pk.PROTO_UDP, pk.udp("10.0.1.9", "10.9.0.1", 4000, 53, b"hi"))

with Forwarder("served") as router:
    lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
    wan = router.add_port("wan", MemoryPort(), "10.0.2.1/24")
    router.build()
    router.start()
    router.serve()  # from now on `vforward show ports -n served` works, too

    client = Client("served")  # as any other process may
    client.add_neighbor("10.0.2.9", NEXT, "wan")
    client.add_route("10.9.0.0/16", via="10.0.2.9")
    print(*[row["prefix"] for row in client.routes().rows if row["source"] == "configured"])

    with client.capture("wan", "udp port 53", count=1) as pieces:
        lan.send([pk.eth(lan.mac, HOST, pk.ETH_IP4, UDP)])
        (packet,) = records(pieces)
    print("captured", len(packet.frame), "bytes to", packet.frame[:6].hex(":"))

    (sent,) = [port.tx for port in client.ports() if port.name == "wan"]
    print("sent by wan:", sent.packets)
    print(*[line for line in client.metrics().splitlines() if line.startswith("vforward_routes ")])
