# SPDX-License-Identifier: Apache-2.0
"""AfPacketPort between namespaces: raw sockets and ping on the other side."""

import select

import numpy as np
import pytest

import packet_worlds
from packet_worlds import (
    A_MAC,
    numbered,
    received,
    send_with_vnet,
    tagged,
    udp_frame,
    vnet_frame,
    wire,
)
from vforward.graph import control as c
from vforward.io import linux

pytestmark = pytest.mark.root


mode = packet_worlds.mode
place = packet_worlds.place
socket_mode = packet_worlds.socket_mode


TPIDS = (0x8100, 0x88A8)


LENGTHS = (
    16,
    60,
    1510,
)  # 802.1ad counts to the MTU; the kernel drops tagged frames with less than 2 bytes of content


def test_every_length_passes_both_ways_unchanged(place, mode):
    with wire(place, mode=mode) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        for sender, receiver in ((a, b), (b, a)):
            frames = [numbered(length, length) for length in range(14, 1515)]
            for start in range(0, len(frames), 200):
                for frame in frames[start : start + 200]:
                    sender.send(frame)
                w.rounds()
                for frame in frames[start : start + 200]:
                    assert received(receiver) == frame
        octets = sum(range(14, 1515))
        for name in ("a-rx", "b-rx", "a-tx", "b-tx"):
            counts = w.counts(name)
            assert counts.pop("bytes") == octets
            assert not any(counts.values())
        assert w.counts("drop") == {"packets": 0}


@pytest.mark.parametrize("vector", [1, 3, 256])
def test_any_vector_size_goes_round_the_ring(place, vector):
    with wire(place, ring_mib=1) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        assert w.ports[0].slots == (512, 2048)
        w.plan.control[c.VECTOR] = vector
        for start in range(0, 1200, 300):
            for n in range(start, start + 300):
                a.send(numbered(64, n))
            w.rounds()
            for n in range(start, start + 300):
                assert received(b) == numbered(64, n)


@pytest.mark.parametrize("tpid", TPIDS)
@pytest.mark.parametrize("tci", [1, 0x0FFF, 0xE001])
def test_vlan_tag_comes_in_and_goes_out(place, mode, tpid, tci):
    with wire(place, mode=mode, keeping=True) as w, place.raw(place.a) as a:
        for length in LENGTHS:
            a.send(tagged(numbered(length), tpid, tci))
        w.rounds()
        frames = [w.frame(row) for row in w.held()]
        assert frames == [tagged(numbered(n), tpid, tci) for n in LENGTHS]
        w.pool.put(np.array(w.held(), np.uint32))
        w.kept[0] = 0
    with wire(place, mode=mode) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        for length in LENGTHS:
            a.send(tagged(numbered(length), tpid, tci))
        w.rounds()
        for length in LENGTHS:
            assert received(b) == tagged(numbered(length), tpid, tci)


def test_two_vlan_tags(place, mode):
    frame = tagged(tagged(numbered(100), 0x8100, 7), 0x88A8, 9)
    with wire(place, mode=mode) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        a.send(frame)
        w.rounds()
        assert received(b) == frame


def test_own_transmissions_are_not_received(place, mode):
    with wire(place, mode=mode) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        a.send(numbered(60))
        w.rounds()
        assert received(b) == numbered(60)
        w.rounds()
        assert w.counts("b-rx")["bytes"] == 0
        assert w.counts("b-tx")["bytes"] == 60


def test_frames_to_others_come_in_only_when_promiscuous(place, mode):
    for promiscuous in (True, False):
        with wire(place, mode=mode, keeping=True, promiscuous=promiscuous) as w:
            shown = place.f.run("ip", "-d", "link", "show", "dev", "a")
            assert f"promiscuity {int(promiscuous)}" in shown
            assert len(w.ports[0].mac) == 6
            assert ":".join(f"{byte:02x}" for byte in w.ports[0].mac) in shown


def test_it_says_by_what_it_receives(place):
    with wire(place) as w:
        assert w.ports[0].peer().startswith("receives by a ring of 16384 slots of 2048 bytes; ")
    with wire(place, mode="raw") as w:
        assert w.ports[0].peer().startswith('receives by recvmmsg (mode = "raw"); ')


def test_ping(place, mode):
    place.a.address("eth0", "10.0.0.1/24")
    place.b.address("eth0", "10.0.0.2/24")
    with wire(place, mode=mode) as w:
        w.start()
        said = place.a.run("ping", "-c", "20", "-i", "0.01", "-W", "2", "10.0.0.2")
        assert "20 received" in said
        print(said.splitlines()[-1])


def test_given_mac_is_the_ports(place):
    with wire(place, mac=A_MAC) as w:
        assert [port.mac for port in w.ports] == [A_MAC] * 2


@pytest.mark.parametrize("length", [60, 9000])
def test_descriptor_is_readable_when_frames_wait(place, socket_mode, length):
    """Also for a frame whose slot is too small, as from a host with a longer MTU."""
    place.a.run("ip", "link", "set", "dev", "eth0", "mtu", "9000")
    with wire(place, mode=socket_mode, keeping=True) as w, place.raw(place.a) as a:
        (fd,) = w.ports[0].descriptors()
        assert select.select([fd], [], [], 0)[0] == []
        gso = vnet_frame(udp_frame(length), 1, linux.VIRTIO_NET_HDR_GSO_UDP_L4, 42, 1000, 34, 6)
        send_with_vnet(a, gso)
        assert select.select([fd], [], [], 5)[0] == [fd]
        w.rounds()
        assert [w.frame(row) for row in w.held()] == [udp_frame(length)]
        assert select.select([fd], [], [], 0)[0] == []
