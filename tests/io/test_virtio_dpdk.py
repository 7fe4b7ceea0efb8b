# SPDX-License-Identifier: Apache-2.0
"""The virtio port on DPDK's device, net_vhost in testpmd, with queues of both layouts, one pair and
several: both sides count alike.

And, for both sides of vhost-user and both roles, DPDK killed and started again.
"""

import tempfile
import time
from pathlib import Path

import pytest

from dpdk import NET_VHOST, VIRTIO_USER, check_macswap, needs_dpdk, testpmd
from vforward.io.virtio import QUEUE
from vforward.memory.arena import Arena
from vforward.rings import virtqueue as vq
from vhost_worlds import World
from virtio_worlds import FrontWorld

pytestmark = [pytest.mark.slow, needs_dpdk]

ENOUGH = 20_000


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory(prefix="vf-") as directory:
        yield Path(directory) / "sock"


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with Arena.create("dpdk") as made:
        yield made


KINDS = pytest.mark.parametrize("queues", [1, 2])
LAYOUTS = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


def all_moved(ours, which):
    """That all pairs did, and by queues of which layout."""
    queues = ours.port.queues[which::2]
    assert all(int(queue[vq.MOVED]) for queue in queues)


@LAYOUTS
@KINDS
@pytest.mark.parametrize(
    ("options", "length"),
    [((), 64), (("--txpkts=64,900,300",), 1264), (("--txpkts=1500,1500,1500",), 4500)],
)
def test_what_it_sends_is_received(arena, path, options, length, queues, packed):
    with (
        FrontWorld(arena, path, "sink", server=False, queues=queues, packed=packed) as ours,
        testpmd(path, "txonly", *options, vdev=NET_VHOST, queues=queues) as dpdk,
    ):
        dpdk.await_it(lambda: ours.moved("rx") >= ENOUGH)
        assert ("packed queues" in ours.port.peer()) == packed
        said = dpdk.stop()
        got = ours.moved("rx")
        assert said["TX-packets"] - queues * QUEUE <= got <= said["TX-packets"]
        all_moved(ours, 0)
        counts = ours.counts("rx")
        assert counts.pop("bytes") == got * length
        assert not any(counts.values())
        assert not ours.port.peer_faults


@LAYOUTS
@KINDS
def test_what_we_send_arrives(arena, path, queues, packed):
    more = {"server": False, "queues": queues, "packed": packed}
    with (
        FrontWorld(arena, path, "source", count=1 << 60, **more) as ours,
        testpmd(path, "rxonly", vdev=NET_VHOST, queues=queues) as dpdk,
    ):
        dpdk.await_it(lambda: ours.port.ready)
        ours.worker.start()
        dpdk.await_it(lambda: ours.sent() >= ENOUGH)
        ours.worker.stop()
        sent = ours.sent()
        said = dpdk.stop()
        assert sent - queues * QUEUE <= said["RX-packets"] <= sent
        all_moved(ours, 1)
        counts = ours.counts("tx")
        assert counts["ring-full"] == ours.moved("tx") - sent
        assert not any(counts[name] for name in ("no-peer", "refused", "broken"))
        assert not ours.port.peer_faults


@LAYOUTS
@KINDS
def test_there_and_back(arena, path, queues, packed):
    with (
        FrontWorld(arena, path, server=False, queues=queues, packed=packed) as ours,
        testpmd(path, "flowgen", vdev=NET_VHOST, queues=queues) as dpdk,
    ):
        dpdk.await_it(lambda: ours.sent() >= ENOUGH)
        said = dpdk.stop()
        counts, sent = ours.counts("tx"), ours.sent()
        assert said["TX-packets"] - queues * QUEUE <= ours.moved("rx") <= said["TX-packets"]
        assert sent - queues * QUEUE <= said["RX-packets"] <= sent
        assert counts["ring-full"] + counts["no-peer"] == ours.moved("rx") - sent
        assert not ours.port.peer_faults


@LAYOUTS
def test_it_sends_back_what_it_gets(arena, path, packed):
    with (
        FrontWorld(arena, path, "program", server=False, packed=packed) as ours,
        testpmd(path, "macswap", vdev=NET_VHOST) as dpdk,
    ):
        dpdk.await_it(lambda: ours.port.ready)
        check_macswap(ours.far, dpdk.await_it)
        assert not ours.port.peer_faults


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


COMBINATIONS = [
    (World, True, VIRTIO_USER),
    (World, False, VIRTIO_USER + ",server=1"),
    (FrontWorld, True, NET_VHOST + ",client=1"),
    (FrontWorld, False, NET_VHOST),
]


SHAPES = {"one": (1, False), "two": (2, False), "two-packed": (2, True)}


@pytest.mark.parametrize(("queues", "packed"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("side", "we_listen", "vdev"), COMBINATIONS)
def test_a_killed_peer_and_the_next_one(arena, path, side, we_listen, vdev, queues, packed):
    """Traffic goes on, both ways, with no word to us."""
    more = {"queues": queues}
    if side is FrontWorld:
        more["packed"] = packed
    else:
        vdev += (",cq=1" if queues > 1 else "") + (",packed_vq=1" if packed else "")
    with side(arena, path, server=we_listen, **more) as ours:
        for turn in range(1, 4):
            with testpmd(path, "flowgen", vdev=vdev, queues=queues) as dpdk:
                before = ours.sent()
                dpdk.await_it(lambda before=before: ours.sent() >= before + ENOUGH)
                if turn < 3:
                    dpdk.kill()
                else:
                    assert dpdk.stop()["RX-packets"] > 0
            # A dying process closes its connection first, then the socket at which it listens: a port
            # that connects may come once more in between, and is thrown out.
            until(lambda: ours.port.peer().startswith("nobody"))
            assert ours.port.peers == turn if we_listen else ours.port.peers >= turn
            if not we_listen:
                path.unlink(missing_ok=True)  # a killed server leaves it
        assert not ours.port.peer_faults
