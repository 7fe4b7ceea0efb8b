"""icmp4-error against the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.network import NUMBER, drops, run_both
from nodes.network import tables as all_tables
from oracles import icmp4, ip4
from strategies import OURS, PORTS, Ip4Spec, ip
from tables import nat_sessions
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
    TRANSLATED,
)
from vforward.nodes.icmp.error import NODE
from vforward.tables import rate_limit
from vforward.testing import heap_pool
from vforward.testing.run_node import run_node

WHATS = ((3, 0, 0), (3, 1, 0), (3, 3, 0), (3, 4, 576), (3, 4, 0xFFFF), (3, 13, 0), (11, 0, 0))
L3_PORTS = [p for p in PORTS if p.mode == "l3"]
LAN = PORTS[0]


def compare(cases, l3=14):
    """Give packets, as (packet, (type, code, mtu), link_multicast, port), to node and oracle.

    A fifth item that is true: NAT has changed it.
    """
    translated = [bool(case[4:] and case[4]) for case in cases]

    def prepare(record, i):
        kind, code, mtu = cases[i][1]
        record["scratch"] = mtu << 16 | kind << 8 | code
        record["flags"] |= LINK_BROADCAST * cases[i][2] | TRACED | CSUM_PARTIAL | CSUM_VALID | GSO
        record["flags"] |= TRANSLATED * translated[i]
        record["rx_port"] = NUMBER[cases[i][3].name]

    result = run_both(NODE, [b"\x5a" * l3 + case[0] for case in cases], l3=l3, meta=prepare)
    for i, (packet, what, link_multicast, port, *_) in enumerate(cases):
        sender = port.addresses[0][0] if port.addresses else None
        reason = icmp4.refusal(packet, link_multicast, OURS, sender, translated[i])
        if reason:
            assert (result.edges[i], result.reason(i)) == ("drop", reason), packet.hex()
            continue
        assert (result.edges[i], result.frames[i]) == ("reply", icmp4.error(packet, sender, *what))
        record = result.meta[i]
        assert record["off"] == record["l3"] == HEADROOM + l3 - 28
        assert record["flags"] == SELF_MADE | TRACED
        assert record["rest"] == 0
    assert result.counted == drops(result)
    result.pool.check(held=result.rows)
    return result


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            strategies.valid_ip4_packets(),
            st.sampled_from(WHATS),
            st.sampled_from((False, False, False, True)),
            st.sampled_from((*[LAN] * 5, *L3_PORTS)),
            st.booleans(),
        ),
        min_size=1,
        max_size=10,
    ),
    st.sampled_from((14, 18)),
)
def test_against_the_oracle(cases, l3):
    compare(cases, l3)


def udp(size, **fields):
    return Ip4Spec(
        bytes(i & 255 for i in range(size - 20)), 17, ip("10.0.0.9"), ip("8.8.8.8"), **fields
    ).build()


@pytest.mark.parametrize("size", [20, 21, 546, 547, 548, 549, 1500, BUF_ROOM - 14])
def test_how_much_is_quoted(size):
    result = compare([(udp(size), (11, 0, 0), False, LAN)])
    assert len(result.frames[0]) == 28 + min(size, 548)


@pytest.mark.parametrize("size", [BUF_ROOM - 13, BUF_ROOM, 2 * BUF_ROOM, 9000, 65535])
def test_chains_are_freed(size):
    """compare() checks that no buffer is lost; refused chains keep theirs for drop."""
    result = compare([
        (udp(size), (3, 4, 1500), False, LAN),
        (udp(size, fragment=1), (3, 4, 1500), False, LAN),
    ])  # fmt: skip
    assert result.edges == ["reply", "drop"]
    assert result.meta[1]["flags"] & CHAINED


@pytest.mark.parametrize("here", [20, 21, 100, 547, 548])
def test_the_quote_ends_with_the_first_buffer(here):
    packet = udp(600)
    l3 = BUF_ROOM - here

    def prepare(record, i):
        record["scratch"], record["rx_port"] = 11 << 8, NUMBER["lan"]

    result = run_both(NODE, [b"\x5a" * l3 + packet], l3=l3, meta=prepare)
    quote = ip4.with_checksum(packet[:2] + here.to_bytes(2, "big") + packet[4:here])
    want = bytearray(icmp4.error(quote, LAN.addresses[0][0], 11, 0))
    want[28:] = packet[:here]
    want[22:24] = bytes(2)
    want[22:24] = ip4.checksum.internet(bytes(want[20:])).to_bytes(2, "big")
    assert result.frames == [bytes(want)]
    result.pool.check(held=result.rows)


def test_icmp_whose_type_is_not_in_the_first_buffer():
    packet = Ip4Spec(b"\x08\0\xf7\xff" + bytes(4), 1, ip("10.0.0.9"), ip("8.8.8.8")).build()
    l3 = BUF_ROOM - 20
    result = run_both(NODE, [b"\x5a" * l3 + packet], l3=l3, rx_port=NUMBER["lan"])
    assert result.reason(0) == "icmp-about-icmp"


def test_every_icmp_type():
    compare([
        (Ip4Spec(bytes([kind]) + bytes(7), 1, ip("10.0.0.9"), ip("8.8.8.8")).build(), (3, 0, 0),
         False, LAN)
        for kind in range(256)
    ])  # fmt: skip


@pytest.mark.parametrize("translated", [False, True])
def test_every_source_and_destination_of_interest(translated):
    compare([
        (Ip4Spec(b"", 17, src, dst).build(), (3, 0, 0), False, LAN, translated)
        for src in (*OURS, 0, 1, ip("10.0.0.9"), 0xFFFFFFFF)
        for dst in strategies.INTERESTING
    ])  # fmt: skip


def test_a_source_of_ours_that_nat_gave_is_told():
    """Masquerade gives packets the router's own address: the sender's traceroute must see this hop."""
    masqueraded = Ip4Spec(b"", 17, OURS[0], ip("8.8.8.8")).build()
    what = (11, 0, 0)
    result = compare([(masqueraded, what, False, LAN, True), (masqueraded, what, False, LAN)])
    assert result.edges == ["reply", "drop"]
    assert not result.meta[0]["flags"] & TRANSLATED  # the error itself is not


@pytest.mark.parametrize(("l3", "ok"), [(0, False), (27, False), (51, False), (52, True)])
def test_no_headroom(l3, ok):
    """There must be room for the error and for the link header that ip4-rewrite puts before it."""
    packet = udp(60)
    pool = heap_pool(600)
    pool.data[:, l3 : l3 + 60] = np.frombuffer(packet, np.uint8)

    def prepare(record, i):
        record["off"] = record["l3"] = l3
        record["end"] = l3 + 60
        record["scratch"], record["rx_port"] = 11 << 8, NUMBER["lan"]

    tables = all_tables()
    result = run_node(NODE, [b"\x5a"] * 3, pool=pool, meta=prepare, tables=tables)
    if ok:
        assert result.frames == [icmp4.error(packet, LAN.addresses[0][0], 11, 0)] * 3
    else:
        assert result.frames == [packet] * 3
        assert result.counted == {"no-headroom": 3}


def test_what_is_at_the_buffers_end():
    packet = udp(100)
    l3 = BUF_STRIDE - HEADROOM - 100
    compare([(packet, (3, 4, 99), False, LAN)], l3)


def limited(cases, **rates):
    """Edges of packets with these sources: errors about them, at one instant of a very slow clock."""
    limits = np.zeros(rate_limit.items_for(64), np.uint64)
    rate_limit.prepare(limits, 1 << 60, **rates)

    def prepare(record, i):
        record["scratch"], record["rx_port"] = 11 << 8, NUMBER["lan"]

    packets = [Ip4Spec(b"", 17, src, ip("8.8.8.8")).build() for src in cases]
    result = run_node(
        NODE, packets, meta=prepare, vector=3,
        tables={**all_tables(), "icmp_limits": limits},
    )  # fmt: skip
    assert result.counted == drops(result)
    for i, packet in enumerate(packets):
        if result.edges[i] == "drop":
            assert (result.reason(i), result.frames[i]) == ("rate-limited", packet)
    return result.edges


def test_errors_to_one_address_are_limited():
    flood, other = ip("10.0.0.9"), ip("10.0.0.10")
    edges = limited([flood, flood, flood, flood, other], rate=0, each_rate=1, each_burst=2)
    assert edges == ["reply", "reply", "drop", "drop", "reply"]


@pytest.mark.parametrize("proto", [1, 6, 17, 47])
def test_who_is_masqueraded_is_limited_by_its_own_address(proto):
    """All have the router's address by then, and none is to use up what the others may hear."""
    sessions = nat_sessions.table()
    server = ip("8.8.8.8"), 0 if proto in (1, 47) else 53
    sent = []
    for n, client in enumerate((1, 1, 1, 2, 1, 3)):  # a flow each; with ports or without
        own = ip("10.0.0.9") + client, 0 if proto == 47 else 4000 + n
        given = OURS[0], 0 if proto == 47 else 50000 + n
        if proto == 47:
            server = ip("8.8.8.8") + n, 0
        nat_sessions.put(sessions, own, server, proto, translated=(given, server))
        message = {1: b"\x08" + bytes(3) + given[1].to_bytes(2, "big") + bytes(2)}.get(
            proto, given[1].to_bytes(2, "big") + server[1].to_bytes(2, "big") + bytes(16)
        )
        sent.append(Ip4Spec(message, proto, given[0], server[0]).build())

    def prepare(record, i):
        record["scratch"], record["rx_port"] = 11 << 8, NUMBER["lan"]
        record["flags"] |= TRANSLATED

    limits = np.zeros(rate_limit.items_for(64), np.uint64)
    rate_limit.prepare(limits, 1 << 60, rate=0, each_rate=1, each_burst=2)
    tables = {**all_tables(), "icmp_limits": limits, "sessions": sessions}
    result = run_node(NODE, sent, meta=prepare, tables=tables)
    assert result.edges == ["reply", "reply", "drop", "reply", "drop", "reply"]
    assert result.counted == {"rate-limited": 2}

    limits[rate_limit.HEADER :] = 0
    tables["sessions"] = nat_sessions.table()  # without its session a packet counts by its source
    assert run_node(NODE, sent, meta=prepare, tables=tables).edges == ["reply"] * 2 + ["drop"] * 4


def test_errors_in_all_are_limited():
    sources = [ip("10.0.0.9") + n for n in range(6)]
    assert limited(sources, rate=1, burst=4, each_rate=0) == ["reply"] * 4 + ["drop"] * 2


def test_what_is_refused_for_another_reason_is_not_counted_against_the_limit():
    ours, other = OURS[0], ip("10.0.0.9")

    def prepare(record, i):
        record["scratch"], record["rx_port"] = 11 << 8, NUMBER["lan"]

    limits = np.zeros(rate_limit.items_for(64), np.uint64)
    rate_limit.prepare(limits, 1 << 60, rate=1, burst=1)
    packets = [Ip4Spec(b"", 17, src, ip("8.8.8.8")).build() for src in (ours, ours, other)]
    tables = {**all_tables(), "icmp_limits": limits}
    result = run_node(NODE, packets, meta=prepare, tables=tables)
    assert result.counted == {"icmp-bad-source": 2}
    assert result.edges == ["drop", "drop", "reply"]


def test_what_is_ours_in_another_vrf_is_a_sender_in_this_one():
    """Two VRFs may have the same addresses (RFC 4364): a customer's is not the router's."""
    table = all_tables()["ports"].copy()
    table["vrf"][1:] = 1
    table["vrf"][1] = 0  # the port that has all addresses, see own_addresses
    ours = Ip4Spec(b"", 17, OURS[0], ip("8.8.8.8")).build()

    def prepare(record, i):
        record["scratch"], record["rx_port"] = 11 << 8, 1 + i

    senders = table["address"][1:3].tolist()
    assert all(senders)
    result = run_both(NODE, [ours] * 2, meta=prepare, tables={"ports": table})
    assert result.edges == ["drop", "reply"]
    assert result.reason(0) == "icmp-bad-source"
    assert result.frames[1] == icmp4.error(ours, senders[1], 11, 0)
