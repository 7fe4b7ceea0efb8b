# SPDX-License-Identifier: Apache-2.0
"""Sending by AF_XDP where the kernel or the driver does not take frames, or later, or not at all."""

import ctypes
import os
import socket

import numpy as np
import pytest

import xdp_sender_worlds
from vforward.io import af_packet_life as life
from vforward.io import af_packet_tx
from vforward.io import af_xdp_socket as xsk
from vforward.io import af_xdp_tx as tx
from vforward.testing.namespaces import veth
from xdp_sender_worlds import PARTIAL, PASSED, numbered, out, raw, udp_frame

pytestmark = pytest.mark.root


pair = xdp_sender_worlds.pair


AGAIN, BUSY, NO_BUFFERS, NETDOWN = 11, 16, 105, 100


class Send:
    """In place of vf_sendmmsg: answers for the calls of the AF_XDP socket; real: the kernel does."""

    def __init__(self, o, answers):
        words = o.port.tx()[1]["socket"]
        kind = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 5)
        self.real, self.answers, self.calls = kind(int(words[af_packet_tx.SEND])), answers, 0
        self.fd = int(o.xdp[tx.FD])
        self.function = kind(self)
        words[af_packet_tx.SEND] = np.frombuffer(self.function, np.uint64)[0]

    def __call__(self, fd, messages, n, flags):
        if fd != self.fd:
            return self.real(fd, messages, n, flags)
        self.calls += 1
        answer = next(self.answers, "real")
        return self.real(fd, messages, n, flags) if answer == "real" else -answer


def budget(o, frames):
    """Let the kernel take so many frames in each call."""
    with socket.socket(xsk.AF_XDP, socket.SOCK_RAW, 0, os.dup(int(o.xdp[tx.FD]))) as sender:
        try:
            sender.setsockopt(xsk.SOL_XDP, xsk.XDP_MAX_TX_BUDGET, frames)
        except OSError:
            pytest.skip("needs Linux 6.17")


@pytest.mark.parametrize("error", [AGAIN, NO_BUFFERS])
def test_a_kernel_that_takes_nothing_for_a_while_is_asked_again(pair, error):
    with out(pair) as o:
        asked = Send(o, iter([error] * 20))
        o.send(*(numbered(60, n) for n in range(10)))
        o.rounds()
        assert [o.far.recv(2000) for _ in range(10)] == [numbered(60, n) for n in range(10)]
        assert asked.calls == 21
        assert o.counts() == {"bytes": 600, "xdp": 10}


@pytest.mark.parametrize(
    ("error", "reason", "calls"),
    [
        (AGAIN, "ring-full", tx.TRIES),
        (NO_BUFFERS, "no-buffers", tx.TRIES),
        (NETDOWN, "link-down", 2),
        (22, "refused", 2),
    ],
)
def test_what_the_kernel_does_not_take_is_dropped_and_not_sent_later(pair, error, reason, calls):
    """It takes 32 of 100 and then nothing; then it works again."""
    with out(pair) as o:
        budget(o, 32)
        asked = Send(o, iter(["real"] + [error] * (calls - 1)))
        o.send(*(numbered(60, n) for n in range(100)))
        o.rounds()
        assert asked.calls == calls
        assert o.counts() == {"bytes": 32 * 60, "xdp": 32, reason: 68}
        assert o.dropped() == 68
        assert o.free() == tx.SLOTS
        o.send(*(numbered(70, n) for n in range(100, 200)))
        o.rounds()
        came = [o.far.recv(2000) for _ in range(132)]
        assert came[:32] == [numbered(60, n) for n in range(32)]
        assert came[32:] == [numbered(70, n) for n in range(100, 200)]
        assert o.counts()["xdp"] == 132
        assert o.free() == tx.SLOTS
        o.far.settimeout(0.05)
        with pytest.raises(TimeoutError):
            o.far.recv(2000)


def test_what_was_cancelled_does_not_fill_the_ring(pair):
    with out(pair) as o:
        answers = Send(o, iter([NETDOWN] * 100))
        for _ in range(20):
            o.send(*(numbered(60, n) for n in range(200)))
            o.rounds()
        assert o.counts() == {"link-down": 4000}
        assert o.free() == tx.SLOTS
        answers.answers = iter([])
        o.send(*(numbered(60, n) for n in range(200)))
        o.rounds()
        assert [o.far.recv(2000) for _ in range(200)] == [numbered(60, n) for n in range(200)]
        assert o.free() == tx.SLOTS


def test_a_frame_that_the_interface_drops_is_counted(pair):
    """The kernel says EBUSY behind it, and has taken it."""
    with out(pair) as o:
        budget(o, 32)
        Send(o, iter([BUSY]))
        o.send(*(numbered(60, n) for n in range(10)))
        o.rounds()
        assert o.counts() == {"bytes": 9 * 60, "xdp": 9, "no-buffers": 1}
        assert o.dropped() == 1
        assert o.free() == tx.SLOTS


def test_link_down_up_and_gone(pair):
    f = pair[0]
    with out(pair) as o:
        f.run("ip", "link", "set", "dev", "out", "down")
        for _ in range(20):
            o.send(*(numbered(60, n) for n in range(100)))
            o.rounds()
        assert o.counts() == {"link-down": 2000}
        f.run("ip", "link", "set", "dev", "out", "up")
        o.send(*(numbered(60, n) for n in range(100)))
        o.rounds()
        assert [o.far.recv(2000) for _ in range(100)] == [numbered(60, n) for n in range(100)]
        f.run("ip", "link", "delete", "dev", "out")
        o.send(*(numbered(60, n) for n in range(100)))
        o.rounds()
        assert o.counts()["link-down"] == 2100
        assert o.dropped() == 2100
        assert o.port.peer().endswith("; not by AF_XDP: the interface was gone")
        o.port.statistics()
        assert o.port.peer().startswith("no interface 'out' now")


@pytest.mark.parametrize("idle", [True, False])
def test_an_interface_that_is_back_is_sent_to_by_af_xdp_again(pair, idle):
    """idle: nothing was sent while it was gone. Nothing is lost once it is back."""
    f, b = pair
    with out(pair) as o:
        f.run("ip", "link", "delete", "dev", "out")
        if not idle:
            o.send(numbered(60))
            o.rounds()
            assert o.counts() == {"link-down": 1}
        veth(f, "out", b, "eth0")
        o.far.close()
        o.far = raw(b)
        for _ in range(2):
            with f.inside():
                o.port.statistics()
            o.send(*(numbered(60, n) for n in range(20)))
            o.rounds()
            assert [o.far.recv(2000) for _ in range(20)] == [numbered(60, n) for n in range(20)]
        assert o.port.peer().endswith(PASSED)
        assert o.counts()["xdp"] == (20 if idle else 40)
        assert o.free() == tx.SLOTS


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda patch: patch.setattr(life, "SO_NETNS_COOKIE", 9999), "Linux before 5.14"),
        (
            lambda patch: patch.setattr(life, "is_in_our_namespace", lambda _: False),
            "another one",
        ),
    ],
)
def test_what_is_not_renewed_is_said_once(pair, monkeypatch, caplog, change, why):
    f, b = pair
    change(monkeypatch)
    with out(pair) as o:
        assert "renewed" not in o.port.peer()
        f.run("ip", "link", "delete", "dev", "out")
        o.send(numbered(60))
        o.rounds()
        veth(f, "out", b, "eth0")
        o.far.close()
        o.far = raw(b)
        for _ in range(3):
            with f.inside():
                o.port.statistics()
        assert why in o.port.peer()
        assert "not renewed for the interface that is back" in o.port.peer()
        assert caplog.text.count(why) == 1
        o.send(*(numbered(60, n) for n in range(20)))
        o.rounds()
        assert [o.far.recv(2000) for _ in range(20)] == [numbered(60, n) for n in range(20)]
        monkeypatch.undo()
        with f.inside():
            o.port.statistics()
        assert o.port.peer().endswith(PASSED)


def test_the_hosts_stack_is_kept_out_as_soon_as_that_can_be(pair, monkeypatch):
    """Of an interface that is back, when that could not be done at once."""
    f, b = pair
    with out(pair) as o:
        o.port.mute()

        def muted():
            return f.run("cat", "/proc/sys/net/ipv4/conf/out/arp_ignore").strip()

        assert muted() == "8"
        f.run("ip", "link", "delete", "dev", "out")
        veth(f, "out", b, "eth0")
        o.far.close()
        o.far = raw(b)
        monkeypatch.setattr(life, "is_in_our_namespace", lambda _: False)
        with f.inside():
            o.port.statistics()
        assert muted() == "0"
        assert "not renewed" in o.port.peer()
        monkeypatch.undo()
        with f.inside():
            o.port.statistics()
        assert muted() == "8"
        assert "renewed" not in o.port.peer()


def left_to_the_driver(o):
    """As if it sent without copies. Returns the ring's flags: 1, it is to be called."""
    o.xdp[tx.ZERO_COPY] = 1
    flags = ctypes.c_uint32.from_address(int(o.xdp[tx.WAKE]))
    assert flags.value == tx.NEED_WAKEUP
    return flags


def test_without_copies_frames_wait_for_the_driver(pair):
    """It is called only where it asks for that; what finds no slot is dropped, and not sent otherwise."""
    with out(pair) as o:
        flags, asked = left_to_the_driver(o), Send(o, iter([]))
        flags.value = 0
        for start in range(0, 1280, 256):
            o.send(*(numbered(60, n) for n in range(start, start + 256)))
            o.rounds()
        assert asked.calls == 0
        assert o.counts() == {"bytes": 1024 * 60, "xdp": 1024, "ring-full": 256}
        assert o.free() == 0
        flags.value = tx.NEED_WAKEUP
        o.send(numbered(70))  # finds no slot either, but the driver is called
        o.rounds()
        assert asked.calls == 1
        assert [o.far.recv(2000) for _ in range(1024)] == [numbered(60, n) for n in range(1024)]
        for n in range(3):  # frames that are in the ring, and others
            o.send(*(numbered(60, n) for n in range(40)), *[udp_frame(20)] * 2)
            o.send(*[udp_frame(20)] * 3, offload=PARTIAL)
            o.rounds()
            assert [o.far.recv(2000)[12:14] for _ in range(45)] == [b"\x88\xb5"] * 40 + [
                b"\x08\x00"
            ] * 5
        o.send(numbered(60))
        o.rounds()
        assert o.counts() == {
            "bytes": 1024 * 60 + 3 * (40 * 60 + 5 * len(udp_frame(20))) + 60,
            "xdp": 1024 + 3 * 42 + 1,
            "ring-full": 257,
        }
        assert o.far.recv(2000) == numbered(60)


@pytest.mark.parametrize("error", [AGAIN, BUSY, NO_BUFFERS, NETDOWN])
def test_without_copies_the_driver_may_come_to_it_later(pair, error):
    with out(pair) as o:
        left_to_the_driver(o)
        asked = Send(o, iter([error] * 2))
        for start in range(0, 30, 10):
            o.send(*(numbered(60, n) for n in range(start, start + 10)))
            o.rounds()
        assert asked.calls == 3
        assert [o.far.recv(2000) for _ in range(30)] == [numbered(60, n) for n in range(30)]
        assert o.counts() == {"bytes": 1800, "xdp": 30}


def test_without_copies_an_interface_that_is_gone(pair):
    with out(pair) as o:
        left_to_the_driver(o)
        pair[0].run("ip", "link", "delete", "dev", "out")
        for _ in range(2):
            o.send(*(numbered(60, n) for n in range(10)))
            o.rounds()
        assert o.counts() == {"bytes": 600, "xdp": 10, "link-down": 10}
        assert o.port.peer().endswith("; not by AF_XDP: the interface was gone")
