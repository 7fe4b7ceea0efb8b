# SPDX-License-Identifier: Apache-2.0
"""Sending by AF_XDP where that is refused: it is done by packet socket, and said."""

import os
import re
import shutil
import socket
import subprocess
import sys

import pytest

import xdp_sender_worlds
from fuzzing import open_fds
from vforward.io import af_xdp_socket as xsk
from vforward.io.af_xdp import XdpSender
from vforward.testing.namespaces import namespaces, veth
from xdp_sender_worlds import PASSED, numbered, out

pytestmark = pytest.mark.root


pair = xdp_sender_worlds.pair


def sends_by_packet_socket(pair, why, **options):
    with out(pair, **options) as o:
        assert re.search(why, o.port.peer()), o.port.peer()
        o.send(*(numbered(60, n) for n in range(10)))
        o.rounds()
        assert [o.far.recv(2000) for _ in range(10)] == [numbered(60, n) for n in range(10)]
        assert o.counts() == {"bytes": 600}


def test_switched_off(pair):
    sends_by_packet_socket(pair, r'packet socket \(xdp = "off"\)$', xdp=False)


def test_a_queueing_discipline_refuses(pair):
    pair[0].run("tc", "qdisc", "add", "dev", "out", "root", "pfifo")
    sends_by_packet_socket(pair, "not by AF_XDP: .*queueing discipline pfifo")


def test_several_queues_refuse():
    if not shutil.which("ethtool", path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip("no ethtool")
    with namespaces("f", "b") as (f, b):
        veth(f, "out", b, "eth0")
        if os.cpu_count() == 1:
            pytest.skip("one CPU: one queue")
        f.run("ethtool", "-L", "out", "tx", "2")
        sends_by_packet_socket((f, b), "not by AF_XDP: .*2 queues")


def test_a_kernel_without_it_refuses(pair, monkeypatch):
    monkeypatch.setattr(xsk, "AF_XDP", 200)
    sends_by_packet_socket(pair, r"not by AF_XDP: the kernel has no AF_XDP \(CONFIG_XDP_SOCKETS\)")


def test_another_socket_on_the_queue_refuses(pair):
    with pair[0].inside():
        other = XdpSender()
        other.open("out", socket.if_nametoindex("out"), 1500)
    sends_by_packet_socket(pair, "not by AF_XDP: another program")
    other.close()
    with out(pair) as o:  # though the kernel lets go of it a moment later
        assert o.port.peer().endswith(PASSED)


def test_a_refused_sender_is_closed(pair):
    sender = XdpSender()
    before = open_fds()
    with pair[0].inside():
        sender.open("none", 99, 1500)
    assert "not by AF_XDP: [Errno 19] No such device" in sender.says()
    assert not sender.words.any()
    assert open_fds() <= before


PROGRAM = """
import ctypes, numba, os, resource, socket, subprocess, sys
from vforward.io.af_xdp import XdpSender
from vforward.io.af_xdp_tx import hand_over
hand_over.compile((numba.typeof(XdpSender().words), numba.uint64))  # Python's files are root's here
limit = int(sys.argv[1]) << 10
resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(4, 1)  # PR_SET_DUMPABLE: its files in /proc are its own
if libc.unshare(0x10000000 | 0x40000000):  # CLONE_NEWUSER, CLONE_NEWNET
    sys.exit("no user namespace: " + os.strerror(ctypes.get_errno()))
open("/proc/self/uid_map", "w").write("0 65534 1")
ip = ["ip", "link"]
subprocess.run([*ip, "add", "out", "type", "veth", "peer", "name", "far"], check=True)
subprocess.run([*ip, "set", "dev", "out", "up"], check=True)
sender = XdpSender()
sender.open("out", socket.if_nametoindex("out"), 1500)
print(sender.says())
"""


@pytest.mark.parametrize(("kib", "says"), [(4096, PASSED), (1024, "RLIMIT_MEMLOCK")])
def test_an_unprivileged_user_needs_room_to_lock_memory(kib, says):
    if os.geteuid():
        pytest.skip("cannot become an unprivileged user here")
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(kib)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path, "OPENBLAS_NUM_THREADS": "1"},  # unshare: one thread
    )
    if "no user namespace" in done.stderr:
        pytest.skip(done.stderr)
    assert says in done.stdout, done.stderr
