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
    assert dissect.frame(tagged) == f"{A} > {B} s-vlan 100 vlan 7 {UDP_TEXT}"


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


HOST, ROUTER, GROUP = "fe80::9", "fe80::1", "ff02::1:ff00:1"
IP6_TEXT = f"IPv6 {HOST} > {GROUP} hops 255"


def ip6(proto, payload, **fields):
    return packets.ip6(HOST, GROUP, proto, payload, hops=255, **fields)


def icmp6(kind, code=0, body=bytes(4)):
    return packets.icmp6(HOST, GROUP, kind, code, body)


@pytest.mark.parametrize(
    ("proto", "payload", "text"),
    [
        (58, b"", "ICMPv6: nothing"),
        (58, packets.icmp6_echo(HOST, GROUP, 7, 3), "ICMPv6 echo request id 7 seq 3"),
        (58, packets.icmp6_echo(HOST, GROUP, 7, 3, reply=True), "ICMPv6 echo reply id 7 seq 3"),
        (58, icmp6(1, 4), "ICMPv6 unreachable: port"),
        (58, icmp6(1, 9), "ICMPv6 unreachable: code 9"),
        (58, icmp6(2, 0, b"\0\0\5\0" + bytes(40)), "ICMPv6 packet too big mtu 1280"),
        (58, icmp6(3), "ICMPv6 time exceeded"),
        (58, icmp6(4, 1, b"\0\0\0\x28"), "ICMPv6 parameter problem code 1 at 40"),
        (58, icmp6(133), "ICMPv6 router solicitation"),
        (58, icmp6(200, 1), "ICMPv6 type 200 code 1"),
        (58, icmp6(135), "ICMPv6 type 135"),
        (58, packets.neighbor_solicitation(HOST, GROUP, ROUTER, A), f"ND who-has {ROUTER} tell {A}"),
        (58, packets.neighbor_solicitation(HOST, GROUP, ROUTER), f"ND who-has {ROUTER}"),
        (58, packets.neighbor_advertisement(HOST, GROUP, ROUTER, B),
         f"ND {ROUTER} is-at {B} router solicited override"),
        (58, packets.neighbor_advertisement(HOST, GROUP, ROUTER, flags=""), f"ND {ROUTER} is there"),
        (17, packets.udp(HOST, GROUP, 1024, 53), "UDP 1024 > 53 length 8"),
        (0, bytes([17, 0]) + bytes(6) + packets.udp(HOST, GROUP, 1, 2), "hop-by-hop UDP 1 > 2 length 8"),
        (60, bytes([43, 1]) + bytes(14) + bytes([59, 0]) + bytes(6),
         "destination options routing nothing"),
        (51, bytes([6, 1]) + bytes(10), "AH TCP: nothing"),
        (44, bytes([17, 0, 0, 1]) + bytes(4) + b"\0\1\0\2\0\x20\0\0",
         "fragment at 0 UDP 1 > 2 length 32"),
        (44, bytes([17, 0, 5, 0xA8]) + bytes(5), "fragment at 1448, the last UDP"),
        (44, bytes([0, 0, 0, 9]) + bytes(5), "fragment at 8 hop-by-hop"),
        (60, b"\x11\0", "destination options"),
        (200, b"abcd", "protocol 200"),
    ],
)  # fmt: skip
def test_ip6(proto, payload, text):
    packet = ip6(proto, payload)
    assert dissect.ip6(packet) == dissect.packet(packet) == f"{IP6_TEXT} {text}"
    assert dissect.frame(packets.eth(B, A, 0x86DD, packet)) == f"{A} > {B} {IP6_TEXT} {text}"


def test_a_wrong_version_is_told():
    assert dissect.ip6(b"\x40" + ip6(17, b"")[1:]) == f"{IP6_TEXT} (first byte 0x40 is wrong)"


def test_macs_that_begin_as_ipv6_does():
    """And IPv6 packets whose source has an EtherType where a frame has it."""
    six = "60:00:00:00:00:0b"
    packet = packets.ip6("2001:db8:800::1", "2001:db8:86dd::1", 59)
    inner = {0x0800: UDP, 0x86DD: packet, 0x0806: packets.arp_request(A, "10.0.1.2", "10.0.1.1")}
    for kind, payload in inner.items():
        tagged = packets.vlan(7, kind, payload)
        stacked = packets.eth(six, A, 0x88A8, packets.vlan(9, 0x8100, tagged))
        for frame in (
            packets.eth(six, A, kind, payload),
            packets.eth(six, A, 0x8100, tagged),
            stacked,
        ):
            assert dissect.packet(frame) == dissect.frame(frame)
    for source in ("2001:db8:800::1", "2001:db8:86dd::1", "2001:db8:806::1", "2001:db8:8100::1"):
        packet = packets.ip6(source, "::2", 59)
        assert dissect.packet(packet) == f"IPv6 {source} > ::2 hops 64 nothing"


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
    for read in (dissect.packet, dissect.frame, dissect.ip4, dissect.ip6):
        line = read(head)
        assert line.isprintable()
        assert len(line) < 300


@given(st.integers(0, 7), st.binary(max_size=60), st.sampled_from([0, 43, 44, 51, 58, 60, 17, 6]))
def test_takes_any_payload_of_ip6(kind, payload, proto):
    for rest in (payload, bytes([proto, kind]) + payload, bytes([130 + kind]) + payload):
        line = dissect.packet(ip6(proto, rest))
        assert line.startswith(IP6_TEXT)
        assert line.isprintable()


@given(st.integers(0, 92), st.sampled_from([0x0800, 0x0806, 0x8100, 0x86DD]))
def test_takes_every_truncation(length, kind):
    whole = packets.eth(B, A, kind, UDP + bytes(64))
    assert dissect.frame(whole[:length]).isprintable()
    assert dissect.packet(UDP[:length]).isprintable()
