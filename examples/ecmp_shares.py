"""Three next hops share flows by weight; when one is taken away, only its flows move."""

from collections import Counter

from vforward import Forwarder, MemoryPort
from vforward.testing import packets as pk

HOPS = {"10.0.2.2": 2, "10.0.2.3": 1, "10.0.2.4": 1}
FLOWS = 4000

with Forwarder() as router:
    lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
    wan = router.add_port("wan", MemoryPort(), "10.0.2.1/24")
    for hop in HOPS:
        router.add_neighbor(hop, bytes([2, *pk.ip4_bytes(hop), 0]), "wan")
    router.build()

    def ways(hops):
        """Route over these next hops; return the one that each flow takes."""
        router.add_route("10.9.0.0/16", paths=[(hop, None, HOPS[hop]) for hop in hops])
        found = {}
        for first in range(0, FLOWS, 500):
            for n in range(first, first + 500):
                segment = pk.udp("10.0.1.9", "10.9.0.1", n, 53, b"")
                packet = pk.ip4("10.0.1.9", "10.9.0.1", pk.PROTO_UDP, segment)
                lan.send([pk.eth(lan.mac, 2, pk.ETH_IP4, packet)])
            router.run_until_idle()
            for frame in wan.received():
                found[int.from_bytes(frame[34:36])] = ".".join(map(str, frame[1:5]))
        return found

    before, after = ways(HOPS), ways(list(HOPS)[:2])
    print({hop: f"{n / FLOWS:.0%}" for hop, n in sorted(Counter(before.values()).items())})
    moved = [n for n, hop in before.items() if after[n] != hop]
    print(len(moved), "flows moved; all of", *{before[n] for n in moved})
