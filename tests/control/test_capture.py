# SPDX-License-Identifier: Apache-2.0
"""Captures of a forwarder: what is in the file is what came and went, whole, at the time it did."""

import dataclasses
import gc
import threading
import time
import weakref

import pytest

from vforward.control import capture as capture_module
from vforward.control.forwarder import Forwarder
from vforward.control.show_capture import records
from vforward.errors import ArenaError, ConfigError
from vforward.io.memory import MemoryPort
from vforward.testing import packets as pk

HOST, NEXT = "02:00:00:00:01:09", "02:00:00:00:02:09"


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime") / "r"))
        with Forwarder("captured", buffers=2048) as made:
            made.lan = made.add_port("lan", MemoryPort(mtu=9000), "10.0.1.1/24")
            made.wan = made.add_port("wan", MemoryPort(mtu=9000), "10.0.2.1/24")
            made.add_vlan("seven", "lan", 7, "10.0.7.1/24")
            made.add_bridge("office")
            made.add_bvi("inside", "office", "10.0.8.1/24")
            made.add_neighbor("10.0.2.9", pk.mac_bytes(NEXT), "wan")
            made.add_neighbor("10.0.1.9", pk.mac_bytes(HOST), "lan")
            made.build()
            yield made


def udp(router, n=0, size=20, to="10.0.2.9", tag=0):
    packet = pk.ip4("10.0.1.9", to, 17, pk.udp("10.0.1.9", to, 1000 + n, 53, bytes(size)))
    if tag:
        return pk.eth(router.lan.mac, HOST, pk.ETH_VLAN, pk.vlan(tag, pk.ETH_IP4, packet))
    return pk.eth(router.lan.mac, HOST, pk.ETH_IP4, packet)


def captured(router, at, sent, text="", **more):
    """The file's packets, and how the capture stood, when these frames came by lan."""
    with router.captures.begin(at, text, **more) as capture:
        router.lan.send(sent)
        router.run_until_idle()
        pieces = [capture.header(), capture.take(), capture.take()]
    router.wan.received()
    router.lan.received()
    return [p.frame for p in records(pieces)], router.captures.progress()[0]


def test_both_ways_of_a_port(router):
    sent = [udp(router, n) for n in range(300)]
    with router.captures.begin("wan") as capture:
        router.lan.send(sent)
        router.run_until_idle()
        taken = [p.frame for p in records([capture.header(), capture.take()])]
    assert taken == router.wan.received()
    assert len(taken) == 300
    frames, progress = captured(router, "lan", sent)
    assert frames == sent
    assert (progress.at, progress.running, progress.packets, progress.missed) == (
        "lan",
        False,
        300,
        0,
    )
    assert progress.bytes == sum(map(len, sent))


def test_times_are_when_it_was(router):
    before = time.time_ns()
    with router.captures.begin("lan") as capture:
        router.lan.send([udp(router)])
        router.run_until_idle()
        (packet,) = records([capture.header(), capture.take()])
    assert before <= packet.time_ns + 1_000_000
    assert packet.time_ns <= time.time_ns() + 1_000_000


def test_long_packets_are_whole_or_cut(router):
    long = udp(router, size=5000)
    assert captured(router, "lan", [long])[0] == [long]
    with router.captures.begin("lan", snap=100) as capture:
        router.lan.send([long])
        router.run_until_idle()
        (packet,) = records([capture.header(), capture.take()])
    assert (packet.size, packet.frame) == (len(long), long[:100])
    router.wan.received()


def test_a_node_in_the_middle(router):
    sent = [udp(router, n) for n in range(5)]
    assert captured(router, "ip4-lookup", sent)[0] == sent
    assert captured(router, "lan-rx", sent)[0] == sent
    assert captured(router, "ethernet-input", sent)[0] == sent


def test_packets_without_an_ethernet_header_get_one(router):
    ping = pk.ip4("10.0.1.9", "10.0.1.1", 1, pk.icmp_echo(1, 1, b"x" * 40))
    frame = pk.eth(router.lan.mac, HOST, pk.ETH_IP4, ping)
    with router.captures.begin("ip4-lookup") as capture:  # the answer has only its IP header there
        router.lan.send([frame])
        router.run_until_idle()
        asked, answered = (p.frame for p in records([capture.header(), capture.take()]))
    assert asked == frame
    (reply,) = router.lan.received()
    assert answered[:14] == bytes(12) + b"\x08\x00"
    assert answered[14:][12:20] == reply[14:][12:20]
    assert len(answered) == 14 + len(ping)


def test_a_sub_interface_is_what_has_its_tag(router):
    sent = [udp(router, 1), udp(router, 2, tag=7), udp(router, 3, tag=8)]
    frames, progress = captured(router, "seven", sent)
    assert frames == [sent[1]]
    assert progress.unwanted == 2
    assert captured(router, "seven", sent, "tcp")[0] == []


def test_the_filter_and_the_count(router):
    sent = [udp(router, n) for n in range(100)]
    frames, progress = captured(router, "lan", sent, "port 1007 or port 1009")
    assert frames == [sent[7], sent[9]]
    assert (progress.packets, progress.unwanted) == (2, 98)
    with router.captures.begin("lan", "port 1000-1050", count=3) as capture:
        router.lan.send(sent)
        router.run_until_idle()
        frames = [p.frame for p in records([capture.header(), capture.take()])]
        assert capture.done
        assert capture.take() == b""
    assert frames == sent[:3]
    router.wan.received()


def test_what_is_not_taken_in_time_is_counted(router):
    sent = [udp(router, n, size=8000) for n in range(200)]
    with router.captures.begin("lan") as capture:
        for _ in range(8):
            router.lan.send(sent)
            router.run_until_idle()
            router.wan.received()
        taken = sum(1 for _ in records([capture.header(), capture.take(), capture.take()]))
    (progress,) = router.captures.progress()
    assert progress.missed > 0
    assert taken + progress.missed == 1600


def test_what_was_copied_to_is_given_back(router):
    with router.captures.begin("lan") as capture:
        ring = weakref.ref(capture.rings[0])
    gc.collect()
    assert ring() is None
    assert capture.take() == b""


def test_not_while_a_graph_takes_anothers_place(router):
    """It writes to where a capture looks, which has ended meanwhile."""
    with router.captures.begin("lan") as capture:
        ring = weakref.ref(capture.rings[0])
        with router.moving:
            capture.close()
    gc.collect()
    assert ring() is not None
    assert captured(router, "lan", [udp(router)])[1].packets == 1
    del capture
    gc.collect()
    assert ring() is None


def test_one_that_ends_while_packets_are_taken_has_ended(router, monkeypatch):
    ending = []

    def slowly(said, **changed):
        if not ending:
            ending.append(threading.Thread(target=capture.close))
            ending[0].start()
            ending[0].join(0.3)
        return dataclasses.replace(said, **changed)

    with router.captures.begin("lan") as capture:
        router.lan.send([udp(router)])
        router.run_until_idle()
        monkeypatch.setattr(capture_module, "replace", slowly)
        assert capture.take()
        ending[0].join(60)
        assert not router.captures.progress()[0].running
    router.wan.received()


def test_one_at_a_time(router):
    with router.captures.begin("lan") as capture:
        assert router.captures.progress()[0].running
        with pytest.raises(ArenaError, match="'captured' is captured from already"):
            router.captures.begin("wan")
        capture.close()
        capture.close()
        with router.captures.begin("wan"):
            pass
    assert captured(router, "lan", [udp(router)])[1].packets == 1


@pytest.mark.parametrize(
    ("at", "text", "what"),
    [
        ("none", "", "no port and no node 'none'"),
        ("lna", "", 'did you mean "lan"'),
        ("inside", "", "port 'inside' has no nodes of its own"),
        ("lan", "tcp and", "filter: it ends where"),
        ("seven", "tcp) or (udp", "filter: "),
    ],
)
def test_wrong_wishes(router, at, text, what):
    with pytest.raises(ConfigError, match=r"^.") as caught:
        router.captures.begin(at, text)
    assert what in str(caught.value)
    assert captured(router, "lan", [udp(router)])[1].packets == 1  # nothing is held


def test_of_several_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with Forwarder("two", buffers=4096, workers=2) as router:
        router.lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
        router.wan = router.add_port("wan", MemoryPort(), "10.0.2.1/24")
        router.add_neighbor("10.0.2.9", pk.mac_bytes(NEXT), "wan")
        router.build()
        captures = router.captures
        sent = [udp(router, n) for n in range(300)]
        for at in ("wan", "lan", "interface-output"):
            with captures.begin(at) as capture:
                router.lan.send(sent)
                router.run_until_idle()
                found = list(records([capture.header(), capture.take(), capture.take()]))
            left = router.wan.received()
            if at != "interface-output":  # to it they come twice: it hands on to who sends by wan
                assert sorted(p.frame for p in found) == sorted(sent if at == "lan" else left)
            assert [p.time_ns for p in found] == sorted(p.time_ns for p in found)
            assert len(left) == 300
