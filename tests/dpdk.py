"""testpmd with one port: DPDK's virtio_user, a driver, or its net_vhost, a device."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

VIRTIO_USER = "net_virtio_user0,path={path},queues={queues}"
NET_VHOST = "net_vhost0,iface={path},queues={queues}"

needs_dpdk = pytest.mark.skipif(
    not shutil.which("dpdk-testpmd"), reason="dpdk-testpmd is not installed"
)


class Testpmd:
    """A process of it, without huge pages, on the last CPU."""

    __test__ = False

    def __init__(self, path, mode, *options, device="", vdev=VIRTIO_USER, queues=1):
        self.log = path.with_suffix(".log")
        cpu = max(os.sched_getaffinity(0))
        command = [
            *("dpdk-testpmd", "--lcores", f"0@{cpu},1@{cpu}", "-n", "1", "--no-pci"),
            *("--no-huge", "-m", "256", "--no-telemetry", "--file-prefix", path.parent.name),
            f"--vdev={vdev.format(path=path, queues=queues)}{device}",
            *("--", "--nb-cores=1", "--total-num-mbufs=8192", "--stats-period=1", "--auto-start"),
            *(f"--rxq={queues}", f"--txq={queues}"),
            "--no-flush-rx",  # else it throws away what comes before it begins to count
            *(f"--forward-mode={mode}", *options),
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def await_it(self, condition):
        end = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()[-2000:]
            time.sleep(0.01)

    def stop(self):
        """End it as a user does. Returns what it counted."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        said = self.log.read_text().split("Forward statistics for port 0")[-1]
        return {
            name: int(value)
            for name, value in re.findall(r"([RT]X-\w+): (\d+)", said.split("+++")[0])
        }

    def kill(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def testpmd(path, *arguments, **more):
    made = Testpmd(path, *arguments, **more)
    try:
        yield made
    finally:
        made.kill()


testpmd.__test__ = False
