"""ip6-rewrite against the oracle; super-frames and feature arcs by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes import network6 as net
from nodes.network import no_features
from nodes.network6 import LAN, N_PORTS, STACKED, SUB, Ip6Spec
from oracles import ip6
from vforward.graph.arcs import END
from vforward.layout import GSO, HEADROOM, SELF_MADE, TRACED
from vforward.nodes.ip6.rewrite import NODE
from vforward.testing import packets
from vforward.testing.run_node import run_node

NEIGHBOR = net.mac(0x19)


def compare(cases, l3=14):
    """Give packets, as (packet, mtu, self_made, port), to the node and to the oracle."""
    records = [net.adjacency(port, NEIGHBOR, mtu) for _, mtu, _, port in cases]
    table = np.concatenate([net.adjacency(LAN, NEIGHBOR, 0), *records])

    def prepare(record, i):
        record["adjacency"] = 1 + i
        record["flags"] |= TRACED | SELF_MADE * cases[i][2]

    frames = [b"\x5a" * l3 + packet for packet, *_ in cases]
    result = net.run_both(
        NODE, frames, l3=l3, meta=prepare, tables={"adjacencies": table},
        compare=("off", "end", "l3", "flags", "rest", "scratch"),
    )  # fmt: skip
    kinds = []
    for i, (packet, mtu, self_made, port) in enumerate(cases):
        kind, after = ip6.rewrite(packet, mtu, self_made)
        kinds.append(kind)
        if kind is None:
            want = net.link_header(port, NEIGHBOR) + after
            assert (result.edges[i], result.frames[i]) == ("arc-end", want)
            assert (result.meta[i]["tx_port"], result.meta[i]["l3"]) == (port, HEADROOM + l3)
            continue
        assert (result.edges[i], result.frames[i]) == ("error", frames[i])  # as it was received
        assert result.meta[i]["scratch"] == kind << 8 | (mtu << 16) * (kind == 2)
    assert result.counters == {"expired": kinds.count(3), "too-big": kinds.count(2)}
    return result


@st.composite
def cases(draw):
    packet = draw(net.valid_packets())
    near = st.integers(-1, 1).map(lambda n: len(packet) + n)
    mtu = draw(st.one_of(near, st.sampled_from((1280, 1496, 1500, 65535))))
    return packet, mtu, draw(st.booleans()), draw(st.sampled_from((LAN, SUB, STACKED)))


@settings(max_examples=100, deadline=None)
@given(st.lists(cases(), min_size=1, max_size=10), st.sampled_from((14, 18, 22)))
def test_against_the_oracle(cases, l3):
    compare(cases, l3)


@pytest.mark.parametrize("self_made", [False, True])
def test_every_hop_limit(self_made):
    compare([(Ip6Spec(b"data", hops=n).build(), 1500, self_made, LAN) for n in range(256)])


def test_long_packets_in_chains():
    packet = Ip6Spec(bytes(8000)).build()
    result = compare([(packet, mtu, False, LAN) for mtu in (1500, 8039, 8040, 9000)])
    assert result.edges == ["error", "error", "arc-end", "arc-end"]


TCP = packets.tcp("10.0.0.9", "10.0.0.1", 1, 2, bytes(20000), options=b"\x01" * 12)
UDP = packets.udp("10.0.0.9", "10.0.0.1", 1, 2, bytes(9000))


@pytest.mark.parametrize(
    ("proto", "payload", "header"), [(6, TCP, 32), (17, UDP, 8)], ids=["tcp", "udp"]
)
@pytest.mark.parametrize("headers", [[], [(60, net.options()), (0, net.options(1, 12, size=2))]])
@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_super_frame_is_as_long_as_its_longest_segment(proto, payload, header, headers, over):
    packet = Ip6Spec(payload, proto, headers=headers).build()
    front = len(packet) - len(payload) + header

    def prepare(record, i):
        record["flags"] |= GSO
        record["gso_size"] = 1500 - front + over

    tables = {"adjacencies": net.adjacency(LAN, NEIGHBOR)}
    result = net.run_both(NODE, [packet], meta=prepare, tables=tables)
    if over <= 0:
        assert result.edges == ["arc-end"]
        assert result.frames[0][14:] == ip6.rewrite(packet, 65535)[1]
    else:
        assert result.edges == ["error"]
        assert result.meta[0]["scratch"] == 1500 << 16 | 2 << 8
    assert result.meta[0]["flags"] & GSO


def test_a_super_frame_expires_as_any_packet():
    def prepare(record, i):
        record["flags"] |= GSO
        record["gso_size"] = 1460

    tables = {"adjacencies": net.adjacency(LAN, NEIGHBOR)}
    result = net.run_both(NODE, [Ip6Spec(TCP, 6, hops=1).build()], meta=prepare, tables=tables)
    assert (result.edges, result.meta[0]["scratch"]) == (["error"], 3 << 8)


def test_a_super_frame_that_ends_where_its_headers_should_be():
    """A virtual machine may call anything a super-frame: it is read inside the buffer."""

    def prepare(record, i):
        record["flags"] |= GSO
        record["gso_size"] = 65535

    tables = {"adjacencies": net.adjacency(LAN, NEIGHBOR), "features": no_features(N_PORTS)}
    for headers in ([], [(60, net.options())]):
        packet = Ip6Spec(b"", 6, headers=headers).build()
        l3 = 1974 - len(packet)
        result = run_node(NODE, [bytes(l3) + packet], l3=l3, meta=prepare, tables=tables)
        assert result.edges == ["error"]


def test_features_of_the_port_it_goes_to():
    masks = no_features(N_PORTS)
    masks[SUB] |= np.uint64(0b0110_0000)
    masks[-1] = np.bitwise_or.reduce(masks[:-1])
    packet, expired = Ip6Spec(b"").build(), Ip6Spec(b"", hops=1).build()
    table = np.concatenate([net.adjacency(LAN, NEIGHBOR), net.adjacency(SUB, NEIGHBOR)])

    def prepare(record, i):
        record["adjacency"] = i % 2
        record["flags"] |= SELF_MADE * (i // 4)

    result = net.run_both(
        NODE, [packet, packet, expired, expired, packet, packet], meta=prepare,
        tables={"adjacencies": table, "features": masks}, compare=("off", "features"),
    )  # fmt: skip
    assert result.edges == ["arc-end", "arc-5", "error", "error", "arc-end", "arc-5"]
    assert result.meta["features"][[0, 1, 4, 5]].tolist() == [0, END | 1 << 6] * 2
