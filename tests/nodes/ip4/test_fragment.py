"""ip4-fragment against the oracle, and what it makes put together again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.network import NUMBER, adjacency, drops, no_features, run_both
from oracles import checksum, ip4
from strategies import PORTS, Ip4Spec, ip, mac
from vforward.graph import emit
from vforward.graph.arcs import END
from vforward.layout import BUF_ROOM, CHAINED, CSUM_PARTIAL, HEADROOM, SELF_MADE, TRACED
from vforward.nodes.ip4.fragment import NODE
from vforward.testing import heap_pool
from vforward.testing.run_node import run_node

LAN = PORTS[0]
MORE = 0x2000


def to(*mtus):
    records = np.concatenate([adjacency(LAN, 0, mac(0x19)) for _ in mtus])
    records["mtu"] = mtus
    return records


def link_header(n):
    return bytes(range(0xE0, 0xE0 + n))


def pieces_of(result, packets):
    """Frames by the packet that they are of: all are emitted, in the order of the packets."""
    emitted = list(result.emitted)
    found = []
    for i, (packet, mtu) in enumerate(packets):
        wanted = ip4.fragment(packet, mtu)
        if isinstance(wanted, str):
            found.append([result.frames[i]])
            continue
        n = len(wanted)
        assert all(edge == "arc-end" for edge, _ in emitted[:n])
        found.append([frame for _, frame in emitted[:n]])
        emitted = emitted[n:]
    assert not emitted
    return found


def compare(packets, link=14):
    """Give (packet, mtu) to the node and to the oracle."""

    def prepare(record, i):
        record["adjacency"] = i
        record["tx_port"], record["rx_port"] = NUMBER["wan"], NUMBER["lan"]
        record["flags"] |= TRACED
        record["trace"] = 77

    frames = [link_header(link) + packet for packet, _ in packets]
    table = to(*(mtu for _, mtu in packets))
    result = run_both(NODE, frames, l3=link, meta=prepare, tables={"adjacencies": table})
    made = 0
    for i, (frame, pieces) in enumerate(zip(frames, pieces_of(result, packets), strict=True)):
        packet, mtu = packets[i]
        wanted = ip4.fragment(packet, mtu)
        if isinstance(wanted, str):
            assert (result.edges[i], result.reason(i)) == ("drop", wanted)
            assert pieces == [frame]
            continue
        assert result.edges[i] == "held"
        if len(packet) <= mtu:
            assert pieces == [frame]
            continue
        assert pieces == [link_header(link) + piece for piece in wanted]
        assert all(len(piece) <= mtu for piece in wanted)
        assert all(ip4.check(piece) is None for piece in wanted)
        assert ip4.reassemble(wanted[::-1]) == packet
        made += len(wanted)
    for row in result.emitted_rows:
        record = result.pool.meta[row]
        assert (record["l3"], record["rx_port"]) == (HEADROOM + link, NUMBER["lan"])
        assert (record["tx_port"], record["trace"]) == (NUMBER["wan"], 77)
        assert int(record["flags"]) & ~CHAINED == TRACED
    counted = {**result.counted}
    assert counted.pop("fragments", 0) == made
    assert counted == drops(result)
    return result


def packet_of(size, options=b"", fragment=0, ident=0x1234, **fields):
    body = bytes(i * 7 + 1 & 255 for i in range(size))
    fields = {"src": ip("10.0.0.9"), "dst": ip("8.8.8.8")} | fields
    return Ip4Spec(body, 17, options=options, fragment=fragment, ident=ident, **fields).build()


options = st.one_of(
    st.sampled_from((
        b"", b"\x01" * 4, b"\x07" * 40, b"\x94\x04\0\0", b"\x94\x04\0\0\x01\x01\x01\0",
        b"\x83\x03\x04\x01" + b"\x88\x04\x12\x34", b"\x01\x01\x83\x03\x07\x44\x04\x05\0\x82\x0b",
        b"\x01" * 37 + b"\x83\x03\x04", b"\x01" * 38 + b"\x83\x03", b"\x01" * 39 + b"\x83",
        b"\x83\x00\x01\x01", b"\x83\x01\x01\x01", b"\x83\x28" + b"\x0a\0\0\1" * 9 + b"\0\0",
        b"\0\x94\x04\0\0\0\0\0",
    )),
    st.integers(0, 10).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)),
).map(lambda o: o + bytes(-len(o) % 4))  # fmt: skip


@st.composite
def cases(draw):
    mtu = draw(
        st.one_of(
            st.sampled_from((68, 69, 75, 76, 77, 576, 1496, 1500, BUF_ROOM, BUF_ROOM + 1, 9000)),
            st.integers(20, 600),
        )
    )
    opts = draw(options)
    near = st.integers(-9, 17).map(lambda n: max(0, mtu - 20 + n))
    times = st.tuples(st.integers(1, 4), near).map(lambda t: min(20000, t[0] * t[1]))
    size = draw(st.one_of(near, times, st.integers(0, 4000)))
    word = draw(st.sampled_from((0, 0, MORE, MORE | 185, 185, 1, 0x8000, 0x1FFF, MORE | 0x1F00)))
    if word & 0x1FFF:
        size = min(size, 65535 - (word & 0x1FFF) * 8) if draw(st.integers(0, 9)) else size
    return packet_of(size, opts, word), mtu


@settings(max_examples=150, deadline=None)
@given(st.lists(cases(), min_size=1, max_size=6), st.sampled_from((14, 14, 18, 22, 24)))
def test_against_the_oracle(packets, link):
    compare(packets, link)


@pytest.mark.parametrize("mtu", [67, 68, 75, 76, 83, 84, 100])
@pytest.mark.parametrize("opts", [b"", b"\x94\x04\0\0", b"\x83\x28" + bytes(38)], ids=len)
def test_every_length(mtu, opts):
    for first in range(20, 260, 10):  # as many as run_node has buffers for
        compare([(packet_of(n, opts), mtu) for n in range(first, first + 10)])


@pytest.mark.parametrize("mtu", range(16, 76))
def test_the_smallest_mtus(mtu):
    compare([(packet_of(80, bytes([7]) * n), mtu) for n in (0, 4, 40)])


@pytest.mark.parametrize("mtu", [576, 1500, 4000, 9000, 65534])
@pytest.mark.parametrize("size", [BUF_ROOM, 2 * BUF_ROOM, 9000, 65515])
def test_chains(size, mtu):
    compare([(packet_of(size), mtu), (packet_of(size - 4, b"\x94\x04\0\0"), mtu)])


def test_of_every_place_in_a_chain():
    """Pieces begin and end where buffers of the packet do, and one byte to either side."""
    for cut in range(BUF_ROOM - 14 - 20 - 8, BUF_ROOM - 14 - 20 + 16):
        compare([(packet_of(3 * BUF_ROOM), (cut & ~7) + 20), (packet_of(3 * BUF_ROOM), cut)])


def test_empty_buffers_inside_of_a_chain():
    """ip4-input leaves some behind when it cuts off padding."""
    packet = packet_of(3 * BUF_ROOM - 34)  # with the link header three buffers full
    pool = heap_pool(600)

    def trimmed(record, i):
        row = int(record["next"])
        while pool.meta[row]["flags"] & CHAINED:
            row = int(pool.meta[row]["next"])
        assert pool.meta[row]["end"] - pool.meta[row]["off"] == 50
        pool.meta[row]["end"] = pool.meta[row]["off"]
        record["rest"] -= 50

    tables = {"adjacencies": to(1500), "features": no_features()}
    frame = link_header(14) + packet + bytes(50)
    result = run_node(NODE, [frame], l3=14, pool=pool, meta=trimmed, tables=tables)
    got = [frame[14:] for _, frame in result.emitted]
    assert got == ip4.fragment(packet, 1500)


def test_a_partial_checksum_is_completed():
    body = bytes(i * 5 & 255 for i in range(3000))
    message = b"\x08\0\0\0" + body
    packets = [
        Ip4Spec(message, 1, ip("10.0.0.9"), ip("8.8.8.8"), options=opts).build()
        for opts in (b"", b"\x94\x04\0\0")
    ]

    def prepare(record, i):
        record["flags"] |= CSUM_PARTIAL
        record["csum_start"], record["csum_off"] = HEADROOM + 14 + 20 + 4 * i, 2
        record["adjacency"] = 0

    result = run_both(
        NODE, [link_header(14) + p for p in packets], l3=14, meta=prepare,
        tables={"adjacencies": to(600)},
    )  # fmt: skip
    found = pieces_of(result, [(p, 600) for p in packets])
    for packet, pieces in zip(packets, found, strict=True):
        whole = ip4.reassemble([piece[14:] for piece in pieces])
        n = ip4.header_length(packet)
        assert checksum.verifies(whole[n:])
        assert whole[n + 4 :] == body
    assert not any(result.meta["flags"] & CSUM_PARTIAL)


@pytest.mark.parametrize("place", [(0, 0), (0, 9), (16, 4), (-14, 14), (19, 0)])
def test_a_partial_checksum_does_not_change_the_header(place):
    """A virtual machine says where its checksum is; in the header, it would change the length."""
    body = b"\xb0\xff" + bytes(3000)  # whose sum's complement says: 60 bytes of header
    packet = Ip4Spec(body, 17, ip("10.0.0.9"), ip("8.8.8.8")).build()

    def prepare(record, i):
        record["flags"] |= CSUM_PARTIAL
        record["csum_start"], record["csum_off"] = HEADROOM + 14 + place[0], place[1]
        record["adjacency"] = 0

    frame = link_header(14) + packet
    result = run_both(NODE, [frame], l3=14, meta=prepare, tables={"adjacencies": to(600)})
    (pieces,) = pieces_of(result, [(packet, 600)])
    assert pieces == [link_header(14) + piece for piece in ip4.fragment(packet, 600)]
    assert not any(result.meta["flags"] & CSUM_PARTIAL)


def test_what_the_router_sent_without_an_identification_gets_one():
    """RFC 6864 section 4.3: else two ICMP errors' pieces could be put together as one."""
    packets = [packet_of(100, ident=0), packet_of(100, ident=0), packet_of(100, ident=9)]

    def prepare(record, i):
        record["flags"] |= SELF_MADE

    frames = [link_header(14) + p for p in packets]
    result = run_both(NODE, frames, l3=14, meta=prepare, tables={"adjacencies": to(68)})
    found = pieces_of(result, [(p, 68) for p in packets])
    idents = [{piece[18:20] for piece in pieces} for pieces in found]
    assert [len(i) for i in idents] == [1, 1, 1]
    assert idents[0] != idents[1]
    assert idents[2] == {b"\0\x09"}
    for packet, pieces in zip(packets, found, strict=True):
        assert ip4.reassemble([p[14:] for p in pieces])[20:] == packet[20:]
    assert all(result.pool.meta["flags"][result.emitted_rows] & SELF_MADE)


def test_features_of_the_port_it_goes_to():
    masks = no_features()
    masks[NUMBER["wan"]] |= np.uint64(0b0110_0000)
    masks[-1] = np.bitwise_or.reduce(masks[:-1])

    def prepare(record, i):
        record["tx_port"] = NUMBER["wan"] if i else NUMBER["lan"]

    result = run_both(
        NODE, [packet_of(100), packet_of(100)], meta=prepare,
        tables={"adjacencies": to(68), "features": masks}, compare=("off", "features"),
    )  # fmt: skip
    assert [edge for edge, _ in result.emitted] == ["arc-end"] * 3 + ["arc-5"] * 3
    left = [int(result.pool.meta[row]["features"]) for row in result.emitted_rows]
    assert left == [0] * 3 + [END | 1 << 6] * 3


@pytest.mark.parametrize("spare", range(12))
def test_all_pieces_or_none_when_the_pool_is_short(spare):
    """Pieces of two buffers each: run_node checks that none is lost, whatever runs out when."""
    packet = packet_of(8000)
    pool = heap_pool(5 + spare)  # of which 5 are the packet's
    tables = {"adjacencies": to(2600), "features": no_features()}
    result = run_node(NODE, [link_header(14) + packet], l3=14, pool=pool, tables=tables)
    wanted = ip4.fragment(packet, 2600)
    needed = sum(-(-(14 + len(piece)) // BUF_ROOM) for piece in wanted[1:])
    if spare < needed:
        assert result.edges == ["drop"]
        assert (result.counted, result.emitted) == ({"no-buffer": 1}, [])
        assert result.frames == [link_header(14) + packet]
    else:
        assert result.edges == ["held"]
        assert [frame[14:] for _, frame in result.emitted] == wanted
        assert pool.free == 5 + spare - needed - 2  # the first piece has kept two buffers


@pytest.mark.parametrize("left", range(8))
def test_what_there_is_no_room_for_is_put_off_with_all_behind_it(left):
    """Three packets, of 3, 1 and 3 pieces: whatever room is left, all go, in order."""
    packets = [packet_of(100, ident=1), packet_of(8, ident=2), packet_of(100, ident=3)]
    out = emit.new()
    out[emit.LEFT] = left
    tables = {"adjacencies": to(68), "features": no_features(), "emitted": out}
    result = run_node(NODE, packets, tables=tables)
    wanted = [piece for packet in packets for piece in ip4.fragment(packet, 68)]
    assert len(wanted) == 7
    assert [frame for _, frame in result.emitted] == wanted
    assert result.counted == {"fragments": 6}
    assert result.put_off == (3 if left < 3 else 2 if left < 4 else 1 if left < 7 else 0)


def test_what_there_is_never_room_for_is_dropped():
    packet = packet_of(65535 - 60, bytes([7]) * 40)  # 8 bytes in the first piece, 48 in others
    assert len(ip4.fragment(packet, 68)) < emit.EMIT_ROOM
    copied = packet_of(65535 - 60, b"\x83\x28" + bytes(38))  # 8 bytes in each
    assert len(ip4.fragment(copied, 68)) > emit.EMIT_ROOM
    pool = heap_pool(2 * emit.EMIT_ROOM)
    out = emit.new()
    out[emit.LEFT] = 0
    tables = {"adjacencies": to(68), "features": no_features(), "emitted": out}
    result = run_node(NODE, [packet, copied], tables=tables, pool=pool)
    assert result.edges == ["held", "drop"]
    assert [frame for _, frame in result.emitted] == ip4.fragment(packet, 68)
    assert result.counted == {"fragments": len(result.emitted), "no-room": 1}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), options, st.integers(68, 700), st.integers(68, 700))
def test_fragments_of_fragments(size, opts, first, second):
    packet = packet_of(size, opts)
    once = ip4.fragment(packet, first)
    result = compare([(piece, second) for piece in once])
    twice = [
        piece[14:]
        for pieces in pieces_of(result, [(piece, second) for piece in once])
        for piece in pieces
    ]
    assert ip4.reassemble(twice[1::2] + twice[::2]) == packet


@settings(max_examples=60, deadline=None)
@given(
    st.lists(strategies.valid_ip4_packets(), min_size=1, max_size=6),
    st.sampled_from((68, 200, 576)),
)
def test_packets_of_the_network(packets, mtu):
    compare([(packet, mtu) for packet in packets])
