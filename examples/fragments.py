"""A packet longer than the next link's MTU: cut in pieces, or refused where it must not be cut."""

from vforward import Forwarder, MemoryPort
from vforward.control import dissect
from vforward.testing import packets as pk

HOST, HOST_MAC = "10.0.1.9", "02:00:00:00:01:09"
FAR, FAR_MAC = "10.0.2.9", "02:00:00:00:02:09"

with Forwarder() as router:
    lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
    wan = router.add_port("wan", MemoryPort(mtu=600), "10.0.2.1/24")
    router.add_neighbor(HOST, pk.mac_bytes(HOST_MAC), "lan")
    router.add_neighbor(FAR, pk.mac_bytes(FAR_MAC), "wan")
    router.build()

    segment = pk.udp(HOST, FAR, 4000, 53, bytes(1400))
    for never in (False, True):
        packet = pk.ip4(HOST, FAR, pk.PROTO_UDP, segment, ident=7, flags_df=never)
        lan.send([pk.eth(lan.mac, HOST_MAC, pk.ETH_IP4, packet)])
        router.run_until_idle()
        print("with DF set:" if never else "without DF:")
        for name, port in (("lan", lan), ("wan", wan)):
            for frame in port.received():
                print(f"  {name}: {dissect.frame(frame)}")
