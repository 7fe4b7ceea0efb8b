# SPDX-License-Identifier: Apache-2.0
"""Our vhost-user frontend beside DPDK's (virtio_user), in one run: the same device, the same direction.

The device is DPDK's net_vhost in testpmd, a process on the last CPU; the drivers take turns on the
first: a worker of ours in this process, and testpmd with virtio_user. What is compared is what the
device says of itself; turns as in benchmarks.vhost_cases. Frames of 64 bytes. Memory as there, but
that our queues and the buffers in them, which are shared with the device, lie on pages of 4 KiB.

virtio_user takes part in three ways, and ours, as it comes (split queues), is compared with whichever does
best: as it comes; with bursts and queues as large as ours; and as DPDK's own tests run it where it has to
be fast, with packed queues and vector instructions. The device is the same for all.

    virtio-frontend-tx    driver makes packets and sends    (virtio_user: txonly)     device rxonly
    virtio-frontend-rx    driver receives and drops         (virtio_user: rxonly)     device txonly
    virtio-frontend       the lower one of both ratios
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.huge_pages import SMALL
from benchmarks.session import Session
from benchmarks.vhost_cases import (
    BURST,
    PLAIN,
    START_S,
    WIDE,
    Contestant,
    Options,
    Turn,
    at_work,
    compare,
    full_seconds,
    testpmd,
)
from vforward.graph.build import Graph
from vforward.io.generator import GeneratorPort
from vforward.io.virtio import QUEUE, VirtioPort
from vforward.layout import VECTOR_MAX

CASE = "virtio-frontend"
BESIDES = f" (queues and their buffers {SMALL})"


class Way(NamedTuple):
    """A direction: what driver and device are told to do, and which of the device's figures counts."""

    driver: str
    device: str
    figure: str


WAYS = {"tx": Way("txonly", "rxonly", "Rx-pps"), "rx": Way("rxonly", "txonly", "Tx-pps")}


class Driver(NamedTuple):
    """A contestant, in words; packets at a time; what testpmd is told, or None: it is ours."""

    what: str
    vector: int
    options: Options | None = None


DRIVERS = {
    "ours": Driver(f"our frontend, split queues of {QUEUE}", VECTOR_MAX),
    "virtio_user": Driver(f"virtio_user, bursts of {BURST}, split queues of 256", BURST, PLAIN),
    f"virtio_user-{VECTOR_MAX}": Driver(
        f"virtio_user, bursts of {VECTOR_MAX}, split queues of {QUEUE}",
        VECTOR_MAX,
        WIDE._replace(
            device=f",queue_size={QUEUE}",
            program=(*WIDE.program, f"--rxd={QUEUE}", f"--txd={QUEUE}"),
        ),
    ),
    "virtio_user-packed": Driver(
        f"virtio_user, bursts of {BURST}, packed queues of 256, vectorized=1",
        BURST,
        Options(
            environment=("--force-max-simd-bitwidth=512",),
            device=",packed_vq=1,vectorized=1,mrg_rxbuf=0,in_order=1",
        ),
    ),
}


def virtio_frontend(session: Session) -> Iterator[dict[str, Any]]:
    """Both directions, and the worse of them."""
    ratios = []
    for name, way in WAYS.items():
        case = f"{CASE}-{name}"
        contestants = {
            each: Contestant(driver.what, driver.vector, partial(_turn, way, each))
            for each, driver in DRIVERS.items()
        }
        for found in compare(session, case, contestants, BESIDES):
            yield found
            if found["case"] == case:
                ratios.append(found)
    if any(found["value"] is None for found in ratios):
        yield {**ratios[0], "case": CASE}
        return
    lower = min(ratios, key=lambda found: float(found["value"]))
    what = f"the lower one of both, {lower['case']}: {lower['what']}"
    yield {**lower, "case": CASE, "what": what}


def _turn(way: Way, name: str, huge: bool) -> Turn:
    """The device's packets per second with a driver, in each full second."""
    options = DRIVERS[name].options
    with tempfile.TemporaryDirectory(prefix="vf-bench-") as place:
        path = Path(place) / "sock"
        log = path.with_suffix(".device")
        device = f"net_vhost0,iface={path},queues=1"
        cpu = max(os.sched_getaffinity(0))
        with testpmd(device, way.device, cpu, log, Options(huge=huge)):
            end = time.monotonic() + START_S
            while not path.exists() and time.monotonic() < end:
                time.sleep(0.05)
            ours = options is None
            driver = _ours(way, path) if ours else _theirs(options._replace(huge=huge), way, path)
            with driver:
                return Turn(full_seconds(log, way.figure))


def _ours(way: Way, path: Path) -> AbstractContextManager[Any]:
    return at_work(VirtioPort(str(path), server=False), partial(_wire, way))


def _wire(way: Way, graph: Graph) -> None:
    graph.wire("rx", "next", "drop")
    if way.driver == "txonly":
        generator = GeneratorPort(touch="headers", size=64)
        generator.open(2, graph.pool)
        node, tables = generator.rx()
        graph.add(node, "made", **tables)
        graph.wire("made", "next", "tx")


def _theirs(options: Options, way: Way, path: Path) -> AbstractContextManager[None]:
    device = f"net_virtio_user0,path={path},queues=1"
    cpu = min(os.sched_getaffinity(0))
    return testpmd(device, way.driver, cpu, path.with_suffix(".driver"), options)
