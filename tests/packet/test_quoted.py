"""quoted: what an ICMP error is about, against the oracle, cut and bent at every place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import checksum, icmp4, ip4, nat
from strategies import Ip4Spec, ip
from vforward.jit.kernel import i64, kernel
from vforward.layout import BUF_STRIDE, META
from vforward.packet.quoted import REFUSED, quoted4, quoted6
from vforward.testing import packets

PROTOCOLS = (6, 17, 33, 132, 136, 1, 58, 47, 0)


@kernel
def call4(data, meta, l3):
    return quoted4(data, meta, i64(1), l3)


@kernel
def call6(data, meta, l4):
    return quoted6(data, meta, i64(1), l4)


def buffers(packet):
    """The packet at the very end of a buffer, so that a load beyond its end is one of the buffer's."""
    data = np.full((3, BUF_STRIDE), 0xA5, np.uint8)
    meta = np.zeros(3, META)
    start = BUF_STRIDE - len(packet)
    data[1, start:] = np.frombuffer(packet, np.uint8)
    meta[1]["off"] = meta[1]["l3"] = start
    meta[1]["end"] = BUF_STRIDE
    return data, meta, start


def parse4(packet):
    data, meta, start = buffers(packet)
    inner, l4, limit, protocol, src, dst = call4(data, meta, start)
    if inner == REFUSED:
        return None
    assert l4 <= limit <= BUF_STRIDE
    ends = ((end >> 16, end & 0xFFFF) for end in (src, dst))
    return inner - start, l4 - start, protocol, *ends


def parse6(packet, at=40):
    data, meta, start = buffers(packet)
    inner, l4, limit, protocol, a, b, c, d, both = call6(data, meta, start + at)
    if inner == REFUSED:
        return None
    assert limit <= BUF_STRIDE
    src, dst = (
        int(h).to_bytes(8, "big") + int(low).to_bytes(8, "big") for h, low in ((a, b), (c, d))
    )
    return inner - start, l4 - start, protocol, src, dst, (both >> 16, both & 0xFFFF)


def message(protocol, kind=8):
    """The first bytes of whatever the protocol is."""
    if protocol in (1, 58):
        return bytes([kind, 0, 0x12, 0x34, 0xAB, 0xCD, 0, 1]) + bytes(range(60))
    return b"\x03\xe8\x00\x35" + bytes(range(60))


quoted_packets = st.builds(
    lambda protocol, kind, options, fragment: Ip4Spec(
        message(protocol, kind), protocol, ip("10.0.0.9"), ip("192.0.2.2"),
        options=options, fragment=fragment,
    ).build(),
    st.sampled_from(PROTOCOLS),
    st.sampled_from((8, 0, 3, 5, 11, 13, 128, 129)),
    st.sampled_from((b"", b"", b"\x01" * 4, b"\x94\x04\0\0" * 10)),
    st.sampled_from((0, 0, 0, 0x2000, 0x4000, 1, 0x3FFF)),
)  # fmt: skip


def outer(body, kind=11, options=b"", rest=bytes(4)):
    text = bytes([kind, 0, 0, 0]) + rest + body
    text = text[:2] + checksum.internet(text).to_bytes(2, "big") + text[4:]
    return Ip4Spec(text, 1, ip("203.0.113.1"), ip("10.0.0.9"), options=options).build()


@settings(max_examples=800)
@given(
    quoted_packets,
    st.sampled_from((*range(64), 100, 200)),
    st.sampled_from((3, 4, 5, 11, 12)),
    st.sampled_from((b"", b"", b"\x01" * 8, b"\x01" * 40)),
    st.sampled_from((0, 0, 0, 1, 6, 7, 8, 32, 255)),
    st.one_of(st.none(), st.tuples(st.integers(0, 31), st.integers(1, 255))),
)
def test_as_the_oracle(quote, cut, kind, options, length, bend):
    if bend and bend[0] < len(quote):
        quote = bytearray(quote)
        quote[bend[0]] ^= bend[1]
        if bend[1] & 1:  # half of them with a checksum that is right all the same
            n = max(20, ip4.header_length(bytes(quote)))
            quote[10:12] = bytes(2)
            quote[10:12] = checksum.internet(bytes(quote[:n])).to_bytes(2, "big")
    packet = outer(bytes(quote)[:cut], kind, options, bytes([0, length, 0, 0]))
    assert parse4(packet) == nat.quoted4(packet)


def test_what_icmp_error_sends():
    packet = Ip4Spec(message(17), 17, ip("10.0.0.9"), ip("192.0.2.2"), options=b"\x01" * 4).build()
    error = icmp4.error(packet, ip("10.0.0.1"), 3, 4, 1400)
    ends = (ip("10.0.0.9"), 1000), (ip("192.0.2.2"), 53)
    assert parse4(error) == (28, 52, 17, *ends)


@pytest.mark.parametrize("size", range(60))
def test_every_short_error(size):
    packet = icmp4.error(Ip4Spec(message(6), 6, 1, 2).build(), 3, 11, 0)[:size]
    if size >= 20:
        assert (parse4(packet) is not None) == (size >= 56) == (nat.quoted4(packet) is not None)


# --- IPv6 ----------------------------------------------------------------------------------------


def extension(kind, following, size):
    if kind == 44:
        return bytes([following, 0, 0, 1, 1, 2, 3, 4])
    if kind == 51:
        return bytes([following, size]) + bytes(4 * (size + 2) - 2)
    return bytes([following, size]) + bytes(8 * (size + 1) - 2)


@st.composite
def quotes6(draw):
    protocol = draw(st.sampled_from((*PROTOCOLS, 59, 50)))
    body = message(protocol, draw(st.sampled_from((128, 129, 8, 0, 1, 135))))
    kinds = draw(st.lists(st.sampled_from((0, 43, 44, 51, 60)), max_size=9))
    for kind in reversed(kinds):
        body = extension(kind, protocol, draw(st.integers(0, 3))) + body
        protocol = kind
    made = packets.ip6("2001:db8::1", "2001:db8:1::2", protocol, body)
    if draw(st.booleans()) and protocol == 44:  # a fragment that is not the first
        made = made[:43] + b"\x09" + made[44:]
    if draw(st.integers(0, 9)) == 0:
        made = bytes([draw(st.integers(0, 255))]) + made[1:]
    cut = draw(st.one_of(st.just(len(made)), st.integers(0, len(made))))
    return made[:cut]


@settings(max_examples=800)
@given(quotes6(), st.sampled_from((1, 2, 3, 4, 0)), st.sampled_from((0, 0, 0, 4, 5, 6, 255)))
def test_ip6_as_the_oracle(quote, kind, length):
    text = bytes([kind, 0, 0, 0, length, 0, 0, 0]) + quote
    packet = packets.ip6("2001:db8:f::1", "2001:db8::1", 58, text)
    assert parse6(packet) == nat.quoted6(packet, 40)


@pytest.mark.parametrize("size", range(110))
def test_ip6_every_short_error(size):
    quote = packets.ip6("2001:db8::1", "2001:db8:1::2", 17, message(17))
    packet = packets.ip6("2001:db8:f::1", "2001:db8::1", 58, bytes([1, 4, *bytes(6)]) + quote)
    if size >= 40:
        assert (parse6(packet[:size]) is not None) == (size >= 96)
