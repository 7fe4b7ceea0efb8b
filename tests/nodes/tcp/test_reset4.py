"""tcp4-reset against the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.network import NUMBER, drops, own_addresses, ports, run_both
from nodes.tcp.test_reset import segments
from oracles import ip4, tcp_reset
from oracles.checksum import l4
from strategies import OURS, Ip4Spec, ip
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
    TRANSLATED,
)
from vforward.nodes.tcp.reset4 import NODE
from vforward.tables import rate_limit
from vforward.testing.run_node import run_node

HERE, THERE = ip("10.0.0.9"), ip("8.8.8.8")
SYN = bytes.fromhex("c00000500000000100000000500200000000") + bytes(2)


def compare(cases, l3=14):
    """Give packets, as (packet, link_multicast), to node and oracle."""

    def prepare(record, i):
        record["flags"] |= LINK_BROADCAST * cases[i][1] | TRACED | CSUM_PARTIAL | GSO
        record["flags"] |= PORTS_KNOWN | TRANSLATED
        record["rx_port"], record["treatment"] = NUMBER["lan"], 7

    result = run_both(NODE, [b"\x5a" * l3 + packet for packet, _ in cases], l3=l3, meta=prepare)
    for i, (packet, link_multicast) in enumerate(cases):
        reason = tcp_reset.refusal4(packet, link_multicast, OURS)
        if reason:
            assert (result.edges[i], result.reason(i)) == ("drop", reason), packet.hex()
            continue
        wanted = tcp_reset.reset4(packet)
        assert (result.edges[i], result.frames[i]) == ("reply", wanted)
        assert ip4.check(wanted) is None
        assert l4(ip4.source(wanted), ip4.destination(wanted), 6, wanted[20:]) in (0, 0xFFFF)
        record = result.meta[i]
        assert record["off"] == record["l3"] == HEADROOM + l3
        assert record["flags"] == SELF_MADE | TRACED
        assert record["rest"] == record["treatment"] == 0
    assert result.counted == drops(result)
    result.pool.check(held=result.rows)
    return result


sources = st.one_of(st.just(HERE), st.just(HERE), st.sampled_from(strategies.INTERESTING))
tcp_packets = st.builds(
    lambda payload, src, dst, options, fragment, tos: Ip4Spec(
        payload, 6, src, dst, options=options, fragment=fragment, tos=tos, ttl=1, ident=77
    ).build(),
    st.one_of(segments(), segments(), st.binary(max_size=30)),
    sources,
    st.one_of(st.just(THERE), st.sampled_from(strategies.INTERESTING)),
    st.sampled_from((b"", b"", b"\x01" * 4, b"\x01" * 40)),
    st.sampled_from((0, 0x4000, 0x4000, 0x8000, 0x2000, 1)),
    st.integers(0, 255),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(tcp_packets, tcp_packets, strategies.valid_ip4_packets()),
            st.sampled_from((False, False, False, True)),
        ),
        min_size=1,
        max_size=10,
    ),
    st.sampled_from((14, 18)),
)
def test_against_the_oracle(cases, l3):
    compare(cases, l3)


@pytest.mark.parametrize("flags", range(64))
def test_every_flag(flags):
    segment = SYN[:13] + bytes([flags]) + SYN[14:] + bytes(3)
    compare([(Ip4Spec(segment, 6, HERE, THERE).build(), False)])


@pytest.mark.parametrize("size", [40, BUF_ROOM - 14, BUF_ROOM - 13, 2 * BUF_ROOM, 65535])
def test_chains_are_freed(size):
    """Their bytes are acknowledged; refused chains keep theirs for drop."""
    long = Ip4Spec(SYN + bytes(size - 40), 6, HERE, THERE).build()
    piece = Ip4Spec(SYN + bytes(size - 40), 6, HERE, THERE, fragment=0x2000).build()
    result = compare([(long, False), (piece, False)])
    assert result.edges == ["reply", "drop"]
    assert bool(result.meta[1]["flags"] & CHAINED) == (size > BUF_ROOM - 14)
    assert int.from_bytes(result.frames[0][28:32], "big") == 1 + size - 40 + 1


def test_a_header_that_is_not_in_the_first_buffer():
    packet = Ip4Spec(SYN, 6, HERE, THERE).build()
    l3 = BUF_ROOM - 39
    result = run_both(NODE, [b"\x5a" * l3 + packet], l3=l3, rx_port=NUMBER["lan"])
    assert result.reason(0) == "reset-truncated"


def test_resets_are_limited_with_icmp_errors():
    limits = np.zeros(rate_limit.items_for(64), np.uint64)
    rate_limit.prepare(limits, 1 << 60, rate=0, each_rate=1, each_burst=2)
    packets = [Ip4Spec(SYN, 6, src, THERE).build() for src in (HERE, HERE, HERE, HERE + 1)]
    tables = {"ports": ports(), "addresses": own_addresses(), "icmp_limits": limits}
    result = run_node(NODE, packets, tables=tables, rx_port=NUMBER["lan"])
    assert result.edges == ["reply", "reply", "drop", "reply"]
    assert result.counted == {"rate-limited": 1}
    assert result.frames[2] == packets[2]
