"""testpmd with one port: DPDK's virtio_user, a driver, its net_vhost, a device, or its net_memif."""

import contextlib
import os
import re
import shutil
import subprocess
import time

import pytest

VIRTIO_USER = "net_virtio_user0,path={path},queues={queues}"
NET_VHOST = "net_vhost0,iface={path},queues={queues}"
NET_MEMIF = "net_memif0,id=0,socket={path},socket-abstract=no,rsize=8"

needs_dpdk = pytest.mark.skipif(
    not shutil.which("dpdk-testpmd"), reason="dpdk-testpmd is not installed"
)


class Testpmd:
    """A process of it, without huge pages, on the last CPU. It forwards until it is paused, or ends."""

    __test__ = False

    def __init__(self, path, mode, *options, device="", vdev=VIRTIO_USER, queues=1):
        self.log = path.with_suffix(".log")
        cpu = max(os.sched_getaffinity(0))
        command = [
            *("stdbuf", "-oL"),  # else what it says comes when it ends
            *("dpdk-testpmd", "--lcores", f"0@{cpu},1@{cpu}", "-n", "1", "--no-pci"),
            *("--no-huge", "-m", "256", "--no-telemetry", "--file-prefix", path.parent.name),
            f"--vdev={vdev.format(path=path, queues=queues)}{device}",
            *("--", "--nb-cores=1", "--total-num-mbufs=8192", "--interactive", "--auto-start"),
            *(f"--rxq={queues}", f"--txq={queues}"),
            "--no-flush-rx",  # else it throws away what comes before it begins to count
            *(f"--forward-mode={mode}", *options),
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True
            )

    def await_it(self, condition):
        end = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()[-2000:]
            time.sleep(0.01)

    def pause(self):
        """Have it forward no more, its port still there. Returns what it counted."""
        self._type("stop")
        self.await_it(lambda: "Accumulated" in self._said())
        return self._counted()

    def now(self):
        """What its port has counted until now. It forwards on."""
        before = len(self._shown())
        self._type("show port stats 0")
        self.await_it(lambda: len(self._shown()) > before)
        return _numbers(self._shown()[-1])

    def stop(self):
        """End it as a user does. Returns what it counted."""
        self._type(
            "quit"
        )  # a signal that comes just before it reads would be noticed at the next line
        self.process.wait(30)
        return self._counted()

    def _type(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def _said(self):
        return self.log.read_text().split("Forward statistics for port 0")[-1]

    def _shown(self):
        text = self.log.read_text()
        return re.findall("NIC statistics for port 0(.*?)Throughput", text, re.DOTALL)

    def _counted(self):
        return _numbers(self._said().split("+++")[0])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


def _numbers(text):
    return {name: int(n) for name, n in re.findall(r"([RT]X-\w+): +(\d+)", text)}


def check_macswap(program, until):
    """A testpmd that swaps addresses sends back all that a memory port's program sends, each byte of it.

    until: waits for a condition.
    """
    frames = [b"\2" * 6 + b"\4" * 6 + bytes([8, n]) * (24 + 7 * n) for n in range(100)]
    got = []
    for turn in range(1, 11):
        assert program.send(frames) == len(frames)
        until(lambda turn=turn: got.extend(program.received()) or len(got) >= turn * len(frames))
    assert got == [frame[6:12] + frame[:6] + frame[12:] for frame in frames] * 10


@contextlib.contextmanager
def testpmd(path, *arguments, **more):
    made = Testpmd(path, *arguments, **more)
    try:
        yield made
    finally:
        made.kill()


testpmd.__test__ = False
