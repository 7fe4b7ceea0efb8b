"""Who is not on the path and makes up segments and errors of somebody's connection does not end it.

RFC 5961: a reset counts at the one right number only; elsewhere in the window it passes, and so does a
SYN, for the receiver to challenge (tables/session_tcp.py). All else has to be in the window.
"""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.siege import ICMP, INSIDE, OUTSIDE, TCP, Flow, Siege
from vforward.control.rules import FirewallSettings, Masquerade, Rule
from vforward.testing import packets as pk

OUT = Rule(name="out", action="permit", in_="lan")
WINDOW = 60_000
NAT = {"filter": [], "masquerade": [Masquerade(out="wan")]}


@pytest.fixture(scope="module", params=NAT)
def siege(request):
    with Siege(FirewallSettings(default="deny"), [OUT], NAT[request.param]) as made:
        yield made


@pytest.fixture(scope="module")
def flow(siege):
    """A connection that all the attacks of this module are about, and that none of them ends."""
    return Flow(siege, ((INSIDE, 5000), (OUTSIDE, 443)), window=WINDOW).open()


def record(siege):
    """What the session knows of its connection, but for when it was seen."""
    (number,) = siege.table.numbers()
    found = siege.table.parts.hot[number]
    return [found[key].tolist() for key in ("state", "end", "maxend", "maxwin", "scale")]


@pytest.fixture
def unharmed(siege, flow):
    """Asserts that the session is what it was before, and that the connection goes on."""
    flow.goes_on()
    before, dropped = record(siege), siege.dropped()
    yield lambda: {
        k: n - dropped.get(k, 0) for k, n in siege.dropped().items() if n != dropped.get(k)
    }
    assert record(siege) == before
    assert flow.state() == "established"
    flow.goes_on()


OUTSIDE_OF_IT = [
    ("R", 2**31, 0), ("R", WINDOW + 1, 0), ("R", -WINDOW - 1, 0), ("RA", -(2**31) + 1, 0),
    ("A", 2**31, 0), ("A", WINDOW + 1, 0), ("A", -WINDOW - 1, 0),
    ("A", 0, 1), ("A", 0, 2**31), ("A", 0, -70_000), ("PA", 0, 1), ("FA", WINDOW, 0), ("FA", 0, 1),
]  # fmt: skip


@pytest.mark.parametrize("d", [0, 1], ids=["inside", "outside"])
@pytest.mark.parametrize(("flags", "seq", "ack"), OUTSIDE_OF_IT)
def test_outside_of_the_window(flow, unharmed, d, flags, seq, ack):
    payload = b"evil" if flags == "PA" else b""
    assert flow.send(d, flags, payload, seq=seq, ack=ack) == []
    assert unharmed() == {("ip4-session", "outside"): 1}


@pytest.mark.parametrize("d", [0, 1], ids=["inside", "outside"])
@pytest.mark.parametrize("seq", [1, 2, WINDOW, -1, -WINDOW])
def test_a_reset_in_the_window_is_for_the_receiver_to_challenge(flow, unharmed, d, seq):
    assert len(flow.send(d, "R", seq=seq)) == 1
    assert flow.state() == "established"
    if seq > 0:
        (challenge,) = flow.send(1 - d, "A")
        assert challenge[33] == 0x10
    assert unharmed() == {}


@pytest.mark.parametrize("flags", ["S", "SA"])
@pytest.mark.parametrize("seq", [0, 1, -1, 2**31, WINDOW + 1])
def test_a_syn_in_a_connection_is_for_the_receiver_to_challenge(flow, unharmed, flags, seq):
    assert len(flow.send(1, flags, seq=seq, ack=12_345)) == 1
    assert len(flow.send(0, "A")) == 1, "the challenge: an ACK of what is right"
    assert unharmed() == {}


def test_flags_that_do_not_go_together(flow, unharmed):
    bad = ["", "F", "P", "U", "SF", "SR", "FR", "SFA", "FRA", "FPU", "FSRPAU"]
    for flags in bad:
        assert flow.send(1, flags) == []
    assert unharmed() == {("ip4-session", "bad-flags"): len(bad)}


BLIND = st.tuples(
    st.integers(0, 1),
    st.sampled_from(["A", "PA", "FA", "R", "RA", "S", "SA"]),
    st.one_of(st.integers(0, 2**32 - 1), st.integers(-2, 2).map(lambda n: n + WINDOW)),
    st.one_of(st.integers(0, 2**32 - 1), st.integers(-2, 2)),
)


def test_a_blind_attacker(siege, flow):
    """Random numbers: what passes is in the window or is no more than a reason for a challenge."""

    @given(st.lists(BLIND, min_size=20, max_size=60))
    def attack(tries):
        flow.goes_on()
        before = record(siege)
        harmless = [
            (d, flags, seq, ack)
            for d, flags, seq, ack in tries
            if (flags.startswith("S") or not in_window(seq, ack, flags)) and not exact(flags, seq)
        ]
        for d, flags, seq, ack in harmless:
            passed = flow.send(d, flags, seq=seq, ack=ack or 2**32)
            assert passed == [] or flags[0] in "SR"
        assert record(siege) == before
        flow.goes_on()

    attack()


def signed(n):
    return (n + 2**31) % 2**32 - 2**31


def exact(flags, seq):
    """A reset that has to be believed: one number in 2**32."""
    return flags.startswith("R") and signed(seq) == 0


def in_window(seq, ack, flags):
    """Numbers that an attacker who is on the path might as well send."""
    if flags.startswith("R"):
        return False
    return abs(signed(seq)) <= WINDOW + 1 and -70_000 <= signed(ack) <= 0


def error(flow, *, seq=0, to=None, spoil=0, kind=(3, 1), port=None):
    """An ICMP error from outside about what the flow's client has sent: seq bytes behind its last."""
    (src, sport), (dst, dport) = flow.seen
    quoted = pk.tcp(src, dst, sport, port or dport, seq=(flow.next[0] + seq) % 2**32, flags="A")
    inner = pk.ip4(src, dst, TCP, quoted)
    message = struct.pack(">BBHI", *kind, 0, 0) + inner
    right = pk.checksum(message) ^ spoil
    message = message[:2] + right.to_bytes(2, "big") + message[4:]
    return pk.ip4("203.0.113.99", to or src, ICMP, message)


@pytest.mark.parametrize("kind", [(3, 1), (3, 2), (3, 3), (3, 4), (11, 0), (12, 0), (4, 0)])
def test_an_error_that_may_be_right_reaches_the_client_and_ends_nothing(
    siege, flow, unharmed, kind
):
    """Hard errors are the client's to judge (RFC 5927 section 5); the session stays."""
    for _ in range(20):
        passed, _ = siege.packets(siege.wan, [error(flow, kind=kind)])
        assert [packet[16:20] for packet in passed] == [bytes([10, 0, 1, 8])]
    assert unharmed() == {}


@pytest.mark.parametrize(
    ("forged", "counter"),
    [
        ({"seq": 1}, ("ip4-session", "unbelieved")),
        ({"seq": 2**31}, ("ip4-session", "unbelieved")),
        ({"seq": -70_000}, ("ip4-session", "unbelieved")),
        ({"spoil": 1}, ("ip4-session", "unbelieved")),
        ({"to": "10.0.1.9"}, ("ip4-session", "unbelieved")),
        ({"port": 444}, ("ip4-acl", "denied")),
        ({"kind": (5, 1)}, ("ip4-acl", "denied")),
    ],
    ids=["not-sent", "far", "old", "checksum", "to-another", "no-session", "redirect"],
)
def test_forged_errors(siege, flow, unharmed, forged, counter):
    assert siege.packets(siege.wan, [error(flow, **forged)] * 50) == ([], [])
    assert unharmed() == {counter: 50}


def test_who_finds_no_session_gets_nowhere(siege, flow, unharmed):
    """The right numbers with another port or address: rules are asked, and say no."""
    (src, sport), (dst, dport) = flow.seen
    tries = [(dst, dport + 1, sport), (dst, dport, sport + 1), ("198.51.100.8", dport, sport)]
    for flags in ("S", "A", "SA", "R", "FA"):
        numbers = {"seq": flow.next[1], "ack": flow.next[0], "flags": flags}
        forged = [
            pk.ip4(who, src, TCP, pk.tcp(who, src, port, other, **numbers))
            for who, port, other in tries
        ]
        assert siege.packets(siege.wan, forged) == ([], [])
    assert unharmed() == {("ip4-acl", "denied"): 15}
