# SPDX-License-Identifier: Apache-2.0
"""What both judges are given: packets, one step after the other, and the place they are in.

    10.1.0.0/16  lan 10.0.1.1 --+--------+-- wan 10.0.2.1   10.2.0.0/16 and all else
                                | router |
                                +--------+-- dmz 10.0.3.1   10.3.0.0/16

IPv6 is 2001:db8:N:: where IPv4 is 10.N.; the routers' own addresses are fd00:N::1. Behind each
port is one gateway, .2 of its subnet, whose MAC is known beforehand: nobody has to ask for one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vforward.testing import packets as pk

PORTS = ("lan", "wan", "dmz")
ROUTER = {name: f"10.0.{n}.1" for n, name in enumerate(PORTS, 1)}
GATEWAY = {name: f"10.0.{n}.2" for n, name in enumerate(PORTS, 1)}
ROUTER6 = {name: f"fd00:{n}::1" for n, name in enumerate(PORTS, 1)}
GATEWAY6 = {name: f"fd00:{n}::2" for n, name in enumerate(PORTS, 1)}
ROUTER_MAC = {name: f"02:00:00:00:01:0{n}" for n, name in enumerate(PORTS, 1)}
GATEWAY_MAC = {name: f"02:00:00:00:02:0{n}" for n, name in enumerate(PORTS, 1)}
MTU = {"lan": 1500, "wan": 1500, "dmz": 1300}
ROUTES = (
    ("10.1.0.0/16", "lan"),
    ("10.3.0.0/16", "dmz"),
    ("0.0.0.0/0", "wan"),
    ("2001:db8:1::/48", "lan"),
    ("2001:db8:3::/48", "dmz"),
    ("::/0", "wan"),
)

Out = tuple[str, bytes]
"""A packet, without its link's header, and the port where it went out."""
Seen = dict[str, list[Out]]
"""What went out so far, by the label of the step."""
Packet = bytes | Callable[[Seen], bytes]
"""An IP packet, or what makes it of those that went out before (ports that NAT has chosen)."""


@dataclass(frozen=True)
class Step:
    """Packets that come in one after the other, and what should become of them.

    want: "pass": all of them go out, with one hop less and else unchanged; "drop": nothing does;
    "reset", "refuse": a TCP reset, an ICMP error goes back; "answer": something else does;
    "": see what Linux does.
    """

    label: str
    sent: tuple[tuple[str, Packet], ...]
    want: str = ""


@dataclass(frozen=True)
class Scenario:
    """A configuration in both languages, and steps.

    nft: a ruleset. toml: the firewall's tables. public: addresses whose ports NAT chooses, from where
    to where.
    """

    name: str
    nft: str
    toml: str
    steps: tuple[Step, ...]
    public: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def step(label: str, *sent: tuple[str, Packet], want: str = "") -> Step:
    """A step; each of sent is a port and a packet."""
    return Step(label, sent, want)


def joined(groups: dict[str, Sequence[Step]]) -> tuple[Step, ...]:
    """The steps of all groups, their labels behind their group's."""
    return tuple(
        replace(one, label=f"{name}: {one.label}")
        for name, steps in groups.items()
        for one in steps
    )


def frame(port: str, packet: bytes) -> bytes:
    """A packet as the gateway of a port sends it to the router."""
    kind = pk.ETH_IP6 if packet[0] >> 4 == 6 else pk.ETH_IP4
    return pk.eth(ROUTER_MAC[port], GATEWAY_MAC[port], kind, packet)


def unframed(port: str, content: bytes) -> bytes:
    """The packet in a frame from the router to a port's gateway; its link's header must be right."""
    packet = content[14:]
    kind = pk.ETH_IP6 if packet[0] >> 4 == 6 else pk.ETH_IP4
    want = pk.eth(GATEWAY_MAC[port], ROUTER_MAC[port], kind)
    assert content[:14] == want, f"{port}: {content[:14].hex()} is not {want.hex()}"
    return packet


def forwarded(packet: bytes) -> bytes:
    """A packet with one hop less."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes([packet[7] - 1]) + packet[8:]
    size = 4 * (packet[0] & 15)
    head = packet[:8] + bytes([packet[8] - 1, packet[9], 0, 0]) + packet[12:size]
    return head[:10] + pk.checksum(head).to_bytes(2, "big") + head[12:] + packet[size:]


def verdict(sent: Sequence[bytes], out: Sequence[Out]) -> str:
    """In one word, what became of packets that nothing was to change."""
    if not out:
        return "drop"
    if sorted(packet for _, packet in out) == sorted(map(forwarded, sent)):
        return "pass"
    if len(out) != 1:
        return "other"
    packet = out[0][1]
    six = packet[0] >> 4 == 6
    l4 = packet[40:] if six else packet[4 * (packet[0] & 15) :]
    protocol = packet[6] if six else packet[9]
    if protocol == pk.PROTO_TCP and len(l4) > 13 and l4[13] & 4:
        return "reset"
    if (protocol, l4[0]) in {(pk.PROTO_ICMP, 3), (pk.PROTO_ICMP6, 1)}:
        return "refuse"
    return "answer"
