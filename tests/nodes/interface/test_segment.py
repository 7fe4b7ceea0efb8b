# SPDX-License-Identifier: Apache-2.0
"""segment against the oracle, which does as Linux does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import checksum, gso
from vforward.graph import emit
from vforward.layout import BUF_ROOM, CHAINED, CSUM_PARTIAL, GSO, HEADROOM, META, TRACED
from vforward.nodes.interface.segment import NODE, _is_sound
from vforward.testing import heap_pool
from vforward.testing.run_node import run_node

KIND = {"tcp4": gso.TCP4, "tcp6": gso.TCP6, "udp4": gso.UDP_L4, "udp6": gso.UDP_L4}
NOTHING = np.zeros(1, np.uint64)
MACS = bytes(range(0x20, 0x2C))


def ip_of(name, transport, extra, ident, df):
    if name.endswith("4"):
        extra = extra[: len(extra) // 4 * 4][:40]
        length = min(20 + len(extra) + len(transport), 0xFFFF)
        head = bytes([0x45 + len(extra) // 4, 0x0B]) + length.to_bytes(2, "big")
        head += ident.to_bytes(2, "big") + (b"\x40\0" if df else b"\0\0")
        head += bytes([64, 6 if name == "tcp4" else 17, 0xDE, 0xAD, 10, 1, 2, 3, 192, 0, 2, 9])
        return b"\x08\x00", head + extra
    upper = 6 if name == "tcp6" else 17
    following = b""
    if extra:
        size = (len(extra) + 2 + 7) // 8 * 8
        following = bytes([upper, size // 8 - 1]) + extra + bytes(size - 2 - len(extra))
    head = b"\x60\x0a\x0b\x0c" + min(len(following) + len(transport), 0xFFFF).to_bytes(2, "big")
    head += bytes([60 if extra else upper, 64]) + bytes(range(0x80, 0xA0))
    return b"\x86\xdd", head + following


def frame_of(
    name,
    payload,
    *,
    extra=b"",
    ident=7,
    df=True,
    options=b"",
    flags=0x10,
    seq=1,
    tags=0,
    partial=True,
):
    """A super-frame. partial: its checksum's field has the pseudo-header's sum."""
    if name.startswith("tcp"):
        options = options[: len(options) // 4 * 4][:40]
        transport = b"\x12\x34\x00\x50" + seq.to_bytes(4, "big") + bytes(4)
        transport += bytes([(5 + len(options) // 4) << 4, flags]) + b"\x01\x00\0\0\0\0" + options
        field = 16
    else:
        transport = b"\x12\x34\x00\x35" + min(8 + len(payload), 0xFFFF).to_bytes(2, "big") + b"\0\0"
        field = 6
    ether, network = ip_of(name, transport + payload, extra, ident, df)
    if partial:
        addresses = network[12:20] if name.endswith("4") else network[8:40]
        protocol = 6 if name.startswith("tcp") else 17
        pseudo = (
            addresses
            + protocol.to_bytes(4, "big")
            + (len(transport) + len(payload)).to_bytes(4, "big")
        )
        held = checksum.ones_sum(pseudo).to_bytes(2, "big")
    else:
        held = b"\x11\x11"
    transport = transport[:field] + held + transport[field + 2 :]
    return MACS + b"\x81\x00\x00\x05" * tags + ether + network + transport + payload


def text(n):
    return bytes(i * 7 + (i >> 8) & 255 for i in range(n))


def compare(given, whole=NOTHING):
    """Give (name, frame, gso_size, partial) to the node and to the oracle. name "": no super-frame."""

    def prepare(record, i):
        name, _, size, partial = given[i]
        record["tx_port"], record["adjacency"], record["trace"] = 3, 5, 77
        record["flags"] |= TRACED
        if name:
            record["flags"] |= GSO | (CSUM_PARTIAL if partial else 0)
            record["gso_type"], record["gso_size"] = KIND[name], size

    frames = [frame for _, frame, _, _ in given]
    n = sum(
        len(frame) // BUF_ROOM + 1 + len(frame) // max(size, 1) * 2 for _, frame, size, _ in given
    )
    tables = {"whole": whole}
    result = run_node(NODE, frames, tables=tables, meta=prepare, l3=14, pool=heap_pool(2 * n + 64))
    wanted, made = [], 0
    for i, (name, frame, size, partial) in enumerate(given):
        if not name:
            wanted.append(frame)
            continue
        cut = gso.segments(frame, KIND[name], size, partial=partial, first=BUF_ROOM)
        if isinstance(cut, str):
            assert (result.edges[i], result.reason(i)) == ("drop", cut)
            assert result.frames[i] == frame
            continue
        wanted += cut
        made += len(cut)
    before = [f for f, edge in zip(result.frames, result.edges, strict=True) if edge == "next"]
    got = before + [frame for _, frame in result.emitted]
    assert got == wanted
    assert {edge for edge, _ in result.emitted} <= {"next"}
    assert result.counters["segments"] == made
    for row in result.emitted_rows:
        record = result.pool.meta[row]
        assert (record["tx_port"], record["adjacency"], record["trace"]) == (3, 5, 77)
        assert int(record["flags"]) & ~CHAINED == TRACED
        assert record["l3"] == HEADROOM + 14
    return result


@st.composite
def supers(draw):
    name = draw(st.sampled_from(list(KIND)))
    size = draw(st.sampled_from((1, 2, 47, 48, 55, 536, 1448, BUF_ROOM - 54, BUF_ROOM, 4000)))
    times = draw(st.integers(0, 4))
    n = max(0, min(size * times + draw(st.integers(-1, 1)), 9000))
    partial = draw(st.booleans())
    frame = frame_of(
        name, text(n), extra=draw(st.sampled_from((b"", bytes(4), bytes(range(2, 14))))),
        ident=draw(st.sampled_from((0, 1, 0xFFFE, 0xFFFF))), df=draw(st.booleans()),
        options=draw(st.sampled_from((b"", b"\x01" * 12, b"\x01" * 40))),
        flags=draw(st.integers(0, 255)), seq=draw(st.sampled_from((0, 0xFFFFFFFF, 0x7FFFFFFF))),
        tags=draw(st.integers(0, 2)), partial=partial,
    )  # fmt: skip
    return name, frame, size, partial


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.one_of(supers(), st.just(("", b"short" * 12, 0, False))), min_size=1, max_size=4)
)
def test_against_the_oracle(given_):
    compare(given_)


@settings(max_examples=120, deadline=None)
@given(supers(), st.data())
def test_hostile_headers(found, data):
    """Some byte of the headers is another, or the frame ends early: dropped and counted, or cut."""
    name, frame, size, partial = found
    at = data.draw(st.integers(12, min(len(frame), 120) - 1))
    frame = frame[:at] + bytes([data.draw(st.integers(0, 255))]) + frame[at + 1 :]
    end = data.draw(st.one_of(st.just(len(frame)), st.integers(1, min(len(frame), 130))))
    compare([(name, frame[:end], size, partial)])


@pytest.mark.parametrize("name", list(KIND))
def test_the_longest(name):
    compare([(name, frame_of(name, text(65_000)), 1448, True)])


@pytest.mark.parametrize("name", list(KIND))
def test_every_place_in_a_chain(name):
    for first in range(BUF_ROOM - 90, BUF_ROOM + 10):
        compare([(name, frame_of(name, text(2 * first + 3)), first, True)])


def test_a_checksum_of_zero():
    """A UDP checksum that comes out as 0 is sent as 0xffff; one that was never there stays 0."""
    absent = frame_of("udp4", text(3000), partial=False)
    absent = absent[:40] + b"\0\0" + absent[42:]
    result = compare([("udp4", absent, 1000, False)])
    assert {frame[40:42] for _, frame in result.emitted} == {b"\0\0"}
    for k in range(0x10000):  # one payload word makes the sum 0xffff
        frame = frame_of("udp4", k.to_bytes(2, "big") * 2)
        if gso.segments(frame, gso.UDP_L4, 2, partial=True)[0][40:42] == b"\xff\xff":
            break
    result = compare([("udp4", frame, 2, True)])
    assert b"\xff\xff" in {frame[40:42] for _, frame in result.emitted}


@pytest.mark.parametrize(("name", "size", "most"), [("tcp4", 48, 200), ("udp6", 1, 128)])
def test_segments_are_not_absurdly_many(name, size, most):
    """Lest one short frame takes the room of a whole round."""
    compare([(name, frame_of(name, text(most * size)), size, True)])
    if name == "udp6":
        result = compare([(name, frame_of(name, text(most * size + 1)), size, True)])
    else:
        result = compare([(name, frame_of(name, text(most * size)), size - 1, True)])
    assert result.counted == {"bad-headers": 1}


def test_headers_that_do_not_fit_behind_the_headroom():
    """Tags before headers that fill the buffer: of a segment they would be written beyond its own."""
    meta = np.zeros(1, META)
    meta["gso_size"], meta["off"], meta["end"] = 1000, HEADROOM - 8, HEADROOM + BUF_ROOM
    assert _is_sound(meta, 0, gso.TCP6, BUF_ROOM)
    assert not _is_sound(meta, 0, gso.TCP6, BUF_ROOM + 1)


def test_a_checksum_that_is_complete_is_for_no_port():
    frame = frame_of("tcp4", text(5000), partial=False)

    def prepare(record, _):
        record["flags"] |= GSO
        record["gso_type"], record["gso_size"] = gso.TCP4, 1000

    mask = np.array([1 << gso.TCP4], np.uint64)
    assert len(run_node(NODE, [frame], tables={"whole": mask}, meta=prepare).emitted) == 5


def test_types_that_may_pass():
    """Of those in the mask nothing is touched; with ECN only where that is in it too."""
    for name, kind in KIND.items():
        frame = frame_of(name, text(5000))

        def prepare(record, _, kind=kind):
            record["flags"] |= GSO | CSUM_PARTIAL
            record["gso_type"], record["gso_size"] = kind, 1000

        def ecn(record, i, prepare=prepare):
            prepare(record, i)
            record["gso_type"] |= 0x80

        mask = np.array([1 << kind], np.uint64)
        result = run_node(NODE, [frame], tables={"whole": mask}, meta=prepare)
        assert result.out == {"next": [frame]}
        assert int(result.meta[0]["flags"]) & (GSO | CSUM_PARTIAL) == GSO | CSUM_PARTIAL
        assert len(run_node(NODE, [frame], tables={"whole": mask}, meta=ecn).emitted) == 5
        result = run_node(NODE, [frame], tables={"whole": mask | np.uint64(0x80)}, meta=ecn)
        assert result.out == {"next": [frame]}
        other = np.array([0xFF ^ 1 << kind], np.uint64)
        assert len(run_node(NODE, [frame], tables={"whole": other}, meta=prepare).emitted) == 5


def super_frame(record, _):
    record["flags"] |= GSO | CSUM_PARTIAL
    record["gso_type"], record["gso_size"] = gso.TCP4, 1000


@pytest.mark.parametrize("left", [0, 1, 4, 5, 6, 9, 10, 11])
def test_what_there_is_no_room_for_is_put_off_with_all_behind_it(left):
    """A super-frame, a frame and a super-frame: whatever room is left, all go, in order."""
    frames = [frame_of("tcp4", text(5000)), bytes(60), frame_of("tcp4", text(4500), seq=9)]
    out = emit.new()
    out[emit.LEFT] = left

    def prepare(record, i):
        if i != 1:
            super_frame(record, i)

    result = run_node(NODE, frames, tables={"whole": NOTHING, "emitted": out}, meta=prepare)
    first, last = (gso.segments(frames[i], gso.TCP4, 1000, partial=True) for i in (0, 2))
    # Given again as the first of a call, what is no super-frame goes by its own edge.
    between = [] if left == 5 else [frames[1]]
    assert result.edges == ["held", "held" if between else "next", "held"]
    assert [frame for _, frame in result.emitted] == [*first, *between, *last]
    assert result.counted == {"segments": 10}
    assert result.put_off == (3 if left < 5 else 2 if left < 6 else 1 if left < 11 else 0)


def test_a_vector_of_the_longest_loses_nothing():
    """256 super-frames of 64 KB, each cut into 45 and more: 11 776 segments."""
    frame = frame_of("tcp4", text(65_495))
    wanted = gso.segments(frame, gso.TCP4, 1448, partial=True)
    own = -(-len(frame) // BUF_ROOM)
    pool = heap_pool(256 * (own + len(wanted)))
    tables = {"whole": NOTHING}

    def prepare(record, i):
        super_frame(record, i)
        record["gso_size"] = 1448

    result = run_node(NODE, [frame] * 256, tables=tables, meta=prepare, pool=pool)
    assert [edge for edge, _ in result.emitted] == ["next"] * 256 * len(wanted)
    assert [frame for _, frame in result.emitted] == wanted * 256
    assert result.counted == {"segments": 256 * len(wanted)}
    assert result.put_off > 0


@pytest.mark.parametrize("spare", range(6))
def test_without_buffers(spare):
    frame = frame_of("tcp4", text(5 * 1000))

    def prepare(record, _):
        record["flags"] |= GSO | CSUM_PARTIAL
        record["gso_type"], record["gso_size"] = gso.TCP4, 1000

    own = -(-len(frame) // BUF_ROOM)
    pool = heap_pool(own + spare)
    result = run_node(NODE, [frame], tables={"whole": NOTHING}, meta=prepare, pool=pool)
    assert result.counted == ({"segments": 5} if spare >= 4 else {"no-buffer": 1})
    assert spare >= 4 or result.frames == [frame]
