"""icmp4-echo against the oracle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.network import bytes_from_l3, run_both
from oracles import checksum, icmp4
from strategies import Ip4Spec, ip
from vforward.layout import CSUM_PARTIAL, CSUM_VALID, GSO, SELF_MADE, TRACED
from vforward.nodes.icmp.echo import NODE


def compare(packets, l3=14):
    result = run_both(NODE, [b"\x5a" * l3 + packet for packet in packets], l3=l3)
    assert set(result.edges) <= {"reply"}
    for i, packet in enumerate(packets):
        reply = icmp4.echo_reply(packet)
        assert result.frames[i] == bytes_from_l3(result, i) == reply
        assert result.meta[i]["flags"] & SELF_MADE
    return result


@st.composite
def requests(draw):
    """Echo requests to the router: the strategy's, with what ip4-local would refuse replaced."""
    message = draw(strategies.icmp_messages())
    packet = Ip4Spec(
        message, 1,
        src=draw(strategies.addresses()), dst=draw(st.sampled_from(strategies.OURS)),
        options=draw(st.sampled_from((b"", b"\x01" * 4, b"\x07" * 40))),
        ttl=draw(st.integers(0, 255)), tos=draw(st.sampled_from((0, 0xB8))),
        force=draw(st.sampled_from((None, *strategies.CHECKSUMS))),
    ).build()  # fmt: skip
    return packet if icmp4.receive(packet) is None else echo(b"")


def echo(body, ident=0):
    message = b"\x08\x00\x00\x00" + ident.to_bytes(4, "big") + body
    message = message[:2] + checksum.internet(message).to_bytes(2, "big") + message[4:]
    return Ip4Spec(message, 1, ip("10.0.0.9"), ip("10.0.0.1")).build()


@settings(max_examples=150, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=12), st.sampled_from((0, 14, 18)))
def test_against_the_oracle(packets, l3):
    compare(packets, l3)


def test_every_checksum():
    """By the identifier every one of a message's checksums is reached, in steps of 37."""
    compare([echo(b"", ident) for ident in range(0, 65536, 37)])
    compare(
        [echo(b"", ident) for c in strategies.ECHO_CHECKSUMS for ident in (0xF7FF - c & 0xFFFF,)]
    )


def test_the_reply_to_the_all_zero_ping_verifies():
    result = compare([echo(b"")])
    assert result.frames[0][20:] == bytes.fromhex("0000ffff00000000")


@pytest.mark.parametrize("size", [1472, 1973, 9000, 65507])
def test_long_requests(size):
    compare([echo(bytes(i & 255 for i in range(size)))])


def test_flags():
    def prepare(record, i):
        record["flags"] |= TRACED | CSUM_PARTIAL | CSUM_VALID | GSO

    result = run_both(NODE, [echo(b"abc"), echo(bytes(4000))], meta=prepare)
    for flags in result.meta["flags"].tolist():
        assert flags & (TRACED | SELF_MADE) == TRACED | SELF_MADE
        assert not flags & (CSUM_PARTIAL | GSO)
