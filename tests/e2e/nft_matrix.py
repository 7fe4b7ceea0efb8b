# SPDX-License-Identifier: Apache-2.0
"""Random rules without state, in both languages, and packets at the boundaries of what they match."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import combinations

from e2e.nft_flows import Family
from e2e.nft_steps import Scenario, Step, step
from vforward.testing import packets as pk

RULES, PACKETS = 40, 600
NETS = {"lan": 1, "wan": 2, "dmz": 3}
FLAGS = {
    "fin": "F", "syn": "S", "rst": "R", "psh": "P", "ack": "A", "urg": "U", "ece": "E", "cwr": "C",
}  # fmt: skip
SEGMENTS = [
    base + "".join(more)
    for base in ("S", "SA", "A", "FA", "R", "RA")
    for n in range(5)
    for more in combinations("PUEC", n)
]
"""Flags that go together."""
ICMP = {
    False: {"echo-request": 8, "echo-reply": 0, "time-exceeded": 11},
    True: {"echo-request": 128, "echo-reply": 129, "time-exceeded": 3},
}
PORT_SET = ((22, 22), (80, 80), (443, 445), (8000, 8080))


@dataclass(frozen=True)
class Rule:
    """One rule. src, dst: a prefix, a set's name with @, or nothing. ports: of the destination."""

    action: str
    protocol: str = ""
    src: str = ""
    dst: str = ""
    sports: tuple[int, int] | None = None
    ports: tuple[int, int] | str | None = None
    flags: tuple[tuple[str, bool], ...] = ()
    icmp: str = ""
    dscp: int | None = None
    came: str = ""
    goes: str = ""


def rules(rng: random.Random, *, six: bool) -> list[Rule]:
    """Rules, the last of which refuses what nobody else has decided."""
    made: list[Rule] = []
    while len(made) < RULES:
        protocol = rng.choice(["tcp", "tcp", "udp", "udp", "icmp", "gre", ""])
        has_ports = protocol in ("tcp", "udp")
        low = rng.choice([0, 1, 53, 80, 1024, 8000, 65535])
        ports = rng.choice(
            [None, (low, low), (low, min(65535, low + rng.choice([1, 7, 1000]))), "@web"]
        )
        flags = rng.sample(sorted(FLAGS), rng.choice([1, 2, 3]))
        rule = Rule(
            action=rng.choice(["permit", "permit", "deny", "reject"]),
            protocol=protocol,
            src=rng.choice(["", _prefix(rng, six), _prefix(rng, six), "@some"]),
            dst=rng.choice(["", _prefix(rng, six), _prefix(rng, six), "@some"]),
            sports=rng.choice([None, None, (1024, 65535), (0, 1023)]) if has_ports else None,
            ports=ports if has_ports else None,
            flags=tuple((f, rng.random() < 0.5) for f in flags)
            if protocol == "tcp" and rng.random() < 0.4 else (),
            icmp=rng.choice(["", *ICMP[six]]) if protocol == "icmp" else "",
            dscp=rng.choice([None, None, None, 0, 46, 63]),
            came=rng.choice(["", "", "lan", "wan"]),
            goes=rng.choice(["", "", "dmz", "wan"]),
        )  # fmt: skip
        if _narrow(rule):
            made.append(rule)
    return [*made, Rule(action="reject", protocol="tcp"), Rule(action="reject", protocol="udp")]


def _narrow(rule: Rule) -> bool:
    """Whether the rule leaves something to those behind it."""
    port = rule.ports or rule.icmp or rule.flags
    return sum(map(bool, (rule.src, rule.dst, port, rule.came, rule.goes, rule.dscp))) >= 3


def _net(six: bool, n: int) -> int:
    return int(ip_address(f"2001:db8:{n}::" if six else f"10.{n}.0.0"))


def _prefix(rng: random.Random, six: bool) -> str:
    host = rng.choice([0, 1, 7, 8, 255, 256])
    length = rng.choice([48, 64, 112, 120, 125, 127, 128] if six else [16, 20, 24, 29, 31, 32])
    kind = IPv6Network if six else IPv4Network
    return str(kind((_net(six, rng.choice([1, 2, 3])) + host, length), strict=False))


def some(six: bool) -> list[str]:
    """What is in the set of addresses: ranges, single ones, prefixes."""
    a = Family(six).host
    prefix = "2001:db8:3:0:0:0:0:100/120" if six else "10.3.1.0/24"
    return [
        f"{a('a', 5)}-{a('a', 9)}",
        a("b", 7),
        str((IPv6Network if six else IPv4Network)(prefix)),
    ]


def as_nft(made: list[Rule], *, six: bool) -> str:
    """The rules as a chain."""
    ip = "ip6" if six else "ip"
    lines = [f"table {ip} firewall {{", f" set some {{ type {'ipv6' if six else 'ipv4'}_addr"]
    lines += [
        f"  flags interval; elements = {{ {', '.join(some(six))} }}",
        " }",
        " chain forward {",
    ]
    lines += ["  type filter hook forward priority filter; policy drop;"]
    for rule in made:
        if rule.action == "reject" and not rule.protocol:  # ours resets TCP, and refuses all else
            lines.append(f"  {' '.join(_nft(replace(rule, protocol='tcp'), ip, six))}")
        lines.append(f"  {' '.join(_nft(rule, ip, six))}")
    return "\n".join([*lines, " }", "}", ""])


def _nft(rule: Rule, ip: str, six: bool) -> Iterator[str]:
    for name, value in (("iifname", rule.came), ("oifname", rule.goes)):
        if value:
            yield f"{name} {value}"
    for name, value in (("saddr", rule.src), ("daddr", rule.dst)):
        if value:
            yield f"{ip} {name} {value}"
    if rule.dscp is not None:
        yield f"{ip} dscp {rule.dscp}"
    if rule.protocol:
        yield f"meta l4proto {'icmpv6' if six and rule.protocol == 'icmp' else rule.protocol}"
    if rule.icmp:
        yield f"{'icmpv6' if six else 'icmp'} type {rule.icmp}"
    if rule.sports:
        yield f"{rule.protocol} sport {rule.sports[0]}-{rule.sports[1]}"
    if isinstance(rule.ports, tuple):
        yield f"{rule.protocol} dport {rule.ports[0]}-{rule.ports[1]}"
    elif rule.ports:
        ports = ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in PORT_SET)
        yield f"{rule.protocol} dport {{ {ports} }}"
    if rule.flags:
        mask = sum(1 << list(FLAGS).index(name) for name, _ in rule.flags)
        value = sum(1 << list(FLAGS).index(name) for name, wanted in rule.flags if wanted)
        yield f"tcp flags & {mask} == {value}"
    if rule.action == "reject":
        yield "meta l4proto tcp reject with tcp reset" if rule.protocol == "tcp" else _REFUSE[six]
    else:
        yield {"permit": "accept", "deny": "drop"}[rule.action]


_REFUSE = {
    False: "reject with icmp type admin-prohibited",
    True: "reject with icmpv6 type admin-prohibited",
}


def as_toml(made: list[Rule], *, six: bool) -> str:
    """The rules as tables."""
    ports = ", ".join(f'"{a}-{b}"' for a, b in PORT_SET)
    lines = ['[firewall]\ndefault = "deny"', f"[address_sets]\nsome = {some(six)}"]
    lines += [f"[port_sets]\nweb = [{ports}]"]
    for rule in made:
        lines += ["[[rules]]", f'action = "{rule.action}"']
        lines += ["stateful = false"] if rule.action == "permit" else []
        lines += [f"family = {6 if six else 4}", *_toml(rule, six)]
    return "\n".join(lines)


def _toml(rule: Rule, six: bool) -> Iterator[str]:
    if rule.protocol:
        yield f'protocol = "{"icmp6" if six and rule.protocol == "icmp" else rule.protocol}"'
    for key, text in (("from", rule.src), ("to", rule.dst), ("in", rule.came), ("out", rule.goes)):
        if text:
            yield f'{key} = "{text}"'
    for key, span in (("from_ports", rule.sports), ("to_ports", rule.ports)):
        if span:
            yield f'{key} = "{span if isinstance(span, str) else f"{span[0]}-{span[1]}"}"'
    if rule.flags:
        yield f'tcp_flags = "{",".join(name if wanted else f"!{name}" for name, wanted in rule.flags)}"'
    if rule.icmp:
        yield f'icmp = "{rule.icmp}"'
    if rule.dscp is not None:
        yield f"dscp = {rule.dscp}"


def packets(rng: random.Random, made: list[Rule], *, six: bool) -> Iterator[Step]:
    """Packets, each near what some rule matches."""
    for n in range(PACKETS):
        rule = rng.choice(made)
        came, goes = rng.choice(_ways(rule, six))
        src, dst = _address(rng, rule.src, came, six), _address(rng, rule.dst, goes, six)
        protocol = rule.protocol if rng.random() < 0.8 else ""
        packet = _packet(
            rng, rule, src, dst, protocol or rng.choice(["tcp", "udp", "icmp", "gre"]), six
        )
        yield step(f"{n}", (came, packet))


def _ways(rule: Rule, six: bool) -> list[tuple[str, str]]:
    """From where to where packets can go that the rule matches; all ways, if it matches none."""

    def at(wanted: str, name: str) -> bool:
        net = (IPv6Network if six else IPv4Network)((_net(six, NETS[name]), 48 if six else 16))
        texts = some(six) if wanted == "@some" else [wanted]
        return not wanted or any(ip_address(t.split("-")[0].split("/")[0]) in net for t in texts)

    every = [(came, goes) for came in NETS for goes in NETS if came != goes]
    fit = [
        (came, goes)
        for came, goes in every
        if rule.came in ("", came) and rule.goes in ("", goes)
        and at(rule.src, came) and at(rule.dst, goes)
    ]  # fmt: skip
    return fit or every


OFF = 0.12
"""How often one field of a packet is beside what the rule matches."""


def _near(rng: random.Random, inside: list[int], beside: list[int]) -> int:
    return rng.choice(beside if beside and rng.random() < OFF else inside)


def _address(rng: random.Random, wanted: str, at: str, six: bool) -> str:
    """An address at a port; if there can be one, on the edge of what is wanted."""
    base = _net(six, NETS[at])
    end = base + (1 << (80 if six else 16))
    spans = []
    for text in some(six) if wanted == "@some" else filter(None, [wanted]):
        if "-" in text:
            spans.append([int(ip_address(one)) for one in text.split("-")])
        else:
            net = (IPv6Network if six else IPv4Network)(text)
            spans.append([int(net.network_address), int(net.broadcast_address)])
    spans = [span for span in spans if base <= span[0] < end]
    if not spans:
        return str(ip_address(base + rng.choice([0, 1, 4, 5, 7, 8, 9, 10, 255, 256, 257])))
    low, high = rng.choice(spans)
    return str(
        ip_address(_near(rng, [low, high], [n for n in (low - 1, high + 1) if base <= n < end]))
    )


def _port(rng: random.Random, wanted: tuple[int, int] | str | None) -> int:
    low, high = wanted if isinstance(wanted, tuple) else rng.choice(PORT_SET)
    return _near(rng, [low, high], [n for n in (low - 1, high + 1) if 0 <= n < 65536])


def _flags(rng: random.Random, rule: Rule) -> str:
    """Flags of a segment that can be; see nft_differences for those that cannot."""
    wanted = [(FLAGS[name], is_set) for name, is_set in rule.flags]
    fit = [flags for flags in SEGMENTS if all((one in flags) == is_set for one, is_set in wanted)]
    return rng.choice(SEGMENTS if not fit or rng.random() < OFF else fit)


def _packet(rng: random.Random, rule: Rule, src: str, dst: str, protocol: str, six: bool) -> bytes:
    sport, dport = _port(rng, rule.sports or (1024, 65535)), _port(rng, rule.ports)
    number = {"tcp": 6, "udp": 17, "gre": 47, "icmp": 58 if six else 1}[protocol]
    data = bytes(rng.randrange(40))
    if protocol == "tcp":
        flags = _flags(rng, rule)
        l4 = pk.tcp(src, dst, sport, dport, data, seq=rng.getrandbits(32), ack=rng.getrandbits(32),
                    flags=flags)  # fmt: skip
    elif protocol == "udp":
        l4 = pk.udp(src, dst, sport, dport, data + bytes(40))
    elif protocol == "icmp":
        kinds = ICMP[six]
        kind = _near(rng, [kinds[rule.icmp]] if rule.icmp else [*kinds.values()], [*kinds.values()])
        body = bytes(4) + data + bytes(40)
        l4 = pk.icmp6(src, dst, kind, 0, body) if six else _icmp4(kind, body)
    else:
        l4 = bytes(8) + data + bytes(40)
    dscp = _near(rng, [0, 46, 63] if rule.dscp is None else [rule.dscp], [0, 46, 63])
    if six:
        return pk.ip6(src, dst, number, l4, traffic_class=dscp << 2)
    return pk.ip4(src, dst, number, l4, tos=dscp << 2)


def _icmp4(kind: int, body: bytes) -> bytes:
    head = bytes([kind, 0])
    return head + pk.checksum(head + b"\0\0" + body).to_bytes(2, "big") + body


def scenario(seed: int, *, six: bool) -> Scenario:
    """Rules and packets of a seed."""
    rng = random.Random(seed)
    made = rules(rng, six=six)
    steps = tuple(packets(rng, made, six=six))
    name = f"matrix{6 if six else 4}-{seed}"
    return Scenario(name, as_nft(made, six=six), as_toml(made, six=six), steps)
