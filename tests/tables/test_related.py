"""related: an error about a translated packet must be, byte for byte, one about the packet as it came."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.network import NUMBER, run_both
from oracles import ip4, nat
from strategies import OURS, ip
from tables.nat_sessions import ESTABLISHED, put, put6, table
from vforward.jit.kernel import i64, kernel
from vforward.layout import (
    BUF_STRIDE,
    CHAINED,
    CSUM_PARTIAL,
    HEADROOM,
    META,
    NIL,
    SELF_MADE,
    TRANSLATED,
)
from vforward.nodes.icmp.error import NODE as ICMP_ERROR
from vforward.tables import related
from vforward.tables.session import shard
from vforward.testing import packets

CLIENT, SERVER = (ip("10.0.0.9"), 40000), (ip("198.51.100.7"), 443)
MAPPED, PUBLIC = (ip("192.0.2.1"), 50001), (ip("203.0.113.80"), 8443)
ROUTER = ip("203.0.113.254")
NATS = {
    "source": ((CLIENT, SERVER), (MAPPED, SERVER)),
    "destination": ((CLIENT, PUBLIC), (CLIENT, SERVER)),
    "both": ((CLIENT, PUBLIC), (MAPPED, SERVER)),
    "port alone": ((CLIENT, SERVER), ((CLIENT[0], 1), SERVER)),
}
TTL, PORT, TOO_BIG = (
    bytes([11, 0, *bytes(4)]),
    bytes([3, 3, *bytes(4)]),
    bytes([3, 4, 0, 0, 5, 0x78]),
)
SENT = 0xFFFFFF00
"""TCP: the highest that each side has sent; a window wraps around behind it."""
NUMBERS = {"end": (SENT, SENT), "maxwin": (1000, 2000), "scale": (3, 5), "state": ESTABLISHED}


@kernel
def _related4(sessions, data, meta, row, l3, zone):
    return related.related4(shard(sessions), data, meta, i64(row), l3, zone)


@kernel
def _related6(sessions, data, meta, row, l3, l4, zone):
    return related.related6(shard(sessions), data, meta, i64(row), l3, l4, zone)


def run(sessions, packet, *, zone=0, flags=0, l4=None):
    """What is said of a packet, and the packet then. It lies at the end of its buffer."""
    data = np.full((3, BUF_STRIDE), 0xA5, np.uint8)
    meta = np.zeros(3, META)
    start = BUF_STRIDE - len(packet)
    data[1, start:] = np.frombuffer(packet, np.uint8)
    meta[1]["off"], meta[1]["l3"], meta[1]["end"] = start, start, BUF_STRIDE
    meta[1]["flags"], meta[1]["next"] = flags, NIL
    before, around = sessions.copy(), data.copy()
    if l4 is None:
        said = _related4(sessions, data, meta, 1, start, zone)
    else:
        said = _related6(sessions, data, meta, 1, start, start + l4, zone)
    assert (sessions == before).all(), "an error changed a session"
    after = data[1, start:].tobytes()
    around[1, start:] = data[1, start:]
    assert (data == around).all()
    translated = bool(int(meta[1]["flags"]) & TRANSLATED)
    if said < 0:
        assert after == packet
        assert not translated
    return said, after, translated


def refused(sessions, packet, why, **how):
    assert run(sessions, packet, **how)[0] == ~why


def packet_of(proto, src, dst, body=b"", options=b"", seq=SENT - 100, *, reply=False):
    """A packet of a flow with right checksums."""
    match proto:
        case nat.TCP:
            text = (
                bytes(4) + seq.to_bytes(4, "big") + bytes(4) + b"\x50\x10\xff\xff" + bytes(4) + body
            )
        case nat.UDP:
            text = bytes(4) + (8 + len(body)).to_bytes(2, "big") + bytes(2) + body
        case nat.ICMP:
            text = bytes([0 if reply else 8, *bytes(7)]) + body
        case nat.SCTP:
            text = src[1].to_bytes(2, "big") + dst[1].to_bytes(2, "big") + bytes(8) + body
        case _:
            text = body
    header = (
        bytes([0x45 + len(options) // 4, 0])
        + (20 + len(options) + len(text)).to_bytes(2, "big")
        + bytes([0x12, 0x34, 0x40, 0, 63, proto, 0, 0])
        + bytes(8)
        + options
    )
    return nat.translate(nat.fresh(header + text), src, dst)


def ports_for(proto, ends):
    """Endpoints as a protocol has them: SCTP's ports do not change, others have none."""
    (a, b), (c, d) = ends
    if proto == nat.SCTP:
        return (a, b), ((c[0], a[1]), (d[0], b[1]))
    if proto == nat.ICMP:
        return (a, (b[0], 0)), (c, (d[0], 0))
    if proto not in nat.FIELD:
        return tuple(tuple((end[0], 0) for end in pair) for pair in ends)
    return ends


@st.composite
def worlds(draw):
    """A session with NAT, a packet of it as it came in, and as it went out."""
    proto = draw(st.sampled_from((nat.TCP, nat.UDP, nat.ICMP, nat.SCTP, 47)))
    kind = draw(st.sampled_from(sorted(NATS)))
    original, translated = ports_for(proto, NATS[kind])
    if original == translated:
        original, translated = ports_for(proto, NATS["both"])
    sessions = table()
    put(sessions, (1, 1), (2, 2), proto)
    number = put(sessions, *original, proto, translated=translated, **NUMBERS)
    reply = draw(st.booleans())
    came, went = original, translated
    if reply:
        came, went = translated[::-1], original[::-1]
    body = draw(st.sampled_from((b"", b"\0", b"abc", b"\xff" * 30, bytes(600))))
    options = draw(st.sampled_from((b"", b"", b"\x01" * 4, b"\x01" * 40)))
    packet = packet_of(proto, *came, body, options, reply=reply)
    if proto == nat.UDP and draw(st.booleans()):
        n = ip4.header_length(packet)
        packet = packet[: n + 6] + bytes(2) + packet[n + 8 :]
    return sessions, number, packet, nat.translate(packet, *went), came, went


@settings(max_examples=1000)
@given(
    worlds(),
    st.sampled_from((TTL, PORT, TOO_BIG, bytes([12, 0, 9, 0, 0, 0]), bytes([4, *bytes(5)]))),
    st.sampled_from((8, 9, 12, 17, 18, 19, 20, 21, 40, 548)),
    st.booleans(),
    st.sampled_from((b"", b"", b"\x01" * 8, b"\x01" * 40)),
    st.booleans(),
)
def test_an_error_is_about_the_packet_as_it_came(world, what, more, router, options, extended):
    sessions, number, packet, sent, came, went = world
    size = ip4.header_length(packet) + more
    tail = b""
    if extended and what[0] in (3, 11, 12):  # RFC 4884: padded to 128 bytes, then an extension
        size = 128
        what = what[:3] + bytes([32]) + what[4:]
        tail = bytes.fromhex("2000dfff0008010100000001")

    def quote(of):
        cut = of[:size]
        return cut + (bytes(size - len(cut)) + tail if tail else b"")

    sender = ROUTER if router else went[1][0]
    error = nat.icmp_error(sender, went[0][0], what, quote(sent), options)
    behind = came[1][0] if came[1][0] != went[1][0] else sender
    back = quote(packet)
    if ip4.protocol(packet) == nat.TCP and not tail and more == 17:
        back = back[:-1] + quote(sent)[-1:]  # half a checksum: what it was cannot be told
    want = nat.icmp_error(behind, came[0][0], what, back, options)
    said, after, translated = run(sessions, error)
    assert (said, after.hex(), translated) == (number, want.hex(), True)


def source_nat(proto=nat.UDP, seq=SENT - 100, **fields):
    """(sessions, number, a packet of the client's as it went out)."""
    original, translated = ports_for(proto, NATS["source"])
    sessions = table()
    number = put(sessions, *original, proto, translated=translated, **{**NUMBERS, **fields})
    return sessions, number, packet_of(proto, *translated, b"abcdef", seq=seq)


def error_about(packet, what=TTL, to=None, sender=ROUTER):
    return nat.icmp_error(sender, ip4.source(packet) if to is None else to, what, packet)


def test_what_quotes_a_packet_as_it_came_is_left_alone():
    """Made before the packet was translated, and on its way to the client, or to the server."""
    sessions, number, _ = source_nat()
    for ends in ((CLIENT, SERVER), (SERVER, MAPPED)):
        error = error_about(packet_of(nat.UDP, *ends))
        assert run(sessions, error) == (number, error, False)


@pytest.mark.parametrize("proto", [nat.TCP, nat.UDP, nat.ICMP, nat.SCTP, 47])
def test_without_nat_nothing_is_changed(proto):
    ends = ports_for(proto, NATS["source"])[0]
    sessions = table()
    number = put(sessions, *ends, proto, **NUMBERS)
    for reply in (False, True):
        way = ends[::-1] if reply else ends
        error = error_about(packet_of(proto, *way, b"abc", reply=reply))
        assert run(sessions, error) == (number, error, False)


def test_what_nobody_has_sent():
    sessions, _, sent = source_nat()
    refused(sessions, error_about(sent), related.NO_SESSION, zone=1)
    for ends in ((MAPPED, (SERVER[0], 444)), ((MAPPED[0], 50002), SERVER), (MAPPED, CLIENT)):
        refused(sessions, error_about(packet_of(nat.UDP, *ends)), related.NO_SESSION)
    refused(sessions, error_about(packet_of(nat.TCP, MAPPED, SERVER)), related.NO_SESSION)


def test_an_error_goes_to_who_sent_the_packet():
    sessions, _, sent = source_nat()
    for to in (SERVER[0], CLIENT[0], MAPPED[0] + 1, ROUTER):
        refused(sessions, error_about(sent, to=to), related.MISDIRECTED)


@pytest.mark.parametrize("at", [*range(20, 26), 28, 40, 48, 50])
def test_a_wrong_checksum_is_not_believed(at):
    sessions, _, sent = source_nat()
    error = bytearray(error_about(sent))
    error[at] ^= 4
    why = related.BAD_CHECKSUM if at != 20 else related.NOT_AN_ERROR  # another type
    refused(sessions, bytes(error), why)
    good = error_about(sent)
    refused(sessions, good, related.BAD_CHECKSUM, flags=CSUM_PARTIAL)


@pytest.mark.parametrize("kind", range(256))
def test_types(kind):
    sessions, number, sent = source_nat()
    error = error_about(sent, bytes([kind, 0, *bytes(4)]))
    if kind in (3, 4, 11, 12):
        assert run(sessions, error)[0] == number
    else:
        refused(sessions, error, related.NOT_AN_ERROR)


@pytest.mark.parametrize("proto", [nat.TCP, nat.UDP, nat.ICMP, nat.SCTP])
def test_cut_anywhere(proto):
    sessions, number, sent = source_nat(proto)
    for size in range(len(sent)):
        error = error_about(sent[:size], to=MAPPED[0])
        if size >= 28:
            assert run(sessions, error)[0] == number
        else:
            refused(sessions, error, related.BAD_QUOTE)
    for size in range(20, 28):
        refused(sessions, error_about(sent)[:size], related.NOT_AN_ERROR)


@pytest.mark.parametrize("fragment", [0x2000, 1, 0x2001, 0x1FFF])
def test_an_error_in_pieces_is_none(fragment):
    sessions, _, sent = source_nat()
    error = error_about(sent)
    piece = ip4.with_checksum(error[:6] + fragment.to_bytes(2, "big") + error[8:])
    refused(sessions, piece, related.NOT_AN_ERROR)


@pytest.mark.parametrize("fragment", [1, 0x2001, 0x3FFF])
def test_an_error_about_a_later_piece_tells_no_ports(fragment):
    sessions, number, sent = source_nat()
    piece = ip4.with_checksum(sent[:6] + fragment.to_bytes(2, "big") + sent[8:])
    refused(sessions, error_about(piece), related.BAD_QUOTE)
    first = ip4.with_checksum(sent[:6] + b"\x20\0" + sent[8:])
    assert run(sessions, error_about(first))[0] == number


def test_errors_about_errors_are_none():
    sessions, _, sent = source_nat()
    error = error_about(sent)
    refused(sessions, error_about(error), related.BAD_QUOTE)


@pytest.mark.parametrize(
    ("back", "fields", "good"),
    [
        (0, {}, True),  # a bare acknowledgment
        (1, {}, True),
        (-1, {}, False),
        (-1000, {}, False),
        (0xFFFF, {}, True),
        (0x10000, {}, False),
        (2000 << 5, {"maxwin": (1000, 2000 << 1)}, True),
        (4000 << 5, {"maxwin": (1000, 2000 << 1)}, True),
        ((4000 << 5) + 1, {"maxwin": (1000, 2000 << 1)}, False),
        (0x7FFFFFFF, {}, False),
        (0x80000000, {}, False),
        (1, {"maxwin": (0, 0), "scale": (0, 0), "state": 1}, True),  # a SYN
    ],
)
def test_tcp_must_have_been_sent(back, fields, good):
    """The initiator's: the responder's window, scaled by 5, is what may be in flight."""
    for end in (SENT, 5, 0x80000000):
        numbers = {"end": (end, 77), **fields}
        sessions, number, sent = source_nat(nat.TCP, (end - back) & 0xFFFFFFFF, **numbers)
        if good:
            assert run(sessions, error_about(sent))[0] == number
        else:
            refused(sessions, error_about(sent), related.IMPLAUSIBLE)


def test_each_side_has_its_own_numbers():
    for seq, good in ((77, True), (76, True), (78, False), (SENT - 10_000_000, False)):
        sessions, number, _ = source_nat(nat.TCP, end=(SENT - 10_000_000, 77))
        error = error_about(packet_of(nat.TCP, SERVER, CLIENT, seq=seq))
        assert run(sessions, error)[0] == (number if good else ~related.IMPLAUSIBLE)


def test_a_long_error_in_two_buffers():
    """The checksum runs over all of it, and what changes is in the first."""
    sessions, number, _ = source_nat()
    sent, came = (packet_of(nat.UDP, *ends, bytes(range(250)) * 5) for ends in NATS["source"][::-1])
    error = error_about(sent)
    want = nat.icmp_error(ROUTER, CLIENT[0], TTL, came)
    for size in (56, 57, 200, 301):
        data = np.full((3, BUF_STRIDE), 0xA5, np.uint8)
        meta = np.zeros(3, META)
        meta["off"], meta["l3"], meta["next"] = HEADROOM, HEADROOM, NIL
        for row, part in ((1, error[:size]), (2, error[size:])):
            data[row, HEADROOM : HEADROOM + len(part)] = np.frombuffer(part, np.uint8)
            meta[row]["end"] = HEADROOM + len(part)
        meta[1]["flags"], meta[1]["next"], meta[1]["rest"] = CHAINED, 2, len(error) - size
        assert _related4(sessions, data, meta, 1, HEADROOM, 0) == number
        parts = (data[row, HEADROOM : int(meta[row]["end"])].tobytes() for row in (1, 2))
        assert b"".join(parts).hex() == want.hex()


@settings(max_examples=300)
@given(st.integers(0, 99), st.integers(1, 255), st.booleans())
def test_made_up_errors_do_no_harm(at, bits, mend):
    """Any byte of a quote, and a checksum that is right all the same: refused or of the session."""
    sessions, number, sent = source_nat(nat.TCP)
    quote = bytearray(sent)
    quote[at % len(sent)] ^= bits
    if mend:
        quote[:] = ip4.with_checksum(bytes(quote)) if quote[0] & 15 >= 5 else quote
    said, _, _ = run(sessions, error_about(bytes(quote), to=MAPPED[0]))
    assert said in (number, *(~why for why in range(6)))


# --- what the router says itself ----------------------------------------------------------------


def self_made(packet, rx_port, flags):
    """The error that icmp4-error makes of a packet of NAT's."""

    def prepare(record, i):
        record["scratch"], record["rx_port"] = 11 << 8, NUMBER[rx_port]
        record["flags"] |= flags

    result = run_both(ICMP_ERROR, [b"\x5a" * 14 + packet], l3=14, meta=prepare)
    assert result.edges == ["reply"]
    assert int(result.meta[0]["flags"]) == SELF_MADE
    return result.frames[0]


@pytest.mark.parametrize("proto", [nat.TCP, nat.UDP, nat.ICMP])
def test_the_client_is_told_by_this_router_too(proto):
    """Its packet got an address of the router's and then its TTL ran out: the error goes to that."""
    assert MAPPED[0] in OURS
    sessions, number, sent = source_nat(proto)
    error = self_made(sent, "lan", TRANSLATED)
    assert ip4.destination(error) == MAPPED[0]
    said, after, translated = run(sessions, error, flags=SELF_MADE)
    came = packet_of(proto, *ports_for(proto, NATS["source"])[0], b"abcdef")
    want = self_made(came, "lan", 0)
    assert (said, after.hex(), translated) == (number, want.hex(), True)
    assert (ip4.source(after), ip4.destination(after)) == (ip("10.0.0.1"), CLIENT[0])


def test_the_server_is_told_by_the_address_that_it_knows():
    sessions, number, _ = source_nat()
    came, went = (packet_of(nat.UDP, SERVER, to, b"abc") for to in (MAPPED, CLIENT))
    said, after, translated = run(sessions, self_made(went, "wan", TRANSLATED))
    assert (said, translated) == (number, True)
    assert after[28:] == came
    assert (ip4.source(after), ip4.destination(after)) == (MAPPED[0], SERVER[0])


# --- IPv6 ----------------------------------------------------------------------------------------

CLIENT6, SERVER6, ROUTER6 = "2001:db8::9", "2001:db8:1::7", "2001:db8:2::1"


def ends6(proto):
    src, dst = (packets.ip6_bytes(a) for a in (CLIENT6, SERVER6))
    return {58: ((src, 7), (dst, 0)), 59: ((src, 0), (dst, 0))}.get(
        proto, ((src, 4000), (dst, 443))
    )


def packet6(proto, *, reply=False, seq=SENT - 100, extension=b""):
    src, dst = (SERVER6, CLIENT6) if reply else (CLIENT6, SERVER6)
    sport, dport = (443, 4000) if reply else (4000, 443)
    match proto:
        case 6:
            text = packets.tcp(src, dst, sport, dport, seq=seq)
        case 17:
            text = packets.udp(src, dst, sport, dport, b"abc")
        case 58:
            text = packets.icmp6_echo(src, dst, 7, 1, b"abc")
            text = bytes([129 if reply else 128]) + text[1:]
        case _:
            text = b""
    if extension:
        return packets.ip6(src, dst, 60, bytes([proto]) + extension[1:] + text)
    return packets.ip6(src, dst, proto, text)


def error6(quote, what=b"\x03\0" + bytes(4), to=None, sender=ROUTER6, damage=0):
    to = quote[8:24] if to is None else to
    text = bytearray(packets.icmp6(sender, to, what[0], what[1], what[2:] + quote))
    text[2] ^= damage
    return packets.ip6(sender, to, 58, bytes(text))


@pytest.mark.parametrize("proto", [6, 17, 58, 59])
@pytest.mark.parametrize("reply", [False, True])
@pytest.mark.parametrize("extension", [b"", b"\0" + b"\0\1\4" + bytes(4)])
def test_ip6(proto, reply, extension):
    sessions = table()
    put6(sessions, (bytes(16), 1), (bytes(16), 2), proto)
    number = put6(sessions, *ends6(proto), proto, zone=3, **NUMBERS)
    sent = packet6(proto, reply=reply, extension=extension)
    for kind in range(256):
        error = error6(sent, bytes([kind, 0, *bytes(4)]))
        want = number if kind < 128 else ~related.NOT_AN_ERROR
        assert run(sessions, error, zone=3, l4=40) == (want, error, False)
    error = error6(sent)
    refused(sessions, error, related.NO_SESSION, zone=2, l4=40)
    refused(sessions, error6(sent, damage=1), related.BAD_CHECKSUM, zone=3, l4=40)
    refused(sessions, error, related.BAD_CHECKSUM, zone=3, l4=40, flags=CSUM_PARTIAL)
    refused(sessions, error6(sent, to=ROUTER6), related.MISDIRECTED, zone=3, l4=40)
    for size in range(40, 88):
        refused(sessions, error6(sent[: size - 48] if size > 48 else b"", to=CLIENT6),
                related.BAD_QUOTE, zone=3, l4=40)  # fmt: skip
    for size in range(40, 48):
        refused(sessions, error[:size], related.NOT_AN_ERROR, zone=3, l4=40)


def test_ip6_tcp_must_have_been_sent():
    sessions = table()
    number = put6(sessions, *ends6(6), 6, **{**NUMBERS, "end": (5000, 77)})
    for reply, seq, good in (
        (False, 5000, True), (False, 5001, False), (True, 77, True), (True, 78, False),
    ):  # fmt: skip
        error = error6(packet6(6, reply=reply, seq=seq))
        assert run(sessions, error, l4=40)[0] == (number if good else ~related.IMPLAUSIBLE)
