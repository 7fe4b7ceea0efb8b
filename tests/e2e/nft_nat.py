# SPDX-License-Identifier: Apache-2.0
"""NAT: sources behind the router's own address, behind a pool, one to one; ports forwarded; hairpins.

What follows a translated packet is made of what went out, since ports are chosen by who is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from e2e.nft_family import Family
from e2e.nft_nat_rules import NFT, TOML
from e2e.nft_steps import ROUTER, Packet, Scenario, Seen, Step, joined, step
from vforward.testing import packets as pk

F = Family(six=False)
WAN = ROUTER["wan"]
POOL = ("203.0.113.10", "203.0.113.11")
PUBLIC = {WAN: (1024, 65535), **dict.fromkeys(POOL, (2000, 2003)), "203.0.113.81": (1024, 65535)}
WEB, UDP_SERVER, HAIRPIN = "203.0.113.80", "203.0.113.80", "203.0.113.81"


def ends(packet: bytes) -> tuple[str, str, int, int]:
    """Both addresses and both ports of a packet without options."""
    addresses = [".".join(map(str, packet[at : at + 4])) for at in (12, 16)]
    ports = [int.from_bytes(packet[at : at + 2], "big") for at in (20, 22)]
    return addresses[0], addresses[1], ports[0], ports[1]


def first(seen: Seen, group: str, label: str) -> bytes:
    """The packet that went out in a step."""
    out = seen[f"{group}: {label}"]
    return out[0][1] if out else bytes(40)  # of a step that failed: something that fails too


def answer(group: str, label: str, data: bytes = b"answer", **more) -> Packet:
    """The answer to what went out: UDP, TCP (flags and so on in more), or an echo's reply."""

    def make(seen: Seen) -> bytes:
        packet = first(seen, group, label)
        src, dst, sport, dport = ends(packet)
        if packet[9] == pk.PROTO_UDP:
            return F.udp(dst, src, dport, sport, data, **more)
        if packet[9] == pk.PROTO_TCP:
            return F.tcp(dst, src, dport, sport, **more)
        return F.echo(dst, src, int.from_bytes(packet[24:26], "big"), reply=True)

    return make


def about(
    sender: str, kind: str, group: str, label: str, quoted: int = 1500, **more
) -> Callable[[Seen], bytes]:
    """An ICMP error about what went out, from sender to its source."""

    def make(seen: Seen) -> bytes:
        packet = first(seen, group, label)
        return F.error(sender, ends(packet)[0], kind, packet[:quoted], **more)

    return make


def masquerade() -> list[Step]:
    """Behind the router's own address at wan."""
    g = "masquerade"
    a2 = F.host("a", 8)
    zero = next(n for n in range(65536) if _sum(n) == 0xFFFF)
    return [
        step("asked", ("lan", F.udp("a", "b", 3000, 53))),
        step("answered", ("wan", answer(g, "asked"))),
        step("another host, same port", ("lan", F.udp(a2, "b", 3000, 53))),
        step("answered to the other", ("wan", answer(g, "another host, same port"))),
        step("another server", ("lan", F.udp("a", "m", 3000, 53))),
        step("answered by the other", ("wan", answer(g, "another server"))),
        step("asked again", ("lan", F.udp("a", "b", 3000, 53))),
        step("somebody else answers", ("wan", F.udp(F.host("b", 99), WAN, 53, 3000))),
        step("to a port that is nobody's", ("wan", F.udp("b", WAN, 53, 40000))),
        step("a low port", ("lan", F.udp("a", "b", 500, 53))),
        step("answered to the low port", ("wan", answer(g, "a low port"))),
        step("without checksum", ("lan", F.udp("a", "b", 3010, 53, checksum=0))),
        step("answered without", ("wan", answer(g, "without checksum", checksum=0))),
        step("a checksum that becomes 0", ("lan", F.udp("a", "b", 3011, 53, _data(zero)))),
        step("tcp", ("lan", F.tcp("a", "b", 3020, 80, seq=100))),
        step("tcp answered", ("wan", answer(g, "tcp", seq=500, ack=101, flags="SA"))),
        step("tcp goes on", ("lan", F.tcp("a", "b", 3020, 80, b"data", seq=101, ack=501, flags="PA"))),
        step("tcp out of window", ("wan", answer(g, "tcp", seq=500 + 10**6, ack=101, flags="A"))),
        step("tcp, another host", ("lan", F.tcp(a2, "b", 3020, 80, seq=7))),
        step("tcp reset", ("wan", answer(g, "tcp, another host", seq=0, ack=8, flags="RA"))),
        step("echo", ("lan", F.echo("a", "b", 3007))),
        step("echo answered", ("wan", answer(g, "echo"))),
        step("echo of another host, same identifier", ("lan", F.echo(a2, "b", 3007))),
        step("answered to that", ("wan", answer(g, "echo of another host, same identifier"))),
        step("the server pings the router", ("wan", F.echo("b", WAN, 3007))),
        step("a small identifier", ("lan", F.echo("a", "b", 7))),
        step("its reply", ("wan", answer(g, "a small identifier"))),
        step("gre", ("lan", F.ip("a", "b", 47, bytes(8)))),
        step("gre answered", ("wan", F.ip("b", WAN, 47, bytes(8)))),
        step("gre of another host", ("lan", F.ip(a2, "b", 47, bytes(8)))),
        step("timestamp", ("lan", F.icmp("a", "b", 13, 0, bytes(16)))),
        step("of no session", ("lan", F.error("a", "b", "time", F.udp("b", WAN, 53, 4444)))),
        step("an unknown type", ("lan", F.icmp("a", "b", 42, 0, bytes(16)))),
        step("time runs out here", ("lan", F.last_hop(F.udp("a", "b", 3000, 53)))),
        step("time of a new flow runs out", ("lan", F.last_hop(F.udp("a", "b", 3001, 53)))),
        step("to dmz, not translated", ("lan", F.udp("a", "c", 3000, 53))),
        step("from dmz", ("dmz", F.udp("c", "a", 53, 3000))),
    ]  # fmt: skip


def _data(n: int) -> bytes:
    return n.to_bytes(2, "big")


def _sum(n: int) -> int:
    datagram = pk.udp(WAN, F.host("b"), 3011, 53, _data(n))
    return int.from_bytes(datagram[6:8], "big")


def errors() -> list[Step]:
    """ICMP errors about translated packets: the packet that they quote is translated too."""
    g = "errors"
    short = 28
    inside, outside = "10.1.99.1", "m"
    return [
        step("udp", ("lan", F.udp("a", "b", 3100, 53))),
        step("udp of another host", ("lan", F.udp(F.host("a", 8), "b", 3100, 53))),
        step("tcp", ("lan", F.tcp("a", "b", 3101, 80, seq=100))),
        step("echo", ("lan", F.echo("a", "b", 3131))),
        step("time", ("wan", about(outside, "time", g, "udp"))),
        step("time of another's", ("wan", about(outside, "time", g, "udp of another host"))),
        step("no port", ("wan", about("b", "no port", g, "udp"))),
        step("too big", ("wan", about(outside, "too big", g, "tcp", more=1300))),
        step("time of tcp", ("wan", about(outside, "time", g, "tcp"))),
        step("time of tcp, shortly", ("wan", about(outside, "time", g, "tcp", short))),
        step("time of udp, shortly", ("wan", about(outside, "time", g, "udp", short))),
        step("time of echo", ("wan", about(outside, "time", g, "echo"))),
        step("a wrong checksum", ("wan", about(outside, "time", g, "udp", bad=True))),
        step("of no session", ("wan", F.error("m", WAN, "time", F.udp(WAN, "b", 3199, 53)))),
        step("of untranslated addresses",
             ("wan", F.error("m", WAN, "time", F.udp("a", "b", 3100, 53)))),
        step("answer", ("wan", answer(g, "udp"))),
        step("of the answer, by the host", ("lan", about("a", "no port", g, "answer"))),
        step("of the answer, on its way", ("lan", about(inside, "time", g, "answer"))),
        step("syn ack", ("wan", answer(g, "tcp", seq=500, ack=101, flags="SA"))),
        step("of the syn ack, by the host", ("lan", about("a", "no port", g, "syn ack"))),
        step("pong", ("wan", answer(g, "echo"))),
        step("of the pong, by the host", ("lan", about("a", "unreachable", g, "pong"))),
    ]  # fmt: skip


def pool() -> list[Step]:
    """Four ports each of two addresses, of which a host gets one."""
    g = "pool"
    host = "10.1.5.1"
    ports = range(3000, 3006)
    return [
        *[step(f"flow {n}", ("lan", F.udp(host, "b", n, 53))) for n in ports],
        *[step(f"answer {n}", ("wan", answer(g, f"flow {n}"))) for n in ports[:4]],
        step("another server", ("lan", F.udp(host, "m", 3000, 53))),
        step("its answer", ("wan", answer(g, "another server"))),
        step("another protocol", ("lan", F.tcp(host, "b", 3000, 53))),
        step("an error", ("wan", about("m", "time", g, "another server"))),
    ]


def forwards() -> list[Step]:
    """Servers at dmz behind another address."""
    g = "forwards"
    big = F.udp("b", UDP_SERVER, 4005, 8000, bytes(1400), df=True)
    return [
        step("syn", ("wan", F.tcp("b", WEB, 4000, 8080, seq=100))),
        step("syn ack", ("dmz", answer(g, "syn", seq=500, ack=101, flags="SA"))),
        step("ack", ("wan", F.tcp("b", WEB, 4000, 8080, seq=101, ack=501, flags="A"))),
        step("data", ("dmz", answer(g, "syn", seq=501, ack=101, flags="PA"))),
        step("from lan", ("lan", F.tcp("a", WEB, 4000, 8080, seq=100))),
        step("answer to lan", ("dmz", answer(g, "from lan", seq=500, ack=101, flags="SA"))),
        step("a port that is not forwarded", ("wan", F.tcp("b", WEB, 4000, 8081))),
        step("another protocol", ("wan", F.udp("b", WEB, 4000, 8080))),
        step("refused", ("wan", F.tcp("b", WEB, 4000, 8443, seq=77))),
        step("udp", ("wan", F.udp("b", UDP_SERVER, 4000, 8003))),
        step("udp answered", ("dmz", answer(g, "udp"))),
        step("udp, a port beyond", ("wan", F.udp("b", UDP_SERVER, 4000, 8004))),
        step("the server itself speaks", ("dmz", F.udp("10.3.0.81", "b", 8002, 4001))),
        step("error by the server", ("dmz", about("10.3.0.81", "no port", g, "udp"))),
        step("error on the way to it", ("dmz", about("10.3.99.1", "time", g, "udp"))),
        step("error of its answer", ("wan", about("m", "time", g, "udp answered"))),
        step("error of the syn ack", ("wan", about("m", "time", g, "syn ack", 28))),
        step("time runs out here", ("wan", F.last_hop(F.udp("b", UDP_SERVER, 4000, 8003)))),
        step("too big for dmz", ("wan", big)),
        step("past the NAT, the same ports", ("wan", F.tcp("b", "10.3.0.80", 4000, 80, seq=9))),
    ]


def static() -> list[Step]:
    """One to one."""
    g = "static"
    inner, outer = "10.3.0.33", "203.0.113.33"
    return [
        step("out", ("dmz", F.udp(inner, "b", 500, 53))),
        step("back", ("wan", answer(g, "out"))),
        step("in", ("wan", F.tcp("b", "203.0.113.34", 4000, 22, seq=100))),
        step("its answer", ("dmz", answer(g, "in", seq=500, ack=101, flags="SA"))),
        step("echo in", ("wan", F.echo("b", outer, 9))),
        step("echo answered", ("dmz", answer(g, "echo in"))),
        step("gre in", ("wan", F.ip("b", "203.0.113.39", 47, bytes(8)))),
        step("gre out", ("dmz", F.ip("10.3.0.39", "b", 47, bytes(8)))),
        step("error in", ("wan", about("m", "time", g, "out"))),
        step("error out", ("dmz", about("10.3.0.34", "no port", g, "in"))),
        step("time runs out on the way out", ("dmz", F.last_hop(F.udp(inner, "b", 500, 53)))),
        step("time runs out on the way in", ("wan", F.last_hop(F.udp("b", outer, 53, 500)))),
        step("too big", ("wan", F.udp("b", outer, 53, 500, bytes(1400), df=True))),
        step("too big, of a new flow", ("wan", F.udp("b", outer, 55, 500, bytes(1400), df=True))),
        step("beyond the range", ("wan", F.tcp("b", "203.0.113.40", 4000, 22))),
        step("to lan, not translated", ("dmz", F.udp(inner, "a", 500, 53))),
    ]


def hairpin() -> list[Step]:
    """A server at lan, asked by lan under its outer address."""
    g = "hairpin"
    return [
        step("syn", ("lan", F.tcp(F.host("a", 9), HAIRPIN, 4000, 8080, seq=100))),
        step("syn ack", ("lan", answer(g, "syn", seq=500, ack=101, flags="SA"))),
        step(
            "ack", ("lan", F.tcp(F.host("a", 9), HAIRPIN, 4000, 8080, seq=101, ack=501, flags="A"))
        ),
        step("another", ("lan", F.tcp(F.host("a", 10), HAIRPIN, 4000, 8080, seq=100))),
        step("its answer", ("lan", answer(g, "another", seq=700, ack=101, flags="SA"))),
        step("error", ("lan", about("10.1.0.80", "no port", g, "another"))),
        step(
            "time runs out here",
            ("lan", F.last_hop(F.tcp(F.host("a", 9), HAIRPIN, 4000, 8080, seq=101, ack=501))),
        ),
        step("from wan", ("wan", F.tcp("b", HAIRPIN, 4000, 8080, seq=100))),
    ]


def scenario() -> Scenario:
    """All of these, one group after the other."""
    groups: dict[str, Sequence[Step]] = {
        made.__name__: made() for made in (masquerade, errors, pool, forwards, static, hairpin)
    }
    return Scenario("nat", NFT, TOML, joined(groups), PUBLIC)
