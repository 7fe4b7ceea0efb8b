# SPDX-License-Identifier: Apache-2.0
"""Peers of each kind of shared memory, killed with -9 in each state: the next one is served.

What the dead one had is given back: descriptors, mappings, buffers. (memring: test_memring_client.py;
netmap programs without a port of ours: tests/rings/test_netmap_server.py.)
"""

import contextlib
import select
import signal
import subprocess
import sys
import time

import pytest

import doomed
from fuzzing import kinds_open, mapped, watched
from memif_worlds import Peer, ends_in
from netmap_worlds import works
from netmap_worlds import world as netmap_world
from vforward.io import memif_link, vhost_peers
from vforward.memory.arena import Arena
from vforward.rings import memif_ring
from vforward.rings import virtqueue as vq
from vforward.rings.netmap_server import Server
from vhost_worlds import World
from virtio_worlds import FrontWorld

FRAMES = doomed.FRAMES


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("VFORWARD_NETMAP", str(tmp_path / "d" / "s"))
    monkeypatch.setattr(vhost_peers, "BAD_PEER_S", 0.01)
    monkeypatch.setattr(memif_link, "AGAIN_S", 0.02)
    before = kinds_open()
    yield
    assert kinds_open() <= before


def until(condition, *ends):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        for one in ends:
            one.run()
        time.sleep(0.002)


@contextlib.contextmanager
def killed(kind, path, state, *ends):
    """A peer that is ready. It is killed at the end of the block, and is no more behind it."""
    command = [sys.executable, doomed.__file__, kind, str(path), state]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            until(lambda: select.select([process.stdout], [], [], 0)[0], *ends)
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.send_signal(signal.SIGKILL)


def until_in(world, state, kind):
    """Wait until the world's port has a peer in that state."""
    until(lambda: not world.port.peer().startswith("nobody"))
    if state in ("queues", "traffic"):
        queues, packed = world.port.queues, bool(doomed.shape(kind)[0] & vq.RING_PACKED)
        until(lambda: (queues[:, vq.STATE] == vq.READY).all())
        assert all(bool(int(queue[vq.FEATURES]) & vq.RING_PACKED) == packed for queue in queues)
    if state == "traffic":
        moved = world.moved("rx")
        until(lambda: world.moved("rx") > moved + 50)


def kinds_and_states(side):
    """Of the peers whose kinds' names begin so."""
    kinds = {kind: states for kind, states in doomed.STATES.items() if kind.startswith(side)}
    pairs = [(kind, state) for kind, states in kinds.items() for state in states]
    return pytest.mark.parametrize(("kind", "state"), pairs)


def next_peer(path, kind):
    """A connection that the next one of that kind has."""
    if kind.endswith("-listening"):
        path.unlink()
        return doomed.listen(path)
    return doomed.dial(path)


@kinds_and_states("vhost")
def test_vhost_user(tmp_path, kind, state):
    path = tmp_path / "sock"
    settings = {"server": not kind.endswith("-listening"), "queues": doomed.shape(kind)[1]}
    with Arena.create("killed") as arena, World(arena, path, **settings) as world:
        with killed(kind, path, state):
            until_in(world, state, kind)
        until(lambda: world.port.peer().startswith("nobody"))
        assert mapped("memfd:guest") == 0
        assert watched(world.port.descriptors()[0]) == 0
        frontend, features = doomed.make_frontend(next_peer(path, kind), kind)
        frontend.begin(features)
        doomed.there_and_back(frontend)
        frontend.close()
        # To break off in the middle of a message is a fault; to be killed elsewhere is none.
        faults = dict(world.port.peer_faults)
        assert faults == ({"length": 1} if state == "half" else {})


@kinds_and_states("virtio")
def test_virtio_devices(tmp_path, kind, state):
    path, (features, pairs) = tmp_path / "sock", doomed.shape(kind)
    settings = {"server": not kind.endswith("-listening"), "queues": pairs}
    settings["packed"] = bool(features & vq.RING_PACKED)
    with Arena.create("killed") as arena, FrontWorld(arena, path, **settings) as world:
        with killed(kind, path, state):
            until_in(world, state, kind)
        until(lambda: world.port.peer().startswith("nobody"))
        assert mapped("memfd:vforward-virtio") == 0
        assert all(watched(epoll) == 0 for epoll in world.port.descriptors())
        backend = doomed.make_backend(next_peer(path, kind), kind).begin()
        doomed.there_and_back(backend)
        backend.close()
        assert not world.port.peer_faults


@pytest.mark.parametrize("state", doomed.STATES["memif"])
def test_memif_clients(tmp_path, state):
    path = tmp_path / "memif.sock"
    with ends_in(tmp_path) as ends:
        end = ends()
        with killed("memif", path, state, end):
            if state in ("live", "traffic"):
                until(lambda: end.turn == memif_ring.LIVE, end)
            if state == "traffic":
                until(lambda: end.counts("rx0")["bytes"] > 60 * 100, end)
        until(lambda: end.turn == memif_ring.FREE and not mapped("memfd:peer"), end)
        end.far.received()
        good = Peer(path).all()
        until(lambda: end.turn == memif_ring.LIVE, end)
        good.close()
        until(lambda: end.turn == memif_ring.FREE, end)
        assert end.counts("rx0")["refused"] == 0
        del good


@pytest.mark.parametrize("state", doomed.STATES["memif-listening"])
def test_memif_servers(tmp_path, state):
    with ends_in(tmp_path) as ends:
        end = ends(role="client")
        with killed("memif-listening", tmp_path / "memif.sock", state, end):
            if state in ("live", "traffic"):
                until(lambda: end.turn == memif_ring.LIVE, end)
            if state == "traffic":
                until(lambda: end.counts("rx0")["bytes"] > 60 * 100, end)
        until(lambda: end.turn == memif_ring.FREE and not mapped("memfd:vforward-memif"), end)
        end.far.received()
        good = ends()
        until(lambda: end.turn == good.turn == memif_ring.LIVE, end, good)
        end.far.send(FRAMES)
        end.run()
        good.run()
        assert good.far.received() == FRAMES


@pytest.mark.parametrize("state", doomed.STATES["netmap"])
def test_netmap_programs(tmp_path, state):
    with Server() as server, netmap_world("netmap:x{1@conf:slots=64") as ours:
        with killed("netmap", server.path, state):
            if state == "traffic":
                begun = ours.received()
                until(lambda: ours.received() > begun + 100)
        until(lambda: server.connections == 1)
        works(ours, "netmap:x}1")
