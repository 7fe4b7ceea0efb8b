# SPDX-License-Identifier: Apache-2.0
"""peers: everybody else who does what vforward does and is installed here, in one run.

On one set of veth pairs, in turns, under the load of veth-pps (benchmarks.veth_cases):

    peers-bridge     our bridge      over the Linux bridge
    peers-router     our router      over Linux's IPv4 forwarding
    peers-nftables   our firewall    over Linux's with nftables and conntrack, both with 256 sessions
    peers-testpmd    our router      over DPDK's testpmd in io mode with net_af_packet
    peers-ovs        our bridge      over Open vSwitch in user space, with packet sockets
    peers-ovs-afxdp  our bridge      over the same with AF_XDP

Linux forwards on the sender's CPU by itself; steered (receive packet steering, ...-rps) it does on the last
one, as the others do. The ratio is over the faster of the two, `ratios` has both.

In memory, one after the other: spsc, hash-peers, fib-peers and acl-peers beside dpdk-test's. The ratios
come first, then what they are made of. Who is not installed has a row that says so, and so has who does not
run here: nothing is guessed. The last row is the least of the ratios of packets per second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from benchmarks import peer_versions, veth_lab, veth_peers
from benchmarks.acl_peers import acl_peers
from benchmarks.dpdk_cases import fib_peers
from benchmarks.harness import missing
from benchmarks.hash_peers import hash_peers
from benchmarks.loads import KEYS, NUMBERS, Load
from benchmarks.peer_cases import ROUTER
from benchmarks.peer_lab import Lab
from benchmarks.ring_cases import spsc
from benchmarks.session import Session
from benchmarks.veth_cases import (
    AF_PACKET,
    BRIDGES,
    LINUX,
    ROUTED,
    ROUTES,
    SPIN,
    THERE,
    Contender,
    Figure,
    flooded,
    impossible,
    ratio_row,
    routed_lab,
    take_turns,
    testpmd,
    turns_row,
)
from vforward.control.demo_world import Failed

CASE = "peers"
RPS = "-rps"
FIREWALL = (
    ROUTER
    + """
[firewall]
default = "deny"

[[rules]]
name = "new"
action = "permit"
in = "lan"
out = "wan"
"""
)
Rows = Callable[[Session], Iterator[dict[str, Any]]]
MEMORY: tuple[tuple[Rows, Load], ...] = (
    (spsc, NUMBERS),
    (hash_peers, KEYS),
    (fib_peers, KEYS),
    (acl_peers, KEYS),
)


class Peer(NamedTuple):
    """Somebody else, and who of ours does the same; why it cannot be asked here, or nothing.

    ways: what there are of forwarding, each with what its name has behind the peer's.
    """

    ours: str
    ways: dict[str, Contender]
    absent: Callable[[], str] = str


def _linux(ours: str, kernel: Contender, absent: Callable[[], str] = str) -> Peer:
    """Linux on the sender's CPU, as it is by default, and on that of the others."""
    steered = kernel._replace(
        forwards=lambda where: where.steered(lambda: kernel.forwards(where)),
        what=f"{kernel.what}, steered to the last CPU",
    )
    by_itself = kernel._replace(what=f"{kernel.what}, on the sender's CPU")
    return Peer(ours, {"": by_itself, RPS: steered}, absent)


def _open_vswitch(kind: str) -> Peer:
    what = f"Open vSwitch, datapath type netdev, interfaces of type {kind}"
    forwards = partial(veth_peers.open_vswitch, kind=kind)
    return Peer(
        "vforward-bridge",
        {"": Contender(forwards, THERE, what, peer_versions.open_vswitch)},
        veth_peers.missing_open_vswitch,
    )


OURS = {
    "vforward-bridge": BRIDGES,
    "vforward-router": ROUTES,
    "vforward-firewall": Contender(
        lambda where: where.ours(SPIN + FIREWALL), ROUTED, "vforward run as a router with sessions"
    ),
}
PEERS = {
    "bridge": _linux("vforward-bridge", LINUX),
    "router": _linux(
        "vforward-router",
        Contender(
            lambda where: where.router(),
            ROUTED,
            "Linux's IPv4 forwarding, 16 routes",
            lambda: peer_versions.linux("IPv4 forwarding"),
        ),
    ),
    "nftables": _linux(
        "vforward-firewall",
        Contender(
            veth_peers.nftables,
            ROUTED,
            "Linux's IPv4 forwarding with nftables and conntrack",
            peer_versions.nftables,
        ),
        veth_peers.missing_nftables,
    ),
    "testpmd": Peer(
        "vforward-router",
        {"": testpmd("net_af_packet", AF_PACKET)},
        lambda: impossible(flood=False, program=veth_lab.PROGRAM, package=veth_lab.PACKAGE),
    ),
    "ovs": _open_vswitch("system"),
    "ovs-afxdp": _open_vswitch("afxdp"),
}


def peers(session: Session) -> Iterator[dict[str, Any]]:
    """See the module."""
    last = None
    for made in _on_wires(session):
        if made["unit"] == "x" and made["value"] is not None:
            last = made if last is None or made["value"] < last["value"] else last
        yield made
    for case, load in MEMORY:
        yield from (load._asdict() | made for made in case(session))
    if last is None:
        yield missing(CASE, "x", session.gauge, "nobody else forwards packets here")
    else:
        yield {**last, "case": CASE, "note": f"the least of all: {last['case']}, {last['note']}"}


def _on_wires(session: Session) -> Iterator[dict[str, Any]]:
    if why := impossible(flood=True, program="", package=""):
        yield missing(f"{CASE}-veth", "x", session.gauge, why)
        return
    there: dict[str, dict[str, Contender]] = {}
    absent: dict[str, str] = {}
    contenders: dict[str, Contender] = {}
    with routed_lab() as where:
        for name, peer in PEERS.items():
            ways = {name + suffix: each for suffix, each in peer.ways.items()}
            why = peer.absent()
            absent |= {way: why or _trial(where, each) for way, each in ways.items()}
            there[name] = {way: each for way, each in ways.items() if not absent[way]}
            contenders |= {peer.ours: OURS[peer.ours], **there[name]} if there[name] else {}
        measure: Callable[[Lab, Contender], Figure] = partial(flooded, session)
        found, disturbed = take_turns(session, CASE, where, contenders, measure)
    for name, ways in there.items():
        case = f"{CASE}-{name}"
        if ways:
            yield _ratio(session, case, PEERS[name].ours, ways, found, disturbed)
        else:
            yield missing(case, "x", session.gauge, absent[name])
    for name, figures in found.items():
        case = f"{CASE}-{name}-pps"
        yield turns_row(session, case, "packets/s", figures, contenders[name], disturbed)
    for name, peer in PEERS.items():
        for way in (name + suffix for suffix in peer.ways):
            if there[name] and absent[way]:
                yield missing(f"{CASE}-{way}-pps", "packets/s", session.gauge, absent[way])


def _ratio(
    session: Session, case: str, ours: str, theirs: dict[str, Contender],
    found: dict[str, list[Figure]], disturbed: bool,
) -> dict[str, Any]:  # fmt: skip
    """Ours over the faster of a peer's ways: the least of their ratios, of which the row has all."""
    rows = {
        name: ratio_row(
            session, case, found[ours], found[name], f"{ours} / {contender.what}", contender.peer(),
            disturbed,
        )
        for name, contender in theirs.items()
    }  # fmt: skip
    ratios = {name: made["value"] for name, made in rows.items() if made["value"] is not None}
    if not ratios:
        return next(iter(rows.values()))
    least = rows[min(ratios, key=lambda name: ratios[name])]
    return {**least, "ratios": ratios} if len(rows) > 1 else least


def _trial(where: Lab, contender: Contender) -> str:
    """Why it does not forward here; nothing if it does."""
    try:
        with contender.forwards(where):
            where.probe(THERE, contender.wanted, [])
    except (Failed, RuntimeError, OSError) as error:
        return f"does not forward here: {error}"
    return ""
