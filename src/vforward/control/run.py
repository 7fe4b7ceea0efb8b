# SPDX-License-Identifier: Apache-2.0
"""The daemon's life: a forwarder made from a configuration, run until a signal, taken down whole.

Signals set an event and nothing else, so none of them comes between a resource and its release.
"""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from vforward.control import compiled
from vforward.control import config as models
from vforward.control.api_server import Tcp
from vforward.control.assembly import Tags
from vforward.control.bridging import BridgeSettings
from vforward.control.config_api import Api, read_token
from vforward.control.config_firewall import as_object, as_settings
from vforward.control.confine import confine
from vforward.control.forwarder import Forwarder
from vforward.control.supervisor import Supervisor
from vforward.errors import ConfigError, KernelError, VforwardError
from vforward.graph import control as c
from vforward.graph import workers
from vforward.io.af_packet import AfPacketPort
from vforward.io.generator import GeneratorPort
from vforward.io.memif import MemifPort
from vforward.io.memory import MemoryPort
from vforward.io.memring import MemringPort
from vforward.io.netmap import NetmapPort
from vforward.io.null import NullPort
from vforward.io.pcap import PcapPort
from vforward.io.port import Port
from vforward.io.vhost import VhostUserPort
from vforward.io.virtio import VirtioPort
from vforward.memory import resident

LOOK_S = 0.05
IDLE_S = 0.2
IDLE_ROUNDS = 3
"""Rounds that must have been empty besides: on a busy machine the worker may not have run."""


def from_config(
    config: models.Config, loading: Callable[[int, int, str], None] = lambda *_: None
) -> Forwarder:
    """A forwarder with all that the configuration names, ready to build.

    loading: called while files of routes are loaded, with how many routes are done, how many there
    are, and the file's name. Raises ConfigError, ArenaError, PortError, ShimMissing; then nothing is
    left behind.
    """
    settings = config.forwarder
    n_workers = workers.number(settings.workers)
    _check_core(settings.core, n_workers)
    forwarder = Forwarder(
        settings.name,
        vector=settings.vector,
        buffers=settings.buffers,
        idle=settings.idle,
        profile=settings.profile,
        core=settings.core,
        workers=n_workers,
        icmp_errors=settings.icmp_errors_per_second,
        mac_table=settings.mac_table,
        mac_age_s=settings.mac_age_s,
        neighbors=settings.neighbors,
    )
    try:
        _fill(forwarder, config, loading)
    except BaseException:
        forwarder.close()
        raise
    return forwarder


def run(
    config: models.Config,
    progress: Callable[[int, int, str], None] = lambda *_: None,
    ready: Callable[[], None] = lambda: None,
    *,
    loading: Callable[[int, int, str], None] = lambda *_: None,
    file: str | None = None,
    exit_when_idle: bool = False,
    confined: bool = False,
) -> None:
    """Forward as configured until SIGTERM or SIGINT comes. Main thread only.

    progress: called while kernels compile, with how many are done, how many there are, and the
    next one's name. loading: see from_config. ready: called when packets are forwarded. file: where
    the configuration is from, to be shown. exit_when_idle: ends also when no packet has come for
    IDLE_S. confined: gives up privileges before the first packet, for good: for a process that is
    nothing but this (control.confine). Raises as from_config, KernelError, VforwardError.
    """
    supervisor = Supervisor()
    with _signals() as stop:

        def step(done: int, total: int, name: str) -> None:
            if stop.is_set():
                raise _Stopped
            supervisor.starting()
            progress(done, total, name)

        def load_step(done: int, total: int, name: str) -> None:
            if stop.is_set():
                raise _Stopped
            supervisor.starting()
            loading(done, total, name)

        try:
            if not compiled.is_complete():  # all of it, so that nothing compiles on a packet's way
                from vforward.control import compile as compiling

                compiling.compile_all(step)
            with from_config(config, load_step) as forwarder:
                _build(forwarder, step, file)
                if confined:
                    confine(config, partial(_start_others, forwarder))
                else:
                    _start_others(forwarder)
                forwarder.start()
                _await_start(forwarder)
                forwarder.serve(_tcp(config.api))
                gc.freeze()  # all that is there by now stays: later collections need not look at it
                resident.forget_code("libllvmlite")  # 30 MiB, that loading what was compiled needed
                ready()
                with _supervised(supervisor, forwarder):
                    _wait(forwarder, stop, exit_when_idle=exit_when_idle)
        except _Stopped:
            return


def _start_others(forwarder: Forwarder) -> None:
    """Start the processes that are needed later, while this one may."""
    with suppress(VforwardError):  # then plug-ins are refused, and why is said
        forwarder.plugins.helper.start()


def _tcp(api: Api) -> Tcp | None:
    """Where the API listens besides its Unix socket."""
    if api.listen is None or api.token_file is None:
        return None
    try:
        return Tcp(*api.listen, read_token(api.token_file))
    except ValueError as error:  # the file has changed since
        raise ConfigError(f"api.token_file: {error}") from None


class _Stopped(Exception):
    """A signal came while kernels compiled or routes were loaded."""


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _check_core(core: int | None, n_workers: int) -> None:
    if core is None:
        return
    allowed = workers.available()
    listed = ", ".join(map(str, allowed))
    if core not in allowed:
        msg = f"forwarder.core: CPU {core} is not one that this process may use: {listed}"
        raise ConfigError(msg)
    if len([cpu for cpu in allowed if cpu >= core]) < n_workers:
        msg = (
            f"forwarder.core: {n_workers} workers from CPU {core} on have no CPU each; this process may "
            f"use: {listed}"
        )
        raise ConfigError(msg)


def _fill(
    forwarder: Forwarder, config: models.Config, loading: Callable[[int, int, str], None]
) -> None:
    ports = config.ports
    for name, port in ports.items():
        if not isinstance(port, models.VlanPort | models.BviPort | models.TapPort):
            made, vrf = new_port(port), port.vrf
            forwarder.add_port(name, made, port.address, vrf=vrf, urpf=port.urpf or "")
    for name, port in ports.items():
        if isinstance(port, models.VlanPort):
            forwarder.add_vlan(
                name,
                port.parent,
                port.vlan,
                port.address,
                port.mtu,
                inner=port.inner or 0,
                dot1ad=port.dot1ad,
                vrf=port.vrf,
                urpf=port.urpf or "",
            )
    _fill_bridges(forwarder, config)
    for name, port in ports.items():
        if isinstance(port, models.TapPort):
            forwarder.add_host(
                name, port.interface, port.host_of, netns=port.netns or "", queues=port.queues
            )
    for pair in config.cross_connects:
        one, other = pair.ports
        forwarder.cross_connect(one, other, (_tags(ports[one]), _tags(ports[other])))
    for file in config.route_files:  # before the routes that stand in the configuration: those win
        forwarder.add_route_file(
            file.file,
            vrf=file.vrf,
            via=file.via,
            progress=partial(_report, loading, file.file.name),
        )
    for route in config.routes:
        forwarder.add_route(**route.arguments())
    for neighbor in config.neighbors:
        forwarder.add_neighbor(neighbor.address, neighbor.mac.packed, neighbor.port)
    if config.firewall is not None:
        forwarder.set_firewall(as_settings(config.firewall))
        forwarder.firewall.change(
            rules=map(as_object, config.rules),
            nat=map(as_object, config.nat),
            policers={name: as_object(one) for name, one in config.policers.items()},
            address_sets=config.address_sets,
            port_sets=config.port_sets,
        )


def _report(loading: Callable[[int, int, str], None], name: str, done: int, total: int) -> None:
    loading(done, total, name)


def _fill_bridges(forwarder: Forwarder, config: models.Config) -> None:
    for name, bridge in config.bridges.items():
        settings = BridgeSettings(
            learn=bridge.learn,
            flood_unknown=bridge.flood_unknown,
            flood_broadcast=bridge.flood_broadcast,
            flood_multicast=bridge.flood_multicast,
            forward_reserved=bridge.forward_reserved,
            limit=bridge.limit or None,
        )
        forwarder.add_bridge(name, settings)
        for member in bridge.ports:
            tags = _tags(config.ports[member.port])
            forwarder.add_to_bridge(name, member.port, member.group, tags)
        for static in bridge.static:
            forwarder.add_static_mac(name, static.mac.packed, static.port)
    for name, port in config.ports.items():
        if isinstance(port, models.BviPort):
            mac = port.mac.packed if port.mac else None
            forwarder.add_bvi(
                name,
                port.bridge,
                port.address,
                mac=mac,
                mtu=port.mtu,
                vrf=port.vrf,
                urpf=port.urpf or "",
            )


def _tags(port: models.Port) -> Tags | None:
    """How a port's tags change, or None if it does not say."""
    if not isinstance(port, models.VlanPort) or port.rewrite is None:
        return None
    return Tags(port.rewrite.pop, tuple((tag >> 16, tag & 0xFFFF) for tag in port.rewrite.push))


def new_port(port: models.Port) -> Port:
    """The port that a model describes, not opened."""
    if isinstance(port, models.NullPort):
        return NullPort(mtu=port.mtu)
    assert not isinstance(port, models.VlanPort | models.BviPort | models.TapPort)
    mac = port.mac.packed if port.mac else None
    if isinstance(port, models.AfPacketPort):
        return AfPacketPort(
            port.interface,
            mac,
            port.mtu,
            port.ring_mib,
            promiscuous=port.promiscuous,
            netns=port.netns or "",
            set_up=port.set_up,
            mode=port.mode,
            xdp=port.xdp == "auto",
        )
    if isinstance(port, models.PcapPort):
        return PcapPort(
            read=port.read, write=port.write, resolution=port.resolution, mac=mac, mtu=port.mtu
        )
    if isinstance(port, models.MemoryPort):
        return MemoryPort(mac=mac, mtu=port.mtu)
    if isinstance(port, models.NetmapPort):
        return NetmapPort(port.name, mac=mac, mtu=port.mtu)
    if isinstance(port, models.MemifPort):
        return MemifPort(
            port.socket,
            role=port.role,
            interface=port.interface,
            secret=port.secret,
            log2=port.ring_log2,
            mac=mac,
            mtu=port.mtu,
        )
    if isinstance(port, models.MemringPort):
        return MemringPort(mac=mac, mtu=port.mtu, room=port.room)
    if isinstance(port, models.VhostUserPort) and port.side == "frontend":
        return VirtioPort(
            str(port.socket),
            server=port.role == "server",
            mac=mac,
            mtu=port.mtu,
            queues=port.queues,
            packed=port.packed,
            offloads=port.offloads,
        )
    if isinstance(port, models.VhostUserPort):
        return VhostUserPort(
            str(port.socket),
            server=port.role == "server",
            mac=mac,
            mtu=port.mtu,
            queues=port.queues,
            offloads=port.offloads,
            trusted=port.trusted,
        )
    return GeneratorPort(
        count=port.count,
        size=port.size,
        flows=port.flows,
        src=port.src,
        dst=port.dst,
        dst_mac=port.dst_mac.packed if port.dst_mac else None,
        touch=port.touch,
        mac=mac,
        mtu=port.mtu,
    )


def _build(
    forwarder: Forwarder, progress: Callable[[int, int, str], None], file: str | None
) -> None:
    done = 0

    def step(name: str) -> None:
        nonlocal done
        progress(done, max(done, len(forwarder.graph.members)) + 1, name)
        done += 1

    forwarder.build(step, file)


def _await_start(forwarder: Forwarder) -> None:
    """Return when the workers poll their inputs, or have failed to."""
    assert forwarder.workers is not None
    for worker in forwarder.workers:
        while worker.running and int(worker.plan.control[c.STATE]) != c.RUNNING:
            time.sleep(0.001)


@contextmanager
def _supervised(supervisor: Supervisor, forwarder: Forwarder) -> Iterator[None]:
    """The supervisor is told that the forwarder forwards, for as long as this lasts."""
    supervisor.ready(
        lambda: [int(worker.plan.control[c.ROUNDS]) for worker in forwarder.workers or ()]
    )
    try:
        yield
    finally:
        supervisor.stopping()


def _wait(forwarder: Forwarder, stop: threading.Event, *, exit_when_idle: bool) -> None:
    """Return when a signal has come or, if so wished, packets have ceased. Raises KernelError."""
    assert forwarder.workers is not None
    busy, rounds, since = -1, [0] * len(forwarder.workers), time.monotonic()
    while not stop.wait(LOOK_S):
        if not forwarder.workers.running:
            ended = [n for n, one in enumerate(forwarder.workers) if not one.running]
            msg = (
                f"worker {', '.join(map(str, ended))} has ended by itself; its error is in the log"
            )
            raise KernelError(msg)
        done = [int(worker.plan.control[c.ROUNDS]) for worker in forwarder.workers]
        if forwarder.workers.busy_rounds() != busy:
            busy, rounds, since = forwarder.workers.busy_rounds(), done, time.monotonic()
        quiet = time.monotonic() - since >= IDLE_S
        enough = all(n >= m + IDLE_ROUNDS for n, m in zip(done, rounds, strict=True))
        if exit_when_idle and quiet and enough:
            return
