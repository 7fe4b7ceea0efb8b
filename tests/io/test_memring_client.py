"""Programs in processes of their own on a running forwarder's memring ports; some are killed."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from vforward import Forwarder, MemoryPort, MemringPort
from vforward.io.memring_client import attach
from vforward.io.memring_nodes import RX
from vforward.rings import memring as ring
from vforward.testing import packets as pk

ROOM = 256
REFLECT = """
import sys, numpy as np, vforward
with vforward.attach("lab", "app") as port:
    print("ready", flush=True)
    for packets in port:
        for frame in packets:
            assert np.shares_memory(frame, port.data)
            frame[12:14] = 0x88, 0xB6
        port.send(packets)
"""
DIE = """
import os, signal, sys, vforward
port = vforward.attach("lab", "app")
new = None
if "new" in sys.argv:
    while not (new := port.new([60] * 40)):
        pass
if "sent" in sys.argv:
    new = port.new([60] * 20)
    port.send(new)
print("ready", flush=True)
sys.stdin.readline()
if "got" in sys.argv:
    got = port.receive(20)
if "asleep" in sys.argv:
    print("waiting", flush=True)
    port.wait()
    port.wait()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A wire between a program's port and a memory port, with its worker running."""
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    with Forwarder("lab", buffers=2048) as made:
        made.app = made.add_port("app", MemringPort(room=ROOM))
        made.far = made.add_port("far", MemoryPort())
        made.cross_connect("app", "far")
        made.build()
        made.start()
        yield made
        made.stop()
        held = np.flatnonzero(made.app._ledger)
        assert made.pool.free + held.size == made.pool.size


def program(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def frames(n):
    return [
        pk.eth("ff:ff:ff:ff:ff:ff", f"02:00:00:00:{i:02x}:01", 0x88B5, b"x" * i) for i in range(n)
    ]


def test_another_process_answers_in_place(lab):
    with program(REFLECT) as other:
        assert other.stdout.readline() == "ready\n"
        got = []
        for n in range(20):
            assert lab.far.send(frames(100)) == 100
            until(lambda n=n: got.extend(lab.far.received()) or len(got) == 100 * (n + 1))
        assert got == [frame[:12] + b"\x88\xb6" + frame[14:] for frame in frames(100)] * 20
        lab.close()  # which ends its loop
        assert other.wait(60) == 0


@pytest.mark.parametrize(
    "how", ["nothing", "new", "sent", "got", "new sent got", "asleep", "new asleep"]
)
def test_killed_in_any_state_it_leaves_no_row_behind(lab, how):
    for n in range(2):
        with program(DIE, *how.split()) as other:
            assert other.stdout.readline() == "ready\n"
            lab.far.send(frames(50))
            other.stdin.write("\n")
            other.stdin.flush()
            if "asleep" in how:
                assert other.stdout.readline() == "waiting\n"
                time.sleep(0.02)
                os.kill(other.pid, signal.SIGKILL)
            assert other.wait(60) == -signal.SIGKILL
        counts = lab.graph.members["app-rx"].shares[0]
        until(lambda n=n, counts=counts: counts[RX.counters.RECLAIMED] == n + 1)
        until(lambda: ring.turn_of(lab.app._state) == ring.FREE)  # counted before
        assert not lab.app._ledger.any()
        lab.far.received()
    with attach("lab") as again:  # and there is room for the next
        until(lambda: len(again.new([60] * ROOM)) == ROOM)


def test_a_sleeping_worker_and_a_sleeping_program_wake_each_other(lab):
    with attach("lab") as app:
        for n in range(5):
            until(lambda: app._empty.used_slots())
            sleeps = int(lab.workers[0].plan.control[11])
            until(lambda s=sleeps: int(lab.workers[0].plan.control[11]) > s)
            mine = app.new([60])
            mine[0][:] = n
            app.send(mine)
            until(lambda n=n: [f[0] for f in lab.far.received()] == [n])
            lab.far.send([bytes([n]) * 60])
            assert app.wait(60)
            assert app.receive()[0][0] == n


def test_a_signal_ends_a_wait(lab, request):
    # As Python has it, but where a shell has begun the tests in the background: there it is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupt():
        while not app._words[ring.ASLEEP]:
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with attach("lab") as app:
        other = threading.Thread(target=interrupt)
        other.start()
        with pytest.raises(KeyboardInterrupt):
            app.wait()
        other.join()
