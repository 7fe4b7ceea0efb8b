"""Two workers do what one does: nothing lost, nothing out of order, every session found both ways."""

import random
import threading
import time
from collections import Counter, defaultdict

import pytest

from vforward import Forwarder, Masquerade, MemoryPort, Rule
from vforward.control.observe import attach
from vforward.control.observe_workers import workers as rows_of
from vforward.control.packet_trace import collect
from vforward.testing import packets as pk
from worker_worlds import LAN, PER_FLOW, UDP, WAN, World, flow_of, in_order, mix, udp

OPEN = (Rule(name="out", action="permit", in_="lan"),)


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


def turned(packet):
    """What a responder answers: endpoints exchanged, the same payload."""
    src, dst = ".".join(map(str, packet[12:16])), ".".join(map(str, packet[16:20]))
    sport, dport = (int.from_bytes(packet[at : at + 2], "big") for at in (20, 22))
    return udp(dst, src, dport, sport, packet[28:])


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_without_a_firewall_what_leaves_by_anothers_port_is_handed_off(n, live):
    with World(n, ports=3) as world:
        if live:
            world.router.start()
        packets = mix(1)
        _, out, _ = world.exchange(world.lan, packets)
        assert len(out) == len(packets)
        assert in_order(out)
        assert not world.drops()
        back, _, _ = world.exchange(world.wan, [turned(p) for p in out])
        assert len(back) == len(out)
        if n > 1:
            owners = world.router.placement.owners
            assert sorted(owners.values()) == sorted(k % n for k in range(3))
            assert world.node("output-take-up") == len(out) + len(back)
            assert world.node("lan-rx", owners["lan"]) == world.node("lan-rx") == len(packets)
            assert world.node("wan-tx", owners["wan"]) == world.node("wan-tx") == len(out)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_sessions_through_nat_are_found_in_both_directions(n, live):
    with World(n, firewall=True, rules=OPEN, nat=[Masquerade(out="wan")]) as world:
        if live:
            world.router.start()
        packets = mix(2)
        _, out = world.exchange(world.lan, packets)
        assert len(out) == len(packets)
        assert in_order(out)
        assert {packet[12:16] for packet in out} == {pk.ip4_bytes("10.0.2.1")}
        assert len({flow_of(p) for p in out}) == len({flow_of(p) for p in packets})
        back, _ = world.exchange(world.wan, [turned(p) for p in out])
        assert len(back) == len(out)
        assert in_order(back)
        assert not world.drops()
        wanted = Counter(flow_of(turned(p)) for p in packets)
        assert Counter(map(flow_of, back)) == wanted
        shards = [shard.statistics()["open"] for shard in world.router.firewall.shards]
        assert sum(shards) == 60
        assert all(shards)
        if n > 1:
            assert world.node("ip4-take-up") > 0
            assert int(world.router.firewall.strays[0]) == 0  # ports were chosen so


def test_two_workers_show_what_they_do():
    with World(2, firewall=True, rules=OPEN, nat=[Masquerade(out="wan")]) as world:
        world.exchange(world.lan, mix(3))
        world.router._publisher.refresh()
        with attach("workers-2") as view:
            rows = rows_of(view)
            assert sum(row.packets for row in rows) == view.runtime().packets == 60 * PER_FLOW
            assert sum(row.handed_off for row in rows) == sum(row.taken_up for row in rows) > 0
            assert [row.queues for row in rows] == [["lan 0"], ["wan 0"]]
            assert [row.tx.packets for row in view.ports() if row.name == "wan"] == [60 * PER_FLOW]
            view.clear()
            assert all(row.packets == 0 for row in rows_of(view))
            assert view.runtime().packets == 0


def test_a_trace_follows_a_packet_to_the_other_worker():
    with World(2) as world:
        world.router.start()
        found, done = [], threading.Event()

        def look():
            try:
                with attach("workers-2") as view:
                    found.extend(collect(view, 2, "lan-rx", timeout_s=60))
            finally:
                done.set()

        thread = threading.Thread(target=look)
        thread.start()
        while not done.is_set():
            world.send(world.lan, mix(7, flows=2, per_flow=2))
            time.sleep(0.02)
            world.take(world.wan)
        thread.join()
        assert len(found) == 2
        for packet in found:
            nodes = [step.node for step in packet.steps]
            assert nodes[0] == "lan-rx"
            assert nodes[-1] == "wan-tx"
            at = nodes.index("output-hand-off")
            assert nodes[at + 1 : at + 3] == ["output-take-up", "interface-output"]
            assert packet.port == "lan"


def outcome(n, packets, replies, **options):
    """What comes out of both ports of n workers, as sorted bytes by flow, and what was dropped."""
    with World(n, **options) as world:
        out = world.exchange(world.lan, packets)[1]
        back = world.exchange(world.wan, replies(out))[0]
        by_flow = [defaultdict(list), defaultdict(list)]
        for found, side in ((out, by_flow[0]), (back, by_flow[1])):
            for packet in udps(found):  # and no ARP
                side[flow_of(packet)].append(packet)
        return by_flow, world.drops()


@pytest.mark.parametrize("seed", range(3))
def test_the_same_packets_have_the_same_outcome_as_with_one(seed):
    """Without chosen ports, so that outcomes can be compared byte by byte."""
    rules = (
        *OPEN,
        Rule(name="in", action="permit", in_="wan", protocol="udp", to_ports="2000-2020"),
    )
    options = {"firewall": True, "rules": rules}
    draw = random.Random(seed)
    packets = mix(seed)
    for k in range(0, len(packets), 40):  # some that are refused, some of no flow
        packets.insert(k, udp(f"{LAN}9", f"{WAN}{draw.randrange(60, 90)}", 1, 2))
    replies = [turned(p) for p in packets] + [udp(f"{WAN}9", f"{LAN}9", 5, 6)] * 5
    one = outcome(1, packets, lambda _: replies, **options)
    assert one == outcome(2, packets, lambda _: replies, **options)
    assert one == outcome(3, packets, lambda _: replies, **options)
    assert one[1]


def test_an_error_about_a_translated_packet_goes_to_who_has_its_session():
    with World(3, firewall=True, rules=OPEN, nat=[Masquerade(out="wan")]) as world:
        packets = [udp(f"{LAN}9", f"{WAN}{9 + k}", 3000 + k, 53, b"x" * 20) for k in range(40)]
        out = world.exchange(world.lan, packets)[1]
        errors = [pk.ip4(f"{WAN}9", "10.0.2.1", 1, unreachable(packet[:28])) for packet in out]
        back = world.exchange(world.wan, errors)[0]
        assert len(back) == 40
        assert {packet[40:44] + packet[48:50] for packet in back} == {
            packet[12:16] + packet[20:22] for packet in packets
        }


def test_pieces_meet_and_follow_their_flow():
    with World(3, firewall=True, rules=OPEN, nat=[Masquerade(out="wan")]) as world:
        packets = []
        for k in range(40):
            whole = udp(f"{LAN}9", f"{WAN}{9 + k}", 3000 + k, 53, bytes(range(64)))
            packets += pieces(whole, k + 1)[::-1]  # the last one first
        out = world.exchange(world.lan, packets)[1]
        assert len(out) == len(packets)
        firsts = [p for p in out if not int.from_bytes(p[6:8], "big") & 0x1FFF]
        back = []
        for first in firsts:
            sport = int.from_bytes(first[20:22], "big")
            dst = ".".join(map(str, first[16:20]))
            back += pieces(udp(dst, "10.0.2.1", 53, sport, bytes(48)), sport)
        assert len(world.exchange(world.wan, back)[0]) == len(back)
        assert not world.drops()


def unreachable(quote):
    """An ICMP error: port unreachable."""
    total = pk.checksum(bytes((3, 3)) + bytes(6) + quote)
    return bytes((3, 3)) + total.to_bytes(2, "big") + bytes(4) + quote


def pieces(whole, ident):
    """An IPv4 packet in two pieces."""
    body = whole[20:]
    src, dst = (".".join(map(str, whole[at : at + 4])) for at in (12, 16))
    return [
        pk.ip4(src, dst, UDP, body[:24], ident=ident, flags_mf=True),
        pk.ip4(src, dst, UDP, body[24:], ident=ident, frag_off=24),
    ]


def test_quiet_points_are_all_workers():
    with World(3) as world:
        world.router.start()
        before = [int(plan.control[9]) for plan in world.router.graph.plans]
        assert world.router.workers.quiesce(30)
        after = [int(plan.control[9]) for plan in world.router.graph.plans]
        assert all(b >= a + 2 for a, b in zip(before, after, strict=True))
        world.router.workers[2].pause()  # rounds go on while it waits: it is quiet
        assert world.router.workers.quiesce(30)
        world.router.workers[2].resume()


def test_a_packet_that_waits_for_its_neighbor_is_released_by_its_worker():
    with World(2, ports=3, hosts=0) as world:
        world.router.start()
        packets = [udp(f"{LAN}9", f"{WAN}{9 + k}", 1, 2) for k in range(8)]
        world.exchange(world.lan, packets)
        for k in range(8):
            world.router.add_neighbor(f"{WAN}{9 + k}", World.mac(2), "wan")
        world.settle()
        got = []
        world.wait(lambda: got.extend(world.take(world.wan)) or len(udps(got)) == 8)


def udps(packets):
    return [p for p in packets if len(p) >= 28 and p[0] == 0x45 and p[9] == UDP]


def test_a_bridge_learns_whoever_hears():
    """Three stations behind three ports of two workers: floods until they are known, then to one port."""
    with Forwarder("bridged", workers=2) as router:
        ports = [router.add_port(name, MemoryPort()) for name in "abc"]
        router.add_bridge("br")
        for name in "abc":
            router.add_to_bridge("br", name)
        router.build()
        router.start()
        macs = [f"02:00:00:00:0a:{k:02x}" for k in range(3)]
        hello = [pk.eth(pk.BROADCAST, mac, 0x88B5, b"hello") for mac in macs]
        for k, port in enumerate(ports):
            port.send([hello[k]])
            others = [other for other in ports if other is not port]
            arrived(others, [1, 1])
        for k, port in enumerate(ports):
            to = (k + 1) % 3
            port.send([pk.eth(macs[to], macs[k], 0x88B5, n.to_bytes(4, "big")) for n in range(300)])
            got = arrived([ports[to]], [300])[0]
            assert [int.from_bytes(frame[14:18], "big") for frame in got] == list(range(300))
        router.stop()
        assert [port.received() for port in ports] == [[], [], []]
        router.pool.check()


def arrived(ports, wanted, seconds=60):
    """What comes out of the ports, when there is so much."""
    got, end = [[] for _ in ports], time.monotonic() + seconds
    while [len(some) for some in got] != wanted:
        assert time.monotonic() < end, [len(some) for some in got]
        for some, port in zip(got, ports, strict=True):
            some += port.received()
    return got
