"""ip4-rewrite against the oracle; super-frames and feature arcs by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.network import NUMBER, adjacency, no_features, run_both, tables
from oracles import ethernet, ip4
from oracles.ip4 import Rewrite
from strategies import PORTS, Ip4Spec, ip, mac
from vforward.graph.arcs import END
from vforward.layout import EDGE_ARC, GSO, HEADROOM, SELF_MADE, TRACED
from vforward.nodes.ip4.rewrite import NODE
from vforward.packet.ip4 import DONT_FRAGMENT
from vforward.testing import heap_pool, packets
from vforward.testing.run_node import run_node

LAN, SUB = (next(p for p in PORTS if p.name == name) for name in ("lan", "lan.10"))
ICMP = {Rewrite.TTL_EXPIRED: 11 << 8, Rewrite.TOO_BIG: 3 << 8 | 4}


def to(mtu, port=LAN):
    record = adjacency(port, 0, mac(0x19))
    record["mtu"] = mtu
    return record


def compare(cases, l3=14):
    """Give packets, as (packet, mtu, self_made, port), to the node and to the oracle."""
    table = np.concatenate([to(0), *(to(mtu, port) for _, mtu, _, port in cases)])

    def prepare(record, i):
        record["adjacency"] = 1 + i
        record["flags"] |= TRACED | SELF_MADE * cases[i][2]

    frames = [b"\x5a" * l3 + packet for packet, *_ in cases]
    given = {"l3": l3, "meta": prepare, "tables": {**tables(), "adjacencies": table}}
    for vector in (1, 3):
        check(cases, run_node(NODE, frames, vector=vector, **given), frames, vector)
    return check(cases, run_node(NODE, frames, **given), frames, 256)


def check(cases, result, frames, vector):
    """Hold what came of a vector at a time against the oracle."""
    l3 = len(frames[0]) - len(cases[0][0])
    behind = "arc-end"
    for i, (packet, mtu, self_made, port) in enumerate(cases):
        way, after = ip4.rewrite(packet, mtu, self_made)
        if i % vector == 0:
            behind = "arc-end"
        if way in (Rewrite.SEND, Rewrite.FRAGMENT):
            link = ethernet.header(mac(0x19), port.mac, ethernet.IP4, ethernet.tag_of(port.vid))
            if way is Rewrite.FRAGMENT:  # what is behind it in the vector does not overtake it
                behind = "fragment"
            edge = behind
            assert (result.edges[i], result.frames[i]) == (edge, link + after)
            assert result.meta[i]["tx_port"] == NUMBER[port.name]
            assert result.meta[i]["l3"] == HEADROOM + l3
            continue
        assert result.frames[i] == frames[i]  # to be quoted as it was received
        assert result.edges[i] == "error"
        assert result.meta[i]["scratch"] == ICMP[way] | (mtu << 16) * (way is Rewrite.TOO_BIG)
    told = result.counters["expired"] + result.counters["too-big"]
    assert told == result.edges.count("error")
    return result


@st.composite
def cases(draw):
    packet = draw(strategies.valid_ip4_packets())
    near = st.integers(-1, 1).map(lambda n: len(packet) + n)
    mtu = draw(st.one_of(near, st.sampled_from((68, 576, 1496, 1500, 65535))))
    return packet, mtu, draw(st.booleans()), draw(st.sampled_from((LAN, SUB)))


@settings(max_examples=100, deadline=None)
@given(st.lists(cases(), min_size=1, max_size=10), st.sampled_from((14, 18)))
def test_against_the_oracle(cases, l3):
    compare(cases, l3)


@pytest.mark.parametrize("ttl", [0, 1, 2, 3, 254, 255])
@pytest.mark.parametrize("self_made", [False, True])
def test_every_ttl_at_checksums_that_wrap(ttl, self_made):
    compare([
        (Ip4Spec(b"", src=ip("10.0.0.9"), dst=ip("10.0.0.1"), ttl=ttl, force=c).build(), 1500,
         self_made, LAN)
        for c in strategies.CHECKSUMS
    ])  # fmt: skip


def test_all_65536_checksums():
    pool = heap_pool(256)
    rows = pool.take(256)
    table, features = to(1500), no_features()
    base = np.frombuffer(Ip4Spec(b"", src=ip("10.0.0.9"), dst=ip("10.0.0.1")).build(), np.uint8)
    pool.meta["off"], pool.meta["l3"], pool.meta["end"] = HEADROOM, HEADROOM, HEADROOM + 20
    edges, count = np.zeros(256, np.uint8), np.zeros(3, np.uint64)
    rest = int(
        ip4.checksum.ones_sum(
            base[:4].tobytes() + bytes(2) + base[6:10].tobytes() + base[12:].tobytes()
        )
    )
    for high in range(256):
        pool.data[rows, HEADROOM : HEADROOM + 20] = base
        check = (high << 8) + np.arange(256)
        ident = 0xFFFF - (rest + check) % 0xFFFF  # so that the header has this checksum
        for at, word in ((4, ident), (10, check)):
            pool.data[rows, HEADROOM + at] = word >> 8
            pool.data[rows, HEADROOM + at + 1] = word & 255
        before = [r.tobytes() for r in pool.data[rows, HEADROOM : HEADROOM + 20]]
        NODE.kernel(pool.data, pool.meta, rows, edges, count, table, features)
        for row, packet in zip(rows, before, strict=True):
            assert ip4.checksum.verifies(packet)
            assert pool.data[row, HEADROOM : HEADROOM + 20].tobytes() == ip4.decrement_ttl(packet)
    assert not count.any()


def test_long_packets_in_chains():
    packet = Ip4Spec(bytes(8000), src=ip("10.0.0.9"), dst=ip("10.0.0.1"), fragment=0x4000).build()
    result = compare([(packet, mtu, False, LAN) for mtu in (1500, 8019, 8020, 9000)])
    assert result.edges == ["error", "error", "arc-end", "arc-end"]
    packet = Ip4Spec(bytes(8000), src=ip("10.0.0.9"), dst=ip("10.0.0.1")).build()
    result = compare([(packet, mtu, False, LAN) for mtu in (1500, 8019, 8020, 9000)])
    assert result.edges == ["fragment"] * 4
    result = compare([(packet, mtu, False, LAN) for mtu in (9000, 8020, 8019, 9000)])
    assert result.edges == ["arc-end", "arc-end", "fragment", "fragment"]


TCP = packets.ip4(
    "10.0.0.9", "10.0.0.1", 6, packets.tcp("10.0.0.9", "10.0.0.1", 1, 2, bytes(20000))
)
UDP = packets.ip4(
    "10.0.0.9", "10.0.0.1", 17, packets.udp("10.0.0.9", "10.0.0.1", 1, 2, bytes(9000))
)


@pytest.mark.parametrize(
    ("packet", "headers", "kind"), [(TCP, 40, 1), (UDP, 28, 5)], ids=["tcp", "udp"]
)
@pytest.mark.parametrize("dont_fragment", [False, True])
@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_super_frame_is_as_long_as_its_longest_segment(
    packet, headers, kind, dont_fragment, over
):
    flags = int.from_bytes(packet[6:8], "big") & ~DONT_FRAGMENT | DONT_FRAGMENT * dont_fragment
    packet = ip4.with_checksum(packet[:6] + flags.to_bytes(2, "big") + packet[8:])

    def prepare(record, i):
        record["flags"] |= GSO
        record["gso_type"], record["gso_size"] = kind, 1500 - headers + over
        record["hdr_len"] = headers

    result = run_both(NODE, [packet], meta=prepare, tables={"adjacencies": to(1500)})
    if over <= 0:
        assert result.edges == ["arc-end"]
        assert result.frames[0][14:] == ip4.decrement_ttl(packet)
    elif dont_fragment:
        assert result.edges == ["error"]
        assert result.meta[0]["scratch"] == 1500 << 16 | 3 << 8 | 4
    else:
        assert result.counted == {}
        assert result.edges == ["segment"]
    assert bool(result.meta[0]["flags"] & GSO)


def test_what_is_behind_goes_the_same_way_and_does_not_overtake():
    """But a super-frame that need not be cut: it would be."""
    short = Ip4Spec(bytes(8), src=ip("10.0.0.9"), dst=ip("10.0.0.1")).build()
    long = Ip4Spec(bytes(3000), src=ip("10.0.0.9"), dst=ip("10.0.0.1")).build()
    chain = Ip4Spec(bytes(3000), src=ip("10.0.0.9"), dst=ip("10.0.0.1")).build()
    super_frame = UDP[:6] + bytes(2) + UDP[8:]  # without DF
    frames = [short, long, short, super_frame, super_frame, short, long, chain]
    sizes = {3: 1000, 4: 1473}

    def prepare(record, i):
        record["adjacency"] = int(i == 7)
        if i in sizes:
            record["flags"] |= GSO
            record["gso_size"] = sizes[i]

    table = {**tables(), "adjacencies": np.concatenate([to(1500), to(9000)])}
    result = run_node(NODE, frames, meta=prepare, tables=table)
    assert result.edges == [
        "arc-end", "fragment", "fragment", "arc-end", "segment", "segment", "segment", "segment",
    ]  # fmt: skip
    alone = run_node(NODE, frames, meta=prepare, tables=table, vector=1)
    assert alone.edges == [
        "arc-end", "fragment", "arc-end", "arc-end", "segment", "arc-end", "fragment", "arc-end",
    ]  # fmt: skip
    assert alone.frames == result.frames


def test_a_super_frame_expires_as_any_packet():
    packet = ip4.with_checksum(TCP[:8] + b"\x01" + TCP[9:])

    def prepare(record, i):
        record["flags"] |= GSO
        record["gso_size"] = 1460

    result = run_both(NODE, [packet], meta=prepare, tables={"adjacencies": to(1500)})
    assert (result.edges, result.meta[0]["scratch"]) == (["error"], 11 << 8)


@pytest.mark.parametrize("header", [60, 20])
def test_a_super_frame_that_ends_where_its_headers_should_be(header):
    """A virtual machine may call anything a super-frame: it is read inside the buffer."""
    packet = Ip4Spec(b"", proto=6, options=bytes(header - 20), dst=ip("10.0.0.1")).build()

    def prepare(record, i):
        record["flags"] |= GSO
        record["gso_size"] = 65535

    result = run_node(
        NODE, [b"\0" * (1974 - header) + packet], l3=1974 - header, meta=prepare,
        tables={"adjacencies": to(1500), "features": no_features()},
    )  # fmt: skip
    assert result.edges == ["segment"]  # which looks at its headers, and drops it


def test_features_of_the_port_it_goes_to():
    masks = no_features()
    masks[NUMBER["lan.10"]] |= np.uint64(0b0110_0000)
    masks[-1] = np.bitwise_or.reduce(masks[:-1])
    packet = Ip4Spec(b"", src=ip("10.0.0.9"), dst=ip("10.0.0.1")).build()
    expired = Ip4Spec(b"", src=ip("10.0.0.9"), dst=ip("10.0.0.1"), ttl=1).build()
    table = np.concatenate([to(1500, LAN), to(1500, SUB)])

    def prepare(record, i):
        record["adjacency"] = i % 2
        record["flags"] |= SELF_MADE * (i // 4)

    result = run_both(
        NODE, [packet, packet, expired, expired, packet, packet], meta=prepare,
        tables={"adjacencies": table, "features": masks}, compare=("off", "features"),
    )  # fmt: skip
    assert result.edges == ["arc-end", "arc-5", "error", "error", "arc-end", "arc-5"]
    assert result.meta["features"][[0, 1, 4, 5]].tolist() == [0, END | 1 << 6] * 2
    assert EDGE_ARC == 192
