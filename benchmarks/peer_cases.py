# SPDX-License-Identifier: Apache-2.0
"""vforward beside the Linux kernel's bridge and router, on the same veth pairs in the same run.

Who forwards takes turns, ROUNDS times each: A B C A B C ... In a turn h1 sends frames of 64 bytes
as fast as it can and what comes to h2 is counted; then one TCP connection from h1 to h2 moves what
it can, with the offloads that veth pairs have by default. The rows:

    CASE-sender        h1 sends and nobody forwards
    CASE-kernel        the kernel forwards, on the sender's CPU, as it does by itself
    CASE-kernel-rps    the kernel forwards on another CPU (receive packet steering)
    CASE-vforward      vforward run, its worker on that other CPU
    CASE-...-tcp       the same, TCP
    CASE-tcp, CASE     the ratio of vforward to the faster of the kernel's two ways

A ratio is the median of those of the rounds, so that a neighbor who comes and goes slows both.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks import peer_versions
from benchmarks.harness import LEAST, missing, repeat, row, whole
from benchmarks.peer_lab import (
    FLOWS,
    LAN,
    LAN_MAC,
    NEXT_MAC,
    SIZE,
    TTL,
    WAN,
    WAN_MAC,
    Lab,
    Turn,
    frame,
    lab,
    prefixes,
    router_of,
)
from benchmarks.session import Session
from vforward.control.demo_world import may_use_interfaces
from vforward.io import shim
from vforward.layout import VECTOR_MAX

ROUNDS = LEAST
SHARE = 10
"""A turn's UDP and its TCP take this part of a case's time each: 2 seconds."""
LIMITED = 0.98
"""When vforward forwards this part of what is offered, it is limited by the sender."""
FOREIGN = 0.12
"""More of a CPU than this for other programs: the turn was disturbed."""
KERNEL, STEERED, OURS, SENDER = "kernel", "kernel-rps", "vforward", "sender"
BRIDGE = """
[ports.lan]
type = "af_packet"
interface = "lan"

[ports.wan]
type = "af_packet"
interface = "wan"

[bridges.peers]
ports = ["lan", "wan"]
"""
ROUTER = router_of(prefixes())

Forwards = contextlib.AbstractContextManager[None]


class Job(NamedTuple):
    """What is to be done, and by whom."""

    case: str
    peer: str
    there: list[bytes]  # frames that h1 sends
    wanted: list[bytes]  # the same as they come to h2
    back: list[bytes]  # frames that h2 sends before
    hosts: tuple[tuple[str, str], tuple[str, str]]  # address and gateway of h1 and of h2
    config: str
    kernel: Callable[[Lab], Callable[[], Forwards]]


class Found(NamedTuple):
    """A turn's figures. bits: of TCP, per second."""

    turn: Turn
    bits: float


def bridge_peers(session: Session) -> Iterator[dict[str, Any]]:
    """A bridge of two ports, 256 stations behind each, learned by it."""
    near, far = (_stations(side) for side in (1, 2))
    there = [frame(n, far[n], near[n]) for n in range(FLOWS)]
    back = [frame(n, near[n], far[n]) for n in range(FLOWS)]
    hosts = (("10.1.0.2", ""), ("10.1.0.3", ""))
    yield from _compare(
        session,
        Job(
            "bridge-peers",
            "bridge",
            there,
            there,
            back,
            hosts,
            BRIDGE,
            lambda where: where.bridge,
        ),
    )


def router_peers(session: Session) -> Iterator[dict[str, Any]]:
    """A router of two ports, 16 /24 routes via one next hop whose MAC is known."""
    near = bytes.fromhex("020000000001")
    there = [frame(n, LAN_MAC, near) for n in range(FLOWS)]
    wanted = [frame(n, NEXT_MAC, WAN_MAC, TTL - 1) for n in range(FLOWS)]
    hosts = (("10.1.0.2", LAN), ("10.2.0.2", WAN))
    yield from _compare(
        session,
        Job(
            "router-peers",
            "IPv4 forwarding",
            there,
            wanted,
            [],
            hosts,
            ROUTER,
            lambda where: where.router,
        ),
    )


def _stations(side: int) -> list[bytes]:
    return [bytes([2, 0, 0, side, 0, n]) for n in range(FLOWS)]


def _compare(session: Session, job: Job) -> Iterator[dict[str, Any]]:
    if why := _impossible():
        yield missing(job.case, "x", session.gauge, why)
        return
    with lab() as where:
        where.hosts(*job.hosts)
        kernel = job.kernel(where)
        contenders: dict[str, Callable[[], Forwards]] = {
            SENDER: where.nobody,
            KERNEL: kernel,
            STEERED: lambda: where.steered(kernel),
            OURS: lambda: where.ours(job.config),
        }
        if unable := _unable_to_steer(where):
            del contenders[STEERED]
        found: dict[str, list[Found]] = {name: [] for name in contenders}
        seconds = session.limit_s / SHARE

        def turns() -> list[float]:
            for name, forwards in contenders.items():
                with forwards():
                    found[name].append(_turn(where, job, name, seconds))
            return [found[OURS][-1].turn.rate]

        def progress(done: int) -> None:
            session.progress(job.case, done, ROUNDS)

        disturbed = repeat(turns, session.gauge, ROUNDS, progress).disturbed
    disturbed |= any(each.turn.foreign > FOREIGN for turns in found.values() for each in turns)
    yield from _rows(session, job, where, found, disturbed)
    if unable:
        yield missing(f"{job.case}-{STEERED}", "packets/s", session.gauge, unable)
    yield from _ratios(session, job, found, disturbed)


def _impossible() -> str:
    if not may_use_interfaces():
        return "needs root (or unshare -Urn), and the commands ip, unshare and nsenter"
    return "" if shim.built() else "needs the system-call shim: pip install ."


def _unable_to_steer(where: Lab) -> str:
    try:
        with where.steered(where.nobody):
            return ""
    except RuntimeError as error:
        return f"receive packet steering: {error}"


def _turn(where: Lab, job: Job, name: str, seconds: float) -> Found:
    """Probe, UDP, TCP."""
    where.forget()
    if name == SENDER:
        return Found(where.udp(job.there, seconds), 0.0)
    where.probe(job.there, job.wanted, job.back)
    turn = where.udp(job.there, seconds)
    return Found(turn, where.tcp(job.hosts[1][0], seconds))


def _rows(
    session: Session, job: Job, where: Lab, found: dict[str, list[Found]], disturbed: bool
) -> Iterator[dict[str, Any]]:
    notes = _notes(job, where)
    for name, turns in found.items():
        rates = [each.turn.offered if name == SENDER else each.turn.rate for each in turns]
        offered = statistics.median(each.turn.offered for each in turns)
        limited = name == OURS and statistics.median(rates) >= LIMITED * offered
        yield row(
            f"{job.case}-{name}",
            whole(rates, session.gauge, disturbed=disturbed),
            "packets/s",
            vector=VECTOR_MAX if name == OURS else 0,
            packets=sum(each.turn.arrived for each in turns) // len(turns),
            touched=0,
            offered=round(offered),
            busy_cpus=round(statistics.median(each.turn.busy for each in turns), 2),
            foreign_cpus=round(statistics.median(each.turn.foreign for each in turns), 2),
            sent=[each.turn.sent for each in turns],
            taken=[each.turn.taken for each in turns],
            arrived=[each.turn.arrived for each in turns],
            note=notes[name] + ("; limited by the sender" if limited else ""),
            **_peer(job, name),
        )
    for name, turns in found.items():
        if name != SENDER:
            yield row(
                f"{job.case}-{name}-tcp",
                whole([each.bits / 1e9 for each in turns], session.gauge, disturbed=disturbed),
                "Gbit/s",
                vector=VECTOR_MAX if name == OURS else 0,
                packets=0,
                touched=0,
                note="one TCP connection, veth's default offloads, its ends on any CPU",
                **_peer(job, name),
            )


def _peer(job: Job, name: str) -> dict[str, str]:
    """Who a row is of, if it is the kernel."""
    return {"peer": peer_versions.linux(job.peer)} if name in (KERNEL, STEERED) else {}


def _notes(job: Job, where: Lab) -> dict[str, str]:
    sender, worker = where.sender_cpu, where.forwarder_cpu
    sent = f"{SIZE + 4}-byte UDP in {FLOWS} flows, by sendmmsg of one process on CPU {sender}"
    machine = f"{len(os.sched_getaffinity(0))} CPUs are shared by sender, kernel and forwarder"
    return {
        SENDER: f"{sent}; nobody forwards; {machine}",
        KERNEL: f"Linux's {job.peer}, all of it on the sender's CPU",
        STEERED: f"Linux's {job.peer} on CPU {worker}, by receive packet steering; the sender waits for it",
        OURS: f"vforward run, its worker on CPU {worker}; the sender's fills the receive ring",
    }


def _ratios(
    session: Session, job: Job, found: dict[str, list[Found]], disturbed: bool
) -> Iterator[dict[str, Any]]:
    figures: dict[str, Callable[[Found], float]] = {
        f"{job.case}-tcp": lambda each: each.bits,
        job.case: lambda each: each.turn.rate,
    }
    for case, figure in figures.items():
        by_name = {name: [figure(each) for each in turns] for name, turns in found.items()}
        kernels = [name for name in (KERNEL, STEERED) if name in found]
        best = max(kernels, key=lambda name: statistics.median(by_name[name]))
        ratios = [ours / theirs for ours, theirs in zip(by_name[OURS], by_name[best], strict=True)]
        yield row(
            case,
            whole(ratios, session.gauge, disturbed=disturbed),
            "x",
            vector=VECTOR_MAX,
            packets=0,
            touched=0,
            note=f"vforward / {best}",
            **_peer(job, best),
        )
