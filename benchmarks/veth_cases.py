# SPDX-License-Identifier: Apache-2.0
"""A veth pair to a veth pair: vforward beside DPDK's testpmd and the Linux bridge, in one run.

    veth-pps          64-byte packets, routed, one worker        over testpmd io, net_af_packet
    veth-pps-xdp      the same                                   over testpmd io, net_af_xdp
    veth-pps-bridge   the same                                   over the Linux bridge
    veth-pps-raw      the same, received by recvmmsg             over ours with a ring
    veth-pps-xdp-rx   the same, received by AF_XDP               over ours with a ring
    veth-tcp          one TCP connection of iperf3               over the Linux bridge
    veth-tcp-off      the same, all offloads off everywhere      over the Linux bridge
    syscalls          system calls of the daemon for each packet, under the load of veth-pps
    veth-rtt          99th percentile of a ping's round trip, idle = "spin" and, before it, "poll"

The packets come from benchmarks.xdp_flood, on the first CPU: more than anybody forwards. Contenders
take turns, ROUNDS times A B A B, on the same interfaces; a ratio is the median of the rounds'. A turn
in which other programs took more than FOREIGN CPUs is repeated, TRIES times at most. Testpmd's
worker and ours have the last CPU; the bridge forwards where it does by itself, on the sender's, and
shares that with nothing else. Steered to the last CPU it takes part in benchmarks.peers_cases.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from benchmarks import peer_versions, perf, veth_lab, xdp_flood
from benchmarks.harness import LEAST, missing, repeat, row, whole
from benchmarks.peer_cases import BRIDGE, FOREIGN, ROUTER
from benchmarks.peer_lab import (
    FLOWS,
    LAN,
    LAN_MAC,
    NEXT_MAC,
    TTL,
    WAN,
    WAN_MAC,
    Lab,
    frame,
    lab,
)
from benchmarks.session import Session
from vforward.control.demo_world import may_use_interfaces
from vforward.io import shim
from vforward.layout import VECTOR_MAX
from vforward.testing.namespaces import offloads

ROUNDS = LEAST
TRIES = 4
SHARE = 20
"""A turn takes this part of a case's time: 1 second."""
OURS = "vforward"
PINGS, PING_S = 1500, 0.002
SPIN = 'idle = "spin"\n'
AF_PACKET = ",qdisc_bypass=1,framecnt=4096,blocksz=65536"
"""What makes net_af_packet fastest here: as many slots as ours has."""
AF_XDP = ",busy_budget=0"

Forwards = contextlib.AbstractContextManager[Any]


class Contender(NamedTuple):
    """Who forwards, what comes out of it, and what it is, in words.

    peer: name and version of who is not ours; else nothing.
    """

    forwards: Callable[[Lab], Forwards]
    wanted: list[bytes]
    what: str
    peer: Callable[[], str] = str


class Figure(NamedTuple):
    """What a turn came to; more: what its row tells besides."""

    value: float
    offered: float
    foreign: float


THERE = [frame(n, LAN_MAC, veth_lab.NEAR_MAC) for n in range(FLOWS)]
ROUTED = [frame(n, NEXT_MAC, WAN_MAC, TTL - 1) for n in range(FLOWS)]
BACK = [frame(0, veth_lab.NEAR_MAC, LAN_MAC)]
"""What a bridge learns the router's MAC from."""


def _ours(config: str) -> Callable[[Lab], Forwards]:
    return lambda where: where.ours(SPIN + config)


def testpmd(driver: str, options: str) -> Contender:
    what = f"testpmd in io mode, {driver}{options}: forwards frames as they are"
    return Contender(
        lambda where: veth_lab.testpmd(where, driver, options), THERE, what, peer_versions.dpdk
    )


ROUTES = Contender(_ours(ROUTER), ROUTED, "vforward run as a router, 16 routes, one worker")


def _by(mode: str) -> Contender:
    config = ROUTER.replace('type = "af_packet"', f'type = "af_packet"\nmode = "{mode}"')
    return Contender(_ours(config), ROUTED, f'the same with mode = "{mode}"')


BRIDGES = Contender(_ours(BRIDGE), THERE, "vforward run as a bridge, one worker")
LINUX = Contender(
    lambda where: where.bridge(), THERE, "the Linux bridge", lambda: peer_versions.linux("bridge")
)
STREAMED = LINUX._replace(peer=lambda: f"{LINUX.peer()}, load: {peer_versions.iperf3()}")


def veth_pps(session: Session) -> Iterator[dict[str, Any]]:
    """Packets per second over testpmd's with a packet socket."""
    yield from _packets(session, "veth-pps", "net_af_packet", testpmd("net_af_packet", AF_PACKET))


def veth_pps_xdp(session: Session) -> Iterator[dict[str, Any]]:
    """The same over testpmd's with AF_XDP."""
    yield from _packets(session, "veth-pps-xdp", "net_af_xdp", testpmd("net_af_xdp", AF_XDP))


def veth_pps_bridge(session: Session) -> Iterator[dict[str, Any]]:
    """The same over the Linux bridge."""
    yield from _packets(session, "veth-pps-bridge", "bridge", LINUX)


def veth_pps_raw(session: Session) -> Iterator[dict[str, Any]]:
    """Received without a ring, over the same with one."""
    yield from _packets(session, "veth-pps-raw", "ring", ROUTES, _by("raw"))


def veth_pps_xdp_rx(session: Session) -> Iterator[dict[str, Any]]:
    """Received by AF_XDP, over the same with a ring."""
    yield from _packets(session, "veth-pps-xdp-rx", "ring", ROUTES, _by("xdp"))


def veth_tcp(session: Session) -> Iterator[dict[str, Any]]:
    """TCP with veth's default offloads."""
    yield from _stream(session, "veth-tcp", on=True)


def veth_tcp_off(session: Session) -> Iterator[dict[str, Any]]:
    """TCP without any offload."""
    yield from _stream(session, "veth-tcp-off", on=False)


def syscalls(session: Session) -> Iterator[dict[str, Any]]:
    """System calls for each packet that came through."""
    if why := impossible(flood=True, program=perf.PROGRAM, package=perf.PACKAGE):
        yield missing("syscalls", "calls/packet", session.gauge, why)
        return
    with routed_lab() as where, where.ours(SPIN + ROUTER) as pid:
        where.probe(THERE, ROUTED, [])
        counted: list[veth_lab.Calls] = []

        def turn() -> list[float]:
            counted.append(
                veth_lab.calls(where, [pid], session.limit_s / SHARE, veth_lab.flood_command(where))
            )
            return [counted[-1].calls / counted[-1].packets]

        found = repeat(turn, session.gauge, ROUNDS, _progress(session, "syscalls", ROUNDS))
    yield row(
        "syscalls", found, "calls/packet", vector=VECTOR_MAX, touched=0,
        packets=sum(each.packets for each in counted) // len(counted),
        note="all threads of vforward run, counted by perf (raw_syscalls:sys_enter)",
    )  # fmt: skip


def veth_rtt(session: Session) -> Iterator[dict[str, Any]]:
    """Round trips of pings through a router that sleeps, and one that spins."""
    if why := impossible(flood=False, program="ping", package="iputils-ping"):
        yield missing("veth-rtt", "us", session.gauge, why)
        return
    ways: tuple[tuple[str, Callable[[Lab], Forwards]], ...] = (
        ("veth-rtt-bridge", LINUX.forwards),
        ("veth-rtt-poll", lambda lab: lab.ours(ROUTER)),
        ("veth-rtt", lambda lab: lab.ours(SPIN + ROUTER)),
    )
    with lab() as where:
        for case, forwards in ways:
            bridged = case.endswith("bridge")
            _readdress(where, bridged=bridged)
            found: list[veth_lab.Pings] = []

            def turn(found: list[veth_lab.Pings] = found, bridged: bool = bridged) -> list[float]:
                to = "10.1.0.3" if bridged else "10.2.0.2"
                found.append(veth_lab.ping(where, to, PINGS, PING_S))
                return [found[-1].p99]

            with forwards(where):
                veth_lab.ping(where, "10.1.0.3" if bridged else "10.2.0.2", 10, PING_S)
                measured = repeat(turn, session.gauge, ROUNDS, _progress(session, case, ROUNDS))
            yield row(
                case, measured, "us", vector=1, packets=PINGS, touched=0,
                median=statistics.median(each.median for each in found),
                lost=sum(each.lost for each in found),
                note=f"99th percentile of {PINGS} pings, one every {PING_S * 1e3:g} ms",
                **_named(LINUX.peer() if bridged else ""),
            )  # fmt: skip


def _packets(
    session: Session, case: str, name: str, peer: Contender, ours: Contender = ROUTES
) -> Iterator[dict[str, Any]]:
    program = veth_lab.PROGRAM if name.startswith("net") else ""
    if why := impossible(flood=True, program=program, package=veth_lab.PACKAGE):
        yield missing(case, "x", session.gauge, why)
        return

    with routed_lab() as where:
        yield from _take_turns(
            session, case, "packets/s", where, {OURS: ours, name: peer}, partial(flooded, session)
        )


def _stream(session: Session, case: str, *, on: bool) -> Iterator[dict[str, Any]]:
    """One connection, both as bridges: no stack but the hosts' own."""
    if why := impossible(flood=False, program="iperf3", package="iperf3"):
        yield missing(case, "x", session.gauge, why)
        return

    def measure(where: Lab, contender: Contender) -> Figure:
        where.forget()
        where.probe(THERE, contender.wanted, BACK)
        with where.busy() as foreign:
            bits = veth_lab.iperf(where, "10.1.0.3", 2 * session.limit_s / SHARE)
        return Figure(bits / 1e9, 0.0, foreign())

    with lab() as where:
        where.hosts(("10.1.0.2", ""), ("10.1.0.3", ""))
        if not on:
            for space, names in (
                (where.h1, ["eth0"]),
                (where.h2, ["eth0"]),
                (where.m, ["lan", "wan"]),
            ):
                offloads(space, *names, on=False)
        yield from _take_turns(
            session, case, "Gbit/s", where, {OURS: BRIDGES, "bridge": STREAMED}, measure
        )


def _take_turns(
    session: Session, case: str, unit: str, where: Lab, contenders: dict[str, Contender],
    measure: Callable[[Lab, Contender], Figure],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Rows of each contender, and of the first over the second."""
    found, disturbed = take_turns(session, case, where, contenders, measure)
    for name, figures in found.items():
        contender = contenders[name]
        yield turns_row(session, f"{case}-{name}", unit, figures, contender, disturbed)
    ours, theirs = found.values()
    peer = list(contenders.values())[1].peer()
    yield ratio_row(session, case, ours, theirs, " / ".join(contenders), peer, disturbed)


def take_turns(
    session: Session, case: str, where: Lab, contenders: dict[str, Contender],
    measure: Callable[[Lab, Contender], Figure],
) -> tuple[dict[str, list[Figure]], bool]:  # fmt: skip
    """The figures of each, and whether something disturbed them."""
    found: dict[str, list[Figure]] = {name: [] for name in contenders}

    def turns() -> list[float]:
        for name, contender in contenders.items():
            tried = []
            while not tried or (tried[-1].foreign > FOREIGN and len(tried) < TRIES):
                with contender.forwards(where):
                    tried.append(measure(where, contender))
            found[name].append(min(tried, key=lambda figure: figure.foreign))
        return [1.0]

    disturbed = repeat(turns, session.gauge, ROUNDS, _progress(session, case, ROUNDS)).disturbed
    disturbed |= any(each.foreign > FOREIGN for figures in found.values() for each in figures)
    return found, disturbed


def turns_row(
    session: Session, name: str, unit: str, figures: list[Figure], contender: Contender,
    disturbed: bool,
) -> dict[str, Any]:  # fmt: skip
    """The row of a contender."""
    peer = contender.peer()
    return row(
        name, whole([each.value for each in figures], session.gauge, disturbed=disturbed),
        unit, vector=0 if peer else VECTOR_MAX, packets=0, touched=0,
        offered=round(statistics.median(each.offered for each in figures)),
        foreign_cpus=round(statistics.median(each.foreign for each in figures), 2),
        note=contender.what, **_named(peer),
    )  # fmt: skip


def _named(peer: str) -> dict[str, str]:
    return {"peer": peer} if peer else {}


def ratio_row(
    session: Session, name: str, ours: list[Figure], theirs: list[Figure], what: str, peer: str,
    disturbed: bool,
) -> dict[str, Any]:  # fmt: skip
    """The row of one over the other, the peer: the median of the rounds' ratios."""
    if not all(other.value for other in theirs):
        return missing(name, "x", session.gauge, f"{what}: nothing came through in a turn")
    ratios = [one.value / other.value for one, other in zip(ours, theirs, strict=True)]
    return row(
        name, whole(ratios, session.gauge, disturbed=disturbed), "x", vector=VECTOR_MAX,
        packets=0, touched=0, note=what, **_named(peer),
    )  # fmt: skip


def flooded(session: Session, where: Lab, contender: Contender) -> Figure:
    """Packets per second of one turn, after a probe."""
    where.probe(THERE, contender.wanted, BACK)
    turn = veth_lab.flood(where, session.limit_s / SHARE)
    return Figure(turn.rate, turn.offered, turn.foreign)


@contextlib.contextmanager
def routed_lab() -> Iterator[Lab]:
    """With an interface lan that takes live frames."""
    with lab() as where:
        where.hosts(("10.1.0.2", LAN), ("10.2.0.2", WAN))
        where.m.run("ethtool", "-K", "lan", "gro", "on")
        yield where


def _readdress(where: Lab, *, bridged: bool) -> None:
    """Other addresses for the hosts."""
    for host in (where.h1, where.h2):
        host.run("ip", "address", "flush", "dev", "eth0")
    if bridged:
        where.hosts(("10.1.0.2", ""), ("10.1.0.3", ""))
    else:
        where.hosts(("10.1.0.2", LAN), ("10.2.0.2", WAN))
    where.forget()


def impossible(*, flood: bool, program: str, package: str) -> str:
    """Why a case has no figure here; empty if it can have one."""
    if not may_use_interfaces():
        return "needs root (or unshare -Urn), and the commands ip, unshare and nsenter"
    if not shim.built():
        return "needs the system-call shim: pip install ."
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    for needed, where in ((program, package), ("ethtool", "ethtool")):
        if needed and shutil.which(needed, path=path) is None:
            return f"{needed}: not installed (Debian's package {where})"
    return xdp_flood.available() if flood else ""


def _progress(session: Session, case: str, wanted: int) -> Callable[[int], None]:
    return lambda done: session.progress(case, done, wanted)
