# SPDX-License-Identifier: Apache-2.0
"""`vforward run` killed with -9 in traffic and started again: who is at its vhost-user ports goes on."""

import contextlib
import socket
import struct
import tempfile
import time
from pathlib import Path

import pytest

from dpdk import NET_VHOST, VIRTIO_USER, needs_dpdk, testpmd
from e2e import process
from e2e.lab import until
from e2e.machines import Machine, needs_machines
from frontends import ENABLE, GET_BASE, Frontend

WIRE = """
[ports.one]
type = "vhost-user"
socket = "{place}/one"
side = "{side}"
role = "{role}"
[ports.two]
type = "vhost-user"
socket = "{place}/two"
role = "{role}"
[[cross_connects]]
ports = ["one", "two"]
"""
GATEWAY = "10.0.0.254"
SWITCH = f"""
[ports.vm]
type = "vhost-user"
socket = "{{place}}/vm"
role = "{{role}}"
[bridges.lan]
ports = ["vm"]
[ports.gateway]
type = "bvi"
bridge = "lan"
address = "{GATEWAY}/24"
"""
FRAMES = [b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xb5" + bytes([n]) * 60 for n in range(8)]
NEW = [frame[:-4] + b"new!" for frame in FRAMES]


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(prefix="vf-") as directory:
        yield Path(directory)


def daemon(place, text):
    """The process, forwarding. It is killed at the end of the block."""
    file = place / "killed.toml"
    file.write_text('[forwarder]\nname = "killed"\n' + text)
    return process.daemon(file, fresh=False)


class End:
    """A frontend at a port of the daemon's: it connects, or listens, as often as it must."""

    def __init__(self, path, role):
        self.path = path
        self.listener = None
        if role == "client":
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(path))
            self.listener.listen()
            self.listener.settimeout(60)
        self.frontend = Frontend(self._next())
        self.frontend.begin()

    def _next(self):
        if self.listener is not None:
            return self.listener.accept()[0]
        made = socket.socket(socket.AF_UNIX)
        until(lambda: made.connect_ex(str(self.path)) == 0, "nobody listens")
        return made

    def again(self):
        """With the same memory and the same queues, as a driver does that has noticed nothing."""
        frontend = self.frontend
        assert frontend.peer.recv(1) == b""
        frontend.peer.close()
        frontend.peer = self._next()
        frontend.peer.settimeout(5)
        for index in range(2):
            frontend.say(ENABLE, struct.pack("=II", index, 0))
            frontend.ask(GET_BASE, struct.pack("=II", index, 0))
        frontend.negotiate()
        frontend.share()
        for index in range(2):
            frontend.place(index, frontend.drivers[index])
            frontend.say(ENABLE, struct.pack("=II", index, 1))

    def close(self):
        self.frontend.close()
        if self.listener is not None:
            self.listener.close()


@contextlib.contextmanager
def end(path, role):
    made = End(path, role)
    try:
        yield made
    finally:
        made.close()


def arrive(sender, receiver, frames, seconds=60):
    """Send frames until each has come once, at least. What else comes was on its way before."""
    missing, stop = set(frames), time.monotonic() + seconds
    while missing:
        assert time.monotonic() < stop, len(missing)
        if len(sender.drivers[1].free) >= len(frames) or sender.drivers[1].take_used():
            sender.send(frames)
        missing -= set(receiver.receive(len(frames), 0.2))


@pytest.mark.slow
@pytest.mark.parametrize("role", ["server", "client"])
def test_frontends_go_on(place, role):
    text = WIRE.format(place=place, side="backend", role=role)
    with contextlib.ExitStack() as stack:
        with daemon(place, text):
            one, two = (stack.enter_context(end(place / name, role)) for name in ("one", "two"))
            arrive(one.frontend, two.frontend, FRAMES)
            arrive(two.frontend, one.frontend, FRAMES)
            one.frontend.send(FRAMES)  # and it is killed while these are on their way
        for turn in range(2):
            with daemon(place, text):
                one.again()
                two.again()
                arrive(one.frontend, two.frontend, [f + bytes([turn]) for f in NEW])
                arrive(two.frontend, one.frontend, [f + bytes([turn]) for f in NEW])


DPDK = {
    "driver-listens": ("backend", "client", VIRTIO_USER + ",server=1"),
    "device-listens": ("frontend", "client", NET_VHOST),
    "device-connects": ("frontend", "server", NET_VHOST + ",client=1"),
}


@pytest.mark.slow
@needs_dpdk
@pytest.mark.parametrize(("side", "role", "vdev"), DPDK.values(), ids=DPDK)
def test_dpdk_goes_on(place, side, role, vdev):
    """Who is at the other port gets its frames, and it gets that one's."""
    text = WIRE.format(place=place, side=side, role=role)
    with contextlib.ExitStack() as stack:
        dpdk = stack.enter_context(testpmd(place / "one", "flowgen", vdev=vdev))
        with daemon(place, text):
            two = stack.enter_context(end(place / "two", role))
            assert len(two.frontend.receive(200, 60)) >= 200
        with daemon(place, text):
            two.again()
            old = [*two.frontend.drivers[0].take_used()]
            assert len(old) <= 64
            places = [two.frontend.waiting[0].pop(head) for head, _ in old]
            for place_of_buffer in places:  # afterwards: a head that is free is taken again
                two.frontend._offer(0, place_of_buffer)
            assert len(two.frontend.receive(200, 60)) >= 200
            assert dpdk.now()["RX-packets"] == 0
            two.frontend.send(FRAMES)
            until(lambda: dpdk.now()["RX-packets"] == len(FRAMES), dpdk.now)


TALK = f"""\
until ping -c1 -W1 {GATEWAY} > /dev/null; do :; done
echo SAYS first yes
while ping -c1 -W1 {GATEWAY} > /dev/null; do :; done
echo SAYS lost yes
until ping -c1 -W1 {GATEWAY} > /dev/null; do :; done
echo SAYS again $(ping -c5 -i0.2 {GATEWAY} | grep received)
"""


@pytest.mark.slow
@needs_machines
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("role", "chardev"),
    [("server", ",server=off,reconnect=1"), ("client", ",server=on,wait=off")],
    ids=["it-connects", "it-listens"],
)
def test_a_machine_goes_on(tmp_path, place, role, chardev):
    """QEMU is there for the next one; the machine's driver notices nothing but the silence."""
    text = SWITCH.format(place=place, role=role)
    with contextlib.ExitStack() as stack:
        with daemon(place, text):
            machine = Machine(tmp_path, "vm", place / "vm", "10.0.0.1/24", TALK, chardev=chardev)
            stack.callback(machine.kill)
            until(lambda: "first" in machine.says(), machine.text, 200)
        until(lambda: "lost" in machine.says(), machine.text, 60)
        with daemon(place, text):
            said = machine.wait()
    assert "5 packets transmitted, 5 packets received" in said["again"]
