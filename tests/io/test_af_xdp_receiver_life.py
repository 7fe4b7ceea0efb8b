# SPDX-License-Identifier: Apache-2.0
"""Receiving by AF_XDP from interfaces that go and come back; processes that are killed."""

import contextlib
import ctypes
import signal
import socket
import time

import pytest

import bpf
import xdp_receiver_worlds
from vforward.io import af_xdp_rx as rx
from vforward.io.af_xdp_socket import XdpSocket
from vforward.testing.namespaces import namespaces, veth
from xdp_receiver_worlds import (
    NATIVE,
    PASSED,
    PLAIN,
    SOON_S,
    numbered,
    on_interface,
    opened,
    process,
    queues,
    raw,
    udp_frame,
)

pytestmark = pytest.mark.root


pair = xdp_receiver_worlds.pair


def test_queues_that_come_later_get_sockets():
    with queues(1, 1) as pair, opened(pair) as k:
        f, b = pair
        f.run("ethtool", "-L", "near", "rx", "2")
        b.run("ethtool", "-L", "eth0", "tx", "2")
        with f.inside():
            k.port.statistics()
        assert "copied, 2 queues of 8192 slots" in k.port.peer()
        with raw(b) as far:
            for port in range(64):
                far.send(PLAIN + udp_frame(20, 0, port))
            assert len(k.take(64)) == 64
        words = k.tables["queues"].reshape(-1, rx.QUEUE_WORDS)
        assert words[:2, rx.FRAMES].all()


def test_a_process_that_is_killed_leaves_no_program(pair):
    f, b = pair
    started, said = process(pair)
    with started:
        assert said.startswith(NATIVE)
        assert on_interface(f) == "xdp"
        started.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + SOON_S
    while on_interface(f):
        assert time.monotonic() < deadline, "it is still there"
    with raw(f, "near") as near, raw(b) as far:
        far.send(PLAIN + numbered(60))
        assert near.recv(2000)[10:] == numbered(60)
    with opened(pair) as k:
        assert k.port.peer().startswith(NATIVE)


def test_gone_and_back(pair):
    f, b = pair
    with opened(pair) as k:
        for _ in range(3):
            f.run("ip", "link", "delete", "dev", "near")
            k.memory.send([numbered(60)])
            k.rounds()
            with f.inside():
                k.port.statistics()
            assert k.port.peer() == "no interface 'near' now; it is waited for"
            assert not k.port.carrier()
            k.memory.send([numbered(60)])
            k.rounds()
            veth(f, "near", b, "eth0")
            with f.inside():
                k.port.statistics()
            assert k.port.carrier()
            assert k.port.peer() == f"{NATIVE}; {PASSED}"
            assert len(k.rows()) == 2  # dropped
            k.put(k.rows())
            with raw(b) as far:
                far.send(PLAIN + numbered(60, 5))
                assert k.take(1) == [numbered(60, 5)]
                k.memory.send([numbered(60, 6)])
                k.rounds()
                assert far.recv(2000)[10:] == numbered(60, 6)
        assert k.counts("tx")["link-down"] == 6


def test_gone_and_back_before_anybody_looks(pair):
    f, b = pair
    with opened(pair) as k:
        f.run("ip", "link", "delete", "dev", "near")
        veth(f, "near", b, "eth0")
        with f.inside():
            k.port.statistics()
        with raw(b) as far:
            far.send(PLAIN + numbered(60, 5))
            assert k.take(1) == [numbered(60, 5)]
            k.memory.send([numbered(60, 6)])
            k.rounds()
            assert far.recv(2000)[10:] == numbered(60, 6)


@contextlib.contextmanager
def taken_by_a_socket(index):
    other = XdpSocket(receive=64)
    other.bind(index)
    yield
    other.close()


@pytest.mark.parametrize(
    ("taken", "why"),
    [
        (bpf.xdp, "another XDP program is on the interface"),
        (taken_by_a_socket, "another program has an AF_XDP socket on the interface"),
    ],
)
def test_back_but_taken_by_another_program(pair, caplog, taken, why):
    """That is told once, however often it is tried."""
    f, b = pair
    with opened(pair) as k:
        f.run("ip", "link", "delete", "dev", "near")
        veth(f, "near", b, "eth0")
        with f.inside():
            with taken(socket.if_nametoindex("near")):
                for _ in range(3):
                    k.port.statistics()
                    assert k.port.peer().startswith(f"receives nothing: {why}")
            assert caplog.text.count(why) == 1
            k.port.statistics()
        assert k.port.peer().startswith(NATIVE)
        with raw(b) as far:
            far.send(PLAIN + numbered(60))
            assert k.take(1) == [numbered(60)]


def test_back_where_the_port_is_not(pair):
    f, b = pair
    with opened(pair) as k:
        f.run("ip", "link", "delete", "dev", "near")
        veth(f, "near", b, "eth0")
        k.port.statistics()
        assert k.port.peer().startswith(
            "receives nothing: the interface is back, but in a namespace"
        )
        with f.inside():
            k.port.statistics()
        assert k.port.peer().startswith(NATIVE)


def test_moved_away_it_has_no_program_any_more(pair):
    f, b = pair
    with namespaces("elsewhere") as (elsewhere,), opened(pair) as k:
        f.run("ip", "link", "set", "dev", "near", "netns", str(elsewhere.pid))
        with f.inside():
            k.port.statistics()
        assert on_interface(elsewhere) == ""
        elsewhere.run("ip", "link", "set", "dev", "near", "netns", str(f.pid))
        f.run("ip", "link", "set", "dev", "near", "up")
        with f.inside():
            k.port.statistics()
        with raw(b) as far:
            far.send(PLAIN + numbered(60, 5))
            assert k.take(1) == [numbered(60, 5)]


def test_set_down_and_up(pair):
    f, b = pair
    with opened(pair) as k:
        for _ in range(3):
            f.run("ip", "link", "set", "dev", "near", "down")
            k.memory.send([numbered(60)])
            k.rounds()
            with f.inside():
                k.port.statistics()
            f.run("ip", "link", "set", "dev", "near", "up")
            with raw(b) as far:
                far.send(PLAIN + numbered(60, 5))
                assert k.take(2)[1] == numbered(60, 5)
        assert k.counts("tx") == {"link-down": 3}


def test_it_is_not_closed_under_a_worker(pair):
    """Rings are unmapped at a quiet point, however long that takes."""
    f, _ = pair
    with opened(pair) as k:
        answers = iter([False, False, True])
        seen = []

        def quiesce():
            seen.append(int(k.tables["queues"][rx.OPEN]))
            where = int(k.tables["queues"][rx.PRODUCER])
            assert ctypes.c_uint32.from_address(where).value == 0  # and no crash
            return next(answers)

        k.port.attach(quiesce)
        f.run("ip", "link", "delete", "dev", "near")
        k.port.statistics()
        assert seen == [0, 0, 0]
        k.port.attach(lambda: True)
