# SPDX-License-Identifier: Apache-2.0
"""soak: what grows in a router and firewall that is kept busy with ever new traffic and changes.

    soak-memory        resident memory, MiB per hour
    soak-compilations  kilobytes of machine code that were mapped after the beginning: each kernel that
                       is compiled or loaded maps some, and what a timer calls is loaded when it first does
    soak-clocks        clocks per packet of the graph's nodes under the same load, percent per hour
    soak-descriptors   open file descriptors more than after the first round
    soak-threads       threads more
    soak               how many of these five grew: 0 is what is wanted

The time is VFORWARD_SOAK_MINUTES, 1 if that is not said; 30 is what a release wants. Round after round the
same reference load measures, then come frames of another mix of sizes and another rate, datagrams of new
flows with sessions and NAT, whole and in pieces, changes of routes, rules and NAT through the API, and two
reloads: a configuration with a VLAN, a port, a neighbor and routes more, and then the first one again.

The beginning is the first third, of which no more than WARM_S. A slope is fitted to the rounds after it, by
least squares, with its standard error: it is none where it is no more than twice that error, or no more
than SMALL of what it is a slope of over the whole time. What a short time cannot tell its error says.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import rate_nodes, veth_lab
from benchmarks.churn_case import CONFIG, NAME, aside, own_runtime
from benchmarks.churn_client import TARGET
from benchmarks.harness import missing, row, whole
from benchmarks.peer_cases import ROUTER
from benchmarks.peer_lab import LAN, LAN_MAC, NEXT_HOP, SIZE, WAN, Lab, lab
from benchmarks.rate_cases import FCS, SIZES, checked
from benchmarks.rate_tester import Tester, between
from benchmarks.session import Session
from benchmarks.veth_cases import ROUTED, SPIN, THERE, impossible
from vforward.control.client import Client
from vforward.control.demo_world import Failed
from vforward.layout import VECTOR_MAX
from vforward.testing import packets

CASE = "soak"
MINUTES = float(os.environ.get("VFORWARD_SOAK_MINUTES", "1"))
REFERENCE, REFERENCE_RATE, REFERENCE_S = SIZES.index(128), 100_000.0, 1.0
FASTEST = 150_000.0
FLOWS = 2048
"""Datagrams of new flows in a round, each sent more than once."""
FLOWS_S = 0.3
CHANGES = 200
SMALL = 0.01
LEAST_ROUNDS = 6
WARM_S = 330.0
"""By then the first sessions have ended: UDP without a reply lasts 300 s."""
MORE = """
[ports.tagged]
type = "vlan"
parent = "lan"
vlan = {vlan}
address = "10.3.0.1/24"

[ports.sink]
type = "null"

[[neighbors]]
address = "10.3.0.2"
mac = "02:00:00:00:03:02"
port = "tagged"
"""
MORE_ROUTES = 200
"""What a reload adds to the configuration, besides."""


class Look(NamedTuple):
    """What a round found. code: KiB of machine code that lies in no file."""

    at: float
    memory: float
    code: float
    clocks: float
    descriptors: float
    threads: float


class Slope(NamedTuple):
    """Per second, and its standard error; mean: of what it is a slope."""

    value: float
    error: float
    mean: float
    seconds: float

    @property
    def none(self) -> bool:
        """Whether nothing of it can be seen."""
        whole_time = abs(self.value) * self.seconds
        return abs(self.value) <= 2 * self.error or whole_time <= SMALL * abs(self.mean)


def soak(session: Session) -> Iterator[dict[str, Any]]:
    """Rows: each thing that may grow."""
    if why := impossible(flood=False, program="", package=""):
        yield missing(CASE, "grew", session.gauge, why)
        return
    frames = rate_nodes.templates(
        [size - FCS for size in SIZES], LAN_MAC, veth_lab.NEAR_MAC, "10.8.0.1", TARGET
    )
    with lab() as where:
        where.hosts(("10.1.0.2", LAN), ("10.2.0.2", WAN))
        with (
            where.ours(SPIN + ROUTER + CONFIG) as pid,
            between(where.h1, where.h2, frames) as test,
            own_runtime(where),
        ):
            where.probe(THERE, ROUTED, [])
            aside(pid, test.cpus[0], where.forwarder_cpu)
            looks, lost = _rounds(session, where, test, pid)
    yield from _rows(session, looks, lost)


def _rounds(session: Session, where: Lab, test: Tester, pid: int) -> tuple[list[Look], int]:
    """Rounds until the time is over; and what of the reference load was lost."""
    client, chosen = Client(NAME), random.Random(1)
    looks: list[Look] = []
    lost, start = 0, time.monotonic()
    end = start + 60 * MINUTES
    while time.monotonic() < end or len(looks) < LEAST_ROUNDS:
        client.clear()
        found = checked(test.trial([REFERENCE], REFERENCE_RATE, REFERENCE_S))
        lost += found.lost
        looks.append(_look(pid, clocks_per_packet(client)))
        pattern = [chosen.randrange(len(SIZES)) for _ in range(12)]
        checked(test.trial(pattern, chosen.uniform(0.1, 1) * FASTEST, REFERENCE_S / 2))
        where.udp(new_flows(chosen), FLOWS_S)
        change(client, chosen, len(looks))
        reload(client, where.directory, len(looks))
        passed = time.monotonic() - start
        session.progress(CASE, min(99, round(100 * passed / (60 * MINUTES))), 100)
    return looks, lost


def _look(pid: int, clocks: float) -> Look:
    place = Path(f"/proc/{pid}")
    status = dict(
        line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line
    )
    return Look(
        at=time.monotonic(),
        memory=int(status["VmRSS"].split()[0]) / 1024,
        code=code_of(place / "maps"),
        clocks=clocks,
        descriptors=len(list((place / "fd").iterdir())),
        threads=int(status["Threads"]),
    )


def code_of(maps: Path) -> float:
    """KiB of executable memory that is of no file, by a process's maps: where compiled kernels are."""
    total = 0
    for line in maps.read_text().splitlines():
        extent, rights, _, _, inode, *_ = line.split()
        if "x" in rights and inode == "0" and "[" not in line:
            first, last = (int(word, 16) for word in extent.split("-"))
            total += last - first
    return total / 1024


def clocks_per_packet(client: Client) -> float:
    """Of the nodes between ports, since the last clear: ports pay for the kernel's work besides."""
    nodes = client.runtime().nodes
    inner = [node for node in nodes if node.kind != "input" and not node.name.endswith("-tx")]
    came = next(node.packets for node in nodes if node.name == "ip4-input")
    return sum(node.clocks_per_packet * node.packets for node in inner) / max(1, came)


def new_flows(chosen: random.Random) -> list[bytes]:
    """Frames of flows that were not there before: UDP, TCP that opens, and datagrams in two pieces."""
    made = []
    for _ in range(FLOWS // 2):
        source = f"10.7.{chosen.randrange(256)}.{chosen.randrange(1, 255)}"
        target = f"10.9.{chosen.randrange(16)}.{chosen.randrange(1, 255)}"
        ports = chosen.randrange(1024, 65536), chosen.randrange(1, 1024)
        udp = packets.udp(source, target, *ports, bytes(16))
        ident = chosen.randrange(1 << 16)
        if chosen.random() < 0.2:
            made += [
                _ip(source, target, packets.PROTO_UDP, udp[:16], ident, flags_mf=True),
                _ip(source, target, packets.PROTO_UDP, udp[16:], ident, frag_off=16),
            ]
        elif chosen.random() < 0.5:
            made.append(_ip(source, target, packets.PROTO_UDP, udp, ident))
        else:
            syn = packets.tcp(source, target, *ports)
            made.append(_ip(source, target, packets.PROTO_TCP, syn, ident))
    return made


def _ip(source: str, target: str, protocol: int, payload: bytes, ident: int, **more: Any) -> bytes:
    datagram = packets.ip4(source, target, protocol, payload, ident=ident, **more)
    frame = packets.eth(LAN_MAC, veth_lab.NEAR_MAC, packets.ETH_IP4, datagram, pad_to=SIZE)
    assert len(frame) == SIZE
    return frame


def change(client: Client, chosen: random.Random, n: int) -> None:
    """Other routes, rules and NAT, of which what they replace was as much."""
    net = f"20.{n % 2}"
    client.change_routes(
        add=[{"prefix": f"{net}.{k}.0/24", "via": NEXT_HOP} for k in range(CHANGES)],
        delete=[{"prefix": f"20.{1 - n % 2}.{k}.0/24"} for k in range(CHANGES)] if n > 1 else [],
    )
    rules: list[dict[str, Any]] = [
        {"action": "deny", "protocol": "tcp", "from": f"172.16.{k}.0/24", "to_ports": 1 + n % 1000}
        for k in range(chosen.randrange(1, 200))
    ]
    client.set_rules(rules)
    first = 20_000 + n % 1000
    client.set_nat(
        [{"type": "masquerade", "out": "wan", "from": "10.7.0.0/16", "ports": f"{first}-60000"}]
    )
    for read in (client.ports, client.routes, client.rules, client.sessions, client.metrics):
        read()


def reload(client: Client, directory: Path, n: int) -> None:
    """Apply the configuration with MORE and MORE_ROUTES, then as it was."""
    first, other = directory / f"{NAME}.toml", directory / "other.toml"
    routes = "".join(
        f'\n[[routes]]\nprefix = "21.{n % 256}.{k}.0/24"\nvia = "10.3.0.2"\n'
        for k in range(MORE_ROUTES)
    )
    other.write_text(first.read_text() + MORE.format(vlan=1 + n % 4000) + routes)
    for file in (other, first):
        said = client.apply(file)
        if not said["applied"] or len(said["changes"]) < MORE_ROUTES:
            msg = f"{CASE}: {file.name} was not applied: {said}"
            raise Failed(msg)


def _rows(session: Session, looks: Sequence[Look], lost: int) -> Iterator[dict[str, Any]]:
    grew = []
    for name, unit, scale, digits in (
        ("memory", "MiB/hour", 3600.0, 2),
        ("clocks", "%/hour", 3600.0, 2),
    ):
        found = slope(looks, name)
        by = scale / found.mean * 100 if unit.startswith("%") else scale
        what = "none" if found.none else "a slope"
        grew += [] if found.none or found.value < 0 else [name]
        yield _row(
            session, f"{CASE}-{name}", round(found.value * by, digits), unit, looks,
            f"{what}: {found.value * by:+.{digits}f} +- {found.error * by:.{digits}f} {unit} of "
            f"{found.mean:.1f} over {found.seconds / 60:.1f} minutes",
            error=round(found.error * by, digits), mean=round(found.mean, 2),
        )  # fmt: skip
    for name, field, unit, begin in (
        ("compilations", "code", "KiB", warm(looks)),
        ("descriptors", "descriptors", "more", 1),
        ("threads", "threads", "more", 1),
    ):
        first, last = (getattr(looks[at], field) for at in (begin, -1))
        grew += [name] if last > first else []
        what = "none" if last <= first else "some"
        note = f"{what}: {first:.0f} after round {begin + 1}, {last:.0f} in the end"
        yield _row(session, f"{CASE}-{name}", last - first, unit, looks, note)
    yield _row(
        session, CASE, len(grew), "grew", looks,
        f"{len(looks)} rounds, {2 * len(looks)} reloads in {MINUTES:g} minutes; "
        f"grew: {', '.join(grew) or 'none'}; {lost} packets of the reference load were lost",
    )  # fmt: skip


def _row(
    session: Session,
    case: str,
    value: float,
    unit: str,
    looks: Sequence[Look],
    note: str,
    **more: Any,
) -> dict[str, Any]:
    found = whole([value], session.gauge, disturbed=False)
    made = row(
        case, found, unit, vector=VECTOR_MAX, packets=0, touched=0, note=note,
        rounds=len(looks), minutes=MINUTES, **more,
    )  # fmt: skip
    return {**made, "value": value}


def warm(looks: Sequence[Look]) -> int:
    """The first look after the beginning."""
    late = (n for n, look in enumerate(looks) if look.at - looks[0].at >= WARM_S)
    return min(len(looks) // 3, next(late, len(looks)))


def slope(looks: Sequence[Look], name: str) -> Slope:
    """By least squares, of the looks after the beginning."""
    rest = looks[warm(looks) :]
    at = np.array([look.at for look in rest])
    values = np.array([float(getattr(look, name)) for look in rest])
    apart = at - at.mean()
    spread = float((apart**2).sum())
    value = float((apart * values).sum()) / spread
    left = values - values.mean() - value * apart
    freedom = max(1, len(rest) - 2)
    error = math.sqrt(float((left**2).sum()) / freedom / spread)
    return Slope(value, error, float(values.mean()), float(at[-1] - at[0]))
