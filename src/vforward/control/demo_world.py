# SPDX-License-Identifier: Apache-2.0
"""What the demo is made of: the two hosts, what they send, and the forwarder's process."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from vforward.control.progress_bar import Bar
from vforward.testing import packets
from vforward.testing.namespaces import Namespace, namespaces, veth

H1, LAN, WAN, H2 = "10.1.0.2", "10.1.0.1", "10.2.0.1", "10.2.0.2"
H1_MAC, LAN_MAC, WAN_MAC, H2_MAC = (f"02:00:00:00:00:0{n}" for n in range(1, 5))
MB = 10**6
POOL = 16 * MB
PORT = 5001
TTL = 64
START_S, STOP_S, NET_S = 900.0, 20.0, 60.0
LOOK_S = 0.02
PR_SET_PDEATHSIG = 1
PROGRESS = re.compile(r"(\d+) of (\d+), (\S+)\s*$")


class Failed(Exception):
    """A step did not do what it should."""


# Hosts.


def may_use_interfaces() -> bool:
    """Whether this process may make namespaces, veth pairs and packet sockets."""
    try:
        with namespaces("one", "other") as (one, other):
            veth(one, "eth0", other, "eth0")
            with one.inside():
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except (OSError, RuntimeError):
        return False
    return True


def user_namespace() -> list[str]:
    """The command by which other commands run in a user namespace; empty where there are none."""
    command = ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("unshare") is None:
        return []
    tried = subprocess.run([*command, "true"], stderr=subprocess.DEVNULL, check=False)
    return [] if tried.returncode else command


def wire(h1: Namespace, router: Namespace, h2: Namespace) -> None:
    """Join the hosts to the router and give them addresses and routes."""
    for host, interface, own, via in ((h1, "lan0", H1, LAN), (h2, "wan0", H2, WAN)):
        veth(host, "eth0", router, interface)
        host.address("eth0", f"{own}/24")
        host.run("ip", "route", "add", "default", "via", via)


def identity(space: Namespace) -> int:
    """What tells a namespace from all others that there are now."""
    return Path(f"/proc/{space.pid}/ns/net").stat().st_ino


def processes_in(spaces: list[int]) -> list[int]:
    """Processes in these namespaces."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "ns/net").stat().st_ino in spaces:
                found.append(int(entry.name))
    return found


def transfer(sender: Namespace, receiver: Namespace, megabytes: int) -> tuple[str, str, float]:
    """Send random bytes by TCP: SHA-256 of what was sent and of what came, and the seconds."""
    with receiver.inside():
        server = socket.create_server((H2, PORT))
    with sender.inside():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sent, came = hashlib.sha256(), hashlib.sha256()
    random = np.random.default_rng()
    pool = memoryview(random.bytes(POOL))  # what is sent are pieces of it, no two the same

    def receive() -> None:
        server.settimeout(NET_S)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(NET_S)
            while block := connection.recv(MB):
                came.update(block)

    with server, client:
        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        client.settimeout(NET_S)
        start = time.monotonic()
        client.connect((H2, PORT))
        for _ in range(megabytes):
            at = int(random.integers(POOL - MB))
            block = pool[at : at + MB]
            client.sendall(block)
            sent.update(block)
        client.shutdown(socket.SHUT_WR)
        thread.join(NET_S)
    return sent.hexdigest(), came.hexdigest(), time.monotonic() - start


# Frames, for where there are no hosts.


def from_h1(number: int) -> bytes:
    """A datagram from h1 to h2, as the forwarder receives it."""
    return packets.eth(LAN_MAC, H1_MAC, packets.ETH_IP4, _datagram(number, TTL))


def routed(number: int) -> bytes:
    """The same, as the forwarder has to send it."""
    return packets.eth(H2_MAC, WAN_MAC, packets.ETH_IP4, _datagram(number, TTL - 1))


def _datagram(number: int, ttl: int) -> bytes:
    udp = packets.udp(H1, H2, 1024 + number % 256, 53, number.to_bytes(4, "big") * 4)
    return packets.ip4(H1, H2, packets.PROTO_UDP, udp, ttl=ttl, ident=number)


def echo(*, reply: bool = False) -> bytes:
    """A ping of the forwarder by h1, or the answer."""
    message = packets.icmp_echo(1, 1, b"are you there", reply=reply)
    if reply:
        back = packets.ip4(LAN, H1, packets.PROTO_ICMP, message)
        return packets.eth(H1_MAC, LAN_MAC, packets.ETH_IP4, back)
    there = packets.ip4(H1, LAN, packets.PROTO_ICMP, message)
    return packets.eth(LAN_MAC, H1_MAC, packets.ETH_IP4, there)


# The forwarder's process.


def vforward(*arguments: str) -> list[str]:
    """The command line of this vforward."""
    program = "from vforward.control.main import main; main()"
    return [sys.executable, "-c", program, *arguments]


def end_with_parent() -> None:
    """In a new process: be told to end when the parent has died."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def await_start(process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the forwarder says that it forwards; shows meanwhile how far it is."""
    deadline = time.monotonic() + START_S
    shown = ""
    with Bar("compiling") as bar:
        while "forwarding:" not in (text := log.read_text(errors="replace")):
            if process.poll() is not None:
                msg = f"it ended at once, exit status {process.returncode}"
                raise Failed(msg)
            if time.monotonic() > deadline:
                msg = f"it does not forward after {START_S:.0f} s"
                raise Failed(msg)
            if (said := PROGRESS.search(text)) and said[0] != shown:
                shown = said[0]
                bar.report(int(said[1]), int(said[2]), said[3])
            time.sleep(LOOK_S)


def end(process: subprocess.Popen[bytes]) -> None:
    """End the process, whatever it does."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
