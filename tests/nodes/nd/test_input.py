"""nd-input against the oracle: what is answered, what is told, what is dropped and why."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import nd as oracle
from vforward.layout import BUF_ROOM, CHAINED, CSUM_PARTIAL, GSO, LINK_BROADCAST, SELF_MADE, TRACED
from vforward.nodes.nd.input import NODE
from vforward.nodes.neighbor import events as ev
from vforward.tables import addresses as address_table
from vforward.tables.ports import PORT
from vforward.testing import run_node

MAC, PEER, OTHER = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\x19", b"\x02\0\0\0\0\x99"
PREFIX = 0x20010DB8 << 96
OWN, LOCAL = PREFIX | 0x1234, 0xFE80 << 112 | 1
HOP, LOCAL_HOP, FAR = PREFIX | 0xABCDEF, 0xFE80 << 112 | 0x77, 0x20010DB9 << 96 | 7
ADDRESSES = ((OWN, 64), (LOCAL, 64))
V4 = address_table.mapped_int(0x0A000001)
TAGS = {1: b"", 2: b"\x81\x00\x60\x0a", 3: b"\x88\xa8\x00\x05\x81\x00\x20\x07"}
"""Ports, and the tags of what they receive."""
FLAGS = {"S": ev.SOLICITED, "O": ev.OVERRIDE, "A": ev.ADD}


def make_tables(events=1024):
    ports = np.zeros(5, PORT)
    ports["mac"][1:] = int.from_bytes(MAC, "big")
    addresses = np.zeros(32, address_table.ADDRESS)
    for port, tags in TAGS.items():
        ports[port]["tags"] = len(tags) // 4
        for own, length in ADDRESSES:
            address_table.add(addresses, port, own, length)
        address_table.add(addresses, port, V4, 120)
    address_table.add(addresses, 4, PREFIX | 0x4321, 64)
    return {
        "ports": ports,
        "addresses": addresses,
        "events": np.zeros(ev.items_for(events), np.uint64),
    }


TABLES = make_tables()


def frame_of(packet, port=1, tags=None):
    return (
        b"\x33\x33\xff\0\0\1" + PEER + (TAGS[port] if tags is None else tags) + b"\x86\xdd" + packet
    )


def run(packets, port=1, *, vector=256, tables=TABLES, tags=None, **given):
    """A packet begins behind the tags; a message (l4) behind the IPv6 header, as ip6-local says."""
    l3 = len(frame_of(b"", port, tags))
    prepare = given.pop("meta", None)

    def meta(record, i):
        record["l4"] = record["l3"] + 40
        if prepare:
            prepare(record, i)

    frames = [frame_of(packet, port, tags) for packet in packets]
    result = run_node(
        NODE, frames, l3=l3, rx_port=port, tables=tables, vector=vector, meta=meta, **given
    )
    result.pool.check(held=result.rows)
    told = [(e.kind, e.flags, e.port, e.ip, e.mac) for e in ev.drain(tables["events"])]
    return result, told


def compare(packets, port=1, vector=256, tags=None):
    result, told = run(packets, port, vector=vector, tags=tags)
    edges, frames, reasons, events = [], [], [], []
    for packet in packets:
        wanted = oracle.receive(packet, PEER, MAC, ADDRESSES)
        reasons.append(wanted.reason)
        edges.append("drop" if wanted.reason else "reply")
        head = wanted.to + MAC + TAGS[port] + b"\x86\xdd"
        frames.append(frame_of(packet, port, tags) if wanted.reason else head + wanted.reply)
        if wanted.learn:
            flags, ip, mac = wanted.learn
            number = int.from_bytes(mac or b"", "big")
            events.append((ev.LEARN, sum(FLAGS[f] for f in flags), port, ip, number))
    assert result.edges == edges
    assert result.frames == frames
    assert told == events
    for i, reason in enumerate(reasons):
        assert not reason or result.reason(i) == reason
        assert reason or result.meta[i]["tx_port"] == port
    assert result.counted == {r: reasons.count(r) for r in reasons if r}


interesting = st.sampled_from(
    [OWN, OWN, OWN, PREFIX, LOCAL, HOP, LOCAL_HOP, FAR, 0, V4, PREFIX | 0x4321]
    + [oracle.solicited_node(OWN), oracle.ALL_NODES, OWN ^ 1 << 64, 2**128 - 1]
)
macs = st.sampled_from([PEER, PEER, OTHER, bytes(6), b"\xff" * 6, b"\x01\0\0\0\0\1"])
links = st.tuples(st.sampled_from([1, 2]), macs).map(lambda o: bytes([o[0], 1]) + o[1])
options = st.one_of(
    links,
    links,
    st.sampled_from([b"", b"\x01\x00" + PEER, b"\x02\x02" + PEER, b"\x01\x02" + PEER + bytes(8)]),
    st.sampled_from([b"\x0e\x01" + bytes(6), b"\x01", b"\x01\x01\x02", b"\x05\x03" + bytes(22)]),
    st.binary(max_size=20),
)


def test_the_subnets_anycast_address_is_the_routers():
    """RFC 4291 section 2.6.1; not to who would have it for himself (RFC 4862 section 5.4.3)."""
    asked = [oracle.solicitation(PEER, source, PREFIX) for source in (HOP, LOCAL_HOP)]
    nobody = oracle.packet(
        0, oracle.solicited_node(PREFIX), 135, bytes(4) + PREFIX.to_bytes(16, "big")
    )
    local = oracle.solicitation(PEER, HOP, 0xFE80 << 112)
    compare([*asked, nobody, local])
    result, _ = run([*asked, nobody, local])
    assert result.edges == ["reply", "reply", "drop", "drop"]
    said = 14 + 40 + 4
    assert {frame[said] for frame in result.frames[:2]} == {oracle.ROUTER | oracle.SOLICITED}


@st.composite
def messages(draw):
    """A solicitation or advertisement with at most some things bent."""
    asks = draw(st.booleans())
    source = (
        draw(st.sampled_from([HOP, LOCAL_HOP, 0])) if draw(st.integers(0, 2)) else draw(interesting)
    )
    target = draw(st.sampled_from([OWN, LOCAL])) if draw(st.integers(0, 2)) else draw(interesting)
    dst = oracle.solicited_node(target) if draw(st.booleans()) else draw(interesting)
    flags = draw(st.sampled_from([0, 0x20, 0x40, 0x60, 0xE0, 0x80])) if not asks else 0
    tail = b"".join(draw(st.lists(options, max_size=2)))
    if draw(st.booleans()):
        tail = bytes([1 if asks else 2, 1]) + PEER
    kind = draw(st.sampled_from([135 if asks else 136] * 9 + [133, 134, 137]))
    code = draw(st.sampled_from([0] * 9 + [1, 255]))
    body = bytes([flags, 0, 0, 0]) + target.to_bytes(16, "big") + tail
    packet = oracle.packet(source, dst, kind, body, code)
    cut = draw(st.sampled_from([0] * 12 + [1, 8, 9]))
    return packet[: len(packet) - cut] if cut else packet


@settings(max_examples=80, deadline=None)
@given(
    packets=st.lists(messages(), min_size=1, max_size=24),
    port=st.sampled_from(sorted(TAGS)),
    vector=st.sampled_from([1, 3, 256]),
)
def test_it_does_what_the_oracle_does(packets, port, vector):
    compare(packets, port, vector)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=9))
def test_random_messages(tails):
    kinds = [b"\x87\0\0\0", b"\x88\0\0\0", b""]
    ends = HOP.to_bytes(16, "big") + OWN.to_bytes(16, "big")
    compare([bytes(8) + ends + kinds[i % 3] + tail for i, tail in enumerate(tails)])


def ask(source=HOP, target=OWN, dst=None, mac=PEER):
    return oracle.solicitation(mac, source, target, dst)


@pytest.mark.parametrize("tags", [b"\x81\x00\x00\x00", b"\x81\x00\x60\x00"])
def test_a_priority_tag_is_taken_off(tags):
    compare([ask(), ask(0), ask()[:64]], 1, 256, tags)


def test_who_says_no_mac_is_answered_where_its_frame_came_from():
    bare = oracle.packet(HOP, OWN, 135, bytes(4) + OWN.to_bytes(16, "big"))
    result, told = run([bare])
    assert result.frames[0][:6] == PEER
    assert told == []


def test_duplicate_address_detection_is_answered_to_all_and_teaches_nothing():
    """As it is sent: without a MAC."""
    probe = oracle.packet(0, oracle.solicited_node(OWN), 135, bytes(4) + OWN.to_bytes(16, "big"))
    result, told = run([probe])
    assert (result.edges, told) == (["reply"], [])
    assert result.frames[0][:6] == b"\x33\x33\0\0\0\1"
    answer = result.frames[0][14:]
    assert answer[24:40] == oracle.ALL_NODES.to_bytes(16, "big")
    assert answer[44] == oracle.ROUTER | oracle.OVERRIDE
    compare([probe])


def test_the_longest_options_and_one_byte_more():
    long = oracle.packet(HOP, OWN, 135, ask()[44:64] + b"\x0e\xff" + bytes(255 * 8 - 2))
    fits = oracle.packet(HOP, OWN, 135, ask()[44:] + b"\x0e\xe0" + bytes(224 * 8 - 2))
    assert len(frame_of(long)) > BUF_ROOM > len(frame_of(fits))
    compare([fits])
    result, _ = run([long])
    assert result.counted == {"too-long": 1}


def test_extension_headers_are_left_out_of_the_answer():
    header = b"\x3a\x00\x01\x04\0\0\0\0"  # destination options: padding
    packet = ask()[:40] + header + ask()[40:]

    def prepare(record, _):
        record["l4"] += 8

    result, told = run([packet], meta=prepare)
    wanted = oracle.receive(ask(), PEER, MAC, ADDRESSES)
    assert result.frames == [wanted.to + MAC + b"\x86\xdd" + wanted.reply]
    assert told == [(ev.LEARN, ev.OVERRIDE | ev.ADD, 1, HOP, int.from_bytes(PEER, "big"))]
    record = result.meta[0]
    assert record["l4"] == record["l3"] + 40


def test_an_answer_is_ours_and_carries_no_offload():
    def prepare(record, _):
        record["flags"] |= TRACED | LINK_BROADCAST | GSO | CSUM_PARTIAL

    result, _ = run([ask()], meta=prepare)
    assert result.meta[0]["flags"] == TRACED | SELF_MADE
    assert not int(result.meta[0]["flags"]) & CHAINED


def test_a_slow_control_plane_costs_no_answer():
    tables = make_tables(events=2)
    result, told = run([ask(HOP + i) for i in range(5)], tables=tables)
    assert result.edges == ["reply"] * 5
    assert result.counted == {"events-full": 3}
    assert [event[3] for event in told] == [HOP, HOP + 1]


def test_other_ports_addresses_are_not_ours():
    result, _ = run([ask(target=PREFIX | 0x4321), ask(target=V4)])
    assert result.counted == {"not-for-us": 1, "bad-target": 1}


def test_scapy_reads_the_answer():
    from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
    from scapy.layers.l2 import Ether

    result, _ = run([ask()])
    read = Ether(result.frames[0])
    said = read[ICMPv6ND_NA]
    assert (read.dst, read.src) == ("02:00:00:00:00:19", "02:00:00:00:00:01")
    assert (read[IPv6].src, read[IPv6].dst, read[IPv6].hlim) == (
        "2001:db8::1234", "2001:db8::ab:cdef", 255,
    )  # fmt: skip
    assert (said.R, said.S, said.O, said.tgt) == (1, 1, 1, "2001:db8::1234")
    assert said[ICMPv6NDOptDstLLAddr].lladdr == "02:00:00:00:00:01"
    again = read.copy()
    del again[ICMPv6ND_NA].cksum
    assert bytes(again) == result.frames[0]
