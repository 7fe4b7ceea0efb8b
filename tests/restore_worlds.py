# SPDX-License-Identifier: Apache-2.0
"""Forwarders that die as if by kill -9, and the next ones of their name, in this process."""

import contextlib
import os

from vforward.control import rules as r
from vforward.control.forwarder import Forwarder
from vforward.io.memory import MemoryPort
from vforward.testing import packets

LAN, WAN, CLIENT, SERVER = "10.0.1.1", "192.0.2.1", "10.0.1.9", "192.0.2.9"
CLIENT_MAC, SERVER_MAC = "02:00:00:00:00:63", "02:00:00:00:00:64"
RULES = [
    r.Rule(action="permit", name="web", protocol="tcp", to_ports=80, sessions=50, mark="ef"),
    r.Rule(action="permit", protocol="udp", per_source=400, police="gold"),
]
NAT = [r.Masquerade(out="wan", ports="2000-2999")]
POLICERS = {"gold": r.Policer(rate="1G", burst=100_000)}


@contextlib.contextmanager
def router(name="kept", ports=("lan", "wan"), *, workers=1, neighbors=True, rules=RULES, **options):
    """A router with a firewall, masquerade and a bridge, built; its ports are attributes."""
    options = {"buffers": 2048 * workers, "keep": "crash", "workers": workers} | options
    with Forwarder(name, **options) as made:
        for port in ports:
            address = {"lan": f"{LAN}/24", "wan": f"{WAN}/24"}.get(port, "198.51.100.1/24")
            setattr(made, port, made.add_port(port, MemoryPort(), address))
        for port in ("one", "two"):
            setattr(made, port, made.add_port(port, MemoryPort()))
        made.add_bridge("b")
        made.add_to_bridge("b", "one")
        made.add_to_bridge("b", "two")
        told = (("lan", CLIENT, CLIENT_MAC), ("wan", SERVER, SERVER_MAC)) if neighbors else ()
        for port, address, mac in told:
            if port in ports:
                made.add_neighbor(address, packets.mac_bytes(mac), port)
        if rules is not None:
            made.set_firewall(r.FirewallSettings(default="deny", sessions=1023))
            made.firewall.change(rules=rules, nat=NAT if "wan" in ports else [], policers=POLICERS)
        made.build()
        yield made


def die(made):
    """As kill -9 would: the lock is free, and all that lies in its directory stays."""
    os.close(made.arena._lock)
    made.arena._lock = -1


def udp(made, sport, dport=53, payload=b"x"):
    """What the server gets of a client's datagram: (source address, port) or None."""
    datagram = packets.udp(CLIENT, SERVER, sport, dport, payload)
    ip = packets.ip4(CLIENT, SERVER, 17, datagram)
    made.lan.send([packets.eth(made.lan.mac, CLIENT_MAC, 0x0800, ip)])
    made.run_until_idle()
    return _source(made.wan.received())


def answer(made, to, dport=53):
    """What the client gets of the server's answer to an address and port: its port, or None."""
    datagram = packets.udp(SERVER, to[0], dport, to[1], b"y")
    ip = packets.ip4(SERVER, to[0], 17, datagram)
    made.wan.send([packets.eth(made.wan.mac, SERVER_MAC, 0x0800, ip)])
    made.run_until_idle()
    found = [frame for frame in made.lan.received() if frame[23] == 17]
    return int.from_bytes(found[0][36:38], "big") if found else None


def _source(frames):
    found = [frame for frame in frames if frame[12:14] == b"\x08\0" and frame[23] == 17]
    if not found:
        return None
    return ".".join(map(str, found[0][26:30])), int.from_bytes(found[0][34:36], "big")
