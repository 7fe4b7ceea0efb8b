"""One line for any bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.control import dissect
from vforward.testing import packets

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
UDP = packets.ip4("10.0.1.2", "10.0.2.2", 17, packets.udp("10.0.1.2", "10.0.2.2", 1024, 53, b"12"))
UDP_TEXT = "IPv4 10.0.1.2 > 10.0.2.2 ttl 64 UDP 1024 > 53 length 10"


def ip4(proto, payload, **fields):
    return packets.ip4("10.0.1.2", "10.0.2.2", proto, payload, **fields)


def test_ethernet_and_udp():
    assert dissect.frame(packets.eth(B, A, 0x0800, UDP)) == f"{A} > {B} {UDP_TEXT}"


def test_vlan_tags():
    inner = packets.vlan(7, 0x0800, UDP, pcp=5)
    tagged = packets.eth(B, A, 0x88A8, packets.vlan(100, 0x8100, inner))
    assert dissect.frame(tagged) == f"{A} > {B} vlan 100 vlan 7 {UDP_TEXT}"


def test_arp():
    request = packets.eth(
        "ff:ff:ff:ff:ff:ff", A, 0x0806, packets.arp_request(A, "10.0.1.2", "10.0.1.1")
    )
    assert dissect.frame(request).endswith(" ARP who-has 10.0.1.1 tell 10.0.1.2")
    reply = packets.eth(A, B, 0x0806, packets.arp_reply(B, "10.0.1.1", A, "10.0.1.2"))
    assert dissect.frame(reply).endswith(f" ARP 10.0.1.1 is-at {B} to 10.0.1.2")


@pytest.mark.parametrize(
    ("proto", "payload", "text"),
    [
        (1, packets.icmp_echo(7, 3), "ICMP echo request id 7 seq 3"),
        (1, bytes([0, 0, 0, 0, 0, 7, 0, 3]), "ICMP echo reply id 7 seq 3"),
        (1, bytes([3, 1, 0, 0, 0, 0, 0, 0]), "ICMP unreachable: host"),
        (1, bytes([3, 99, 0, 0, 0, 0, 0, 0]), "ICMP unreachable: code 99"),
        (1, bytes([11, 0, 0, 0, 0, 0, 0, 0]), "ICMP time exceeded"),
        (1, bytes([77, 2, 0, 0, 0, 0, 0, 0]), "ICMP type 77 code 2"),
        (1, b"\x08\x00", "ICMP: 08 00"),
        (6, bytes.fromhex("0050 04d2 00000001 00000002 5012 0000 0000 0000"),
         "TCP 80 > 1234 SYN ACK seq 1 ack 2"),
        (6, bytes(12) + b"\x50\x00" + bytes(6), "TCP 0 > 0 no flags seq 0 ack 0"),
        (47, b"abcd", "GRE"),
        (200, b"abcd", "protocol 200"),
    ],
)  # fmt: skip
def test_protocols(proto, payload, text):
    assert dissect.ip4(ip4(proto, payload)) == f"IPv4 10.0.1.2 > 10.0.2.2 ttl 64 {text}"


def test_a_bad_checksum_is_told():
    bad = UDP[:10] + bytes([UDP[10] ^ 1]) + UDP[11:]
    assert " ttl 64 (bad checksum) UDP " in dissect.ip4(bad)
    assert " ttl 64 (bad checksum) UDP " in dissect.packet(bad)


def test_a_fragment_behind_the_first_has_no_ports():
    head = bytearray(UDP)
    head[6:8] = (0x2000 | 185).to_bytes(2, "big")
    head[10:12] = bytes(2)
    head[10:12] = packets.checksum(bytes(head[:20])).to_bytes(2, "big")
    assert dissect.ip4(bytes(head)).endswith(" ttl 64 fragment at 1480 UDP")


def test_an_impossible_first_byte_is_told():
    assert dissect.ip4(b"\x44" + UDP[1:]).endswith("(first byte 0x44 is wrong)")


def test_other_types_are_shown_as_bytes():
    other = packets.eth(B, A, 0x88CC, bytes(range(32)))
    assert dissect.frame(other).endswith(
        " type 0x88cc: 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f ..."
    )
    assert dissect.frame(packets.eth(B, A, 38, b"\x42")).endswith(" length 38: 42")


def test_ip6():
    head = bytes.fromhex("60000000 0000 3a ff") + bytes(15) + b"\x01" + bytes(15) + b"\x02"
    assert dissect.packet(packets.eth(B, A, 0x86DD, head)).endswith(
        "IPv6 ::1 > ::2 hops 255 next 58"
    )


def test_packet_finds_out_where_it_begins():
    assert dissect.packet(UDP) == UDP_TEXT
    assert dissect.packet(packets.eth(B, A, 0x0800, UDP)) == f"{A} > {B} {UDP_TEXT}"
    looks_like_ip = packets.eth("45:00:00:00:00:01", A, 0x0800, UDP)
    assert dissect.packet(looks_like_ip).endswith(UDP_TEXT)
    # 8.0.x.x as the source puts the EtherType of IPv4 where it would be in an Ethernet header.
    from_8 = packets.ip4("8.0.1.2", "10.0.2.2", 47, b"")
    assert dissect.packet(from_8).startswith("IPv4 8.0.1.2 > ")


@given(st.binary(max_size=92))
def test_takes_any_bytes(head):
    for read in (dissect.packet, dissect.frame, dissect.ip4):
        line = read(head)
        assert line.isprintable()
        assert len(line) < 300


@given(st.integers(0, 92), st.sampled_from([0x0800, 0x0806, 0x8100, 0x86DD]))
def test_takes_every_truncation(length, kind):
    whole = packets.eth(B, A, kind, UDP + bytes(64))
    assert dissect.frame(whole[:length]).isprintable()
    assert dissect.packet(UDP[:length]).isprintable()
