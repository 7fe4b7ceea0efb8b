# SPDX-License-Identifier: Apache-2.0
"""The port with DPDK's driver, virtio_user in testpmd, at the other end: both sides count alike."""

import tempfile
import time
from pathlib import Path

import pytest

from dpdk import needs_dpdk, testpmd
from vforward.memory.arena import Arena
from vforward.rings import virtqueue as vq
from vhost_worlds import World

pytestmark = [pytest.mark.slow, needs_dpdk]

ENOUGH = 20_000
RING = 256
"""Frames that may be on their way, in a queue of either side, when the other stops."""


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory(prefix="vf-") as directory:
        yield Path(directory) / "sock"


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with Arena.create("dpdk") as made:
        yield made


SHAPES = {
    "single": ((), ""),
    "segments": (("--txpkts=64,900,300",), ""),
    "jumbo": (("--txpkts=1500,1500,1500",), ""),
    "not-merged": ((), ",mrg_rxbuf=0"),
    "not-in-order": ((), ",in_order=0"),
    "packed": ((), ",packed_vq=1"),
    "packed-not-in-order": ((), ",packed_vq=1,in_order=0"),
    "packed-segments": (("--txpkts=64,900,300",), ",packed_vq=1"),
    "packed-jumbo": (("--txpkts=1500,1500,1500",), ",packed_vq=1,in_order=0"),
    "packed-small-queue": ((), ",packed_vq=1,queue_size=64"),
    "small-queue": ((), ",queue_size=64"),
}
LENGTHS = {"segments": 1264, "jumbo": 4500, "packed-segments": 1264, "packed-jumbo": 4500}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_it_sends_is_received(arena, path, shape):
    options, device = SHAPES[shape]
    with (
        World(arena, path, "sink") as ours,
        testpmd(path, "txonly", *options, device=device) as dpdk,
    ):
        dpdk.await_it(lambda: ours.moved("rx") >= ENOUGH)
        check_layout(ours, device)
        said = dpdk.stop()
        got = ours.moved("rx")
        assert said["TX-packets"] - RING <= got <= said["TX-packets"]
        counts = ours.counts("rx")
        assert counts.pop("bytes") == got * LENGTHS.get(shape, 64)
        assert not any(counts.values())
        assert not ours.port.peer_faults


def check_layout(ours, device):
    """Whether the queues have the layout that was asked for."""
    for queue in ours.port.queues[:2]:
        assert bool(int(queue[vq.FEATURES]) & vq.RING_PACKED) == ("packed_vq=1" in device)


DEVICES = ["", ",mrg_rxbuf=0", ",in_order=0", ",mrg_rxbuf=0,in_order=0"]


@pytest.mark.parametrize("device", DEVICES + [device + ",packed_vq=1" for device in DEVICES])
def test_what_we_send_arrives(arena, path, device):
    with (
        World(arena, path, "source", count=1 << 60) as ours,
        testpmd(path, "rxonly", device=device) as dpdk,
    ):
        dpdk.await_it(lambda: ours.port.ready)
        ours.worker.start()
        dpdk.await_it(lambda: ours.sent() >= ENOUGH)
        ours.worker.stop()
        sent = ours.sent()
        check_layout(ours, device)
        said = dpdk.stop()
        assert sent - RING <= said["RX-packets"] <= sent
        assert said["RX-dropped"] == 0
        counts = ours.counts("tx")
        assert counts["ring-full"] == ours.moved("tx") - sent
        assert not any(counts[name] for name in ("no-peer", "too-long", "refused", "broken"))


@pytest.mark.parametrize("device", ["", ",in_order=0", ",packed_vq=1", ",packed_vq=1,in_order=0"])
def test_there_and_back(arena, path, device):
    with World(arena, path) as ours, testpmd(path, "flowgen", device=device) as dpdk:
        dpdk.await_it(lambda: ours.sent() >= ENOUGH)
        check_layout(ours, device)
        said = dpdk.stop()
        counts, sent = ours.counts("tx"), ours.sent()
        assert said["TX-packets"] - RING <= ours.moved("rx") <= said["TX-packets"]
        assert sent - 2 * RING <= said["RX-packets"] <= sent
        # It disables the queue to receive first, and what it has sent until then is taken all the same.
        assert counts["ring-full"] + counts["no-peer"] == ours.moved("rx") - sent
        assert counts["no-peer"] <= RING
        assert not ours.port.peer_faults


def moved(ours, way):
    """Packets of each pair of queues: way is 0 for what it receives, 1 for what it sends."""
    return ours.port.queues[way::2, vq.MOVED].tolist()


@pytest.mark.parametrize("device", [",cq=1", ",cq=1,in_order=0,mrg_rxbuf=0"])
def test_what_it_sends_by_two_queues_is_received(arena, path, device):
    with (
        World(arena, path, "sink", queues=4) as ours,
        testpmd(path, "txonly", device=device, queues=2) as dpdk,
    ):
        dpdk.await_it(lambda: min(moved(ours, 1)[:2]) >= ENOUGH)
        said = dpdk.stop()
        got = moved(ours, 1)
        assert sum(got) == ours.moved("rx")
        assert said["TX-packets"] - 2 * RING <= sum(got) <= said["TX-packets"]
        assert got[2:] == [0, 0]
        assert not ours.port.peer_faults


def test_what_we_send_by_two_queues_arrives(arena, path):
    with (
        World(arena, path, "source", count=1 << 60, queues=2) as ours,
        testpmd(path, "rxonly", device=",cq=1", queues=2) as dpdk,
    ):
        dpdk.await_it(lambda: (ours.port.queues[:, vq.STATE] == vq.READY).all())
        ours.worker.start()
        dpdk.await_it(lambda: min(moved(ours, 0)) >= ENOUGH)
        ours.worker.stop()
        sent = moved(ours, 0)
        said = dpdk.stop()
        assert sum(sent) - 2 * RING <= said["RX-packets"] <= sum(sent)
        counts = ours.counts("tx")
        assert counts["bytes"] == 60 * sum(sent)
        assert counts["ring-full"] == ours.moved("tx") - sum(sent)
        assert not any(counts[name] for name in ("no-peer", "too-long", "refused", "broken"))


def test_there_and_back_by_two_queues(arena, path):
    with (
        World(arena, path, queues=2) as ours,
        testpmd(path, "flowgen", device=",cq=1", queues=2) as dpdk,
    ):
        dpdk.await_it(lambda: min(moved(ours, 0) + moved(ours, 1)) >= ENOUGH)
        said = dpdk.stop()
        got, sent = sum(moved(ours, 1)), sum(moved(ours, 0))
        assert said["TX-packets"] - 2 * RING <= got <= said["TX-packets"]
        assert sent - 4 * RING <= said["RX-packets"] <= sent
        counts = ours.counts("tx")
        assert counts["ring-full"] + counts["no-peer"] == got - sent
        assert not ours.port.peer_faults


def test_a_killed_peer_and_the_next_one(arena, path):
    with World(arena, path) as ours:
        for turn in range(1, 4):
            with testpmd(path, "flowgen") as dpdk:
                before = ours.sent()
                dpdk.await_it(lambda before=before: ours.sent() >= before + ENOUGH)
                if turn < 3:
                    dpdk.kill()
                else:  # of what was sent since, a queue may be the dead one's
                    assert dpdk.stop()["RX-packets"] >= ENOUGH - 2 * RING
            assert ours.port.peers == turn
        end = time.monotonic() + 10
        while ours.port.ready and time.monotonic() < end:
            time.sleep(0.01)
        assert [int(queue[vq.STATE]) for queue in ours.port.queues] == [vq.OFF, vq.OFF]
        assert not ours.port.peer_faults


@pytest.mark.parametrize("device", ["", ",packed_vq=1"])
def test_it_listens_and_we_come_and_come_again(arena, path, device):
    with testpmd(path, "flowgen", device=",server=1" + device) as dpdk:
        for turn in range(3):
            with (
                Arena.create(f"turn-{turn}") as other,
                World(other, path, "echo", server=False) as ours,
            ):
                dpdk.await_it(lambda ours=ours: ours.sent() >= ENOUGH)
                check_layout(ours, device)
                assert not ours.port.peer_faults
        assert dpdk.stop()["RX-packets"] >= 3 * (ENOUGH - RING)
