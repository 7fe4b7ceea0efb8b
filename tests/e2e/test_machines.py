# SPDX-License-Identifier: Apache-2.0
"""Virtual machines with an unmodified Linux on one bridge: ping and TCP, and all count alike;
one that is sent more than it can take.
"""

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from e2e.machines import BOOT_S, Machine, needs_machines
from vforward.control.forwarder import Forwarder
from vforward.io.memory import MemoryPort
from vforward.io.vhost import VhostUserPort
from vforward.rings import virtqueue as vq
from vforward.testing.packets import arp_request, eth, icmp_echo, ip4

pytestmark = [pytest.mark.slow, needs_machines]

ONE, TWO = "10.0.0.1", "10.0.0.2"
SERVE = """\
nc -l -p 5001 > /tmp/got
echo SAYS sum $(md5sum < /tmp/got)
sleep 1
"""
ASK = f"""\
until ping -c1 -W1 {ONE} > /dev/null; do :; done
echo SAYS ping $(ping -c5 -i0.2 {ONE} | grep received)
dd if=/dev/urandom of=/tmp/sent bs=65536 count=64 2> /dev/null
echo SAYS sum $(md5sum < /tmp/sent)
until nc {ONE} 5001 < /tmp/sent; do sleep 0.2; done
sleep 1
"""


COUNT_QUEUES = """\
ethtool -S eth0 | sed -n 's/^ *\\([rt]x\\)_queue_\\([01]\\)_packets: /SAYS \\1\\2 /p'
"""
ASK_BOTH = f"""\
until ping -c1 -W1 {ONE} > /dev/null; do :; done
send() {{
    taskset $1 dd if=/dev/urandom of=/tmp/sent bs=65536 count=16 2> /dev/null
    cat /tmp/sent >> /tmp/all
    until taskset $1 nc {ONE} $2 < /tmp/sent; do sleep 0.2; done
}}
send 1 5001
send 2 5002
ethtool -L eth0 combined 1
echo SAYS one $(taskset 2 ping -c5 -i0.2 {ONE} | grep received)
send 2 5003
ethtool -L eth0 combined 2
echo SAYS two $(taskset 2 ping -c5 -i0.2 {ONE} | grep received)
send 2 5004
echo SAYS sum $(md5sum < /tmp/all)
sleep 1
"""
SERVE_BOTH = """\
for port in 1 2 3 4; do nc -l -p 500$port >> /tmp/all; done
echo SAYS sum $(md5sum < /tmp/all)
sleep 3
"""


@pytest.fixture
def sockets():
    with tempfile.TemporaryDirectory(prefix="vf-") as directory:
        yield Path(directory)


@contextlib.contextmanager
def switch(sockets, guests=("one", "two"), others=(), **settings):
    """others: ports besides, by name."""
    ports = {name: VhostUserPort(str(sockets / name), **settings) for name in guests}
    with Forwarder("machines") as made:
        made.add_bridge("guests")
        for name, port in {**ports, **dict(others)}.items():
            made.add_port(name, port)
            made.add_to_bridge("guests", name)
        made.build()
        made.start()
        yield made


def moved(forwarder, node):
    """Packets that a port's node received or has sent."""
    member = forwarder.graph.members[node]
    plan = forwarder.graph.plan
    if node.endswith("-tx"):
        return int(plan.taken.reshape(-1, 256)[member.number, 255])
    return int(plan.stats.reshape(-1, 8)[member.number, 1])


def counted(forwarder, node):
    """Bytes that a port's node received or has sent."""
    member = forwarder.graph.members[node]
    return int(member.counts[member.node.counter_labels.index("bytes")])


@pytest.mark.timeout(800)
@pytest.mark.parametrize(
    ("offloads", "options"),
    [
        (True, ""),
        (False, ""),
        (True, ",disable-modern=on,disable-legacy=off,mrg_rxbuf=off"),
        (True, ",packed=on"),
        (False, ",packed=on,mrg_rxbuf=off"),
    ],
    ids=["offloads", "no-offloads", "legacy", "packed", "packed-not-merged"],
)
def test_two_machines_on_a_bridge(tmp_path, sockets, offloads, options):
    with switch(sockets, offloads=offloads) as forwarder:
        one = Machine(tmp_path, "one", sockets / "one", f"{ONE}/24", SERVE, options=options)
        two = Machine(tmp_path, "two", sockets / "two", f"{TWO}/24", ASK, options=options)
        try:
            said = {"one": one.wait(), "two": two.wait()}
        finally:
            one.kill()
            two.kill()
        assert "5 packets transmitted, 5 packets received, 0% packet loss" in said["two"]["ping"]
        assert said["one"]["sum"] == said["two"]["sum"]
        for name, counts in said.items():
            assert moved(forwarder, f"{name}-rx") == int(counts["tx"]), counts
            assert moved(forwarder, f"{name}-tx") == int(counts["rx"]), counts
            assert counted(forwarder, f"{name}-rx") == int(counts["tx-bytes"]), counts
            assert counted(forwarder, f"{name}-tx") == int(counts["rx-bytes"]), counts
            assert counts["dropped"] == "0"
            port = forwarder.interfaces.find(name).port
            assert (port.peers, dict(port.peer_faults)) == (1, {})
            for queue in port.queues[:2]:
                assert bool(int(queue[vq.FEATURES]) & vq.RING_PACKED) == ("packed=on" in options)


@pytest.mark.timeout(800)
@pytest.mark.skipif(not shutil.which("ethtool"), reason="ethtool is not installed")
@pytest.mark.parametrize("options", ["", ",packed=on"], ids=["split", "packed"])
def test_machines_with_two_queues_each(tmp_path, sockets, options):
    """Each queue counts alike, and `ethtool -L` changes how many there are, without a loss."""
    with switch(sockets, offloads=False, queues=2) as forwarder:
        scripts = {"one": (ONE, SERVE_BOTH), "two": (TWO, ASK_BOTH)}
        machines = [
            Machine(
                tmp_path,
                name,
                sockets / name,
                f"{address}/24",
                script + COUNT_QUEUES,
                queues=2,
                options=options,
            )
            for name, (address, script) in scripts.items()
        ]
        try:
            said = dict(zip(scripts, [machine.wait() for machine in machines], strict=True))
        finally:
            for machine in machines:
                machine.kill()
        for ping in ("one", "two"):
            assert "5 packets transmitted, 5 packets received, 0% packet loss" in said["two"][ping]
        assert said["one"]["sum"] == said["two"]["sum"]
        for name, counts in said.items():
            port = forwarder.interfaces.find(name).port
            ours = port.queues[:, vq.MOVED].tolist()
            assert ours == [int(counts[queue]) for queue in ("rx0", "tx0", "rx1", "tx1")]
            assert counts["dropped"] == "0"
            assert (port.peers, dict(port.peer_faults)) == (1, {})
        sent = forwarder.interfaces.find("two").port.queues[1::2, vq.MOVED].tolist()
        assert (
            min(sent) > 20
        )  # each CPU its own, but what an acknowledgement lets go: most of a busy one's


FRAMES, BURST = 200_000, 4096
SENDER, MACHINE = "02:00:00:00:00:09", "02:00:00:00:01:01"
WAIT_FOR_THE_END = f"""\
echo SAYS up yes
until grep -q {TWO} /proc/net/arp; do sleep 0.1; done
sleep 1
"""


def until(condition):
    end = time.monotonic() + BOOT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def flood(source, machine):
    """Send frames as fast as they go, then one now and then until the machine has answered to such a one.

    The first are answers to pings that nobody sent: nothing comes of them. Returns how many were sent.
    """
    answer = icmp_echo(1, 1, bytes(40), reply=True)
    frame = eth(MACHINE, SENDER, 0x0800, ip4(TWO, ONE, 1, answer))
    sent = 0
    while sent < FRAMES:
        sent += source.send([frame] * BURST)
    asked = eth("ff:ff:ff:ff:ff:ff", SENDER, 0x0806, arp_request(SENDER, TWO, ONE))
    end = time.monotonic() + BOOT_S
    while not any(heard[12:14] == b"\x08\x06" for heard in source.received()):
        assert time.monotonic() < end, machine.text()[-3000:]
        sent += source.send([asked])
        time.sleep(0.05)
    return sent


@pytest.mark.timeout(400)
@pytest.mark.parametrize("options", ["", ",packed=on"], ids=["split", "packed"])
def test_a_machine_that_is_sent_more_than_it_takes(tmp_path, sockets, options):
    """Each frame is received by the machine, or was dropped for want of its buffers."""
    source = MemoryPort()
    with switch(sockets, guests=["one"], others={"source": source}) as forwarder:
        port = forwarder.interfaces.find("one").port
        machine = Machine(
            tmp_path, "one", sockets / "one", f"{ONE}/24", WAIT_FOR_THE_END, options=options
        )
        try:
            until(lambda: "up" in machine.says() and port.ready)
            sent = flood(source, machine)
            said = machine.wait()
        finally:
            machine.kill()
        sender = forwarder.graph.members["one-tx"]
        counts = dict(zip(sender.node.counter_labels, sender.counts.tolist(), strict=True))
        taken = moved(forwarder, "one-tx")
        assert (int(said["rx"]), int(said["rx-bytes"])) == (taken, counts.pop("bytes"))
        assert said["dropped"] == "0"
        dropped = counts.pop("ring-full")
        assert sent == taken + dropped
        assert taken > 1000
        assert dropped > 1000
        assert not any(counts.values()), counts
        assert moved(forwarder, "one-rx") == int(said["tx"]) > 0
        assert (port.peers, dict(port.peer_faults)) == (1, {})
