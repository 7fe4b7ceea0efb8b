# SPDX-License-Identifier: Apache-2.0
"""Flows that are not TCP: UDP, echo, GRE, other protocols; ICMP errors about them; fragments; the router.

A is at lan, B at wan, C at dmz, M a router somewhere behind wan.
"""

from __future__ import annotations

from collections.abc import Sequence

from e2e.nft_family import ERRORS, Family
from e2e.nft_steps import ROUTER, ROUTER6, Scenario, Step, joined, step
from vforward.testing import packets as pk

NFT = """
table inet firewall {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname lan tcp dport 80 ct state new accept
        iifname lan udp dport 53 ct state new accept
        udp dport 5000 ct state new accept
        icmp type echo-request ct state new accept
        icmpv6 type echo-request ct state new accept
        iifname lan meta l4proto { 47, 99 } ct state new accept
        iifname lan tcp dport 443 reject with tcp reset
        iifname lan udp dport 443 reject with icmpx type admin-prohibited
        iifname lan meta l4proto 50 reject with icmpx type admin-prohibited
    }
    chain input {
        type filter hook input priority filter; policy drop;
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        ct state established,related accept
        icmp type echo-request ct state new accept
        icmpv6 type echo-request ct state new accept
        iifname lan tcp dport 22 reject with tcp reset
    }
}
"""
TOML = """
[firewall]
default = "deny"
[[rules]]
name = "solicited"
action = "permit"
protocol = "icmp6"
icmp = ["neighbor-solicitation", "neighbor-advertisement"]
out = "self"
stateful = false
[[rules]]
name = "web"
action = "permit"
protocol = "tcp"
to_ports = 80
in = "lan"
[[rules]]
name = "dns"
action = "permit"
protocol = "udp"
to_ports = 53
in = "lan"
[[rules]]
name = "both-ways"
action = "permit"
protocol = "udp"
to_ports = 5000
[[rules]]
name = "ping"
action = "permit"
protocol = "icmp"
icmp = "echo-request"
[[rules]]
name = "ping6"
action = "permit"
protocol = "icmp6"
icmp = "echo-request"
[[rules]]
name = "others"
action = "permit"
protocol = ["gre", 99]
in = "lan"
[[rules]]
name = "no-tls"
action = "reject"
protocol = ["tcp", "udp"]
to_ports = 443
in = "lan"
[[rules]]
name = "no-esp"
action = "reject"
protocol = "esp"
in = "lan"
[[rules]]
name = "no-ssh"
action = "reject"
protocol = "tcp"
to_ports = 22
in = "lan"
out = "self"
"""


def simple(f: Family) -> dict[str, Sequence[Step]]:
    """Requests and replies."""
    a, b, m = "lan", "wan", "wan"
    return {
        "udp": [
            step("asked", (a, f.udp("a", "b", 3000, 53)), want="pass"),
            step("answered", (b, f.udp("b", "a", 53, 3000)), want="pass"),
            step("again", (a, f.udp("a", "b", 3000, 53, b"")), want="pass"),
            step("from another port", (b, f.udp("b", "a", 54, 3000)), want="drop"),
            step("from another host", (m, f.udp("m", "a", 53, 3000)), want="drop"),
            step("to another port", (b, f.udp("b", "a", 53, 3001)), want="drop"),
            step("without checksum", (a, f.udp("a", "b", 3002, 53, checksum=0)), want="pass"),
            step("its answer", (b, f.udp("b", "a", 53, 3002)), want="pass"),
            step("with a wrong one", (a, f.udp("a", "b", 3003, 53, checksum=0x1111)), want="drop"),
        ],
        "udp, both ways": [
            step("from lan", (a, f.udp("a", "b", 5000, 5000)), want="pass"),
            step("from wan", (b, f.udp("b", "a", 5000, 5000)), want="pass"),
            step("from wan first", (b, f.udp("b", "a", 6000, 5000)), want="pass"),
            step("answered", (a, f.udp("a", "b", 5000, 6000)), want="pass"),
            step("not permitted", (a, f.udp("a", "b", 5000, 6001)), want="drop"),
        ],
        "echo": [
            step("asked", (a, f.echo("a", "b", 7)), want="pass"),
            step("answered", (b, f.echo("b", "a", 7, reply=True)), want="pass"),
            step("the other way, same identifier", (b, f.echo("b", "a", 7)), want="pass"),
            step("answered too", (a, f.echo("a", "b", 7, reply=True)), want="pass"),
            step("a reply to another", (b, f.echo("b", "a", 8, reply=True)), want="drop"),
            step("a reply from elsewhere", (m, f.echo("m", "a", 7, reply=True)), want="drop"),
            step("asked again", (a, f.echo("a", "b", 7, seq=2)), want="pass"),
            step("answered twice", (b, f.echo("b", "a", 7, seq=2, reply=True)),
                 (b, f.echo("b", "a", 7, seq=2, reply=True)), want="pass"),
            step("identifier 0", (a, f.echo("a", "b", 0)), want="pass"),
            step("its answer", (b, f.echo("b", "a", 0, reply=True)), want="pass"),
            step("identifier 65535", (a, f.echo("a", "b", 65535)), want="pass"),
            step("answer of 65535", (b, f.echo("b", "a", 65535, reply=True)), want="pass"),
        ],
        "gre": [
            step("from lan", (a, f.ip("a", "b", 47, b"\0\0\x08\0inside")), want="pass"),
            step("back", (b, f.ip("b", "a", 47, b"\0\0\x08\0inside")), want="pass"),
            step("from elsewhere", (m, f.ip("m", "a", 47, b"\0\0\x08\0inside")), want="drop"),
        ],
        "protocol 99": [
            step("from wan", (b, f.ip("b", "a", 99, b"something")), want="drop"),
            step("from lan", (a, f.ip("a", "b", 99, b"something")), want="pass"),
            step("back", (b, f.ip("b", "a", 99, b"")), want="pass"),
            step("protocol 98", (b, f.ip("b", "a", 98, b"something")), want="drop"),
        ],
        "refused": [
            step("tcp", (a, f.tcp("a", "b", 4000, 443, seq=1000)), want="reset"),
            step("tcp with data", (a, f.tcp("a", "b", 4001, 443, b"data", seq=1000)), want="reset"),
            step("tcp, SYN and FIN", (a, f.tcp("a", "b", 4002, 443, seq=9, flags="SF")), want="reset"),
            step("tcp, ACK", (a, f.tcp("a", "b", 4003, 443, seq=9, ack=77, flags="A")), want="reset"),
            step("tcp, RST", (a, f.tcp("a", "b", 4004, 443, seq=9, flags="R")), want="drop"),
            step("udp", (a, f.udp("a", "b", 4000, 443)), want="refuse"),
            step("esp", (a, f.ip("a", "b", 50, bytes(50))), want="refuse"),
        ],
    }  # fmt: skip


def errors(f: Family) -> dict[str, Sequence[Step]]:
    """ICMP errors: about sessions, and about what is none."""
    a, b, m = "lan", "wan", "wan"
    asked, answer = f.udp("a", "b", 3100, 53), f.udp("b", "a", 53, 3100)
    syn = f.tcp("a", "b", 3100, 80, seq=1)
    ping, pong = f.echo("a", "b", 31), f.echo("b", "a", 31, reply=True)
    gre = f.ip("a", "b", 47, b"\0\0\x08\0inside")
    other = f.udp("a", "b", 3199, 53)
    head = 40 if f.six else 20
    note = f.error("a", "b", "time", answer)
    return {
        "errors": [
            step("sessions", (a, asked), (a, syn), (a, ping), (a, gre), want="pass"),
            *[step(kind, (m, f.error("m", "a", kind, asked)), want="pass") for kind in ERRORS],
            step("from the peer", (b, f.error("b", "a", "no port", asked)), want="pass"),
            step("of tcp", (m, f.error("m", "a", "time", syn)), want="pass"),
            step("of echo", (m, f.error("m", "a", "time", ping)), want="pass"),
            step("of gre", (m, f.error("m", "a", "time", gre)), want="pass"),
            step("eight bytes quoted", (m, f.error("m", "a", "time", asked[: head + 8])), want="pass"),
            step("eight bytes of tcp", (m, f.error("m", "a", "time", syn[: head + 8])), want="pass"),
            step("seven bytes", (m, f.error("m", "a", "time", asked[: head + 7])), want="pass"),
            step("a header alone", (m, f.error("m", "a", "time", asked[:head])), want="drop"),
            step("half a header", (m, f.error("m", "a", "time", asked[:12])), want="drop"),
            step("nothing quoted", (m, f.error("m", "a", "time", b"")), want="drop"),
            step("no session", (m, f.error("m", "a", "time", other)), want="drop"),
            step("of an answer", (a, f.error("a", "b", "no port", answer)), want="pass"),
            step("of an echo's answer", (a, f.error("a", "b", "time", pong)), want="pass"),
            step("to somebody else", (m, f.error("m", "c", "time", asked)), want="drop"),
            step("from where the packet is", (a, f.error("a", "b", "time", asked)), want="drop"),
            step("of an error", (m, f.error("m", "b", "time", note)), want="drop"),
            step("a wrong checksum", (m, f.error("m", "a", "time", asked, bad=True)), want="drop"),
            step("the session lives", (b, answer), want="pass"),
        ],
        "other icmp": [
            step("redirect", (m, f.icmp("m", "a", *((137, 0) if f.six else (5, 1)), bytes(4) + asked)),
                 want="drop" if f.six else "pass"),
            step("of an unknown type", (m, f.icmp("m", "a", 200, 0, bytes(4) + asked)), want="drop"),
            step("timestamp", (a, f.icmp("a", "b", 13, 0, bytes(16))), want="drop"),
            step("its reply alone", (b, f.icmp("b", "a", 14, 0, bytes(16))), want="drop"),
        ],
    }  # fmt: skip


def to_the_router(f: Family) -> dict[str, Sequence[Step]]:
    """Packets for the router itself."""
    lan = (ROUTER6 if f.six else ROUTER)["lan"]
    wan = (ROUTER6 if f.six else ROUTER)["wan"]
    a, b = f.host("a"), f.host("b")
    segment = pk.tcp(a, b, 4006, 80, options=bytes(8))
    cut = f.ip("a", "b", pk.PROTO_TCP, segment[:12])
    late = f.ip("a", "b", pk.PROTO_TCP, segment[:24])
    steps = [
        step("echo", ("lan", f.echo("a", lan, 50)), want="answer"),
        step("echo of the far side", ("lan", f.echo("a", wan, 51)), want="answer"),
        step("echo from wan", ("wan", f.echo("b", wan, 50)), want="answer"),
        step("tcp refused", ("lan", f.tcp("a", lan, 4000, 22, seq=5)), want="reset"),
        step("tcp denied", ("wan", f.tcp("b", wan, 4000, 22, seq=5)), want="drop"),
        step("udp denied", ("lan", f.udp("a", lan, 4000, 54)), want="drop"),
        step("time runs out", ("lan", f.last_hop(f.udp("a", "b", 4005, 53))), want="answer"),
        step(
            "time of what is denied", ("lan", f.last_hop(f.udp("a", "b", 4005, 54))), want="answer"
        ),
        step(
            "too big",
            ("lan", f.udp("a", "c", 4005, 5000, bytes(1400), df=True)),
            want="answer" if f.six else "refuse",
        ),
        step("half a header", ("lan", f.udp("a", "b", 4005, 53)[:12]), want="drop"),
        step("half a TCP header", ("lan", cut), want="drop"),
        step("a TCP header that ends too late", ("lan", late), want="drop"),
    ]
    return {"the router": steps}


def scenario(*, six: bool) -> Scenario:
    """All of these flows."""
    f = Family(six)
    groups = {**simple(f), **errors(f), **to_the_router(f)}
    return Scenario("flows6" if six else "flows4", NFT, TOML, joined(groups))
