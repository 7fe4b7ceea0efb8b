"""A node of one's own goes into a router that is running, and out again; no packet is lost."""

import shutil
import tempfile
import time
from pathlib import Path

from vforward import Client, ConfigError, Forwarder, MemoryPort
from vforward.testing import packets as pk

PLUGIN = Path(__file__).with_name("hop_guard.py")


def passed(ttls):
    """How many packets come through."""
    packets = [pk.ip4("10.0.1.9", "10.0.2.9", pk.PROTO_UDP, ttl=ttl) for ttl in ttls]
    lan.send([pk.eth(lan.mac, 1, pk.ETH_IP4, packet) for packet in packets])
    time.sleep(0.3)
    return len(wan.received())


with Forwarder("plugins") as router, tempfile.TemporaryDirectory() as folder:
    lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
    wan = router.add_port("wan", MemoryPort(), "10.0.2.1/24")
    router.add_neighbor("10.0.2.9", pk.mac_bytes(2), "wan")
    router.build()
    router.start()
    router.serve()
    client, file = Client("plugins"), Path(shutil.copy(PLUGIN, folder))
    print(passed([64, 9]), "of 2 without it")
    client.load_plugin(str(file))
    print(passed([64, 9]), "of 2 with it")
    file.write_text(file.read_text().replace("< 10", "< [10]"))
    try:
        client.replace_plugin("hop-guard", str(file))
    except ConfigError as error:
        print("refused:", str(error).partition("; ")[0].rpartition(": ")[2])
    print(passed([64, 9]), "of 2 still;", client.errors()[0].reason)
    client.unload_plugin("hop-guard")
    print(passed([64, 9]), "of 2 without it")
