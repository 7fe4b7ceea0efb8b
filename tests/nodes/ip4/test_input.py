"""ip4-input against the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.network import (
    N_PORTS,
    NUMBER,
    bytes_from_l3,
    drops,
    no_features,
    ports,
    run_both,
)  # fmt: skip
from oracles import ip4, partial
from strategies import Ip4Spec, ip
from vforward.graph.arcs import END
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, HEADROOM, LINK_BROADCAST
from vforward.nodes.ip4.input import NODE

LINK = 14


def compare(packets, l3=LINK):
    """Give link payloads, as (packet, link_multicast), to the node and to the oracle.

    From a port without a host, whose result is returned, and from one that has one.
    """
    compare_at(packets, l3, host=True)
    return compare_at(packets, l3, host=False)


def compare_at(packets, l3, host):
    known = ports().copy()
    known["host"] = 9  # of all ports but that of these packets
    known["host"][NUMBER["lan"]] = 9 * host

    def prepare(record, i):
        record["flags"] |= LINK_BROADCAST * packets[i][1]

    frames = [bytes(range(0xE0, 0xE0 + l3)) + packet for packet, _ in packets]
    result = run_both(
        NODE, frames, l3=l3, meta=prepare, rx_port=NUMBER["lan"], tables={"ports": known}
    )
    for i, (packet, link_multicast) in enumerate(packets):
        reason = ip4.check(packet, link_multicast)
        if host and ip4.is_for_host(packet, link_multicast):
            assert result.edges[i] == "local"
            assert bytes_from_l3(result, i) == ip4.trim(packet)
        elif reason:
            assert (result.edges[i], result.reason(i)) == ("drop", reason), packet.hex()
        else:
            assert result.edges[i] == "arc-end", packet.hex()
            assert bytes_from_l3(result, i) == ip4.trim(packet)
    assert result.counted == drops(result)
    return result


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(strategies.ip4_packets(), st.booleans()), min_size=1, max_size=12),
    st.sampled_from((LINK, 18)),
)
def test_against_the_oracle(packets, l3):
    compare(packets, l3)


@pytest.mark.parametrize("options", [b"", bytes(4), b"\x01" * 40])
@pytest.mark.parametrize("padding", [b"", bytes(18)])
def test_every_truncation(options, padding):
    packet = Ip4Spec(bytes(9), src=ip("10.0.0.9"), dst=ip("10.0.0.1"), options=options).build()
    packet += padding
    compare([(packet[:n], False) for n in range(len(packet) + 1)])


def test_every_first_byte_of_both_addresses():
    one = 0x00010203
    packets = [Ip4Spec(b"", src=a << 24 | one, dst=ip("10.0.0.1")).build() for a in range(256)]
    packets += [Ip4Spec(b"", src=ip("10.0.0.9"), dst=a << 24 | one).build() for a in range(256)]
    compare([(p, link) for p in packets for link in (False, True)])


@pytest.mark.parametrize("options", [b"", b"\x94\x04\0\0"])
@pytest.mark.parametrize("padding", [b"", bytes(10)])
def test_what_never_leaves_its_link(options, padding):
    sources = ("0.0.0.0", "0.0.0.1", "10.0.0.9", "127.0.0.1", "224.0.0.1", "255.255.255.255")
    groups = (
        "223.255.255.255", "224.0.0.0", "224.0.0.5", "224.0.0.255", "224.0.1.0", "239.0.0.1",
        "255.255.255.254", "255.255.255.255", "10.0.0.1", "0.0.0.0",
    )  # fmt: skip
    compare([
        (Ip4Spec(b"hello", 2, ip(src), ip(dst), options=options, padding=padding).build(), link)
        for src in sources for dst in groups for link in (False, True)
    ])  # fmt: skip


@pytest.mark.parametrize("options", [b"", b"\xff" * 4])
def test_every_version_header_length_and_total_length(options):
    def made(**fields):
        spec = Ip4Spec(bytes(8), src=ip("10.0.0.9"), dst=ip("10.0.0.1"), options=options, **fields)
        return spec.build(), False

    compare([made(version=v, ihl=n) for v in range(16) for n in range(16)])
    compare([made(total_length=n) for n in (*range(80), 0x0100, 0x1C00, 0x7FFF, 0x8000, 0xFFFF)])


def test_each_bit_of_the_header_counts():
    packet = Ip4Spec(b"", src=ip("10.0.0.9"), dst=ip("10.0.0.1"), options=b"\x07" * 8).build()
    value = int.from_bytes(packet, "big")
    bits = range(8 * len(packet))
    compare([((value ^ 1 << bit).to_bytes(len(packet), "big"), False) for bit in bits])


def test_sums_that_carry_around():
    words = (0x0000, 0x0001, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
    specs = [
        Ip4Spec(b"", src=a << 16 | b, dst=b << 16 | a, ident=c, tos=tos, damage=damage)
        for a in words for b in words for c in words
        for tos in (0, 255) for damage in (0, 1, 0xFFFF)
    ]  # fmt: skip
    compare([(spec.build(), False) for spec in specs])


@pytest.mark.parametrize("padding", [0, 1, BUF_ROOM, 3 * BUF_ROOM])
@pytest.mark.parametrize("total", [20, BUF_ROOM - LINK, BUF_ROOM - LINK + 1, 5000, 65535])
def test_padding_is_cut_off_chains(total, padding):
    packet = Ip4Spec(bytes(total - 20), src=ip("10.0.0.9"), dst=ip("10.0.0.1")).build()
    result = compare([(packet + bytes(padding), False), (packet[:-1], False)])
    assert result.edges[0] == "arc-end"
    assert result.reason(1) == ("truncated" if total == 20 else "bad-length")


def test_features_of_the_port_it_came_from():
    masks = no_features()
    masks[2] |= np.uint64(0b1001_0000)
    masks[3] |= np.uint64(1 << 61)
    masks[-1] = np.bitwise_or.reduce(masks[:-1])
    packet = Ip4Spec(b"", src=ip("10.0.0.9"), dst=ip("10.0.0.1")).build()
    padded, bad = packet + bytes(26), packet[:-1] + b"\0"

    def prepare(record, i):
        record["rx_port"] = i % 4

    frames = [packet] * 4 + [padded] * 4 + [bad] * 4
    result = run_both(
        NODE, frames, meta=prepare, tables={"features": masks}, compare=("off", "features")
    )
    want = ["arc-end", "arc-end", "arc-4", "arc-61"]
    assert result.edges == want * 2 + ["drop"] * 4
    assert result.meta["features"][:4].tolist() == [0, 0, END | 1 << 7, END]
    assert len(masks) == N_PORTS + 1


@pytest.mark.parametrize("protocol", [1, 4, 6, 17, 33, 47, 58, 132, 136])
@pytest.mark.parametrize("options", [b"", b"\x01" * 8])
@pytest.mark.parametrize("piece", [0, 1 << 13, 1, 1 << 13 | 90])
def test_a_checksum_to_be_completed_changes_nothing_that_was_judged(protocol, options, piece):
    """A virtual machine says where: whatever is let through still is what rules have seen."""
    body = bytes.fromhex("0800 0035 0010 1234 a5a5a5a5 5011") + bytes(range(46))
    spec = Ip4Spec(body, protocol, ip("10.0.0.9"), ip("10.0.0.1"), options=options, fragment=piece)
    packet = spec.build()
    header = 20 + len(options)
    own = None if piece & 0x1FFF else partial.own(header, protocol, 1)
    places = [(start, off) for start in range(50) for off in (0, 2, 6, 8, 16)]
    places += [(header, 0xFFFF), (0xFF00, 16), (0xFF00, 0xFF00)]

    def prepare(record, i):
        record["flags"] |= CSUM_PARTIAL
        record["csum_start"], record["csum_off"] = HEADROOM + LINK + places[i][0], places[i][1]

    frames = [bytes(LINK) + packet] * len(places)
    result = run_both(NODE, frames, l3=LINK, meta=prepare, rx_port=NUMBER["lan"])
    for i, place in enumerate(places):
        edge, at = result.edges[i], sum(place)
        if place == own or (at >= header + 8 and (protocol != 6 or piece & 0x1FFF)):
            assert edge == "arc-end", place
        if edge == "arc-end":
            assert place == own or partial.harmless(packet, 4, at), place
            assert bytes_from_l3(result, i) == packet
            assert result.meta[i]["flags"] & CSUM_PARTIAL
        else:
            assert (edge, result.reason(i)) == ("drop", "bad-offload"), place
    assert result.counted == drops(result)
