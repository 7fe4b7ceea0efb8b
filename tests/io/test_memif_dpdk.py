# SPDX-License-Identifier: Apache-2.0
"""memif with DPDK's net_memif, in testpmd, at the other end, in both roles: both sides count alike."""

import tempfile
from pathlib import Path

import pytest

from dpdk import NET_MEMIF, check_macswap, needs_dpdk, testpmd
from memif_worlds import ends_in, until
from vforward.rings import memif_ring

pytestmark = needs_dpdk
LOG2 = 8
SLOTS = 1 << LOG2
OURS = pytest.mark.parametrize("ours", ["server", "client"])


@pytest.fixture
def place(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="vf-") as directory:
        monkeypatch.setenv("VFORWARD_RUNTIME_DIR", f"{directory}/run")
        yield Path(directory)


@pytest.fixture
def ends(place):
    with ends_in(place) as make:
        yield make


def dpdk(place, ours, mode, *options):
    theirs = {"server": "client", "client": "server"}[ours]
    return testpmd(place / "memif.sock", mode, *options, vdev=f"{NET_MEMIF},role={theirs}")


@OURS
def test_dpdk_receives_what_we_send(ends, place, ours):
    end = ends(role=ours, log2=LOG2)
    with dpdk(place, ours, "rxonly") as theirs:
        until(lambda: end.turn == memif_ring.LIVE, end)
        for n in range(60):
            until(lambda: empty(end) >= 100)
            assert end.far.send([bytes([n]) * 60] * 100) == 100
            end.run()
        until(lambda: empty(end) == SLOTS)  # it has taken all
        assert end.counts("tx0")["bytes"] == 60 * 6000
        assert theirs.pause()["RX-packets"] == 6000


def empty(end):
    """Slots that the peer takes packets by, and that have none. A client has none before it forwards."""
    return memif_ring.writable(end.port._state)


@OURS
@pytest.mark.parametrize("shape", [(), ("--txpkts=64,900,300",)])
def test_we_receive_what_dpdk_sends(ends, place, ours, shape):
    end, got = ends(role=ours, log2=LOG2), []

    def come(n):
        until(lambda: got.extend(end.far.received()) or len(got) >= n, end)

    with dpdk(place, ours, "txonly", *shape) as theirs:
        until(lambda: end.turn == memif_ring.LIVE, end)
        come(2000)
        said = theirs.pause()["TX-packets"]
        come(said)
        end.run()
        assert len(got) + len(end.far.received()) == said
    size = 1264 if shape else 64
    assert {len(frame) for frame in got} == {size}
    assert {frame[12:14] for frame in got} == {b"\x08\x00"}
    counts = end.counts("rx0")
    assert counts["bytes"] == said * size
    assert [v for k, v in counts.items() if k.startswith("bad")] == [0, 0, 0]


@OURS
def test_dpdk_sends_back_what_it_gets(ends, place, ours):
    end = ends(role=ours, log2=LOG2)
    with dpdk(place, ours, "macswap"):
        until(lambda: end.turn == memif_ring.LIVE, end)
        until(lambda: empty(end) == SLOTS)
        check_macswap(end.far, lambda condition: until(condition, end))


def test_dpdk_killed_and_started_again(ends, place):
    end = ends()
    for _ in range(2):
        with dpdk(place, "server", "txonly") as theirs:
            until(lambda: end.turn == memif_ring.LIVE, end)
            until(lambda: len(end.far.received()) > 0, end)
            theirs.kill()
            until(lambda: end.turn == memif_ring.FREE, end)
