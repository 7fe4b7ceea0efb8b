# SPDX-License-Identifier: Apache-2.0
"""Two hosts and a middle, joined by veth pairs, and who forwards in the middle: Linux or vforward.

    h1 eth0 ---- lan [ m ] wan ---- eth0 h2

The forwarders take turns on the same interfaces. Each is probed before its turn: 256 frames of as
many flows, one at a time, must come out at h2 exactly as they should, each once and nothing else.
So what is counted afterwards is forwarded, and by nobody but the one whose turn it is.

Frames for h2 have another destination MAC than h2's: its kernel lets go of them at once, whoever
has forwarded them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks import flood
from vforward.control.demo_world import START_S, Failed, end, end_with_parent, vforward
from vforward.memory.place import runtime_directory
from vforward.testing import packets
from vforward.testing.namespaces import Namespace, namespaces, veth

FLOWS = 256
SIZE = 60
"""Bytes of a frame: 64 with its FCS."""
PROTOCOL = 14 + 9
TTL = 64
PORT = 5001
LAN_MAC, WAN_MAC, NEXT_MAC = (bytes.fromhex(f"02000000000{n}") for n in (2, 3, 9))
"""Of the router, whoever it is, and of its next hop."""
LAN, WAN, NEXT_HOP = "10.1.0.1", "10.2.0.1", "10.2.0.9"
NETS = 16
"""Routed networks 10.9.0.0/24, 10.9.1.0/24 ..., all behind NEXT_HOP."""
RISE_S = 0.3
"""From the first frames to the first look at the counters."""
WAIT_S = 5.0
QUIET_S = 0.05
MEMORY = runtime_directory().parent
"""Where a daemon's tables lie by default: /dev/shm. Directories of these are made in it."""
BLOCK = 1 << 20
_TICKS = os.sysconf("SC_CLK_TCK")


class Moved(NamedTuple):
    """Packets of an interface, from /proc/net/dev."""

    received: int
    sent: int
    dropped: int  # on the way out


class Look(NamedTuple):
    """A moment: packets sent by h1 and come to h2, idle seconds of all CPUs, seconds of others."""

    at: float
    sent: int
    arrived: int
    idle: float
    others: dict[str, float]


@dataclass(frozen=True)
class Turn:
    """What one turn of a forwarder was like."""

    rate: float
    """Packets per second that came to h2."""
    offered: float
    """Packets per second that h1 sent."""
    busy: float
    """CPUs that were busy, of the whole machine."""
    foreign: float
    """CPUs that were busy with processes that have nothing to do with it."""
    sent: int
    """By the sender's own account if it gives one, from its start to its end; as are the others."""
    taken: int
    """By h1's interface."""
    arrived: int
    """At h2's."""


class Lab:
    """The namespaces h1, m and h2, joined. Make it with `lab`."""

    def __init__(self, h1: Namespace, m: Namespace, h2: Namespace, directory: Path) -> None:
        self.h1, self.m, self.h2 = h1, m, h2
        self.directory = directory
        cpus = sorted(os.sched_getaffinity(0))
        self.sender_cpu, self.forwarder_cpu = cpus[0], cpus[-1]
        for host, name in ((h1, "lan"), (h2, "wan")):
            veth(host, "eth0", m, name)

    def hosts(self, *addresses: tuple[str, str]) -> None:
        """Give h1 and h2 an address and, if it is not "", a default gateway."""
        for host, (own, via) in zip((self.h1, self.h2), addresses, strict=True):
            host.address("eth0", f"{own}/24")
            if via:
                host.run("ip", "route", "add", "default", "via", via)

    def forget(self) -> None:
        """Let the hosts ask again for MACs: another forwarder, other answers."""
        for host in (self.h1, self.h2):
            host.run("ip", "neigh", "flush", "dev", "eth0")

    def udp(self, frames: list[bytes], seconds: float) -> Turn:
        """Let h1 send the frames over and over; what came to h2 in so many seconds."""
        return self.counted(self.udp_command(frames), seconds)

    def udp_command(self, frames: list[bytes]) -> list[str]:
        """The program that sends frames over and over, for h1."""
        file = self.directory / "frames"
        file.write_bytes(b"".join(frames))
        return flood.command("eth0", file, SIZE, self.sender_cpu)

    def counted(self, command: list[str], seconds: float) -> Turn:
        """Let a program of h1 send; what came to h2 in so many seconds."""
        before = moved(self.h1), moved(self.h2)
        looks: list[Look] = []

        def look_twice() -> None:
            looks.append(self._look())
            time.sleep(seconds)
            looks.append(self._look())

        said = self.during(command, look_twice)
        self._settle()
        after = moved(self.h1), moved(self.h2)
        taken = after[0].sent + after[0].dropped - before[0].sent - before[0].dropped
        first, last = looks
        passed = last.at - first.at
        return Turn(
            rate=(last.arrived - first.arrived) / passed,
            offered=(last.sent - first.sent) / passed,
            busy=(os.cpu_count() or 1) - (last.idle - first.idle) / passed,
            foreign=_foreign(first, last),
            sent=int(said) if said else taken,
            taken=taken,
            arrived=after[1].received - before[1].received,
        )

    @contextlib.contextmanager
    def busy(self) -> Iterator[Callable[[], float]]:
        """Afterwards what it yields tells how many CPUs were busy with what has nothing to do with it."""
        first = self._look()
        last = []
        yield lambda: _foreign(first, last[0])
        last.append(self._look())

    def during(self, command: list[str], what: Callable[[], None]) -> str:
        """Call what while a program of h1 sends, RISE_S after its first frames; returns its words."""
        before = moved(self.h1).sent
        sender = subprocess.Popen(self.h1.command(*command), stdout=subprocess.PIPE, text=True)
        try:
            self._await_frames(sender, before)
            time.sleep(RISE_S)
            what()
        finally:
            sender.terminate()
            said, _ = sender.communicate()
        if sender.returncode:
            msg = f"the sender failed, exit status {sender.returncode}"
            raise Failed(msg)
        return said

    def _await_frames(self, sender: subprocess.Popen[str], before: int) -> None:
        deadline = time.monotonic() + 60
        while moved(self.h1).sent < before + FLOWS:
            if sender.poll() is not None or time.monotonic() > deadline:
                msg = "the sender does not send"
                raise Failed(msg)
            time.sleep(0.01)

    def _look(self) -> Look:
        others = _others()
        sent, arrived = moved(self.h1).sent, moved(self.h2).received
        return Look(time.monotonic(), sent, arrived, _idle(), others)

    def _settle(self) -> None:
        """Wait until nothing more comes to h2."""
        before = -1
        while (now := moved(self.h2).received) != before:
            before = now
            time.sleep(QUIET_S)

    def probe(self, there: list[bytes], wanted: list[bytes], back: list[bytes]) -> None:
        """Send frames from h2, then from h1, one at a time. Raises Failed when what comes is not
        exactly what is wanted. back: what h2 sends, that bridges learn; need not come.
        """
        with self._packet_socket(self.h1) as one, self._packet_socket(self.h2) as other:
            other.settimeout(0.1)
            deadline = time.monotonic() + WAIT_S
            while not _comes(one, other, there[0]):
                if time.monotonic() > deadline:
                    msg = "nothing is forwarded"
                    raise Failed(msg)
            for frame in back:
                other.send(frame)
                time.sleep(0.0002)
            time.sleep(QUIET_S)
            _drain(other)
            other.settimeout(WAIT_S)
            for number, (frame, expected) in enumerate(zip(there, wanted, strict=True)):
                one.send(frame)
                came = _datagram(other)
                if came != expected:
                    msg = f"of frame {number} came {came.hex()}, not {expected.hex()}"
                    raise Failed(msg)
            time.sleep(QUIET_S)
            if more := _drain(other):
                msg = f"{more} frames more came than were sent"
                raise Failed(msg)

    def tcp(self, address: str, seconds: float) -> float:
        """Bits per second of one TCP connection from h1 to h2, its ends wherever Linux puts them."""
        with self.h2.inside():
            server = socket.create_server((address, PORT))
        with self.h1.inside():
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        rates: list[float] = []

        def receive() -> None:
            server.settimeout(WAIT_S)
            connection, _ = server.accept()
            with connection:
                connection.settimeout(WAIT_S)
                rates.append(_receive(connection))

        with server, client:
            thread = threading.Thread(target=receive, daemon=True)
            thread.start()
            client.settimeout(WAIT_S)
            client.connect((address, PORT))
            block = bytes(BLOCK)
            end_at = time.monotonic() + RISE_S + seconds
            while time.monotonic() < end_at:
                client.sendall(block)
            client.shutdown(socket.SHUT_WR)
            thread.join(60)
        if not rates:
            msg = "the TCP stream did not come to its end"
            raise Failed(msg)
        return rates[0]

    @staticmethod
    @contextlib.contextmanager
    def _packet_socket(host: Namespace) -> Iterator[socket.socket]:
        with host.inside():
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(packets.ETH_IP4))
        with made:
            made.bind(("eth0", packets.ETH_IP4))
            yield made

    # Who forwards.

    @contextlib.contextmanager
    def nobody(self) -> Iterator[None]:
        """Frames end at m."""
        yield

    @contextlib.contextmanager
    def bridge(self) -> Iterator[None]:
        """A Linux bridge, as `ip link add type bridge` makes it."""
        self.m.run("ip", "link", "add", "name", "br0", "type", "bridge")
        try:
            for name in ("lan", "wan"):
                self.m.run("ip", "link", "set", "dev", name, "master", "br0")
            self.m.run("ip", "link", "set", "dev", "br0", "up")
            yield
        finally:
            self.m.run("ip", "link", "delete", "dev", "br0")

    @contextlib.contextmanager
    def router(self) -> Iterator[None]:
        """Linux's IPv4 forwarding, without netfilter rules and without rp_filter.

        The interfaces have the router's MACs only meanwhile. Otherwise m's kernel would look at the
        IP header of all that vforward gets, at the expense of the sender.
        """
        for interface, own, mac in (("lan", LAN, LAN_MAC), ("wan", WAN, WAN_MAC)):
            self.m.run("ip", "link", "set", "dev", interface, "address", mac.hex(":"))
            self._sysctl(f"conf/{interface}/rp_filter", 0)
            self.m.address(interface, f"{own}/24")
        self._sysctl("conf/all/rp_filter", 0)
        self._sysctl("ip_forward", 1)
        known = ("lladdr", NEXT_MAC.hex(":"), "nud", "permanent")
        self.m.run("ip", "neigh", "add", NEXT_HOP, *known, "dev", "wan")
        for prefix in prefixes():
            self.m.run("ip", "route", "add", prefix, "via", NEXT_HOP)
        try:
            yield
        finally:
            self._sysctl("ip_forward", 0)
            for interface, other in (("lan", "02:00:00:00:01:02"), ("wan", "02:00:00:00:01:03")):
                self.m.run("ip", "link", "set", "dev", interface, "address", other)
                self.m.run("ip", "address", "flush", "dev", interface)
                self.m.run("ip", "neigh", "flush", "dev", interface, "nud", "all")

    def _sysctl(self, name: str, value: int) -> None:
        self.m.run("sh", "-c", f"echo {value} >/proc/sys/net/ipv4/{name}")

    @contextlib.contextmanager
    def steered(self, forwarder: Callable[[], contextlib.AbstractContextManager[None]]):
        """A forwarder of the kernel to whose CPU the receiving interfaces hand packets (RPS)."""
        self._steer(1 << self.forwarder_cpu)
        try:
            with forwarder():
                yield
        finally:
            self._steer(0)

    def _steer(self, mask: int) -> None:
        """Raises RuntimeError where that is not possible."""
        files = " ".join(f"/sys/class/net/{name}/queues/rx-0/rps_cpus" for name in ("lan", "wan"))
        script = f"mount -t sysfs none /sys && for f in {files}; do echo {mask:x} >$f || exit; done"
        self.m.run("unshare", "--mount", "sh", "-c", script)

    @contextlib.contextmanager
    def ours(self, config: str) -> Iterator[int]:
        """`vforward run`, its worker on the forwarder's CPU; its process's number. config: what
        follows [forwarder] and core."""
        file, log = self.directory / "peer.toml", self.directory / "log"
        file.write_text(f"[forwarder]\ncore = {self.forwarder_cpu}\n{config}")
        environment = {**os.environ, "VFORWARD_RUNTIME_DIR": str(self.directory / "run")}
        with contextlib.ExitStack() as stack:
            written = stack.enter_context(log.open("wb"))
            with self.m.inside():
                process = subprocess.Popen(
                    vforward("run", str(file)),
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=written,
                    stderr=subprocess.STDOUT,
                    preexec_fn=end_with_parent,
                )
            stack.callback(end, process)
            deadline = time.monotonic() + START_S
            while "forwarding:" not in (text := log.read_text(errors="replace")):
                if process.poll() is not None or time.monotonic() > deadline:
                    msg = f"vforward run does not forward: {text[-500:].strip() or 'no message'}"
                    raise Failed(msg)
                time.sleep(0.02)
            yield process.pid


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """Make it; nothing of it is left behind, whatever happens."""
    with (
        tempfile.TemporaryDirectory(prefix="vforward-peers-", dir=MEMORY) as directory,
        namespaces("h1", "m", "h2") as (h1, m, h2),
    ):
        yield Lab(h1, m, h2, Path(directory))


def prefixes() -> list[str]:
    """The networks that are routed to NEXT_HOP."""
    return [f"10.9.{n}.0/24" for n in range(NETS)]


def router_of(routes: Iterable[str]) -> str:
    """The configuration of our router in the middle: the prefixes routes lead to NEXT_HOP."""
    return f"""\
[ports.lan]
type = "af_packet"
interface = "lan"
mac = "{LAN_MAC.hex(":")}"
address = "{LAN}/24"

[ports.wan]
type = "af_packet"
interface = "wan"
mac = "{WAN_MAC.hex(":")}"
address = "{WAN}/24"

[[neighbors]]
address = "{NEXT_HOP}"
mac = "{NEXT_MAC.hex(":")}"
port = "wan"
""" + "".join(f'\n[[routes]]\nprefix = "{prefix}"\nvia = "{NEXT_HOP}"\n' for prefix in routes)


def frame(number: int, dst: bytes, src: bytes, ttl: int = TTL) -> bytes:
    """Flow number's frame: a UDP datagram of 18 bytes to one of the routed networks."""
    source, target = f"10.8.0.{number}", f"10.9.{number % NETS}.{number}"
    udp = packets.udp(source, target, 1024 + number, 9, number.to_bytes(18, "big"))
    datagram = packets.ip4(source, target, packets.PROTO_UDP, udp, ttl=ttl, ident=number)
    return packets.eth(dst, src, packets.ETH_IP4, datagram)


def moved(host: Namespace, interface: str = "eth0") -> Moved:
    """What an interface has received and sent."""
    for line in Path(f"/proc/{host.pid}/net/dev").read_text().splitlines():
        name, _, words = line.partition(":")
        if name.strip() == interface:
            counters = [int(word) for word in words.split()]
            return Moved(counters[1], counters[9], counters[11])
    msg = f"no interface {interface}"
    raise Failed(msg)


def _idle() -> float:
    """Seconds that the machine's CPUs were idle, since it started."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(words[4]) + int(words[5])) / _TICKS


def _others() -> dict[str, float]:
    """CPU seconds of each process but this one, its children, and the kernel's soft interrupts."""
    spent = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                name, _, rest = (entry / "stat").read_text().rpartition(")")
                words = rest.split()  # state, parent ...
                ours = os.getpid() in (int(entry.name), int(words[1]))
                if not ours and "(ksoftirqd" not in name:
                    spent[entry.name] = (int(words[11]) + int(words[12])) / _TICKS
    return spent


def _foreign(first: Look, last: Look) -> float:
    """CPUs that others were busy with from one look to the other."""
    spent = sum(s - first.others.get(pid, 0.0) for pid, s in last.others.items())
    return spent / (last.at - first.at)


def _comes(one: socket.socket, other: socket.socket, sent: bytes) -> bool:
    one.send(sent)
    try:
        _datagram(other)
    except TimeoutError:
        return False
    return True


def _datagram(receiver: socket.socket) -> bytes:
    """The next frame with a UDP datagram: a TCP connection of the last turn may still say goodbye."""
    while (came := receiver.recv(2048))[PROTOCOL] != packets.PROTO_UDP:
        pass
    return came


def _drain(receiver: socket.socket) -> int:
    """Take what waits at a socket. Returns how many frames."""
    receiver.setblocking(False)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while _datagram(receiver):
            taken += 1
    return taken


def _receive(connection: socket.socket) -> float:
    """Receive to the end. Returns bits per second, not counting the beginning."""
    room = bytearray(BLOCK)
    first = time.monotonic() + RISE_S
    start, total = 0.0, 0
    while got := connection.recv_into(room):
        if start:
            total += got
        elif time.monotonic() >= first:
            start = time.monotonic()
    return total * 8 / (time.monotonic() - start) if start else 0.0
