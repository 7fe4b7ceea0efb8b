"""tcp6-reset against the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes import network6 as net
from nodes.network import drops
from nodes.network6 import LAN, N_PORTS, STACKED, Ip6Spec, a
from nodes.tcp.test_reset import segments
from nodes.tcp.test_reset4 import SYN
from oracles import ip6, tcp_reset
from vforward.layout import (
    BUF_ROOM,
    CHAINED,
    CSUM_PARTIAL,
    GSO,
    HEADROOM,
    LINK_BROADCAST,
    PORTS_KNOWN,
    SELF_MADE,
    TRACED,
)
from vforward.nodes.tcp.reset6 import NODE
from vforward.tables import rate_limit
from vforward.testing.run_node import run_node

PEER_MAC = net.mac(0x99)


def compare(cases):
    """Give packets, as (packet, link_multicast, port), to node and oracle."""
    frames = [net.link_header(port, net.mac(1), PEER_MAC) + p for p, _, port in cases]

    def prepare(record, i):
        record["flags"] |= LINK_BROADCAST * cases[i][1] | TRACED | CSUM_PARTIAL | GSO | PORTS_KNOWN
        record["rx_port"], record["treatment"] = cases[i][2], 7
        record["l3"] = HEADROOM + len(net.link_header(cases[i][2], PEER_MAC))

    result = net.run_both(NODE, frames, meta=prepare)
    for i, (packet, link_multicast, port) in enumerate(cases):
        reason = tcp_reset.refusal6(packet, link_multicast, net.ours(port))
        if reason:
            assert (result.edges[i], result.reason(i)) == ("drop", reason), packet.hex()
            assert result.frames[i] == frames[i]
            continue
        local = ip6.source(packet).is_link_local or ip6.destination(packet).is_link_local
        link = net.link_header(port, PEER_MAC) if local else b""
        assert result.edges[i] == ("link" if link else "reply")
        assert result.frames[i] == link + tcp_reset.reset6(packet)
        record = result.meta[i]
        assert record["l3"] == record["off"] + len(link)
        assert record["flags"] == SELF_MADE | TRACED
        assert record["rest"] == record["treatment"] == 0
        assert not link or record["tx_port"] == port
    assert result.counted == drops(result)
    result.pool.check(held=result.rows)
    return result


def fragment(word):
    return (44, bytes([0]) + word.to_bytes(2, "big") + bytes(4))


headers = st.lists(
    st.sampled_from(
        ((0, bytes(7)), (60, bytes([1]) + bytes(14)), (51, bytes([2]) + bytes(14)), fragment(0),
         fragment(1), fragment(8), (50, bytes(7)))
    ),
    max_size=3,
)  # fmt: skip
addresses = st.one_of(
    st.sampled_from(net.GLOBAL), st.sampled_from(net.GLOBAL), st.sampled_from(net.ADDRESSES)
)
tcp_packets = st.builds(
    lambda payload, src, dst, its, flow: Ip6Spec(payload, 6, src, dst, its, flow=flow).build(),
    st.one_of(segments(), segments(), st.binary(max_size=30)),
    addresses,
    addresses,
    st.one_of(st.just([]), headers),
    st.integers(0, (1 << 28) - 1),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(tcp_packets, tcp_packets, net.valid_packets()),
            st.sampled_from((False, False, False, True)),
            st.integers(1, N_PORTS - 1),
        ),
        min_size=1,
        max_size=10,
    )
)
def test_against_the_oracle(cases):
    compare(cases)


@pytest.mark.parametrize("size", [60, BUF_ROOM - 14, BUF_ROOM, 2 * BUF_ROOM, 65000])
def test_chains_are_freed(size):
    def packet(**fields):
        return Ip6Spec(SYN + bytes(size - 60), 6, **fields).build()

    result = compare([
        (packet(), False, LAN),
        (packet(src=a("fe80::9"), dst=a("2001:db8:1::1")), False, STACKED),
        (packet(src=a("::")), True, LAN),
    ])  # fmt: skip
    assert result.edges == ["reply", "link", "drop"]
    assert bool(result.meta[2]["flags"] & CHAINED) == (size > BUF_ROOM - 14)


def test_resets_are_limited_with_icmp_errors():
    limits = np.zeros(rate_limit.items_for(64), np.uint64)
    rate_limit.prepare(limits, 1 << 60, rate=0, each_rate=1, each_burst=2)
    one, other = net.GLOBAL[2:4]
    packets = [Ip6Spec(SYN, 6, src).build() for src in (one, one, one, other)]
    tables = {**net.tables(), "icmp_limits": limits}
    result = run_node(NODE, packets, tables=tables, rx_port=LAN)
    assert result.edges == ["reply", "reply", "drop", "reply"]
    assert result.counted == {"rate-limited": 1}
