"""ip6-local against the oracle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes import network6 as net
from nodes.network import drops
from nodes.network6 import EXTENSIONS, HOSTED, LAN, Ip6Spec, a
from oracles import icmp6, ip6
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, HEADROOM
from vforward.nodes.ip6.local import NODE

US, PEER = a("2001:db8:1::1"), a("2001:db8:1::9")


def compare(packets, l3=14, port=LAN):
    frames = [b"\x5a" * l3 + packet for packet in packets]
    result = net.run_both(NODE, frames, l3=l3, rx_port=port)
    assert result.frames == frames
    for i, packet in enumerate(packets):
        edge, why = icmp6.local(packet, host=port == HOSTED)
        assert result.edges[i] == edge, packet.hex()
        if edge == "drop":
            assert result.reason(i) == why, packet.hex()
        elif edge == "error":
            kind, code, pointer = why
            assert result.meta[i]["scratch"] == pointer << 16 | kind << 8 | code, packet.hex()
        elif edge in ("echo", "nd"):
            assert result.meta[i]["l4"] == HEADROOM + l3 + ip6.walk(packet).offset
    assert result.counted == drops(result)
    return result


def spec(**fields):
    return Ip6Spec(**{"src": PEER, "dst": US, **fields})


def echo(body=b"", **fields):
    return spec(**fields).icmp(b"\x80\0\0\0\x12\x34\0\1" + body).build()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(net.valid_packets(), min_size=1, max_size=12),
    st.sampled_from((14, 15, 18)),
    st.sampled_from((LAN, LAN, HOSTED)),
)
def test_against_the_oracle(packets, l3, port):
    compare(packets, l3, port)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(EXTENSIONS), max_size=4),
    st.sampled_from((US, a("ff02::1"))),
    st.sampled_from((58, 17, 6, 59, 0, 200)),
)
def test_extension_headers(headers, dst, proto):
    """Whole and cut at every byte, on a port with a host and on one without."""
    message = bytes([128 if dst == US else 135, 0]) + bytes(22)
    made = spec(dst=dst, headers=headers, hops=255).icmp(message)
    made.proto = proto
    packet = made.build()
    cuts = [packet[:n] for n in range(40, len(packet) + 1)]
    compare(cuts)
    compare(cuts, port=HOSTED)


@pytest.mark.parametrize("n", [7, 8, 9, 10])
def test_many_extension_headers(n):
    result = compare([echo(headers=[(60, net.options())] * n)])
    assert result.edges == ["echo" if n <= 8 else "drop"]


def test_every_option_type():
    for dst in (US, a("ff02::1")):
        compare([
            echo(dst=dst, headers=[(number, net.options(0, kind, 2, 0, 0))])
            for kind in range(256) for number in (0, 60)
        ])  # fmt: skip


def test_options_that_end_anywhere():
    areas = [bytes(range(k, k + 1)) * 6 for k in range(8)]
    areas += [
        bytes([0] * lead + [1, size] + [0] * (4 - lead)) for lead in range(5) for size in range(8)
    ]
    compare([echo(headers=[(0, b"\0" + area)]) for area in areas])


def test_every_type_of_routing_header():
    """RFC 5095: type 0 is treated as unknown, so with segments left it is a problem at byte 42."""
    compare([echo(headers=[(43, bytes([0, kind, left, 0, 0, 0, 0]))])
             for kind in range(256) for left in (0, 1, 255)])  # fmt: skip
    result = compare([echo(headers=[(43, bytes([0, 0, 1, 0, 0, 0, 0]))])])
    assert result.meta[0]["scratch"] == 42 << 16 | 4 << 8


def test_every_next_header():
    compare([spec(payload=bytes(16), proto=proto).build() for proto in range(256)])
    compare([spec(payload=bytes(16), proto=proto).build() for proto in range(256)], port=HOSTED)
    result = compare([spec(payload=bytes(16), proto=200).build(), spec(proto=17).build()])
    assert result.meta["scratch"].tolist() == [6 << 16 | 4 << 8 | 1, 1 << 8 | 4]


@pytest.mark.parametrize("port", [LAN, HOSTED])
def test_every_type_and_some_codes_and_hop_limits(port):
    compare([
        spec(hops=hops).icmp(bytes([kind, code]) + bytes(22)).build()
        for kind in range(256) for code in (0, 1, 255) for hops in (64, 254, 255)
    ], port=port)  # fmt: skip


@pytest.mark.parametrize("port", [LAN, HOSTED])
@pytest.mark.parametrize("kind", [128, 135])
def test_every_length_of_message(port, kind):
    for n in range(32):
        compare([spec(hops=255).icmp(bytes([kind, 0]) + bytes(32)[: n + 2]).build()], port=port)
    whole = spec(hops=255).icmp(bytes([kind, 0]) + b"\xff\x7f" * 9).build()
    compare([whole[:n] for n in range(40, len(whole) + 1)], port=port)


def test_each_bit_of_message_and_addresses_is_checked():
    packet = echo(b"abc")
    value = int.from_bytes(packet, "big")
    size = 8 * len(packet)
    bits = [bit for bit in range(size) if not 8 * 24 <= size - bit - 1 < 8 * 25]  # stays unicast
    result = compare([(value ^ 1 << bit).to_bytes(len(packet), "big") for bit in bits])
    assert result.counters["bad-checksum"] >= 8 * (len(packet) - 8 - 2 - 1)


@pytest.mark.parametrize("l3", [14, 15])
@pytest.mark.parametrize("size", [1911, 1912, 1913, 1914, 3885, 3886, 3887, 9000, 65487])
def test_checksums_of_chains(l3, size):
    good = echo(bytes(i * 7 & 255 for i in range(size)))
    bad = good[:-1] + bytes([good[-1] ^ 1])
    assert compare([good, bad], l3).edges == ["echo", "drop"]


def test_extension_headers_beyond_the_first_buffer_are_cut_off():
    headers = [(0, net.options(1, 250, size=256)), (60, net.options())]
    result = net.run_both(NODE, [echo(headers=headers)], rx_port=LAN)
    assert result.reason(0) == "bad-extension"


def test_an_echo_request_from_nobody():
    packet = echo(src=a("::"), dst=a("ff02::1"))
    assert compare([packet]).reason(0) == "echo-no-source"
    assert compare([packet], port=HOSTED).reason(0) == "echo-no-source"


@pytest.mark.parametrize("size", [0, 1, 100, BUF_ROOM, 5001])
@pytest.mark.parametrize("headers", [[], [(60, net.options())]])
def test_a_partial_checksum_is_completed(size, headers):
    want = echo(bytes(i * 5 & 255 for i in range(size)), headers=headers)
    at = 40 + 8 * len(headers)
    message = want[at:]
    pseudo = PEER.packed + US.packed + len(message).to_bytes(4, "big") + bytes([0, 0, 0, 58])
    begun = ip6_sum(pseudo)
    packet = want[: at + 2] + begun.to_bytes(2, "big") + want[at + 4 :]

    def prepare(record, i):
        record["flags"] |= CSUM_PARTIAL
        record["csum_start"], record["csum_off"] = HEADROOM + at, 2

    result = net.run_both(NODE, [packet], meta=prepare, rx_port=LAN)
    assert result.edges == ["echo"]
    assert not result.meta[0]["flags"] & CSUM_PARTIAL
    assert result.frames == [want]


@pytest.mark.parametrize(("start", "off"), [(0, 0), (0, 42), (48, 2), (40, 3), (42, 0), (2000, 2)])
def test_a_partial_checksum_elsewhere_is_not_ours_to_complete(start, off):
    def prepare(record, i):
        record["flags"] |= CSUM_PARTIAL
        record["csum_start"], record["csum_off"] = HEADROOM + start, off

    good = echo(b"data")
    packets = [good, good[:42] + b"\0\0" + good[44:]]
    result = net.run_both(NODE, packets, meta=prepare, rx_port=LAN)
    assert result.frames == packets
    assert result.edges == ["echo", "drop"]
    assert result.reason(1) == "bad-checksum"


def ip6_sum(data):
    return icmp6.checksum.ones_sum(data)
