# SPDX-License-Identifier: Apache-2.0
"""host-input against the oracle: what is routed, what goes to the link, what is answered."""

from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.network import run_both
from oracles import arp
from oracles import host as oracle
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, GSO, SELF_MADE, TRACED
from vforward.nodes.host.input import NODE
from vforward.tables import addresses as address_table
from vforward.tables.ports import HOST, PORT, ROUTED
from vforward.testing import packets

LAN, VLAN, QINQ, OTHER, TAPS = 1, 2, 3, 4, 10
"""The TAP of port n is TAPS + n. OTHER is in another VRF."""
MAC = b"\x02\x00\x00\x00\x00\x01"
TAGS = {LAN: (), VLAN: ((0x8100, 10),), QINQ: ((0x88A8, 20), (0x8100, 30)), OTHER: ()}
OWN = {
    LAN: ["10.0.0.1", "2001:db8::1", "fe80::1"],
    VLAN: ["10.0.10.1"],
    QINQ: ["2001:db8:20::1"],
    OTHER: ["10.7.0.1", "2001:db8:7::1"],
}
VRF = {LAN: 0, VLAN: 0, QINQ: 0, OTHER: 7}


def number(text):
    if ":" in text:
        return int(IPv6Address(text))
    return oracle.MAPPED | int(IPv4Address(text))


def make_tables():
    ports = np.zeros(TAPS + 5, PORT)
    addresses = np.zeros(16, address_table.ADDRESS)
    for port, tags in TAGS.items():
        record, tap = ports[port], ports[TAPS + port]
        record["mode"], record["mac"] = ROUTED, int.from_bytes(MAC, "big")
        record["host"], record["vrf"], record["tags"] = TAPS + port, VRF[port], len(tags)
        if tags:
            record["tpid"], record["vlan"] = tags[0]
            record["inner"] = tags[1][1] if len(tags) == 2 else 0
        tap["mode"], tap["mac"], tap["peer"] = HOST, record["mac"], port
        for text in OWN[port]:
            address_table.add(addresses, port, number(text), 128)
    return {"ports": ports, "addresses": addresses}


TABLES = make_tables()


def peer(port, *, up=True):
    own = {number(t) for p, texts in OWN.items() if VRF[p] == VRF[port] for t in texts}
    return oracle.Peer(MAC, own, TAGS[port], up)


def run(frames, port_of, tables=TABLES, flags=0):
    def prepare(record, i):
        record["rx_port"] = TAPS + port_of(i)
        record["flags"] |= flags

    return run_both(
        NODE, frames, meta=prepare, tables=tables,
        compare=("off", "end", "l3", "flags", "rest", "rx_port"),
    )  # fmt: skip


def compare(frames, where):
    result = run(frames, lambda i: where[i])
    wanted = [oracle.from_host(f, peer(p)) for f, p in zip(frames, where, strict=True)]
    assert result.edges == [way for way, _, _ in wanted]
    for i, (way, frame, reason) in enumerate(wanted):
        record, port = result.meta[i], where[i]
        assert result.frames[i] == frame
        assert not reason or result.reason(i) == reason
        if way in ("ip4", "ip6", "output"):
            assert record["rx_port"] == port
            assert record["flags"] & SELF_MADE
        if way in ("ip4", "ip6"):
            assert record["l3"] - record["off"] == 14
        if way == "output":
            assert record["tx_port"] == port
            assert record["l3"] - record["off"] == 14 + 4 * len(TAGS[port])
        if way == "reply":
            assert record["tx_port"] == TAPS + port
    reasons = [reason for _, _, reason in wanted if reason]
    assert result.counted == {reason: reasons.count(reason) for reason in reasons}
    return result


TEXTS4 = ["10.0.0.1", "10.0.0.9", "10.0.10.1", "10.7.0.1", "192.0.2.1", "0.0.0.0", "224.0.0.5"]
TEXTS6 = [
    *("2001:db8::1", "2001:db8::9", "2001:db8:20::1", "2001:db8:7::1", "fe80::1", "fe80::9"),
    *("ff02::5", "::"),
]
TO = [oracle.proxy(MAC), MAC, b"\xff" * 6, b"\x01\x00\x5e\x00\x00\x05", b"\x33\x33\x00\x00\x00\x05"]


def packed(text):
    return (IPv6Address if ":" in text else IPv4Address)(text).packed


def ns(source="2001:db8::1", target="2001:db8::9", *, option=True, hops=255, code=0, wrong=0):
    """A solicitation as RFC 4861 section 4.3 has it, or nearly."""
    message = bytes([135, code]) + bytes(6) + packed(target) + (b"\x01\x01" + MAC) * option
    to = packed("ff02::1:ff00:9")
    summed = packed(source) + to + len(message).to_bytes(4, "big") + b"\0\0\0\x3a" + message
    value = oracle.checksum(summed) ^ wrong
    message = message[:2] + value.to_bytes(2, "big") + message[4:]
    head = b"\x6a\xbc\xde\xf0" + len(message).to_bytes(2, "big") + bytes([58, hops])
    return head + packed(source) + to + message


def asks(sender="10.0.0.1", target="10.0.0.9", padding=b""):
    message = arp.request(MAC, int(IPv4Address(sender)), int(IPv4Address(target)))
    return b"\xff" * 6 + MAC + b"\x08\x06" + message + padding


def solicits(*arguments, to=b"\x33\x33\xff\x00\x00\x09", padding=b"", **given):
    return to + MAC + b"\x86\xdd" + ns(*arguments, **given) + padding


@st.composite
def host_frames(draw):
    kind = draw(st.sampled_from(["ip4", "ip6", "arp", "ns", "lldp", "random"]))
    if kind == "ip4":
        to = draw(st.sampled_from(TEXTS4))
        frame = packets.eth(
            draw(st.sampled_from(TO)), MAC, packets.ETH_IP4, packets.ip4("10.0.0.1", to, 17, b"xy")
        )
    elif kind == "ip6":
        to = draw(st.sampled_from(TEXTS6))
        body = b"\x60" + bytes(5) + bytes([draw(st.sampled_from([17, 58])), 64])
        body += packed("2001:db8::1") + packed(to) + draw(st.sampled_from([b"", b"\x80", b"\x86"]))
        frame = draw(st.sampled_from(TO)) + MAC + b"\x86\xdd" + body
    elif kind == "arp":
        frame = asks(draw(st.sampled_from(TEXTS4)), draw(st.sampled_from(TEXTS4)), bytes(18))
        if draw(st.booleans()):
            at = draw(st.integers(14, 21))
            frame = frame[:at] + bytes([draw(st.integers(0, 3))]) + frame[at + 1 :]
    elif kind == "ns":
        frame = solicits(
            draw(st.sampled_from(TEXTS6)),
            draw(st.sampled_from(TEXTS6)),
            option=draw(st.booleans()),
            hops=draw(st.sampled_from([255, 255, 255, 254])),
            code=draw(st.sampled_from([0, 0, 0, 1])),
            wrong=draw(st.sampled_from([0, 0, 0, 1])),
            padding=bytes(draw(st.integers(0, 9))),
        )
    elif kind == "lldp":
        frame = bytes.fromhex("0180c200000e") + MAC + b"\x88\xcc" + bytes(40)
    else:
        frame = draw(st.binary(max_size=90))
    if draw(st.integers(0, 4)) == 0:
        frame = frame[: draw(st.integers(0, len(frame)))]
    return frame


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(host_frames(), st.sampled_from(sorted(TAGS))), min_size=1, max_size=12))
def test_as_the_oracle(arrivals):
    compare([frame for frame, _ in arrivals], [port for _, port in arrivals])


def test_each_way_is_taken_for_what_it_is_for():
    """By hand: the oracle and the node could share a mistake."""
    ip = packets.ip4("10.0.0.1", "192.0.2.1", 17, b"xy")
    frames = [
        packets.eth(oracle.proxy(MAC), MAC, packets.ETH_IP4, ip),
        packets.eth("01:00:5e:00:00:05", MAC, packets.ETH_IP4, ip),
        asks(),
        solicits(),
        asks(sender="0.0.0.0"),
        asks(target="10.0.10.1"),
        solicits("::"),
        solicits(target="fe80::9"),
        packets.eth(MAC, MAC, packets.ETH_IP4, packets.ip4("10.0.0.1", "10.0.10.1", 6, b"")),
    ]
    result = compare(frames, [QINQ] * len(frames))
    assert result.edges == ["ip4", "output", "reply", "reply", *["drop"] * 5]
    assert result.frames[1] == (
        bytes.fromhex("01005e000005") + MAC + bytes.fromhex("88a80014 8100001e 0800") + ip
    )
    away = bytes.fromhex("000000000001")
    assert result.frames[2] == MAC + away + bytes.fromhex(
        "0806 0001 0800 06 04 0002 000000000001 0a000009 020000000001 0a000001"
    )
    answer = result.frames[3]
    assert answer is not None
    assert answer[:22] == MAC + away + bytes.fromhex("86dd 60000000 0020 3aff")
    assert answer[22:54] == packed("2001:db8::9") + packed("2001:db8::1")
    assert answer[54:56] + answer[58:] == (
        bytes.fromhex("8800 40000000") + packed("2001:db8::9") + b"\x02\x01" + away
    )
    assert [result.reason(i) for i in range(4, 9)] == ["not-answered"] * 4 + ["to-own"]


def test_addresses_count_in_their_vrf_only():
    frame = packets.eth(MAC, MAC, packets.ETH_IP4, packets.ip4("10.7.0.9", "10.0.0.1", 17, b""))
    assert compare([frame, frame], [OTHER, LAN]).edges == ["ip4", "drop"]


def test_a_peer_that_is_down():
    tables = make_tables()
    tables["ports"]["mode"][LAN] = 0
    result = run([asks()], lambda _: LAN, tables)
    assert (result.edges, result.reason(0)) == (["drop"], "no-peer")


def test_an_answer_carries_no_offload():
    result = run([asks(), solicits()], lambda _: LAN, flags=TRACED | GSO | CSUM_PARTIAL)
    assert result.edges == ["reply", "reply"]
    assert result.meta["flags"].tolist() == [TRACED | SELF_MADE] * 2


def test_what_is_routed_keeps_its_offload_and_its_chain():
    frame = packets.eth(
        MAC, MAC, packets.ETH_IP4, packets.ip4("10.0.0.1", "192.0.2.1", 6, bytes(2 * BUF_ROOM))
    )
    result = run([frame], lambda _: VLAN, flags=GSO | CSUM_PARTIAL)
    assert (result.edges, result.frames) == (["ip4"], [frame])
    assert result.meta[0]["flags"] & (GSO | CSUM_PARTIAL) == GSO | CSUM_PARTIAL


@pytest.mark.parametrize("length", [BUF_ROOM, BUF_ROOM + 1, 3 * BUF_ROOM])
def test_long_answers_and_groups(length):
    frames = [f + bytes(length - len(f)) for f in (asks(), solicits())]
    frames.append(b"\xff" * 6 + MAC + packets.eth(MAC, MAC, 0x0800, bytes(length))[12:])
    result = run(frames, lambda _: QINQ)
    assert result.edges[::2] == ["reply", "output"]
    # A chained solicitation is none that a host sends.
    assert result.edges[1] == ("reply" if length == BUF_ROOM else "drop")
