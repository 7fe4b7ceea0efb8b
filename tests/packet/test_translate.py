"""translate: every packet as the oracle makes it afresh, at the values where checksums wrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import checksum, ip4, nat
from strategies import CHECKSUMS
from vforward.jit.kernel import i64, kernel
from vforward.layout import BUF_STRIDE, CSUM_PARTIAL, HEADROOM, META, TRANSLATED
from vforward.packet.translate import translate4

PROTOCOLS = (nat.TCP, nat.UDP, nat.UDP_LITE, nat.DCCP, nat.ICMP, nat.SCTP, 47, 0, 255)
ADDRESSES = (0x0A000009, 0, 1, 0xFFFF, 0xFFFF0000, 0x0000FFFF, 0xFFFFFFFE, 0xFFFFFFFF, 0xC0000201)
TARGETS = (*CHECKSUMS, 0x7FFF, 0x8000)
L3 = HEADROOM + 14


@kernel
def call(data, meta, l3, l4, protocol, src, dst):
    return translate4(data, meta, i64(1), l3, l4, protocol, src, dst)


def endpoint(end):
    return end[0] << 16 | end[1]


def buffers(packet, l3=L3, flags=0, tail=b""):
    data = np.full((3, BUF_STRIDE), 0xA5, np.uint8)
    meta = np.zeros(3, META)
    data[1, l3 : l3 + len(packet)] = np.frombuffer(packet, np.uint8)
    meta[1]["off"], meta[1]["l3"], meta[1]["end"] = l3 - 14, l3, l3 + len(packet)
    meta[1]["flags"] = flags
    return data, meta


def run(packet, src, dst, *, l3=L3, flags=0, csum=None, l4=None):
    """What becomes of a packet: whether it was done, its bytes, its flags."""
    data, meta = buffers(packet, l3, flags)
    l4 = l3 + ip4.header_length(packet) if l4 is None else l4
    if csum:
        meta[1]["csum_start"], meta[1]["csum_off"] = l3 + csum[0], csum[1]
    around = data.copy()
    done = call(data, meta, l3, l4, ip4.protocol(packet), endpoint(src), endpoint(dst))
    after = data[1, l3 : l3 + len(packet)].tobytes()
    around[1, l3 : l3 + len(packet)] = data[1, l3 : l3 + len(packet)]
    assert (data == around).all(), "a store outside of the packet"
    return bool(done), after, int(meta[1]["flags"])


ends = st.tuples(
    st.one_of(st.sampled_from(ADDRESSES), st.integers(0, 0xFFFFFFFF)),
    st.one_of(st.sampled_from((0, 1, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)), st.integers(0, 0xFFFF)),
)  # fmt: skip


def segment(proto, body, word):
    """A header without right ports and checksum, in which word is any 16 bits that are covered."""
    free = word.to_bytes(2, "big")
    match proto:
        case nat.TCP:
            return bytes(4) + free + bytes(6) + b"\x50\x10\xff\xff" + bytes(4) + body
        case nat.UDP:
            return bytes(4) + (10 + len(body)).to_bytes(2, "big") + bytes(2) + free + body
        case nat.UDP_LITE:
            return (
                bytes(4)
                + (10 + len(body) % 7).to_bytes(2, "big")
                + bytes(2)
                + free
                + body
                + bytes(7)
            )
        case nat.DCCP:
            return bytes(4) + b"\x04\x00\x00\x00" + free + bytes(6) + body
        case nat.ICMP:
            return b"\x08\x00" + bytes(4) + free + body
    return free + b"\x01\x02\x03\x04\x05\x06" + body


def header(proto, src, dst, payload, options=b"", ident=0, fragment=0):
    return (
        bytes([0x45 + len(options) // 4, 0])
        + (20 + len(options) + len(payload)).to_bytes(2, "big")
        + ident.to_bytes(2, "big") + fragment.to_bytes(2, "big") + bytes([64, proto, 0, 0])
        + src[0].to_bytes(4, "big") + dst[0].to_bytes(4, "big") + options + payload
    )  # fmt: skip


def made(proto, src, dst, body, word, options=b"", ident=0):
    """A packet between endpoints whose checksums are right."""
    packet = header(proto, src, dst, segment(proto, body, word), options, ident)
    n = ip4.header_length(packet)
    if proto == nat.SCTP:
        packet = (
            packet[:n] + src[1].to_bytes(2, "big") + dst[1].to_bytes(2, "big") + packet[n + 4 :]
        )
    return nat.translate(nat.fresh(packet), src, dst)


def forced(have, target):
    """The word with which a checksum becomes target, as near as can be, that is have with 0 there."""
    return (have - target) % 0xFFFF


def field(packet, at):
    return int.from_bytes(packet[at : at + 2], "big")


@st.composite
def cases(draw):
    """(packet, its new endpoints): old or new checksums, of header or message, are at an edge."""
    proto = draw(st.sampled_from(PROTOCOLS))
    old, new = (draw(ends), draw(ends)), (draw(ends), draw(ends))
    body = draw(
        st.sampled_from((b"", b"\0", b"\xff", b"\xff\xff", b"abc", bytes(40), b"\xff" * 41))
    )
    options = draw(st.sampled_from((b"", b"\x01" * 4, b"\xff" * 40)))
    target = draw(st.sampled_from(TARGETS))
    after = draw(st.booleans())

    def sums(word, ident):
        packet = made(proto, *old, body, word, options, ident)
        return nat.translate(packet, *new) if after else packet

    at = 20 + len(options) + (nat.FIELD.get(proto) or 2)
    covered = proto in (*nat.FIELD, nat.ICMP)
    word = forced(field(sums(0, 0), at), target) if covered else 7
    ident = forced(field(sums(word, 0), 10), target)
    assert field(sums(word, ident), 10) % 0xFFFF == target % 0xFFFF
    assert not covered or field(sums(word, ident), at) % 0xFFFF == target % 0xFFFF
    return made(proto, *old, body, word, options, ident), new


def expected(packet, new):
    src, dst = new
    return nat.translate(packet, src, dst)


@settings(max_examples=1500)
@given(cases())
def test_as_the_oracle(case):
    packet, new = case
    done, after, flags = run(packet, *new)
    assert (done, after.hex(), flags) == (True, expected(packet, new).hex(), TRANSLATED)


@settings(max_examples=400)
@given(cases())
def test_there_and_back_again(case):
    packet, new = case
    n = ip4.header_length(packet)
    ports = packet[n : n + 4]
    if ip4.protocol(packet) == nat.ICMP:
        ports = packet[n + 4 : n + 6] + bytes(2)
    old = (
        (ip4.source(packet), int.from_bytes(ports[:2], "big")),
        (ip4.destination(packet), int.from_bytes(ports[2:], "big")),
    )
    assert run(run(packet, *new)[1], *old)[1] == packet


@settings(max_examples=300)
@given(cases(), st.sampled_from((1, 0x0100, 0x8000, 0x7FFF)))
def test_a_wrong_checksum_stays_wrong(case, damage):
    """What came damaged must not be made good (RFC 1624; RFC 3022 section 4.1)."""
    packet, new = case
    proto, n = ip4.protocol(packet), ip4.header_length(packet)
    at = n + (nat.FIELD.get(proto) or 2)
    if proto not in (*nat.FIELD, nat.ICMP):
        return
    check = int.from_bytes(packet[at : at + 2], "big") ^ damage
    if check in (0, 0xFFFF):
        return
    _, after, _ = run(packet[:at] + check.to_bytes(2, "big") + packet[at + 2 :], *new)
    good = int.from_bytes(expected(packet, new)[at : at + 2], "big")
    now = int.from_bytes(after[at : at + 2], "big")
    was = int.from_bytes(packet[at : at + 2], "big")
    assert (now - check) % 0xFFFF == (good - was) % 0xFFFF
    assert now % 0xFFFF != good % 0xFFFF


OLD = ((0x0A000009, 1000), (0xC0000201, 53))
NEW = ((0xC6336407, 40000), (0xCB007105, 5353))


@pytest.mark.parametrize("proto", [nat.UDP, nat.UDP_LITE])
def test_no_checksum_stays_none(proto):
    packet = made(proto, *OLD, b"abc", 7)
    packet = packet[:26] + bytes(2) + packet[28:]
    after = run(packet, *NEW)[1]
    assert after[26:28] == bytes(2)
    assert after == nat.translate(packet, *NEW)


@pytest.mark.parametrize("proto", [nat.TCP, nat.UDP, nat.DCCP, nat.ICMP])
def test_all_ones_is_a_checksum_like_zero(proto):
    """Some send 0xffff where a sum done afresh gives 0; it verifies, and so does what it becomes."""
    at = 20 + (nat.FIELD.get(proto) or 2)
    word = forced(field(made(proto, *OLD, b"", 0), at), 0)
    packet = made(proto, *OLD, b"", word)
    assert packet[at : at + 2] in (bytes(2), b"\xff\xff")
    packet = packet[:at] + b"\xff\xff" + packet[at + 2 :]
    assert run(packet, *NEW)[1] == nat.translate(packet, *NEW)


@settings(max_examples=300)
@given(cases())
def test_partial_checksums(case):
    """The field has the sum of the pseudo-header: ports do not change it, addresses do."""
    packet, new = case
    proto, n = ip4.protocol(packet), ip4.header_length(packet)
    if proto not in (nat.TCP, nat.UDP, nat.DCCP, nat.UDP_LITE):
        return
    packet = nat.fresh(packet, partial=True)
    place = n, nat.FIELD[proto]
    done, after, flags = run(packet, *new, flags=CSUM_PARTIAL, csum=place)
    want = nat.translate(packet, *new, partial=True)
    at = n + nat.FIELD[proto]
    assert done
    assert flags == CSUM_PARTIAL | TRANSLATED
    assert (after[:at], after[at + 2 :]) == (want[:at], want[at + 2 :])
    have, wanted = (int.from_bytes(p[at : at + 2], "big") for p in (after, want))
    assert have % 0xFFFF == wanted % 0xFFFF


@pytest.mark.parametrize("proto", [nat.UDP, nat.ICMP, nat.SCTP, 47])
@pytest.mark.parametrize("start", [8, 20, 28])
@pytest.mark.parametrize("off", [0, 2, 6, 16, 0xFFFF])
def test_a_checksum_of_a_packet_in_the_packet_is_not_looked_at(proto, start, off):
    packet = made(proto, *OLD, bytes(60), 7)
    done, after, flags = run(packet, *NEW, flags=CSUM_PARTIAL, csum=(20 + start, off))
    assert done
    assert after == nat.translate(packet, *NEW)
    assert flags == CSUM_PARTIAL | TRANSLATED


@pytest.mark.parametrize("proto", [nat.TCP, nat.UDP, nat.ICMP, nat.SCTP])
@pytest.mark.parametrize("mtu", [28, 44, 68, 300])
def test_fragments(proto, mtu):
    """Put together again they are what the whole packet would have become."""
    packet = made(proto, *OLD, bytes(range(200)), 7, b"\x01" * 4)
    pieces = ip4.fragment(packet, mtu + 4)
    done = [run(piece, *NEW) for piece in pieces]
    if proto == nat.TCP and mtu == 28:
        assert done[0] == (False, pieces[0], 0)  # its checksum is in another piece
        assert all(ok for ok, _, _ in done[1:])
        return
    assert all(ok for ok, _, _ in done)
    assert ip4.reassemble([after for _, after, _ in done]) == nat.translate(packet, *NEW)


def test_a_piece_has_no_header_wherever_one_is_said_to_be():
    packet = ip4.with_checksum(header(nat.TCP, *OLD, b"\xee" * 40, fragment=3))
    for l4 in (-1, L3 + 20, 65535):
        _, after, flags = run(packet, *NEW, l4=l4, flags=CSUM_PARTIAL, csum=(20, 16))
        assert after[20:] == packet[20:]
        assert checksum.verifies(after[:20])
        assert (ip4.source(after), ip4.destination(after)) == (NEW[0][0], NEW[1][0])
        assert flags == CSUM_PARTIAL | TRANSLATED


@pytest.mark.parametrize("proto", PROTOCOLS)
@pytest.mark.parametrize("n", range(22))
def test_short_ones_at_the_buffers_end(proto, n):
    """Nothing is read or written beyond the end; what cannot be right is refused, unchanged."""
    packet = made(proto, *OLD, bytes(20), 7)[: 20 + n]
    packet = ip4.with_checksum(packet[:2] + (20 + n).to_bytes(2, "big") + packet[4:])
    done, after, flags = run(packet, *NEW, l3=BUF_STRIDE - len(packet))
    need = {nat.TCP: 18, nat.SCTP: 0, 47: 0, 0: 0, 255: 0}.get(proto, 8)
    assert done == (n >= need)
    assert bool(flags & TRANSLATED) == done
    if not done:
        assert after == packet
    else:
        assert checksum.verifies(after[:20])
        assert ip4.source(after) == NEW[0][0]


@pytest.mark.parametrize("kind", range(20))
def test_icmp_types(kind):
    packet = made(nat.ICMP, *OLD, b"abc", 7)
    packet = nat.fresh(packet[:20] + bytes([kind]) + packet[21:])
    assert run(packet, *NEW)[1] == nat.translate(packet, *NEW)
