"""No way to an established session but a handshake: every sequence of segments, of any length.

Segments come from a finite alphabet of directions, flags and numbers, right and wrong ones, so that a
session has finitely many states, and all that can be reached are visited. What was seen on the way is
noted beside them, by a rule that knows nothing of the machine:

    SYN    of a direction, with one of its two initial sequence numbers
    DATA   behind it, or that there are some, by a later number: they may be acknowledged
    BOND   of a and b: one side, which has sent a, acknowledges the other's b, or data behind it that
           there are, with a sequence number of its own within the window

A session may be established when both sides have bound the same two numbers, those of its windows.
"""

import itertools

import numpy as np
import pytest

from tables.session_world import L4, World, endpoint, header
from vforward.jit.be import store32
from vforward.jit.kernel import i64, kernel
from vforward.tables import session as t
from vforward.tables import session_follow, session_tcp

FIN, SYN, RST, ACK = 1, 2, 4, 16
FLAGS = (SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, SYN | FIN)
WINDOW, DATA, FAR = 1000, 10, 2**31
APART = 100_000
"""The two initial numbers of a side: beyond the window, either of them may come first."""
FIRST = (2**32 - 5, 2**31 - 7)  # they wrap
ISN = [[(first + k * APART) % 2**32 for k in range(2)] for first in FIRST]
SRC, DST = endpoint(0x0A000001, 40000), endpoint(0xC0000201, 443)
TO_BE_SEEN = ("syn-both", "syn-received", "syn-answered", "established", "fin-initiator", "closed")

# What was seen, as bits of each direction: 2 of SYNs, 2 of data, 4 of bonds.
SYNS, DATAS, BONDS = (0, 8), (2, 10), (4, 12)


@kernel
def _after_each(sessions, data, meta, number, before, symbols, after, verdicts):
    """What a session becomes by each of the segments, from the same state."""
    s = t.shard(sessions)
    data[0, L4 + 12] = 0x50
    data[0, L4 + 14], data[0, L4 + 15] = WINDOW >> 8, WINDOW & 255
    for i in range(verdicts.size):
        for k in range(8):
            s.words[number * 8 + k] = before[k]
        s.head[t.EMBRYONIC] = np.uint64(1)
        data[0, L4 + 13] = symbols[i, 1]
        store32(data, 0, L4 + 4, symbols[i, 2])
        store32(data, 0, L4 + 8, symbols[i, 3])
        meta[0].rest = symbols[i, 4]
        direction = i64(symbols[i, 0])
        verdicts[i] = session_follow.follow(s, data, meta, 0, L4, i64(1), number, direction)
        for k in range(8):
            after[i, k] = s.words[number * 8 + k]


def near(number, isn):
    """Whether a number is in the window that begins with an initial one."""
    return abs((number - isn + FAR) % 2**32 - FAR) <= WINDOW


def alphabet():
    """Segments: direction, flags, sequence and acknowledgment number, payload."""
    for d, flags in itertools.product((0, 1), FLAGS):
        own = (0,) if flags & SYN else (1, 1 + DATA, FAR)
        seqs = {(isn + more) % 2**32 for isn in ISN[d] for more in own}
        acks = {(isn + more) % 2**32 for isn in ISN[1 - d] for more in (0, 1, 1 + DATA, FAR)}
        payloads = (0, DATA) if flags & ACK and not flags & (SYN | RST) else (0,)
        yield from itertools.product([d], [flags], seqs, sorted(acks), payloads)


def meaning(d, flags, seq, ack, payload):
    """(bits, bits if those were seen, those) of a segment that has passed."""
    seen, bond, asked = 0, 0, 0
    if flags & RST or flags & (SYN | FIN) == SYN | FIN:
        return 0, 0, 0
    mine = [k for k, isn in enumerate(ISN[d]) if (seq == isn if flags & SYN else near(seq, isn))]
    for k in mine:
        seen |= 1 << SYNS[d] + k if flags & SYN else 0
        sent = (seq + payload - ISN[d][k]) % 2**32
        seen |= 1 << DATAS[d] + k if DATA < sent <= WINDOW else 0
        for other, isn in enumerate(ISN[1 - d]):
            offset = (ack - isn) % 2**32
            if flags & ACK and offset in (1, 1 + DATA):
                a, b = (k, other) if d == 0 else (other, k)
                bond = 1 << BONDS[d] + 2 * a + b
                asked = 1 << SYNS[d] + k | 1 << SYNS[1 - d] + other
                asked |= 1 << DATAS[1 - d] + other if offset > 1 else 0
    return seen, bond, asked


def shaken(record, seen):
    """Whether both sides have agreed upon the numbers that the session's windows have."""
    pairs = itertools.product(range(2), range(2))
    return any(
        seen >> BONDS[0] + 2 * a + b & seen >> BONDS[1] + 2 * a + b & 1
        and near(int(record["end"][0]), ISN[0][a])
        and near(int(record["end"][1]), ISN[1][b])
        for a, b in pairs
    )


class Explorer:
    """All states that a session can come to, and the states in which it gets there."""

    def __init__(self):
        self.world = World()
        self.symbols = np.array(list(alphabet()), np.int64)
        meanings = np.array([meaning(*symbol) for symbol in self.symbols.tolist()], np.int64)
        self.seen, self.bond, self.asked = meanings.T
        self.reached = set()
        self.visited = set()

    def begin(self, isn):
        """A session that a SYN has opened."""
        self.world.put(header(SYN, isn, 0, WINDOW))
        self.number = self.world.open(SRC, DST, 6)
        assert self.number > 0
        words = self.world.sessions.parts.words[self.number * 8 : self.number * 8 + 8]
        return words.copy(), 1 << SYNS[0] + ISN[0].index(isn)

    def steps(self, record, seen):
        """What it becomes by each segment: records, what was seen then, verdicts."""
        n = len(self.symbols)
        after, verdicts = np.zeros((n, 8), np.uint64), np.zeros(n, np.int64)
        world = self.world
        _after_each(
            world.array, world.pool.data, world.pool.meta, self.number, record, self.symbols,
            after, verdicts,
        )  # fmt: skip
        then = seen | self.seen
        then = np.where(then & self.asked == self.asked, then | self.bond, then)
        return after, then, verdicts

    def explore(self, isn):
        waiting = [self.begin(isn)]
        while waiting:
            record, seen = waiting.pop()
            after, then, verdicts = self.steps(record, seen)
            passed = verdicts == session_tcp.PASS
            assert (after[~passed] == record).all(), "what is refused leaves no trace"
            both = np.column_stack([after[passed], then[passed].astype(np.uint64)])
            new = set(both.view("V72").ravel().tolist()) - self.visited
            self.visited |= new
            for state in new:
                words = np.frombuffer(state, np.uint64)
                found, now = words[:8].view(t.SESSION)[0], int(words[8])
                self.reached.add(t.STATES[found["state"]])
                if t.ESTABLISHED <= found["state"] <= t.TIME_WAIT:
                    assert shaken(found, now), (found, bin(now))
                else:
                    waiting.append((words[:8], now))
        self.world.close(self.number)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1], ids=["lower", "higher"])
def test_nothing_is_established_without_a_handshake(first):
    explorer = Explorer()
    explorer.explore(ISN[0][first])
    assert explorer.reached >= set(TO_BE_SEEN)
    assert "picked-up" not in explorer.reached
    print(f"{len(explorer.visited):,} states")
    assert len(explorer.visited) > 100


def test_the_rule_would_find_a_breach():
    """Who has not bound the other's number, or another one, has shaken no hands."""
    record = np.zeros(1, t.SESSION)[0]
    record["end"] = ISN[0][0] + 1, ISN[1][1] + 1
    both = 1 << BONDS[0] + 1 | 1 << BONDS[1] + 1
    assert shaken(record, both)
    assert not shaken(record, 1 << BONDS[0] + 1)
    assert not shaken(record, 1 << BONDS[0] + 1 | 1 << BONDS[1] + 2)
    record["end"][1] = ISN[1][0] + 1
    assert not shaken(record, both)
    right, early = (meaning(0, ACK, ISN[0][0] + 1, ISN[1][1] + more, 0) for more in (1, 1 + DATA))
    syns = 1 << SYNS[0] | 1 << SYNS[1] + 1
    assert right == (0, 1 << BONDS[0] + 1, syns)
    assert early == (0, 1 << BONDS[0] + 1, syns | 1 << DATAS[1] + 1)
    assert meaning(0, ACK, ISN[0][0] + 1, ISN[1][1], 0)[1] == 0
    assert meaning(0, ACK, (ISN[0][0] + FAR) % 2**32, ISN[1][1] + 1, 0)[1] == 0


@pytest.mark.parametrize("flags", range(64))
def test_what_opens(flags):
    """A SYN, whatever PSH and URG say, and nothing else (without loose pickup)."""
    world = World()
    world.put(header(flags, 1, 2, WINDOW))
    number = world.open(SRC, DST, 6)
    assert (number > 0) == (flags & ~(8 | 32) == SYN)
    assert number < 0 or world.state(number) == "syn-sent"
