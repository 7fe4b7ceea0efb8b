"""Route the packets of one capture file into another.

python pcap_to_pcap.py [IN OUT]    Without files, a capture of a thousand packets is made.
"""

import sys
import tempfile
from pathlib import Path

from vforward import Forwarder, PcapPort
from vforward.io.pcap import read_frames, write_frames
from vforward.testing import packets as pk

ROUTER, HOST = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def make(path: str) -> None:
    """Write a capture of datagrams to many destinations."""
    frames = []
    for n in range(1000):
        to = f"10.9.{n // 256}.{n % 256}"
        packet = pk.ip4("10.0.1.2", to, pk.PROTO_UDP, pk.udp("10.0.1.2", to, n, 53, bytes(20)))
        frames.append(pk.eth(ROUTER, HOST, pk.ETH_IP4, packet))
    write_frames(path, frames)


with tempfile.TemporaryDirectory() as directory:
    source, target = sys.argv[1:3] or [str(Path(directory) / name) for name in ("in", "out")]
    if not sys.argv[1:]:
        make(source)
    with Forwarder() as router:
        router.add_port("lan", PcapPort(read=source, mac=ROUTER), "10.0.1.1/24")
        router.add_port("wan", PcapPort(write=target), "10.0.2.1/24")
        router.add_neighbor("10.0.2.2", HOST, "wan")
        router.add_route("0.0.0.0/0", via="10.0.2.2")
        router.build()
        router.run_until_idle()
    print(f"{len(read_frames(source))} packets in, {len(read_frames(target))} out")
