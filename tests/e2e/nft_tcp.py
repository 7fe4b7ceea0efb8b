# SPDX-License-Identifier: Apache-2.0
"""TCP conversations, and what a firewall that follows them lets pass.

A line is a segment: > from the initiator at lan, < from the responder at wan; flags; sequence numbers
FROM or FROM:TO, relative to their sender's first; what is acknowledged, relative to the other's first;
"= drop" if it does not pass. "win", "scale" and "sack" as in the header; "bad" with a wrong checksum.
"""

from __future__ import annotations

import re

from e2e.nft_steps import Scenario, Step, joined, step
from e2e.nft_talks import USUAL
from e2e.nft_talks_odd import ODD
from vforward.testing import packets as pk

NFT = """
table inet firewall {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname lan tcp dport 80 ct state new accept
    }
}
"""
TOML = """
[firewall]
default = "deny"
[[rules]]
name = "web"
action = "permit"
protocol = "tcp"
to_ports = 80
in = "lan"
"""

LINE = re.compile(
    r"(?P<side>[<>]) (?P<flags>[A-Z]+|-) (?P<seq>-?\d+)(:(?P<end>-?\d+))?( ack (?P<ack>-?\d+))?"
    r"( win (?P<win>\d+))?( scale (?P<scale>\d+))?(?P<ok> sackok)?( sack (?P<sack>\d+:\d+))?"
    r"(?P<bad> bad)?( = (?P<want>\w+))?"
)
FIRST = {">": 0xFFFFFF00, "<": 0x7FFFFF00}
"""Both wrap in a while: as unsigned numbers, and as signed ones."""
MOST = 0xFFFFFFFF


def conversation(text: str, number: int, *, six: bool) -> list[Step]:
    """The steps of a conversation; its number makes its ports its own."""
    ends = {">": ("lan", "2001:db8:1::7" if six else "10.1.0.7", 20000 + number)}
    ends["<"] = ("wan", "2001:db8:2::80" if six else "10.2.0.80", 80)
    steps = []
    for line in filter(None, map(str.strip, text.splitlines())):
        match = LINE.fullmatch(line)
        assert match, f"not a segment: {line}"
        side = match["side"]
        port, src, sport = ends[side]
        _, dst, dport = ends["<" if side == ">" else ">"]
        segment = _segment(match, src, dst, sport, dport)
        make = pk.ip6 if six else pk.ip4
        packet = make(src, dst, pk.PROTO_TCP, segment)
        label = f"{len(steps) + 1} {line.split(' = ')[0]}"
        steps.append(step(label, (port, packet), want=match["want"] or "pass"))
    return steps


def _segment(match: re.Match[str], src: str, dst: str, sport: int, dport: int) -> bytes:
    own, other = FIRST[match["side"]], FIRST["<" if match["side"] == ">" else ">"]
    seq = int(match["seq"])
    size = int(match["end"]) - seq if match["end"] else 0
    flags = match["flags"].replace("-", "")
    options = b""
    if match["scale"]:
        options += bytes([3, 3, int(match["scale"]), 1])
    if match["ok"]:
        options += bytes([4, 2, 1, 1])
    if match["sack"]:
        edges = b"".join(
            ((int(n) + other) & MOST).to_bytes(4, "big") for n in match["sack"].split(":")
        )
        options += bytes([1, 1, 5, 10]) + edges
    return pk.tcp(
        src, dst, sport, dport, bytes(size),
        seq=(own + seq) & MOST, ack=(other + int(match["ack"])) & MOST if match["ack"] else 0,
        flags=flags, window=int(match["win"] or 65535), options=options,
        checksum=0x1234 if match["bad"] else None,
    )  # fmt: skip


def scenario(*, six: bool) -> Scenario:
    """All conversations, one after the other."""
    all_of = enumerate((USUAL | ODD).items())
    groups = {name: conversation(text, n, six=six) for n, (name, text) in all_of}
    return Scenario("tcp6" if six else "tcp4", NFT, TOML, joined(groups))
