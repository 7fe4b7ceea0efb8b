# SPDX-License-Identifier: Apache-2.0
"""Network namespaces and veth pairs to test and to show things in.

    with namespaces("client", "router") as (client, router):
        veth(client, "eth0", router, "lan0")
        client.address("eth0", "10.0.0.2/24")
        client.run("ping", "-c1", "10.0.0.1")
        with router.inside():
            port.open(...)      # sockets opened here belong to the router's namespace

A namespace lives as long as a child process that holds it, and that child as long as this one:
none is ever left behind, not even after kill -9. It has no name in /run/netns, so the same works
for root and in a user namespace (unshare -Urn); others enter it by the child's pid
(`Namespace.command`).

Needs the commands ip, unshare and nsenter, and CAP_SYS_ADMIN (`available`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from vforward.io import netns

# Quiet: without IPv6 the kernel sends nothing on an interface that is set up.
_HOLD = """
for scope in all default; do
    echo {disable} >/proc/sys/net/ipv6/conf/$scope/disable_ipv6
done 2>/dev/null
ip link set lo up
echo ready
exec cat
"""


class Namespace:
    """A network namespace, held by the process ``pid``. Make it with `namespaces`."""

    def __init__(self, label: str, pid: int) -> None:
        self.label = label
        self.pid = pid

    @property
    def path(self) -> str:
        """Where it is, for a port's netns."""
        return f"/proc/{self.pid}/ns/net"

    def command(self, *command: str) -> list[str]:
        """The command line that runs a command inside: for subprocess, or for people to type."""
        return [_tool("nsenter"), "-t", str(self.pid), "-n", *command]

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> str:
        """Run a command inside; returns what it wrote, errors included.

        Raises RuntimeError, which says that, if it fails (unless check is False).
        """
        done = subprocess.run(
            self.command(*command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
            env=_environment(),
        )
        if check and done.returncode:
            what = f"in namespace {self.label}: {' '.join(command)}"
            msg = f"{what}: status {done.returncode}: {done.stdout}"
            raise RuntimeError(msg)
        return done.stdout

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the namespace: its new sockets stay there for good."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            netns.enter(Path(self.path))
            try:
                yield
            finally:
                netns.enter_descriptor(back)
        finally:
            os.close(back)

    def address(self, interface: str, *addresses: str) -> None:
        """Give an interface IP addresses, as 10.0.0.1/24."""
        for address in addresses:
            self.run("ip", "address", "add", address, "dev", interface)


@contextlib.contextmanager
def namespaces(*labels: str, ipv6: bool = False) -> Iterator[list[Namespace]]:
    """Make namespaces, one for each label, their loopback up; gone with all in them at the end.

    Raises RuntimeError where that is not allowed (`available` says whether it is).
    """
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_namespace(label, ipv6)) for label in labels]


def veth(one: Namespace, interface: str, other: Namespace, peer: str, mtu: int = 1500) -> None:
    """Join two namespaces by a pair of interfaces, both up. Their names are theirs alone."""
    ends = ("name", peer, "mtu", str(mtu), "netns", str(other.pid))
    one.run("ip", "link", "add", "name", interface, "mtu", str(mtu), "type", "veth", "peer", *ends)
    one.run("ip", "link", "set", "dev", interface, "up")
    other.run("ip", "link", "set", "dev", peer, "up")


def offloads(where: Namespace, *interfaces: str, on: bool) -> None:
    """Switch checksum and segmentation offloads of interfaces. Needs ethtool."""
    state = "on" if on else "off"
    for interface in interfaces:
        options = [word for name in ("rx", "tx", "tso", "gso", "gro") for word in (name, state)]
        where.run("ethtool", "-K", interface, *options)


def available() -> bool:
    """Whether this process may make namespaces."""
    try:
        with namespaces("trial"):
            return True
    except (OSError, RuntimeError):
        return False


@contextlib.contextmanager
def _namespace(label: str, ipv6: bool) -> Iterator[Namespace]:
    script = _HOLD.format(disable=int(not ipv6))
    holder = subprocess.Popen(
        [_tool("unshare"), "--net", "sh", "-c", script],
        stdin=subprocess.PIPE,  # its end ends the holder
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != b"ready\n":
            said = holder.stderr.read().decode().strip()
            msg = f"no namespace {label}: {said}; run as root or under unshare -Urn"
            raise RuntimeError(msg)
        yield Namespace(label, holder.pid)


def _tool(name: str) -> str:
    found = shutil.which(name, path=_environment()["PATH"])
    if found is None:
        msg = f"the command {name} is missing: apt-get install util-linux iproute2"
        raise RuntimeError(msg)
    return found


def _environment() -> dict[str, str]:
    path = os.environ.get("PATH", "/usr/bin:/bin")
    return {**os.environ, "PATH": f"{path}:/usr/sbin:/sbin"}
