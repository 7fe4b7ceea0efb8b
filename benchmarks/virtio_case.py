# SPDX-License-Identifier: Apache-2.0
"""Our vhost-user frontend beside DPDK's (virtio_user), in one run: the same device, the same direction.

The device is DPDK's net_vhost in testpmd, a process on the last CPU; the drivers take turns on the
first: a worker of ours in this process, and testpmd with virtio_user. What is compared is what the
device says of itself; turns as in benchmarks.vhost_cases. Frames of 64 bytes, pages of 4 KiB.

    virtio-frontend-tx    driver makes packets and sends    (virtio_user: txonly)     device rxonly
    virtio-frontend-rx    driver receives and drops         (virtio_user: rxonly)     device txonly
    virtio-frontend       the lower one of both ratios
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.distance import Figure
from benchmarks.session import Session
from benchmarks.vhost_cases import START_S, at_work, compare, full_seconds, testpmd
from vforward.graph.build import Graph
from vforward.io.generator import GeneratorPort
from vforward.io.virtio import VirtioPort

CASE = "virtio-frontend"


class Way(NamedTuple):
    """A direction: what driver and device are told to do, and which of the device's figures counts."""

    driver: str
    device: str
    figure: str


WAYS = {"tx": Way("txonly", "rxonly", "Rx-pps"), "rx": Way("rxonly", "txonly", "Tx-pps")}

Driver = Callable[[Way, Path], AbstractContextManager[None]]


def virtio_frontend(session: Session) -> Iterator[dict[str, Any]]:
    """Both directions, and the worse of them."""
    ratios = []
    for name, way in WAYS.items():
        case = f"{CASE}-{name}"
        contestants = {
            "ours": partial(_turn, way, _ours),
            "virtio_user": partial(_turn, way, _theirs),
        }
        for found in compare(session, case, contestants, "packets per second, ours / virtio_user"):
            yield found
            if found["case"] == case:
                ratios.append(found)
    if any(found["value"] is None for found in ratios):
        yield {**ratios[0], "case": CASE}
        return
    lower = min(ratios, key=lambda found: float(found["value"]))
    yield {**lower, "case": CASE, "what": f"the lower one of both: {lower['case']}"}


def _turn(way: Way, driver: Driver) -> list[Figure]:
    """The device's packets per second with a driver, in each full second."""
    with tempfile.TemporaryDirectory(prefix="vf-bench-") as place:
        path = Path(place) / "sock"
        log = path.with_suffix(".device")
        device = f"net_vhost0,iface={path},queues=1"
        with testpmd(device, way.device, max(os.sched_getaffinity(0)), log):
            end = time.monotonic() + START_S
            while not path.exists() and time.monotonic() < end:
                time.sleep(0.05)
            with driver(way, path):
                return full_seconds(log, way.figure)


def _ours(way: Way, path: Path) -> AbstractContextManager[None]:
    return at_work(VirtioPort(str(path), server=False), partial(_wire, way))


def _wire(way: Way, graph: Graph) -> None:
    graph.wire("rx", "next", "drop")
    if way.driver == "txonly":
        generator = GeneratorPort(touch="headers", size=64)
        generator.open(2, graph.pool)
        node, tables = generator.rx()
        graph.add(node, "made", **tables)
        graph.wire("made", "next", "tx")


@contextlib.contextmanager
def _theirs(way: Way, path: Path) -> Iterator[None]:
    device = f"net_virtio_user0,path={path},queues=1"
    with testpmd(device, way.driver, min(os.sched_getaffinity(0)), path.with_suffix(".driver")):
        yield
