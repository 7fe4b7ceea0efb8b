# SPDX-License-Identifier: Apache-2.0
"""Receiving by AF_XDP: frames of every kind, several queues, what is left to be done."""

import contextlib
import random
import select
import socket
import time

import pytest

import bpf
import xdp_receiver_worlds
from vforward.errors import PortError
from vforward.graph import control as c
from vforward.io import af_xdp_rx as rx
from vforward.io.af_packet import AfPacketPort
from vforward.layout import BUF_ROOM, CSUM_PARTIAL
from vforward.testing.namespaces import namespaces, veth
from xdp_receiver_worlds import (
    NATIVE,
    PASSED,
    PLAIN,
    SOON_S,
    numbered,
    on_interface,
    opened,
    queues,
    raw,
    udp_frame,
)

pytestmark = pytest.mark.root


pair = xdp_receiver_worlds.pair


def test_it_says_by_what_it_receives_and_sends(pair):
    f, _ = pair
    with opened(pair) as k:
        assert k.port.peer() == f"{NATIVE}; {PASSED}"
        assert on_interface(f) == "xdp"
    assert on_interface(f) == ""
    with opened(pair, xdp=False) as k:
        assert k.port.peer() == f'{NATIVE}; frames go out by packet socket (xdp = "off")'
    with opened(pair, ring_mib=1) as k:
        assert "1 queue of 512 slots" in k.port.peer()


@pytest.mark.parametrize("vector", [1, 3, 256])
def test_any_vector_goes_round_the_rings(pair, vector):
    with opened(pair, ring_mib=1) as k, raw(pair[1]) as far:
        k.plan.control[c.VECTOR] = vector
        for start in range(0, 1800, 200):
            for n in range(start, start + 200):
                far.send(PLAIN + numbered(60, n))
            assert k.take(200) == [numbered(60, n) for n in range(start, start + 200)]
        assert k.counts() == {"bytes": 1800 * 60}


@pytest.mark.parametrize("mtu", [1500, 1770, 1771, 3500, 3818])
def test_frames_up_to_the_mtu(mtu):
    """In slots of 2 KiB or of a page, one buffer or two; the kernel has long ones in two pieces."""
    with namespaces("f", "b") as (f, b):
        veth(f, "near", b, "eth0", mtu=mtu)
        with opened((f, b), mtu=mtu) as k, raw(b) as far:
            assert k.tables["queues"][rx.SLOT] == (2048 if mtu < 1771 else 4096)
            lengths = [60, BUF_ROOM, BUF_ROOM + 1, 3519, 3520, 3521, mtu + 13, mtu + 14]
            lengths = [length for length in lengths if length <= mtu + 14]
            for n, length in enumerate(lengths):
                far.send(PLAIN + numbered(length, n))
            assert k.take(len(lengths)) == [numbered(length, n) for n, length in enumerate(lengths)]
            k.memory.send([numbered(length) for length in lengths])
            k.rounds()
            sent = [far.recv(5000)[10:] for _ in lengths]
            assert sent == [numbered(length) for length in lengths]


def test_an_mtu_that_is_too_long():
    with namespaces("f", "b") as (f, b):
        veth(f, "near", b, "eth0", mtu=9000)
        text = '\'near\': mode = "xdp": an MTU of 9000 is more than the 3818 .* use mode = "auto"'
        with f.inside(), pytest.raises(PortError, match=text):
            AfPacketPort("near", mode="xdp").open(0, None)


def test_frames_that_find_no_slot_are_counted(pair):
    with opened(pair, ring_mib=1) as k, raw(pair[1]) as far:
        for n in range(700):
            far.send(PLAIN + numbered(64, n))
        lost = {"kernel-ring-full": 188, "kernel-too-long": 0}
        deadline = time.monotonic() + SOON_S
        while k.port.statistics() != lost:
            assert time.monotonic() < deadline, k.port.statistics()
        assert k.take(512) == [numbered(64, n) for n in range(512)]
        far.send(PLAIN + numbered(64, 1))
        assert k.take(1) == [numbered(64, 1)]
        assert k.port.statistics() == lost
        k.port.close()
        assert k.port.statistics() == lost


def test_frames_longer_than_a_slot_are_counted(pair):
    """The MTU was made more since."""
    f, b = pair
    with opened(pair) as k, raw(b) as far:
        for host, name in ((b, "eth0"), (f, "near")):
            host.run("ip", "link", "set", "dev", name, "mtu", "3000")
        for n, length in enumerate((60, 1793, 3014, 1792)):
            far.send(PLAIN + numbered(length, n))
        assert k.take(2) == [numbered(60), numbered(1792, 3)]
        assert k.port.statistics() == {"kernel-ring-full": 0, "kernel-too-long": 2}


def test_without_buffers_frames_wait_in_their_slots(pair):
    with opened(pair, buffers=64) as k, raw(pair[1]) as far:
        for n in range(100):
            far.send(PLAIN + numbered(64, n))
        k.until(lambda: len(k.rows()) == 64 and k.counts().get("no-buffer"), "they do not come")
        assert k.take(64) == [numbered(64, n) for n in range(64)]
        assert k.take(36) == [numbered(64, 64 + n) for n in range(36)]


def test_the_worker_can_sleep_on_it(pair):
    """On one descriptor, whatever sockets there are."""
    f, b = pair
    with opened(pair) as k:
        (fd,) = k.port.descriptors()
        for _ in range(2):
            assert select.select([fd], [], [], 0)[0] == []
            with raw(b) as far:
                far.send(PLAIN + numbered(60))
                assert select.select([fd], [], [], SOON_S)[0] == [fd]
                assert k.take(1) == [numbered(60)]
            assert select.select([fd], [], [], 0)[0] == []
            f.run("ip", "link", "delete", "dev", "near")
            veth(f, "near", b, "eth0")
            with f.inside():
                k.port.statistics()
            assert k.port.descriptors() == [fd]


def test_checksums_that_are_left_are_told(pair):
    """By the stack of b, and by a raw socket; a whole one is none."""
    _, b = pair
    b.address("eth0", "10.0.0.2/24")
    b.run("ip", "neighbor", "add", "10.0.0.1", "lladdr", "02:00:00:00:00:0b", "dev", "eth0")
    with opened(pair) as k, b.inside():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.sendto(b"left", ("10.0.0.1", 9))
            k.until(k.rows, "it does not come")
            (row,) = k.rows()
            meta = k.pool.meta[row]
            assert meta["flags"] & CSUM_PARTIAL
            assert (meta["csum_start"], meta["csum_off"]) == (meta["off"] + 34, 6)
            k.put([row])
            b.run("ethtool", "-K", "eth0", "tx", "off")
            far.sendto(b"whole", ("10.0.0.1", 9))
            k.until(k.rows, "it does not come")
            (row,) = k.rows()
            assert not k.pool.meta[row]["flags"] & CSUM_PARTIAL
        assert k.counts()["partial"] == 1


def has_tags(k):
    return "VLAN tags only if in the frame" not in k.port.peer()


@pytest.mark.parametrize("ethertype", [0x8100, 0x88A8])
def test_a_vlan_tag_beside_the_frame_is_put_into_it(pair, ethertype):
    """As a VLAN interface of b's would send it: to a driver that says it does that by itself."""
    _, b = pair
    tag = ethertype.to_bytes(2, "big") + b"\x00\x2a"
    with opened(pair) as k, raw(b) as far, b.inside():
        if not has_tags(k):
            pytest.skip("needs Linux 6.8")
        index = socket.if_nametoindex("eth0")
        with bpf.tags_beside(index, 42, ethertype):
            far.send(PLAIN + numbered(60))
            far.send(PLAIN + numbered(1514))
        far.send(PLAIN + numbered(60))
        wanted = [numbered(60), numbered(1514)]
        wanted = [frame[:12] + tag + frame[12:] for frame in wanted]
        assert k.take(3) == [*wanted, numbered(60)]


def test_in_skb_mode_a_tag_beside_the_frame_is_lost_unless_the_other_end_puts_it_in():
    frame = numbered(60)
    with (
        queues(1, 2) as pair,
        opened(pair) as k,
        raw(pair[1]) as far,
        pair[1].inside(),
        bpf.tags_beside(socket.if_nametoindex("eth0"), 42),
    ):
        far.send(PLAIN + frame)
        assert k.take(1) == [frame]
        pair[1].run("ethtool", "-K", "eth0", "txvlan", "off")
        far.send(PLAIN + frame)
        assert k.take(1) == [frame[:12] + b"\x81\x00\x00\x2a" + frame[12:]]


def test_where_tags_cannot_be_asked_for_the_driver_leaves_them(pair, monkeypatch):
    """As long as the port is open."""
    f, _ = pair
    monkeypatch.setattr("vforward.io.af_xdp_program.function_id", lambda name: 0)

    def taken():
        return "rx-vlan-offload: on" in f.run("ethtool", "-k", "near")

    assert taken()
    with opened(pair) as k:
        assert not has_tags(k)
        assert not taken()
    assert taken()


@pytest.mark.parametrize("vector", [1, 7, 256])
def test_several_queues(vector):
    """Each flow in its order, and none is left out for others."""
    with queues(2, 2) as pair, opened(pair) as k, raw(pair[1]) as far:
        assert "copied, 2 queues of 8192 slots, native XDP" in k.port.peer()
        k.plan.control[c.VECTOR] = vector
        flows = 32
        for n in range(0, 640, flows):
            for port in range(flows):
                far.send(PLAIN + udp_frame(20, n, port))
        came = {port: [] for port in range(flows)}
        for frame in k.take(640):
            came[int.from_bytes(frame[36:38], "big")].append(int.from_bytes(frame[42:46], "big"))
        assert all(numbers == list(range(0, 640, flows)) for numbers in came.values())
        frames = k.tables["queues"].reshape(-1, rx.QUEUE_WORDS)[:, rx.FRAMES]
        assert frames[:2].all()
        assert frames.sum() == 640


def test_a_full_queue_does_not_keep_others_out():
    with queues(2, 2) as pair, opened(pair) as k:
        words = k.tables["queues"].reshape(-1, rx.QUEUE_WORDS)
        k.plan.control[c.VECTOR] = 4
        asked = []
        for _ in range(4):
            asked.append(int(words[0, rx.FIRST]))
            with raw(pair[1]) as far:
                for port in range(64):
                    far.send(PLAIN + udp_frame(20, 0, port))
            k.take(64)
        assert words[:2, rx.FRAMES].sum() == 256


def test_linux_is_given_nothing_of_what_comes_in(pair):
    f, b = pair
    with raw(f, "near") as near, raw(b) as far:
        with opened(pair) as k:
            far.send(PLAIN + numbered(60, 1))
            assert k.take(1) == [numbered(60, 1)]
        deadline = time.monotonic() + SOON_S
        near.settimeout(0.05)
        got = b""
        while not got:  # an interface without a program, again
            assert time.monotonic() < deadline
            far.send(PLAIN + numbered(60, 2))
            with contextlib.suppress(TimeoutError):
                got = near.recv(2000)[10:]
        assert got == numbered(60, 2)


def test_both_ways_at_once(pair):
    dice = random.Random(1)
    with opened(pair) as k, raw(pair[1]) as far:
        sent, got = [], []
        for n in range(60):
            here = [numbered(dice.randint(18, 1514), n) for _ in range(dice.randint(0, 40))]
            there = [numbered(dice.randint(18, 1514), n) for _ in range(dice.randint(0, 40))]
            k.memory.send(here)
            for frame in there:
                far.send(PLAIN + frame)
            got += k.take(len(there))
            sent += there
            k.rounds()
            assert [far.recv(2000)[10:] for _ in here] == here
        assert got == sent
        counts = k.counts("tx")
        assert set(counts) == {"bytes", "xdp"}
