"""icmp6-error against the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes import network6 as net
from nodes.network import drops
from nodes.network6 import LAN, N_PORTS, STACKED, Ip6Spec, a
from oracles import icmp6
from vforward.layout import (
    BUF_ROOM,
    BUF_STRIDE,
    CHAINED,
    CSUM_PARTIAL,
    CSUM_VALID,
    GSO,
    HEADROOM,
    LINK_BROADCAST,
    SELF_MADE,
    TRACED,
)
from vforward.nodes.icmp6.error import NODE
from vforward.tables import rate_limit
from vforward.testing import heap_pool
from vforward.testing.run_node import run_node

WHATS = ((1, 0, 0), (1, 2, 0), (1, 4, 0), (2, 0, 1280), (2, 0, 0xFFFF), (3, 0, 0), (4, 0, 42),
         (4, 1, 6), (4, 2, 0xFFFF))  # fmt: skip
PEER_MAC = net.mac(0x99)


def prepare_as(cases):
    def prepare(record, i):
        _, (kind, code, word), link_multicast, port = cases[i]
        record["scratch"] = word << 16 | kind << 8 | code
        record["flags"] |= (
            LINK_BROADCAST * link_multicast | TRACED | CSUM_PARTIAL | CSUM_VALID | GSO
        )
        record["rx_port"] = port
        record["l3"] = HEADROOM + len(net.link_header(port, PEER_MAC))

    return prepare


def compare(cases):
    """Give packets, as (packet, (type, code, word), link_multicast, port), to node and oracle."""
    frames = [net.link_header(port, net.mac(1), PEER_MAC) + p for p, _, _, port in cases]
    result = net.run_both(NODE, frames, meta=prepare_as(cases))
    for i, (packet, what, link_multicast, port) in enumerate(cases):
        to = icmp6.ip6.source(packet)
        speak = net.speaker(port, to)
        reason = icmp6.refusal(packet, what[:2], link_multicast, net.ours(port), speak)
        if reason:
            assert (result.edges[i], result.reason(i)) == ("drop", reason), packet.hex()
            assert result.frames[i] == frames[i]
            continue
        link = net.link_header(port, PEER_MAC) if to.is_link_local else b""
        want = link + icmp6.error(packet, speak, *what)
        assert result.edges[i] == ("link" if link else "reply"), (packet.hex(), result.counted)
        assert result.frames[i] == want, packet.hex()
        record = result.meta[i]
        assert record["l3"] == record["off"] + len(link)
        assert record["flags"] == SELF_MADE | TRACED
        assert record["rest"] == 0
        assert not link or record["tx_port"] == port
    assert result.counted == drops(result)
    result.pool.check(held=result.rows)
    return result


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            net.valid_packets(),
            st.sampled_from(WHATS),
            st.sampled_from((False, False, False, True)),
            st.integers(1, N_PORTS - 1),
        ),
        min_size=1,
        max_size=10,
    )
)
def test_against_the_oracle(cases):
    compare(cases)


def udp(size, **fields):
    return Ip6Spec(bytes(i & 255 for i in range(size - 40)), **fields).build()


@pytest.mark.parametrize("size", [40, 41, 1231, 1232, 1233, 1500, BUF_ROOM - 14])
def test_how_much_is_quoted(size):
    result = compare([(udp(size), (3, 0, 0), False, LAN)])
    assert len(result.frames[0]) == 48 + min(size, 1232)


@pytest.mark.parametrize("size", [BUF_ROOM - 13, BUF_ROOM, 2 * BUF_ROOM, 9000, 65000])
def test_chains_are_freed(size):
    """compare() checks that no buffer is lost; refused chains keep theirs for drop."""
    result = compare([
        (udp(size), (2, 0, 1500), False, LAN),
        (udp(size, src=a("fe80::9")), (2, 0, 1500), False, STACKED),
        (udp(size, src=a("::2")), (1, 0, 0), True, LAN),
    ])  # fmt: skip
    assert result.edges == ["reply", "link", "drop"]
    assert result.meta[2]["flags"] & CHAINED


@pytest.mark.parametrize("here", [40, 41, 1231, 1232])
def test_the_quote_ends_with_the_first_buffer(here):
    packet = udp(1400)
    l3 = BUF_ROOM - here

    def prepare(record, i):
        record["scratch"], record["rx_port"] = 3 << 8, LAN

    result = net.run_both(NODE, [b"\x5a" * l3 + packet], l3=l3, meta=prepare)
    speak = net.speaker(LAN, net.GLOBAL[0])
    assert result.frames == [icmp6.error(packet[:here], speak, 3, 0)]
    result.pool.check(held=result.rows)


def test_every_icmp_type():
    for headers in ([], [(60, net.options())], [(44, b"\0\0\1" + bytes(4))]):
        compare([
            (Ip6Spec(bytes([kind]) + bytes(7), 58, headers=headers).build(), (1, 0, 0), False, LAN)
            for kind in range(256)
        ])  # fmt: skip


def test_icmp_whose_type_is_not_in_the_first_buffer():
    packet = Ip6Spec(bytes([128]) + bytes(7), 58).build()
    l3 = BUF_ROOM - 40
    result = net.run_both(NODE, [b"\x5a" * l3 + packet], l3=l3, rx_port=LAN)
    assert result.reason(0) == "icmp-about-icmp"


def test_fragments_other_than_the_first_are_told_about():
    """RFC 4443 does not forbid it, other than RFC 1812."""
    packet = Ip6Spec(bytes(16), 17, headers=[(44, b"\0\0\x08" + bytes(4))]).build()
    assert compare([(packet, (3, 0, 0), False, LAN)]).edges == ["reply"]


@pytest.mark.parametrize("port", range(1, N_PORTS))
@pytest.mark.parametrize("what", [(1, 0, 0), (2, 0, 1280), (4, 2, 48), (4, 1, 6)])
def test_every_source_and_destination_of_interest(port, what):
    compare([
        (Ip6Spec(b"", src=src, dst=dst).build(), what, link_multicast, port)
        for src in net.ADDRESSES
        for dst in (net.GLOBAL[1], a("ff02::1"), a("ff0e::1"))
        for link_multicast in (False, True)
        if src not in icmp6.ip6.MAPPED  # ip6-input lets none through
    ])  # fmt: skip


def test_every_truncation_of_extension_headers():
    headers = [(0, net.options()), (43, net.options(0, 0)), (51, bytes([1]) + bytes(10)),
               (44, bytes(7)), (60, net.options(1, 12, size=2))]  # fmt: skip
    for proto, payload in ((58, b"\1\0" + bytes(6)), (58, b"\x80\0" + bytes(6)), (17, bytes(8))):
        whole = Ip6Spec(payload, proto, headers=headers).build()
        cuts = [whole[:n] for n in range(40, len(whole) + 1)]
        compare([(packet, (1, 4, 0), False, LAN) for packet in cuts])


@pytest.mark.parametrize(("l3", "ok"), [(14, False), (47, False), (71, False), (72, True)])
def test_no_headroom(l3, ok):
    """There must be room for the error and for the link header that ip6-rewrite puts before it."""
    packet = udp(60)
    pool = heap_pool(600)
    pool.data[:, l3 : l3 + 60] = np.frombuffer(packet, np.uint8)

    def prepare(record, i):
        record["off"] = record["l3"] = l3
        record["end"] = l3 + 60
        record["scratch"], record["rx_port"] = 3 << 8, LAN

    result = run_node(NODE, [b"\x5a"] * 3, pool=pool, meta=prepare, tables=net.tables())
    if ok:
        assert result.frames == [icmp6.error(packet, net.speaker(LAN, net.GLOBAL[0]), 3, 0)] * 3
    else:
        assert result.frames == [packet] * 3
        assert result.counted == {"no-headroom": 3}


def test_what_is_at_the_buffers_end():
    packet = udp(100)
    l3 = BUF_STRIDE - HEADROOM - 100

    def prepare(record, i):
        record["scratch"], record["rx_port"] = 3 << 8, LAN

    result = net.run_both(NODE, [b"\x5a" * l3 + packet], l3=l3, meta=prepare)
    assert result.frames == [icmp6.error(packet, net.speaker(LAN, net.GLOBAL[0]), 3, 0)]


def test_who_has_but_a_link_local_address_speaks_on_the_link():
    """RFC 4291 section 2.5.6: what comes from it is not routed."""
    table = net.ports().copy()
    table["vrf"][net.STACKED] = 9
    packet = Ip6Spec(b"", src=net.GLOBAL[0]).build()
    cases = [(packet, (1, 0, 0), False, net.STACKED)]
    frame = net.link_header(net.STACKED, net.mac(1), PEER_MAC) + packet
    result = net.run_both(NODE, [frame], meta=prepare_as(cases), tables={"ports": table})
    link = net.link_header(net.STACKED, PEER_MAC)
    assert result.out == {"link": [link + icmp6.error(packet, a("fe80::3"), 1, 0, 0)]}


def test_each_sender_has_a_limit_of_its_own():
    """At one error per hour and a burst of 3: what is refused for other reasons costs nothing."""
    table = np.zeros(rate_limit.items_for(64), np.uint64)
    rate_limit.prepare(table, 3600 * 10**10, rate=0, each_rate=1, each_burst=3)
    senders = [net.GLOBAL[0], net.GLOBAL[1], a("fe80::9")]
    groups = [
        (Ip6Spec(b"", src=s, dst=a("ff02::1")).build(), (1, 0, 0), False, LAN) for s in senders
    ]
    told = [(Ip6Spec(b"", src=s).build(), (1, 0, 0), False, LAN) for s in senders]
    cases = groups * 4 + told * 5
    frames = [net.link_header(LAN, net.mac(1), PEER_MAC) + p for p, *_ in cases]
    tables = {**net.tables(), "icmp_limits": table}
    result = run_node(NODE, frames, meta=prepare_as(cases), tables=tables)
    assert result.counted == {"icmp-about-multicast": 12, "rate-limited": 6} == drops(result)
    assert result.edges == ["drop"] * 12 + ["reply", "reply", "link"] * 3 + ["drop"] * 6
