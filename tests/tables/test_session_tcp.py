"""The TCP machine against the oracle: every cell, windows at their bounds, no way around a handshake."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import tcp as oracle
from oracles.tcp import ACK, FIN, PSH, RST, SYN, URG, Connection
from tables.session_world import L3, L4, World, endpoint, header
from vforward.jit.be import store32
from vforward.jit.kernel import i64, kernel, u64
from vforward.tables import session as t
from vforward.tables import session_life, session_open, session_tcp

VERDICTS = {
    session_tcp.PASS: "pass",
    session_tcp.OUTSIDE: "outside",
    session_tcp.BAD_FLAGS: "bad-flags",
    session_tcp.BAD_STATE: "bad-state",
    session_tcp.SHORT: "short",
    session_tcp.AGAIN: "again",
}
SRC, DST = endpoint(0x0A000001, 40000), endpoint(0xC0000201, 443)
ISS, IRS = 2**32 - 5, 2**31 - 7  # they wrap


class Pair:
    """A connection in the table, and in the oracle."""

    def __init__(self, world, flags, *numbers, scale=None):
        self.world = world
        world.sessions.set_loose(True)
        self.oracle = Connection(flags, *numbers, scale=scale)
        self._put(flags, *numbers, scale)
        self.number = world.open(SRC, DST, 6)
        assert self.number > 0
        self._compare()

    def _put(self, flags, seq, ack, window, payload, scale):
        self.world.put(header(flags, seq, ack, window, scale), payload)

    def _compare(self):
        assert self.world.state(self.number) == self.oracle.state
        record = self.world.hot[self.number]
        for d, side in enumerate(self.oracle.sides):
            if self.oracle.state != "syn-sent":
                assert int(record["end"][d]) == side.end % 2**32
                assert int(record["maxend"][d]) == side.allowed % 2**32
                assert int(record["maxwin"][d]) == side.window

    def send(self, d, flags, seq, ack, window=1000, payload=0, scale=None):
        """Returns the verdict, on which both agree."""
        wanted = self.oracle.segment(d, flags, seq, ack, window, payload, scale)
        self._put(flags, seq, ack, window, payload, scale)
        verdict = VERDICTS[self.world.follow(self.number, d)]
        assert verdict == wanted, (self.oracle.state, d, flags)
        self._compare()
        return verdict

    def next(self, d, flags, payload=0, **more):
        """The next segment in order, acknowledging everything."""
        own, other = self.oracle.sides[d], self.oracle.sides[1 - d]
        return self.send(
            d, flags, own.end, other.end if flags & ACK else 0, payload=payload, **more
        )

    def forget(self):
        self.world.close(self.number)
        self.world.sessions.check()


WORLD = World()


def opened(scale=None):
    return Pair(WORLD, SYN, ISS, 0, 1000, 0, scale=scale)


def to(state):
    """A connection in a state."""
    if state == "picked-up":
        return Pair(WORLD, ACK, ISS, IRS, 1000, 0)
    pair = opened()
    if state == "syn-sent":
        return pair
    if state in ("syn-both", "syn-answered"):
        pair.send(1, SYN, IRS, 0)
        if state == "syn-answered":
            pair.send(0, SYN | ACK, ISS, IRS + 1)
        return pair
    pair.send(1, SYN | ACK, IRS, ISS + 1)
    if state == "syn-received":
        return pair
    pair.next(0, ACK)
    first = 1 if state in ("fin-responder", "last-ack-initiator") else 0
    if state == "closed":
        pair.next(1, RST)
    elif state != "established":
        pair.next(first, FIN | ACK)
        if state == "closing":
            pair.send(1, FIN | ACK, IRS + 1, ISS + 1)
        elif not state.startswith("fin"):
            pair.next(1 - first, FIN | ACK)
            if state == "time-wait":
                pair.next(first, ACK)
    return pair


def numbers(pair, d, kind):
    """Flags and numbers of a segment of a class, that fit wherever they can."""
    own, other = pair.oracle.sides[d], pair.oracle.sides[1 - d]
    seq, ack = own.end, other.end
    if kind.startswith("syn"):
        seq = own.end + 99 if kind == "syn-new" else own.end - 1
        return SYN | (ACK if kind == "syn-ack" else 0), seq, ack if kind == "syn-ack" else 0
    if kind.startswith("rst"):
        if pair.oracle.state == "syn-sent" and d == 1:
            return RST | ACK, 0, ack - (kind == "rst")
        return RST, seq if kind == "rst-exact" else seq - 2, 0
    less = 0 if kind.endswith("-all") else 1
    if pair.oracle.state in oracle.HALF_OPEN and kind in ("ack", "fin"):
        less = -1 if pair.oracle.state.startswith("syn-sent") else 0
    return (FIN if kind.startswith("fin") else 0) | ACK, seq, ack - less


@pytest.mark.parametrize("state", oracle.STATES)
@pytest.mark.parametrize("d", [0, 1])
@pytest.mark.parametrize("kind", oracle.CLASSES)
def test_every_cell(state, d, kind):
    pair = to(state)
    assert pair.oracle.state == state
    flags, seq, ack = numbers(pair, d, kind)
    seen = pair.oracle.classify(d, flags, seq, ack)
    cell = oracle.CELLS[state, d, seen]
    verdict = pair.send(d, flags, seq, ack)
    after = pair.world.state(pair.number)
    if seen == kind:
        assert verdict in {"drop": ["bad-state"], "again": ["again"]}.get(cell, ["pass", "outside"])
    if cell in oracle.STATES and verdict == "pass":
        assert after == cell
    else:
        assert after == state
    pair.forget()


def test_flags():
    pair = to("established")
    for flags in range(64):
        bad = oracle.kind_of(flags) == "bad"
        if bad:
            assert pair.next(0, flags) == "bad-flags"
    assert oracle.kind_of(ACK | PSH | URG) == "ack"
    assert pair.next(0, ACK | PSH | URG, payload=7) == "pass"
    pair.forget()


NEAR = st.integers(-3, 3)


@st.composite
def walks(draw):
    """Segments whose numbers lie near the bounds, in both directions."""
    steps = []
    for _ in range(draw(st.integers(1, 25))):
        steps.append(
            (
                draw(st.integers(0, 1)),
                draw(
                    st.sampled_from([ACK, ACK, ACK, ACK, FIN | ACK, RST, RST | ACK, SYN, SYN | ACK])
                ),
                draw(st.sampled_from(["end", "allowed", "low"])),
                draw(NEAR),
                draw(st.sampled_from(["end", "end", "back", "first"])),
                draw(NEAR),
                draw(st.sampled_from([0, 1, 2, 1000, 0xFFFF])),
                draw(st.sampled_from([0, 0, 1, 2, 1460, 65000])),
                draw(st.sampled_from([None, 0, 1, 7, 14, 15])),
            )
        )
    return steps


def walk(pair, steps):
    for d, flags, seq_at, seq_off, ack_at, ack_off, window, payload, scale in steps:
        own, other = pair.oracle.sides[d], pair.oracle.sides[1 - d]
        unit, others = pair.oracle._unit(d), pair.oracle._unit(1 - d)
        seq = {
            "end": own.end,
            "allowed": own.allowed - payload,
            "low": own.end - other.window * others,
        }[seq_at] + seq_off
        ack = {
            "end": other.end,
            "back": other.end - max(66_000, own.window * unit),
            "first": other.first,
        }[ack_at] + ack_off
        if pair.send(d, flags, seq, ack, window, payload, scale) == "again":
            break


@settings(max_examples=400)
@given(
    walks(),
    st.sampled_from(oracle.STATES),
    st.sampled_from([None, 0, 3, 14, 15]),
    st.sampled_from([None, 0, 3, 14, 15]),
)
def test_windows_against_the_oracle(steps, state, scale, other_scale):
    if scale is None:
        pair = to(state)
    else:
        pair = opened(scale)
        pair.send(1, SYN | ACK, IRS, ISS + 1, scale=other_scale)
        pair.next(0, ACK)
    walk(pair, steps)
    pair.forget()


def test_a_reset_counts_at_the_exact_number_only():
    """RFC 5961 section 3.2, a blind attacker's case."""
    pair = to("established")
    allowed = pair.oracle.sides[1].allowed
    assert pair.send(1, RST, IRS + 1 + 1, 0) == "pass"
    assert pair.send(1, RST, allowed, 0) == "pass"
    assert pair.send(1, RST, allowed + 1, 0) == "outside"
    assert pair.send(1, RST, IRS + 1 + 2**31, 0) == "outside"
    assert pair.world.state(pair.number) == "established"
    assert pair.send(1, RST, IRS + 1, 0) == "pass"
    assert pair.world.state(pair.number) == "closed"
    pair.forget()


@pytest.mark.parametrize("state", ["fin-responder", "time-wait"])
def test_a_reset_with_the_number_of_the_fin_counts(state):
    """RFC 9293 section 3.10.7.1: data come to a socket that is gone, and its FIN was not seen there."""
    pair = to(state)
    end = pair.oracle.sides[1].end
    assert pair.send(1, RST, end - 2, 0) == "pass"
    assert pair.world.state(pair.number) == state
    assert pair.send(1, RST, end - 1, 0) == "pass"
    assert pair.world.state(pair.number) == "closed"
    pair.forget()


@pytest.mark.parametrize("state", ["closing", "last-ack-responder", "last-ack-initiator"])
def test_when_both_have_ended_any_reset_in_the_window_counts(state):
    """RFC 9293 section 3.10.7.1: its number is what was acknowledged, which may be long ago."""
    pair = to(state)
    allowed = pair.oracle.sides[1].allowed
    assert pair.send(1, RST, allowed + 1, 0) == "outside"
    assert pair.world.state(pair.number) == state
    assert pair.send(1, RST, pair.oracle.sides[1].end - 2, 0) == "pass"
    assert pair.world.state(pair.number) == "closed"
    pair.forget()


def test_a_reset_one_before_the_next_counts_only_behind_a_fin():
    for state in ("established", "fin-initiator"):
        pair = to(state)
        assert pair.send(1, RST, pair.oracle.sides[1].end - 1, 0) == "pass"
        assert pair.world.state(pair.number) == state
        pair.forget()


def test_a_probe_of_a_closed_window_passes():
    """RFC 9293 section 3.8.6.1: one byte beyond a window of 0."""
    pair = to("established")
    pair.send(1, ACK, IRS + 1, ISS + 1, window=0)
    granted = pair.oracle.sides[0].allowed
    assert pair.send(0, ACK, granted - 1, IRS + 1, payload=1) == "pass"
    pair.forget()


def test_a_keep_alive_passes():
    """RFC 9293 section 3.8.4: a number that was acknowledged already."""
    pair = to("established")
    assert pair.send(0, ACK, ISS, IRS + 1) == "pass"
    assert pair.send(0, ACK, ISS, IRS + 1, payload=1) == "pass"
    pair.forget()


@kernel
def _segment(data, meta, d, kind, sent, begun):
    """Write a segment: SYN, SYN-ACK, ACK, FIN, RST, or an ACK of what was not sent. Returns length."""
    o = 1 - d
    flags = (2, 18, 16, 17, 4, 16)[kind]
    seq = sent[d] if kind > 1 else begun[d]
    ack = sent[o] + (77 if kind == 5 else 0)
    data[0, L4 + 12] = 0x50
    data[0, L4 + 13] = flags
    store32(data, 0, L4 + 4, seq & 0xFFFFFFFF)
    store32(data, 0, L4 + 8, ack & 0xFFFFFFFF)
    return i64(kind < 2 or kind == 3)


@kernel
def _walk(sessions, data, meta, code, depth, grant):
    """One sequence after the SYN that opens. Returns the step that established without a handshake."""
    s = t.shard(sessions)
    begun, sent = (i64(5000), i64(900)), (i64(5000), i64(900))
    _segment(data, meta, 0, 0, sent, begun)
    number = session_open.open4(s, data, meta, 0, L4, 1, 2, 2, 1, 6, 0, grant)
    sent = (begun[0] + 1, begun[1])
    acked0 = False
    acked1 = False
    syn1 = False
    wrong = -1
    for step in range(depth):
        d, kind = code % 2, code // 2 % 6
        code //= 12
        length = _segment(data, meta, d, kind, sent, begun)
        verdict = session_tcp.advance(s, number, d, data, meta, 0, L4, True)
        if verdict == session_tcp.AGAIN:
            break
        if verdict == session_tcp.PASS:
            end = (begun[d] if kind < 2 else sent[d]) + length
            sent = (max(sent[0], end), sent[1]) if d == 0 else (sent[0], max(sent[1], end))
            syn1 |= d == 1 and kind < 2
            acks = kind == 1 or kind == 2 or kind == 3
            acked0 |= d == 0 and acks and syn1
            acked1 |= d == 1 and acks
        state = s.hot[number].state
        if state == t.ESTABLISHED and not (syn1 and acked0 and acked1):
            wrong = step
            break
    session_life.close(s, number)
    return wrong


@kernel
def _all_walks(sessions, data, meta, depth, grant):
    for code in range(12**depth):
        if _walk(sessions, data, meta, code, depth, grant) >= 0:
            return code
    return -1


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_nothing_is_established_without_a_handshake(depth):
    """All sequences of segments in both directions: both SYNs, and both acknowledged."""
    world = World()
    data, meta = world.pool.data, world.pool.meta
    assert _all_walks(world.array, data, meta, depth, (0, 0, 0, 0, 0, 0)) == -1
    world.sessions.check()


@pytest.mark.parametrize("less", [1, 2, 5000, 2**31 - 1])
def test_the_initiator_may_use_its_port_again_with_a_lower_number(less):
    """Else what the responder takes for a new connection would be cut off by the old one's numbers."""
    pair = to("time-wait")
    own, other = pair.oracle.sides
    assert pair.send(1, SYN, other.end - less, 0) == "bad-state"
    assert pair.send(0, SYN, own.end - less, 0) == "again"
    pair.forget()


def test_simultaneous_open():
    """RFC 5382 REQ-2, RFC 9293 section 3.5 figure 7."""
    pair = opened()
    assert pair.send(1, SYN, IRS, 0) == "pass"
    assert pair.send(0, SYN | ACK, ISS, IRS + 1) == "pass"
    assert pair.send(1, SYN | ACK, IRS, ISS + 1) == "pass"
    assert pair.world.state(pair.number) == "established"
    pair.forget()


def test_headers_that_lie_about_their_length():
    world = World()
    world.put(header(SYN))
    number = world.open(SRC, DST, 6)
    for message in (header(SYN)[:19], header(SYN)[:12] + b"\x40" + header(SYN)[13:]):
        world.put(message)
        assert VERDICTS[world.follow(number, 0)] == "short"
        assert world.open(DST + 1, SRC, 6) == ~t.NOT_A_BEGINNING


def test_picking_up_is_an_option():
    world = World()
    world.put(header(ACK, 1, 2, 3))
    assert world.open(SRC, DST, 6) == ~t.NOT_A_BEGINNING
    world.sessions.set_loose(True)
    for flags in (SYN | ACK, RST, FIN | ACK, 0, SYN | FIN):
        world.put(header(flags, 1, 2, 3))
        assert world.open(SRC, DST, 6) == ~t.NOT_A_BEGINNING
    world.put(header(ACK, 1, 2, 3))
    number = world.open(SRC, DST, 6)
    assert world.state(number) == "picked-up"
    assert int(world.head[t.EMBRYONIC]) == 1


def test_a_first_fragment_counts_as_what_may_follow():
    world = World()
    pair = Pair(world, SYN, ISS, 0, 1000, 0)
    pair.send(1, SYN | ACK, IRS, ISS + 1)
    pair.next(0, ACK)
    world.put(header(ACK, ISS + 1, IRS + 1, 1000), 8)
    world.pool.data[0, L3 + 6] = 0x20
    assert VERDICTS[world.follow(pair.number, 0)] == "pass"
    assert int(world.hot[pair.number]["end"][0]) == int(world.hot[pair.number]["maxend"][0])
    assert u64(1) == np.uint64(1)
