# SPDX-License-Identifier: Apache-2.0
"""Virtual machines for tests: Debian's kernel in QEMU without KVM, and a root of busybox alone.

.ci/guest unpacks kernel and busybox into build/guest. A machine runs a script, says what it says on its
serial line, and is switched off when the script ends.
"""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

GUEST = Path(__file__).resolve().parents[2] / "build" / "guest"
QEMU = "qemu-system-x86_64"
MODULES = [
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"),
    *("failover", "net_failover", "virtio_net"),
]
"""In the order in which they need each other."""
INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs d /dev
/bin/busybox mount -t proc p /proc
/bin/busybox mount -t sysfs s /sys
/bin/busybox --install -s /bin
export PATH=/bin
for module in {modules}; do insmod /$module.ko; done
echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
until [ -d /sys/class/net/eth0 ]; do sleep 0.05; done
ip address add {address} dev eth0
ip link set dev eth0 up
{script}
echo SAYS rx $(cat /sys/class/net/eth0/statistics/rx_packets)
echo SAYS rx-bytes $(cat /sys/class/net/eth0/statistics/rx_bytes)
echo SAYS tx $(cat /sys/class/net/eth0/statistics/tx_packets)
echo SAYS tx-bytes $(cat /sys/class/net/eth0/statistics/tx_bytes)
echo SAYS dropped $(cat /sys/class/net/eth0/statistics/rx_dropped)
echo SAYS done
poweroff -f
"""
BOOT_S = 180


def why_not():
    """Why no machine can be run here; "" if one can."""
    if not shutil.which(QEMU):
        return f"{QEMU} is not installed"
    return "" if (GUEST / "ready").exists() else "no kernel: run .ci/guest"


needs_machines = pytest.mark.skipif(bool(why_not()), reason=why_not())


class Machine:
    """A running machine with one interface, at a vhost-user socket: queues pairs, and a CPU for each."""

    def __init__(self, directory, name, path, address, script, *, options="", chardev="", queues=1):
        self.log = directory / f"{name}.log"
        kernel = next((GUEST / "boot").glob("vmlinuz-*"))
        image = directory / f"{name}.cpio"
        image.write_bytes(root(address, script))
        options += ",mq=on" if queues > 1 else ""
        number = int(address.split("/")[0].split(".")[-1])
        command = [
            *(QEMU, "-accel", "tcg", "-M", "q35", "-cpu", "max", "-smp", str(queues), "-m", "160"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-serial", "stdio", "-numa", "node,memdev=mem"),
            *("-object", "memory-backend-memfd,id=mem,size=160M,share=on"),
            *("-chardev", f"socket,id=c0,path={path}{chardev}"),
            *("-netdev", f"vhost-user,id=n0,chardev=c0,vhostforce=on,queues={queues}"),
            # vectors=0: with MSI-X and without KVM, QEMU 7.2 dies when the driver starts
            *(
                "-device",
                f"virtio-net-pci,netdev=n0,mac=02:00:00:00:01:{number:02x},vectors=0{options}",
            ),
            *("-kernel", kernel, "-initrd", image, "-append", "console=ttyS0 quiet panic=-1"),
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def says(self):
        return dict(re.findall(r"SAYS (\S+) (.*?)\r?$", self.text(), re.MULTILINE))

    def text(self):
        return self.log.read_text(errors="replace")

    def wait(self):
        """Wait until it is switched off. Returns what its script said."""
        end = time.monotonic() + BOOT_S
        while self.process.poll() is None:
            assert time.monotonic() < end, self.text()[-3000:]
            time.sleep(0.05)
        assert "SAYS done" in self.text(), self.text()[-3000:]
        return self.says()

    def kill(self):
        self.process.kill()
        self.process.wait()


def root(address, script):
    """The initial root: an archive of cpio's format newc."""
    init = INIT.format(modules=" ".join(MODULES), address=address, script=script)
    modules = {path.stem: path for path in GUEST.rglob("*.ko")}
    files = {
        **dict.fromkeys(("bin", "dev", "proc", "sys", "tmp"), None),
        "bin/busybox": (GUEST / "bin" / "busybox").read_bytes(),
        **_program("ethtool"),
        "init": init.encode(),
        **{f"{name}.ko": modules[name].read_bytes() for name in MODULES},
    }
    entries = [_entry(n, *item) for n, item in enumerate(files.items(), 1)]
    return b"".join([*entries, _entry(0, "TRAILER!!!", b"")])


def _program(name):
    """A program of ours and the libraries that it needs, with their directories."""
    path = shutil.which(name)
    if path is None:
        return {}
    said = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    libraries = [Path(found) for found in re.findall(r"(/\S+) \(", said)]
    parents = {str(up): None for one in libraries for up in reversed(one.parents)}
    parents.pop("/", None)
    places = {up.lstrip("/"): None for up in sorted(parents)}
    files = {str(one).lstrip("/"): one.read_bytes() for one in libraries}
    return {**places, **files, f"bin/{name}": Path(path).read_bytes()}


def _entry(number, name, data):
    mode = 0o040755 if data is None else 0o100755
    data = data or b""
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data):
    return data + bytes(-len(data) % 4)
