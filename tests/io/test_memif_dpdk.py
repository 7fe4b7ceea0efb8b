# SPDX-License-Identifier: Apache-2.0
"""memif with DPDK's net_memif, in testpmd, at the other end, in both roles."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from memif_worlds import ends_in, until
from vforward.rings import memif_ring

TESTPMD = shutil.which("dpdk-testpmd")
needs_dpdk = pytest.mark.skipif(TESTPMD is None, reason="dpdk-testpmd is not installed (dpdk-dev)")
PATTERN = re.compile(r"(RX|TX)-packets: (\d+)")


@pytest.fixture
def ends(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    with ends_in(tmp_path) as make:
        yield make


@contextlib.contextmanager
def dpdk(path, role, mode, *more):
    device = f"net_memif0,role={role},id=0,socket={path},socket-abstract=no,rsize=8"
    command = [
        TESTPMD, "--lcores", "0@0,1@0", "-n", "1", "--no-pci", "--no-huge", "-m", "128",
        "--no-telemetry", "--file-prefix", f"vfm{os.getpid()}", f"--vdev={device}", "--",
        "--no-flush-rx",  # else it throws away what comes before it begins to forward
        "--nb-cores=1", "--total-num-mbufs=4096", "--stats-period=1", "--auto-start",
        f"--forward-mode={mode}", *more,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = []
    try:
        yield process, said
        process.send_signal(signal.SIGINT)
        said.append(process.communicate(timeout=30)[0])
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def last_counts(text):
    found = {}
    for name, n in PATTERN.findall(text):
        found[name] = max(found.get(name, 0), int(n))
    return found


@needs_dpdk
@pytest.mark.parametrize("ours", ["server", "client"])
def test_dpdk_receives_what_we_send(ends, tmp_path, ours):
    theirs = {"server": "client", "client": "server"}[ours]
    end = ends(role=ours, log2=8)
    with dpdk(tmp_path / "memif.sock", theirs, "rxonly") as (_, said):
        until(lambda: end.turn == memif_ring.LIVE, end)
        sent = 0
        for n in range(60):
            end.far.send([bytes([n]) * 60] * 100)
            end.run()
            time.sleep(0.02)
        sent = 6000 - int(sum(end.counts("tx0")[k] for k in ("ring-full", "no-peer")))
        time.sleep(1.5)
    assert sent > 1000
    assert last_counts(said[0])["RX"] == sent


@needs_dpdk
@pytest.mark.parametrize("ours", ["server", "client"])
@pytest.mark.parametrize("shape", [(), ("--txpkts=64,900,300",)])
def test_we_receive_what_dpdk_sends(ends, tmp_path, ours, shape):
    theirs = {"server": "client", "client": "server"}[ours]
    end = ends(role=ours, log2=8)
    with dpdk(tmp_path / "memif.sock", theirs, "txonly", *shape) as (_, said):
        until(lambda: end.turn == memif_ring.LIVE, end)
        got = []
        until(lambda: got.extend(end.far.received()) or len(got) > 2000, end)
    size = 1264 if shape else 64
    assert {len(frame) for frame in got} == {size}
    assert {frame[12:14] for frame in got} == {b"\x08\x00"}
    assert last_counts(said[0])["TX"] > 0
    assert [v for k, v in end.counts("rx0").items() if k.startswith("bad")] == [0, 0, 0]


def await_echo(end):
    """Send frames until DPDK forwards: until then a client of its own has no buffers for any."""
    sent, came = 0, 0

    def echoes():
        nonlocal sent, came
        came += len(end.far.received())
        if not came:
            sent += end.far.send([bytes(60)])
        dropped = sum(end.counts("tx0")[reason] for reason in ("ring-full", "no-peer"))
        return came and came == sent - dropped

    until(echoes, end)


@needs_dpdk
@pytest.mark.parametrize("ours", ["server", "client"])
def test_dpdk_sends_back_what_it_gets(ends, tmp_path, ours):
    theirs = {"server": "client", "client": "server"}[ours]
    end = ends(role=ours, log2=8)
    with dpdk(tmp_path / "memif.sock", theirs, "macswap") as (_, _said):
        until(lambda: end.turn == memif_ring.LIVE, end)
        await_echo(end)
        frames = [b"\2" * 6 + b"\4" * 6 + bytes([8, n]) * 30 for n in range(100)]
        got = []
        for n in range(10):
            end.far.send(frames)
            until(lambda n=n: got.extend(end.far.received()) or len(got) == 100 * (n + 1), end)
    assert got == [f[6:12] + f[:6] + f[12:] for f in frames] * 10


@needs_dpdk
def test_dpdk_killed_and_started_again(ends, tmp_path):
    end = ends()
    for _ in range(2):
        with dpdk(tmp_path / "memif.sock", "client", "txonly") as (process, _):
            until(lambda: end.turn == memif_ring.LIVE, end)
            until(lambda: len(end.far.received()) > 0, end)
            process.kill()
            until(lambda: end.turn == memif_ring.FREE, end)
