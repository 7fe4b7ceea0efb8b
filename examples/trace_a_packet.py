"""Follow a packet through a running forwarder, node by node, as `vforward trace` does."""

import time
from concurrent.futures import ThreadPoolExecutor

from vforward import Forwarder, MemoryPort
from vforward.control import observe, packet_trace, show
from vforward.testing import packets as pk

ROUTER = "10.0.1.1"
HOST, HOST_MAC = "10.0.1.2", "02:00:00:00:00:02"

with Forwarder() as router, ThreadPoolExecutor() as threads:
    lan = router.add_port("lan", MemoryPort(), f"{ROUTER}/24")
    router.add_neighbor(HOST, bytes.fromhex(HOST_MAC.replace(":", "")), "lan")
    router.build()
    router.start()
    with observe.attach(router.name) as view:
        followed = threads.submit(packet_trace.collect, view, 1)
        while not followed.done():
            ping = pk.ip4(HOST, ROUTER, pk.PROTO_ICMP, pk.icmp_echo(1, 1, b"hello"))
            lan.send([pk.eth(lan.mac, HOST_MAC, pk.ETH_IP4, ping)])
            time.sleep(0.01)
            lan.received()
        show.trace(followed.result())
