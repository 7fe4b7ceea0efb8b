"""A learning switch: the first frame goes everywhere, its answer where the first one came from."""

from vforward import Forwarder, MemoryPort
from vforward.testing import packets as pk

STATIONS = {"a": "02:00:00:00:00:0a", "b": "02:00:00:00:00:0b", "c": "02:00:00:00:00:0c"}

with Forwarder() as switch:
    ports = {name: switch.add_port(name, MemoryPort()) for name in STATIONS}
    switch.add_bridge("lan")
    for name in ports:
        switch.add_to_bridge("lan", name)
    switch.build()

    for sender, receiver in ("ab", "ba", "ab"):
        frame = pk.eth(STATIONS[receiver], STATIONS[sender], 0x88B5, b"for local experiments")
        ports[sender].send([frame])
        switch.run_until_idle()
        reached = [name for name, port in ports.items() if port.received() == [frame]]
        print(f"from {sender} to {receiver}: came out of", *reached)

    for entry in switch.bridging.entries():
        print(f"{entry.mac:012x} is at {switch.interfaces.name_of(entry.port)}")
