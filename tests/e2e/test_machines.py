# SPDX-License-Identifier: Apache-2.0
"""Virtual machines with an unmodified Linux on one bridge: ping and TCP, and all count alike."""

import contextlib
import tempfile
from pathlib import Path

import pytest

from e2e.machines import Machine, needs_machines
from vforward.control.forwarder import Forwarder
from vforward.io.vhost import VhostUserPort

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


@pytest.fixture
def sockets():
    with tempfile.TemporaryDirectory(prefix="vf-") as directory:
        yield Path(directory)


@contextlib.contextmanager
def switch(sockets, **settings):
    with Forwarder("machines") as made:
        made.add_bridge("guests")
        for name in ("one", "two"):
            made.add_port(name, VhostUserPort(str(sockets / name), **settings))
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
    [(True, ""), (False, ""), (True, ",disable-modern=on,disable-legacy=off,mrg_rxbuf=off")],
    ids=["offloads", "no-offloads", "legacy"],
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
