# SPDX-License-Identifier: Apache-2.0
"""Compile all that the daemon may need, before it is needed: fills this version's cache directory.

A small forwarder is built and run, with a port of each type that needs no privileges and packets
that go the usual ways: so what Python calls while packets flow is compiled just as it is called
then. Nodes that this forwarder has not got are compiled by themselves. A second process begins at the
other end of the list at the same time; who comes second finds the work in the cache. Python's own
bytecode of the package is made as well: without it a start takes half a second more.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import numpy as np

from vforward.control import compiled
from vforward.control.demo_world import end_with_parent
from vforward.control.forwarder import Forwarder
from vforward.control.routing_stage import staged
from vforward.control.rules import FirewallSettings, Masquerade, Rule
from vforward.errors import ShimMissing
from vforward.graph import control as c
from vforward.graph import scheduler
from vforward.graph.node import Node
from vforward.io import (
    af_packet_raw,
    af_packet_rx,
    af_packet_tx,
    af_xdp_rx,
    af_xdp_tx,
    netmap_nodes,
    shim,
    tap_rx,
    tap_tx,
    vhost_rx,
    vhost_tx,
    virtio_rx,
    virtio_tx,
)
from vforward.io.generator import GeneratorPort
from vforward.io.memif import MemifPort
from vforward.io.memory import MemoryPort
from vforward.io.memring import MemringPort
from vforward.io.null import NullPort
from vforward.io.pcap import PcapPort, write_frames
from vforward.io.vhost import VhostUserPort
from vforward.io.virtio import VirtioPort
from vforward.jit import cache, entries, imports
from vforward.layout import BUF_STRIDE
from vforward.nodes import CATALOG
from vforward.tables import session_restore
from vforward.tables.bridge import DOMAIN
from vforward.tables.mac import ENTRIES_MIN
from vforward.tables.session_table import Sessions
from vforward.testing import packets

OURS, THEIRS = "10.0.1.1", "10.0.1.2"
OURS6, THEIRS6 = "2001:db8::1", "2001:db8::2"
THEIR_MAC = "02:00:00:00:00:02"
ELSEWHERE = (
    *(af_packet_rx.NODE, af_packet_raw.NODE, af_packet_tx.NODE),
    *(af_xdp_rx.NODE, af_xdp_tx.NODE),
    *(tap_rx.NODE, tap_tx.NODE),
    *(netmap_nodes.NETMAP_RX, netmap_nodes.NETMAP_TX, vhost_rx.NODE, vhost_tx.NODE),
    *(virtio_rx.NODE, virtio_tx.NODE),
)
"""Nodes of ports that cannot be opened here: they need root, the shim, or a netmap server."""
RUNTIME = "VFORWARD_RUNTIME_DIR"


def compile_all(progress: Callable[[int, int, str], None] = lambda *_: None) -> int:
    """Compile, or load what is compiled already. Returns how many steps that were.

    progress: called before each step with how many are done, how many there are (about, at first)
    and its name. Raises KernelError.
    """
    done = 0

    def step(name: str) -> None:
        nonlocal done
        progress(done, max(total(), done + 1), name)
        done += 1

    def total() -> int:
        return len(forwarder.graph.members) + len(CATALOG) + len(ELSEWHERE) + 2

    with (
        _helper(),
        _aside() as directory,
        Forwarder("compile", buffers=2048, workers=2) as forwarder,
    ):
        memory, switched = _add_ports(forwarder, directory)
        _add_firewall(forwarder)
        forwarder.build(step)
        step("packets")
        _exercise(forwarder, memory, switched)
        for node in (*CATALOG, *ELSEWHERE):
            step(node.name)
            _compile(node)
    compileall.compile_dir(cache.PACKAGE, quiet=2)  # not if it may not be written to
    compiled.mark()
    return done


def compile_backwards() -> None:
    """What the second process does: the scheduler, then the nodes, last one first."""
    scheduler.run.compile("void(int64[::1], boolean)")  # type: ignore[attr-defined]
    for node in reversed((*CATALOG, *ELSEWHERE)):
        _compile(node)


def empty_cache() -> None:
    """Remove what is compiled of this version of the package's modules."""
    modules = ((imports.dotted(path), imports.digest(path)) for path in compiled.sources())
    for name, sources in (compiled.marker(), *modules):
        shutil.rmtree(cache.place(name, sources), ignore_errors=True)


@contextmanager
def _helper() -> Iterator[None]:
    """A second process that compiles, where there is a processor for it and something to do."""
    if compiled.is_complete() or len(os.sched_getaffinity(0)) < 2:
        yield
        return
    module = "vforward.control.compile"
    code = f"from {module} import compile_backwards; compile_backwards()"
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=quiet, stderr=quiet, preexec_fn=end_with_parent
    )
    try:
        yield
    finally:
        process.kill()  # what it has not done by now, we have
        process.wait()


@contextmanager
def _aside() -> Iterator[Path]:
    """A runtime directory of our own, so that nobody takes this forwarder for one that runs."""
    before = os.environ.get(RUNTIME)
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="vforward-compile-", dir=memory) as directory:
        os.environ[RUNTIME] = directory
        try:
            yield Path(directory)
        finally:
            os.environ.pop(RUNTIME)
            if before is not None:
                os.environ[RUNTIME] = before


def _add_ports(forwarder: Forwarder, directory: Path) -> tuple[MemoryPort, MemoryPort]:
    memory = forwarder.add_port("memory", MemoryPort(), (f"{OURS}/24", f"{OURS6}/64"))
    capture = directory / "in.pcap"
    write_frames(capture, [_echo_request(bytes(6))])
    forwarder.add_port("pcap", PcapPort(read=capture, write=_writable(directory)), "10.0.2.1/24")
    forwarder.add_port("generator", GeneratorPort(count=64, dst="10.0.4.2"), "10.0.3.1/24")
    forwarder.add_port("null", NullPort(), "10.0.4.1/24")
    forwarder.add_port("memring", MemringPort())
    if shim.built():
        forwarder.add_port("memif", MemifPort(directory / "memif.sock", role="client"))
        forwarder.add_port("vhost", VhostUserPort(str(directory / "vhost")), "10.0.7.1/24")
        forwarder.add_port("virtio", VirtioPort(str(directory / "virtio")), "10.0.8.1/24")
    forwarder.add_vlan("vlan", "memory", 7, "10.0.5.1/24")
    forwarder.add_route("10.1.0.0/16", via=THEIRS)
    forwarder.add_route("2001:db8:1::/48", paths=[(THEIRS6, None, 1), ("2001:db8::3", None, 2)])
    forwarder.delete_route("10.1.0.0/16")
    with staged(forwarder.routing) as stage:
        stage.put(ip_network("10.1.0.0/16"), kind="blackhole")
        stage.put_in_force()
    switched = forwarder.add_port("switched", MemoryPort())
    forwarder.add_bridge("bridge")
    forwarder.add_to_bridge("bridge", "switched")
    forwarder.add_bvi("bvi", "bridge", "10.0.6.1/24")
    for mac in (bytes(5) + b"\2", packets.mac_bytes(THEIR_MAC)):
        forwarder.add_neighbor("10.0.4.2", mac, "null")
    return memory, switched


def _add_firewall(forwarder: Forwarder) -> None:
    """Rules of both families, compiled when the forwarder is built: what makes images of them."""
    forwarder.set_firewall(FirewallSettings(default="permit", sessions=1023))
    forwarder.set_rules([
        Rule(action="deny", from_=source, protocol="tcp", to_ports=[80, "8000-8999"], out="null")
        for source in ("10.9.0.0/16", "2001:db8:9::/48")
    ])  # fmt: skip
    forwarder.set_nat([Masquerade(out="pcap")])


def _writable(directory: Path) -> Path | None:
    """A file to write, where the shim is there that does it."""
    try:
        shim.address("vf_write")
    except ShimMissing:
        return None
    return directory / "out.pcap"


def _echo_request(to: bytes, size: int = 56) -> bytes:
    ip = packets.ip4(THEIRS, OURS, 1, packets.icmp_echo(1, 1, bytes(size)))
    return packets.eth(to, THEIR_MAC, 0x0800, ip)


def _exercise(forwarder: Forwarder, memory: MemoryPort, switched: MemoryPort) -> None:
    """Pings, long ones too, to ourselves; ARP and ND; a packet that waits for its neighbor; sessions."""
    mac = memory.mac
    waits = packets.ip4(THEIRS, "10.0.1.9", 17, packets.udp(THEIRS, "10.0.1.9", 1, 2))
    request = packets.arp_request(THEIR_MAC, THEIRS, OURS)
    memory.send(
        [
            packets.eth(b"\xff" * 6, THEIR_MAC, 0x0806, request),
            _echo_request(mac),
            _echo_request(mac, 2 * BUF_STRIDE),
            packets.eth(mac, THEIR_MAC, 0x0800, waits),
        ]
    )
    many = "33:33:ff:00:00:01"
    asks = packets.neighbor_solicitation(THEIRS6, "ff02::1:ff00:1", OURS6, THEIR_MAC)
    ping = packets.icmp6_echo(THEIRS6, OURS6, 1, 1)
    memory.send(
        [
            packets.eth(
                many, THEIR_MAC, 0x86DD, packets.ip6(THEIRS6, "ff02::1:ff00:1", 58, asks, hops=255)
            ),
            packets.eth(mac, THEIR_MAC, 0x86DD, packets.ip6(THEIRS6, OURS6, 58, ping)),
        ]
    )
    switched.send([packets.eth(b"\xff" * 6, THEIR_MAC, 0x0806, request)])
    forwarder.run_until_idle()
    memory.received()
    switched.received()
    forwarder.kill_sessions()
    forwarder.run_until_idle()
    _change(forwarder)
    _restore(forwarder)


def _change(forwarder: Forwarder) -> None:
    """What another configuration calls for: routes changed aside, MACs forgotten."""
    with staged(forwarder.routing) as stage:
        for prefix in ("10.9.0.0/16", "2001:db8:9::/48"):
            stage.put(ip_network(prefix), kind="blackhole")
        stage.put_in_force()
    forwarder.bridging.flush()


def _restore(forwarder: Forwarder) -> None:
    """What takes over sessions and MACs after a crash: here there is nothing of them."""
    shard = Sessions(forwarder.arena, 1, worker=c.WORKERS_MAX).array
    none, wide = np.zeros(0, np.uint32), np.zeros(session_restore.WIDE, np.int64)
    names = session_restore.Names(wide, wide[:256].copy(), wide, wide, wide, none)
    session_restore.restore(shard, [shard], names, 0)
    session_restore.arrange([shard])
    macs = np.zeros(ENTRIES_MIN, np.uint64)
    forwarder.bridging.restore(macs, np.zeros(1, DOMAIN), wide[:256].copy(), wide, 0.0)


def _compile(node: Node) -> None:
    entries.build(node.name, node.kernel)
