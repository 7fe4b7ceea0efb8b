"""The fields that rules ask about, against the oracle; ports of sessions with them."""

import itertools

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oracles import fields as oracle
from vforward.jit.kernel import kernel
from vforward.layout import BUF_STRIDE, META, PORTS_KNOWN
from vforward.packet import fields, ports

L3, PLACE, VLAN = 152, 3 << 16 | 0xFFFF, 4094
PROTOCOLS = st.sampled_from((0, 1, 6, 17, 33, 47, 58, 132, 136, 255))
KNOWN = st.one_of(st.none(), st.sampled_from((0, 1, 0xFFFFFFFF, 80 << 16 | 443)))


@kernel
def run4(data, meta, words):
    return fields.load4(data, meta, 0, words, 0, PLACE, VLAN)


@kernel
def run6(data, meta, words):
    return fields.load6(data, meta, 0, words, 0, PLACE, VLAN)


def measured(run, packet, known, n):
    data = np.full((1, BUF_STRIDE), 0xA5, np.uint8)
    data[0, L3 : L3 + len(packet)] = np.frombuffer(packet, np.uint8)
    meta = np.zeros(1, META)
    meta["l3"], meta["end"] = L3, L3 + len(packet)
    if known is not None:
        meta["flags"], meta["hash"] = PORTS_KNOWN, known
    words = np.full(n, 0xDEAD, np.uint32)
    flow = int(run(data, meta, words))
    return flow, words.tolist()


def compare(run, check, packet, known, common, n):
    flow, words = measured(run, packet, known, n)
    try:
        expected = check(packet, known)
    except oracle.Truncated:
        assert flow == fields.TRUNCATED
        return
    assert flow == (ports.NONE if expected["flow"] is None else expected["flow"])
    assert words[: len(expected["addresses"])] == expected["addresses"]
    found = words[common : common + 4]
    assert found == [expected["ports"], expected["kind"], PLACE, VLAN]
    assert not any(words[common + 4 :])


@st.composite
def packets4(draw):
    options = draw(st.sampled_from((0, 4, 40)))
    word = draw(st.sampled_from((0, 0x4000, 0x2000, 0x2001, 1, 0x1FFF)))
    head = bytes([0x45 + options // 4, draw(st.integers(0, 255))]) + bytes(4)
    head += word.to_bytes(2, "big") + bytes([64, draw(PROTOCOLS), 0, 0])
    body = draw(st.sampled_from((b"\x08\0", b"\0\0", b"\x03\x0d", b"\xff\xff")))
    body += draw(st.binary(min_size=0, max_size=24))
    return head + draw(st.binary(min_size=8, max_size=8)) + bytes(options) + body


@settings(max_examples=400, deadline=None)
@given(packets4(), KNOWN)
def test_ip4(packet, known):
    compare(run4, oracle.ip4, packet, known, fields.COMMON4, fields.WORDS4)


@st.composite
def packets6(draw):
    chain = draw(st.lists(st.sampled_from(oracle.EXTENSIONS), max_size=9))
    protocol = draw(PROTOCOLS.filter(lambda p: p not in oracle.EXTENSIONS))
    kinds = [*chain, protocol]
    body = b""
    for kind, after in itertools.pairwise(kinds):
        offset = draw(st.sampled_from((0, 1, 8, 0xFFF8)))
        part = bytes([after, 0]) + offset.to_bytes(2, "big") + bytes(4)
        body += part if kind != 51 else part[:2] + bytes(6)
    body += draw(st.sampled_from((b"\x80\0", b"\x81\0", b"\x01\x04")))
    body += draw(st.binary(min_size=0, max_size=24))
    head = draw(st.sampled_from((0x60000000, 0x6FC00000, 0x60300000))).to_bytes(4, "big")
    head += bytes(2) + bytes([kinds[0], 64])
    return head + draw(st.binary(min_size=32, max_size=32)) + body


@settings(max_examples=400, deadline=None)
@given(packets6(), KNOWN)
@example(b"\x60" + bytes(5) + b"\x2c\x40" + bytes(32) + b"\x3a\0\0\x08" + bytes(4), 7)
def test_ip6(packet, known):
    compare(run6, oracle.ip6, packet, known, fields.COMMON6, fields.WORDS6)
