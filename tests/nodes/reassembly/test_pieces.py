"""What becomes of pieces, with a virtual clock, against the oracle: packets of one buffer and more."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.network import Heap
from oracles import reassembly as oracle
from vforward.graph import emit
from vforward.layout import BUF_ROOM, EDGE_ARC, EDGE_HELD, PORTS_KNOWN
from vforward.memory.chain import fill
from vforward.nodes.reassembly import pieces
from vforward.nodes.reassembly.pieces import Count, Edge
from vforward.tables import reassembly as table
from vforward.tables.reassembly import Reassembly, word_of
from vforward.tables.reassembly_check import check
from vforward.testing import heap_pool

SIZE, LIMIT, HZ = 4, 14, 10
TIME = 30 * HZ
LABELS = [count.label for count in Count]
PASS = EDGE_ARC + 5


def key_of(n):
    """The name of a datagram."""
    return tuple(map(np.uint64, (0, 1, 0, 2, word_of(0, 17, n))))


class World:
    """A table, its oracle, and a pool of which every buffer is accounted for."""

    def __init__(self, room=emit.EMIT_ROOM):
        self.table = Reassembly(Heap(), HZ, SIZE, LIMIT).ip4
        self.oracle = oracle.Reassembly(SIZE, LIMIT, TIME)
        self.pool = heap_pool(400)
        self.free = self.pool.free
        self.count = np.zeros(len(LABELS), np.uint64)
        self.emitted, self.room = emit.new(), room
        self.now = 1

    def packet(self, buffers):
        row = int(self.pool.take(1)[0])
        source = np.zeros(buffers * BUF_ROOM, np.uint8)
        cache = self.pool.caches[0]
        assert fill(self.pool.data, self.pool.meta, cache, row, source.ctypes.data, source.size, 1)
        self.pool.meta[row]["features"] = 1 << 5 | 1 << 9
        return row

    def arrive(self, piece, buffers=1):
        """Give a piece to both. Returns the oracle's outcome."""
        row = self.packet(buffers)
        reason = LABELS.index(piece.refusal) if piece.refusal else pieces.FITS
        its = (piece.start // 8, (piece.end + 7) // 8, piece.more, reason, piece.ports)
        self.emitted[[emit.EMITTED, emit.LEFT]] = 0, self.room
        before = self.count.copy()
        others = (self.count, self.pool.caches[0], self.emitted)
        edge = pieces.take_up(
            self.pool.meta, row, self.table, key_of(piece.key), its, np.uint64(self.now), others
        )
        wanted = self.oracle.arrive(self.now, row, piece, buffers)
        self.compare(row, int(edge), wanted, self.count - before)
        return wanted

    def compare(self, row, edge, wanted, counted):
        """What came of the packet in row, and of those that waited: on, dropped, or freed here."""
        waited = [*wanted.freed, *((each, "pass") for each in wanted.followed)]
        emitted, freed = waited[: self.room], waited[self.room :]
        here = {"pass": PASS, "held": EDGE_HELD}.get(wanted.way, Edge.DROP)
        assert edge == here
        ends = [(PASS if way == "pass" else Edge.DROP, each) for each, way in emitted]
        sent = self.emitted[emit.FIRST :][: int(self.emitted[emit.EMITTED])].tolist()
        assert sent == [edge << 32 | each for edge, each in ends]
        out = [(row, wanted.way)] * (wanted.way != "held") + emitted
        for each, way in out:
            record = self.pool.meta[each]
            assert bool(record["flags"] & PORTS_KNOWN) == (way == "pass")
            if way == "pass":
                assert (record["hash"], record["features"]) == (wanted.ports, 1 << 9)
            else:
                assert LABELS[record["reason"]] == way
        reasons = [way for _, way in out] + ["no-room"] * len(freed)
        assert counted.tolist() == [reasons.count(label) for label in LABELS]
        self.pool.put(np.array([each for each, _ in out], np.uint32))
        self.check()

    def check(self):
        check(self.table, self.pool.meta)
        held = table.held_rows(self.table)
        wanted = [r for d in self.oracle.known.values() for r, _ in d.waiting]
        assert sorted(held) == sorted(wanted)
        self.pool.check(held=held)
        assert self.free - self.pool.free == self.oracle.held()


def piece(n, start, end, last=False, refusal=None, ports=0):
    return oracle.Piece(n, start, end, not last, refusal, 0 if start else ports)


@st.composite
def some_pieces(draw):
    """One of the four pieces of a datagram of 61 bytes, or one that is bent."""
    n, k = draw(st.integers(0, 5)), draw(st.integers(0, 3))
    start, end, last = 16 * k, min(16 * k + 16, 61), k == 3
    ports = 0xFFFF0000 | n
    match draw(st.sampled_from(("",) * 12 + ("start", "end", "last", "refusal", "far"))):
        case "start":
            start = max(start - 8, 0)
        case "end":
            end = end - end % 8 + 8
            last = False
        case "last":
            last = not last
            end = end if last else 64
        case "refusal":
            return piece(n, start, end, last, draw(st.sampled_from(("tiny", "bad-length"))), ports)
        case "far":
            start, end = 65520, 65528
            last = draw(st.booleans())
    return piece(n, start, end, last, None, ports)


gaps = st.sampled_from((0, 0, 0, 0, 1, TIME // 4, TIME - 1, TIME, -1))


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(gaps, some_pieces(), st.sampled_from((1, 1, 1, 2, 3))), max_size=60),
    st.sampled_from((emit.EMIT_ROOM, emit.EMIT_ROOM, 1, 0)),
)
def test_against_the_oracle(steps, room):
    world = World(room)
    for gap, its, buffers in steps:
        world.now = max(world.now + max(gap, 0), 1)
        world.arrive(its, buffers)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_every_order(data):
    """Datagrams in pieces, all of them mixed: everything passes, and nothing is left."""
    order = data.draw(st.permutations([(n, k) for n in range(SIZE) for k in range(4)]))
    world = World()
    world.oracle.limit, world.table[0]["limit"] = 100, 100
    passed = []
    for n, k in order:
        its = piece(n, 16 * k, min(16 * k + 16, 61), k == 3, None, 77 + n)
        outcome = world.arrive(its)
        passed += [outcome.ports] * (outcome.way == "pass") + [outcome.ports] * len(
            outcome.followed
        )
    assert sorted(passed) == sorted(77 + n for n, _ in order)
    assert not world.table["word"][1:].any()
    assert world.pool.free == world.free


def ways(world, *its):
    return [world.arrive(p).way for p in its]


def test_overlaps_are_refused_with_all_that_follows():
    world = World()
    assert ways(
        world, piece(1, 16, 32), piece(1, 0, 24), piece(1, 0, 16), piece(1, 32, 48, last=True)
    ) == ["held", "overlap", "refused", "refused"]
    world.now += TIME
    assert ways(world, piece(1, 0, 16), piece(1, 16, 32, last=True)) == ["pass", "pass"]


def test_copies_are_dropped_alone():
    world = World()
    assert ways(
        world, piece(1, 0, 16, ports=5), piece(1, 0, 16, ports=6), piece(1, 24, 32), piece(1, 24, 32),
        piece(1, 16, 24), piece(1, 8, 32), piece(1, 32, 40, last=True),
    ) == ["pass", "copy", "pass", "copy", "pass", "copy", "pass"]  # fmt: skip
    assert ways(world, piece(3, 8, 16), piece(3, 8, 16), piece(3, 0, 8)) == ["held", "copy", "pass"]
    assert ways(world, piece(2, 0, 16), piece(2, 16, 20, last=True)) == ["pass", "pass"]
    assert ways(world, piece(2, 16, 20, last=True), piece(2, 0, 16, ports=5)) == ["held", "pass"]


def test_no_more_than_eight_wait():
    world = World()
    found = ways(world, *(piece(1, 16 * k, 16 * k + 8) for k in range(1, 11)))
    assert found == ["held"] * 8 + ["queue-full"] * 2
    outcome = world.arrive(piece(1, 0, 8, ports=9))
    assert len(outcome.followed) == 8


def test_gaps_without_end():
    world = World()
    assert ways(world, piece(1, 0, 8)) == ["pass"]
    found = ways(world, *(piece(1, 16 * k, 16 * k + 8) for k in range(1, 19)))
    assert found == ["pass"] * 15 + ["too-many-gaps"] + ["refused"] * 2


def test_the_oldest_makes_place():
    world = World()
    for n in range(SIZE + 1):
        outcome = world.arrive(piece(n, 8, 16))
    assert [reason for _, reason in outcome.freed] == ["evicted"]


@pytest.mark.parametrize(
    ("protocol", "n", "ports"),
    [
        (6, 20, 0x08000304), (6, 19, "tiny"), (17, 8, 0x08000304), (17, 7, "tiny"), (132, 8, 0x08000304),
        (1, 8, 0x05060000), (1, 7, "tiny"), (58, 8, "icmp"), (47, 0, 0), (50, 1, 0),
    ],
)  # fmt: skip
def test_first_ports(protocol, n, ports):
    data = np.zeros((1, 64), np.uint8)
    data[0, :8] = 8, 0, 3, 4, 5, 6, 7, 8
    found = int(pieces.first_ports(data, 0, 0, protocol, n))
    assert (found if found >= 0 else LABELS[~found]) == ports
    assert oracle.first_ports(protocol, data[0, :n].tobytes()) == ports


@pytest.mark.parametrize(
    ("headers", "offset", "n", "more", "right"),
    [
        (20, 0, 8, True, True), (20, 0, 0, True, False), (20, 0, -1, False, False),
        (20, 0, 12, True, False), (20, 0, 12, False, True), (20, 65512, 3, False, True),
        (20, 65512, 4, False, False), (24, 65512, 3, False, False), (0, 65528, 7, False, True),
        (0, 65528, 8, True, False),
    ],
)  # fmt: skip
def test_lengths(headers, offset, n, more, right):
    found = pieces.length_refusal(headers, offset, n, more)
    assert found == (pieces.FITS if right else Count.BAD_LENGTH)


def test_a_flood_of_later_pieces_does_not_drive_out_who_came_first():
    world = World()
    world.oracle.limit, world.table[0]["limit"] = SIZE // 2, SIZE // 2
    assert ways(world, piece(0, 0, 16)) == ["pass"]
    found = ways(world, *(piece(n, 8, 16) for n in range(1, 50)))
    assert found == ["held"] * 2 + ["queue-full"] * 47
    assert ways(world, piece(0, 16, 20, last=True)) == ["pass"]


def test_without_room_they_are_freed_and_counted():
    world = World(room=1)
    assert ways(world, piece(1, 8, 16), piece(1, 16, 24), piece(1, 24, 32)) == ["held"] * 3
    free = world.pool.free
    assert ways(world, piece(1, 0, 8)) == ["pass"]
    assert world.count[Count.NO_ROOM] == 2
    assert world.pool.free == free + 3
