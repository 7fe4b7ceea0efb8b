# SPDX-License-Identifier: Apache-2.0
"""The oracles themselves, with scapy, ipaddress and the examples of the RFCs as second opinion."""

import logging
import warnings
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import strategies
from oracles import arp, checksum, ethernet, icmp4, ip4, lpm
from oracles.rate_limit import Limits
from oracles.router import Outcome, Port, Route, Router
from strategies import NEIGHBORS, OURS, PORTS, ip, mac

logging.getLogger("scapy").setLevel(logging.CRITICAL)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.inet import ICMP, IP, UDP, fragment
    from scapy.layers.l2 import ARP, Dot1Q, Ether
    from scapy.packet import Packet, Raw
    from scapy.utils import checksum as scapy_checksum

LAN, HOST = mac(1), mac(0x19)
EVERY_REASON = {
    *(
        f"ethernet-input:{r}"
        for r in ("truncated", "not-for-us", "unknown-vlan", "unknown-ethertype")
    ),
    *(
        f"arp-input:{r}"
        for r in ("truncated", "malformed", "unknown-op", "bad-sender", "address-conflict",
                  "off-link", "reply", "not-for-us")
    ),
    *(
        f"ip4-input:{r}"
        for r in ("truncated", "bad-version", "bad-ihl", "bad-length", "bad-checksum", "martian",
                  "link-broadcast")
    ),
    "ip4-lookup:blackhole",
    "ip4-fragment:beyond-65535",
    *(
        f"ip4-local:{r}"
        for r in ("fragment", "icmp-truncated", "icmp-bad-checksum", "icmp-ignored", "no-listener")
    ),
    *(
        f"icmp4-error:{r}"
        for r in ("icmp-about-icmp", "icmp-about-fragment", "icmp-about-broadcast",
                  "icmp-bad-source", "icmp-no-address")
    ),
}  # fmt: skip


def fresh(packet: Packet, *layers: type[Packet]) -> bytes:
    """Return the packet with every checksum and length of these layers computed by scapy."""
    for layer in layers:
        for name in ("chksum", "len", "ihl"):
            if name in packet[layer].fields:
                packet[layer].delfieldval(name)
    return bytes(packet)


# --- checksum ------------------------------------------------------------------------------------


def test_sum_of_rfc_1071_section_3() -> None:
    assert checksum.ones_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


@given(st.binary(max_size=100))
def test_whole_sums(data: bytes) -> None:
    assert checksum.internet(data) == scapy_checksum(data)
    if len(data) % 2 == 0:
        assert checksum.verifies(data + checksum.internet(data).to_bytes(2, "big"))


def test_update_of_rfc_1624_section_4() -> None:
    assert checksum.update(0xDD2F, 0x5555, 0x3285) == 0x0000


@given(strategies.checksum_updates())
def test_update_is_the_sum_done_afresh(case: tuple[bytes, int, int]) -> None:
    data, at, new = case
    assert checksum.verifies(data)
    old = int.from_bytes(data[at : at + 2], "big")
    changed = data[:at] + new.to_bytes(2, "big") + data[at + 2 :]
    got = checksum.update(int.from_bytes(data[:2], "big"), old, new)
    check = int.from_bytes(data[:2], "big")
    if (check, old, new) != (0xFFFF, 0xFFFF, 0):  # the only -0 that stays -0
        assert got == checksum.internet(bytes(2) + changed[2:])
    assert checksum.verifies(got.to_bytes(2, "big") + changed[2:])


def test_update_of_every_ttl_checksum() -> None:
    """All 65 536 header checksums against a packet that has it: the TTL step, wraps included."""
    head, tail = bytes.fromhex("4500001400000000"), bytes.fromhex("0a00000108080808")
    for check in range(0x10000):
        start = head[:4] + bytes(4)
        rest = bytes([64, 17]) + check.to_bytes(2, "big") + tail
        ident = checksum.internet(start + rest)
        packet = head[:4] + ident.to_bytes(2, "big") + bytes(2) + rest
        after = ip4.decrement_ttl(packet)
        assert after == ip4.with_checksum(packet[:8] + bytes([63]) + packet[9:])


@given(st.binary(max_size=40), strategies.addresses(), strategies.addresses())
def test_l4_checksum(payload: bytes, src: int, dst: int) -> None:
    packet = IP(src=str(IPv4Address(src)), dst=str(IPv4Address(dst))) / UDP(sport=1, dport=2)
    raw = bytes(packet / Raw(payload))
    segment = raw[20:26] + b"\x00\x00" + raw[28:]
    assert checksum.l4(src, dst, 17, segment) == int.from_bytes(raw[26:28], "big")


# --- longest prefix match ------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.booleans(), strategies.prefixes()), max_size=20),
    st.lists(strategies.addresses(), min_size=1, max_size=10),
)
def test_lpm_against_ipaddress(steps: list[tuple[bool, tuple[int, int]]], ask: list[int]) -> None:
    table: lpm.Table[int] = lpm.Table()
    nets: dict[IPv4Network, int] = {}
    for n, (add, (prefix, length)) in enumerate(steps):
        net = IPv4Network((prefix, length))
        if add:
            table.add(prefix, length, n)
            nets[net] = n
        else:
            assert table.delete(prefix, length) == (nets.pop(net, None) is not None)
    for address in [*ask, *(p for _, (p, _) in steps)]:
        inside = [net for net in nets if IPv4Address(address) in net]
        best = max(inside, key=lambda net: net.prefixlen, default=None)
        assert table.lookup(address) == (None if best is None else nets[best])


# --- Ethernet and ARP ----------------------------------------------------------------------------


@given(strategies.frames())
def test_ethernet_against_scapy(frame: bytes) -> None:
    arrival = ethernet.receive(frame, LAN, {10, 4094})
    if arrival.reason:
        return
    seen = Ether(frame)
    assert seen.dst == arrival.dst.hex(":")
    assert seen.dst == LAN.hex(":") or int(seen.dst[:2], 16) & 1
    if arrival.tag:
        assert (seen.payload.vlan or None, seen.payload.type) == (arrival.vid, arrival.ethertype)
        assert arrival.payload == frame[18:]
    else:
        assert (seen.type, arrival.vid, arrival.payload) == (arrival.ethertype, None, frame[14:])


def test_vlan_ids_have_twelve_bits() -> None:
    for vid, reason in ((10, ""), (0x80A, "unknown-vlan"), (0xFFF, "unknown-vlan")):
        frame = bytes(Ether(dst=LAN.hex(":"), src=HOST.hex(":")) / Dot1Q(vlan=vid, type=0x0800))
        assert ethernet.receive(frame, LAN, {10, 4094}).reason == reason


def test_arp_request_is_answered_in_place() -> None:
    router = strategies.router()
    ask = Ether(dst="ff:ff:ff:ff:ff:ff", src=HOST.hex(":")) / Dot1Q(vlan=10, prio=5)
    body = ARP(hwsrc=HOST.hex(":"), psrc="10.0.10.77", pdst="10.0.10.1")
    frame = bytes(ask / body) + b"pad"
    got = router.receive("lan", frame)
    assert (got.kind, got.port, len(got.frame)) == ("sent", "lan.10", len(frame))
    seen = Ether(got.frame)
    assert (seen.dst, seen.src, seen[Dot1Q].prio) == (HOST.hex(":"), LAN.hex(":"), 5)
    answer = seen[ARP]
    assert (answer.op, answer.hwsrc, answer.psrc) == (2, LAN.hex(":"), "10.0.10.1")
    assert (answer.hwdst, answer.pdst) == (HOST.hex(":"), "10.0.10.77")
    assert got.frame.endswith(b"pad")
    assert router.neighbors["lan.10", ip("10.0.10.77")] == HOST


def test_arp_request_as_scapy_builds_it() -> None:
    want = ARP(hwsrc=LAN.hex(":"), psrc="10.0.0.1", pdst="10.0.0.9", hwdst="00:00:00:00:00:00")
    assert arp.request(LAN, ip("10.0.0.1"), ip("10.0.0.9")) == bytes(want)


def test_arp_learns_only_when_it_is_the_target_or_already_knows() -> None:
    def body(sender: str, target: str) -> bytes:
        return bytes(ARP(op=2, hwsrc=HOST.hex(":"), psrc=sender, pdst=target))

    def learnt(sender: str, target: str, *known: str) -> object:
        known_ips = {ip(k) for k in known}
        return arp.receive(body(sender, target), LAN, PORTS[0].addresses, known_ips).learn

    assert learnt("10.0.0.5", "10.0.0.1") == (ip("10.0.0.5"), HOST)
    assert learnt("10.0.0.5", "10.0.0.6") is None
    assert learnt("10.0.0.5", "10.0.0.6", "10.0.0.5") == (ip("10.0.0.5"), HOST)
    assert learnt("0.0.0.0", "10.0.0.1") is None  # a probe


def test_priority_tag_is_taken_off_the_reply() -> None:
    ask = Ether(dst="ff:ff:ff:ff:ff:ff", src=HOST.hex(":")) / Dot1Q(vlan=0, prio=7)
    frame = bytes(ask / ARP(hwsrc=HOST.hex(":"), psrc="10.0.0.77", pdst="10.0.0.1"))
    got = strategies.router().receive("lan", frame)
    assert (got.port, len(got.frame), got.frame[12:14]) == ("lan", len(frame) - 4, b"\x08\x06")


# --- IPv4 and ICMP -------------------------------------------------------------------------------


@given(strategies.ip4_packets(), st.booleans())
def test_what_ip4_input_accepts_is_right_to_scapy(payload: bytes, link_multicast: bool) -> None:
    if ip4.check(payload, link_multicast):
        return
    packet = ip4.trim(payload)
    seen = IP(packet)
    assert (seen.version, seen.len, seen.ihl * 4) == (4, len(packet), ip4.header_length(packet))
    assert scapy_checksum(packet[: seen.ihl * 4]) == 0
    src = IPv4Address(seen.src)
    assert not any((src.is_multicast, src.is_loopback, src.is_reserved, src.is_unspecified))


@given(strategies.valid_ip4_packets())
def test_valid_packets_are_valid(packet: bytes) -> None:
    assert ip4.check(packet) is None
    assert len(packet) == ip4.total_length(packet)


@given(strategies.valid_ip4_packets(), st.sampled_from((0, 576, 1500)), st.booleans())
def test_rewrite(packet: bytes, mtu: int, self_made: bool) -> None:
    seen = IP(packet)
    way, after = ip4.rewrite(packet, mtu, self_made)
    if seen.ttl < 2 and not self_made:
        assert way is ip4.Rewrite.TTL_EXPIRED
    elif seen.len > mtu:
        assert way is (ip4.Rewrite.TOO_BIG if seen.flags.DF else ip4.Rewrite.FRAGMENT)
    else:
        assert way is ip4.Rewrite.SEND
        assert after[12:] == packet[12:]
        assert after[8] == seen.ttl - (not self_made)
        assert scapy_checksum(after[: seen.ihl * 4]) == 0
        return
    if way is ip4.Rewrite.FRAGMENT and not self_made:
        packet = ip4.decrement_ttl(packet)
    assert after == packet


@given(strategies.icmp_messages(), strategies.addresses(), strategies.addresses())
def test_echo_reply(message: bytes, src: int, dst: int) -> None:
    addresses: dict[str, Any] = {"src": str(IPv4Address(src)), "dst": str(IPv4Address(dst))}
    packet = (
        bytes(IP(ttl=3, tos=4, flags="DF", options=b"\x01" * 4, proto=1, **addresses)) + message
    )
    packet = ip4.with_checksum(packet[:2] + len(packet).to_bytes(2, "big") + packet[4:])
    if icmp4.receive(packet):
        return
    reply = icmp4.echo_reply(packet)
    assert len(reply) == len(packet)
    seen = IP(reply)
    assert (seen.src, seen.dst, seen.ttl, seen.tos) == (addresses["dst"], addresses["src"], 64, 4)
    assert reply[24:26] == b"\x00\x00"
    assert reply[28:] == packet[28:]
    assert scapy_checksum(reply[24:]) == 0
    assert scapy_checksum(reply[:24]) == 0


@given(strategies.valid_ip4_packets())
def test_fragments(packet: bytes) -> None:
    seen = IP(packet)
    assert ip4.fragment_offset(packet) == seen.frag
    assert ip4.is_fragment(packet) == (seen.flags.MF or seen.frag > 0)


@given(st.integers(0, 3000), st.integers(68, 1500))
def test_fragmentation_as_scapy_does_it(size: int, mtu: int) -> None:
    packet = IP(bytes(IP(src="10.0.0.9", dst="10.0.0.1", id=7, proto=17) / Raw(bytes(size))))
    whole = bytes(packet)
    pieces = ip4.fragment(whole, mtu)
    even = (mtu - 20) // 8 * 8
    if size <= mtu - 20:
        assert pieces == [whole]
    elif (size - 1) % even + 1 > mtu - 20 - even:  # scapy's last piece never has a few bytes more
        cut = fragment(packet, even)  # type: ignore[no-untyped-call]
        assert pieces == [bytes(IP(bytes(p))) for p in cut]
    assert not isinstance(pieces, str)
    assert all(len(piece) <= mtu for piece in pieces)
    assert ip4.reassemble(pieces[::-1]) == whole


def test_which_options_are_copied() -> None:
    """RFC 791 section 3.1: security, source routes and stream ID are; record route and time not."""
    alert, stream = b"\x94\x04\0\0", b"\x88\x04\x12\x34"
    record, nothing = b"\x07\x07\x04" + bytes(4), b"\x01"
    assert ip4.copied_options(alert + stream) == alert + stream
    assert ip4.copied_options(record + nothing) == b""
    assert ip4.copied_options(nothing + alert + record + stream) == alert + stream
    assert ip4.copied_options(b"\x83\x03\x04\0" + stream) == b"\x83\x03\x04\0"
    assert ip4.copied_options(b"\x83\x03\x04" + stream + b"\0") == b"\x83\x03\x04" + stream + b"\0"
    assert ip4.copied_options(alert + b"\x83\x09\x04\0") == alert


@pytest.mark.parametrize("mtu", [68, 576])
def test_a_fragment_is_cut_like_any_packet(mtu: int) -> None:
    packet = IP(src="10.0.0.9", dst="10.0.0.1", frag=10, flags="MF", proto=17) / Raw(bytes(1200))
    whole = bytes(packet)
    pieces = ip4.fragment(whole, mtu)
    assert not isinstance(pieces, str)
    assert ip4.fragment_offset(pieces[0]) == 10
    assert all(ip4.more_fragments(piece) for piece in pieces)
    assert ip4.reassemble(pieces) == whole
    end = bytes(IP(src="10.0.0.9", dst="10.0.0.1", frag=8100, proto=17) / Raw(bytes(736)))
    assert ip4.fragment(end, mtu) == "beyond-65535"


def test_reply_to_the_all_zero_ping_verifies() -> None:
    """RFC 1624 eqn 3 alone gives 0 here, and 0 over zeros does not verify."""
    packet = bytes(IP(src="10.0.0.9", dst="10.0.0.1") / ICMP(type=8, id=0, seq=0))
    assert icmp4.echo_reply(packet)[20:] == bytes.fromhex("0000ffff00000000")


@given(strategies.valid_ip4_packets(), st.sampled_from(((11, 0), (3, 0), (3, 4))))
def test_icmp_error_as_scapy_builds_it(packet: bytes, what: tuple[int, int]) -> None:
    kind, code = what
    mtu = 576 if what == (3, 4) else 0
    error = icmp4.error(packet, ip("10.0.0.1"), kind, code, mtu)
    assert len(error) == min(576, 28 + len(packet))
    src = str(IPv4Address(ip4.source(packet)))
    icmp = ICMP(type=kind, code=code)
    icmp.fields.update({"unused": 0} if kind == 11 else {"nexthopmtu": mtu})
    want = IP(src="10.0.0.1", dst=src, tos=0xC0, id=0, flags=0, ttl=64) / icmp / Raw(packet[:548])
    assert error == bytes(want)


# --- the router ----------------------------------------------------------------------------------


@given(strategies.arrivals())
def test_every_outcome_is_well_formed(arrival: tuple[str, bytes]) -> None:
    router = strategies.router()
    got = router.receive(*arrival)
    assert got.node
    if got.kind == "dropped":
        assert got.reason in EVERY_REASON
        assert got.reason.startswith(got.node + ":")
        assert (got.port, got.frame, got.next_hop) == (None, b"", None)
    elif got.kind == "held":
        assert got.port is not None
        assert got.next_hop is not None
        assert (got.port, got.next_hop) not in router.neighbors
        assert ip4.check(got.frame) is None
    else:
        assert got.kind == "sent"
        assert_sent(router, got)


def assert_sent(router: Router, got: Outcome) -> None:
    """Check what any frame on the wire must satisfy, with scapy."""
    assert got.port is not None
    if got.node == "ethernet-input":
        return
    port = router.port[got.port]
    seen = Ether(got.frame)
    assert seen.src == port.mac.hex(":")
    assert (seen[Dot1Q].vlan if Dot1Q in seen else None) == port.vid
    if got.node == "arp-input":
        assert seen[ARP].op == 2
        return
    assert bytes.fromhex(seen.dst.replace(":", "")) in router.neighbors.values()
    for frame in (got.frame, *got.more):
        packet = frame[14 if port.vid is None else 18 :]
        assert ip4.check(packet) is None
        assert len(packet) == ip4.total_length(packet) <= port.mtu
    assert bool(got.more) == (got.node == "ip4-fragment")


def test_the_strategies_reach_every_reason() -> None:
    made = {f"icmp {what}" for what in ("0/0", "3/0", "3/1", "3/2", "3/3", "3/4", "3/13", "11/0")}
    ways = {
        "sent by ip4-rewrite",
        "sent by ip4-fragment",
        "sent by arp-input",
        "sent by ethernet-input",
    }
    missing = EVERY_REASON | made | ways | {"held by ip4-lookup"}

    def explore(arrival: tuple[str, bytes]) -> None:
        got = strategies.router().receive(*arrival)
        missing.discard(got.reason or f"{got.kind} by {got.node}")
        if got.kind == "sent" and got.node == "ip4-rewrite":
            packet = got.frame[18 if got.frame[12:14] == b"\x81\x00" else 14 :]
            if ip4.source(packet) in OURS and ip4.protocol(packet) == 1:
                missing.discard(f"icmp {packet[20]}/{packet[21]}")

    rounds = settings(
        max_examples=400,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    for n in range(20):  # as a rule 3 rounds do
        if missing:
            seed(n)(rounds(given(strategies.arrivals())(explore)))()
    assert not missing


def forwarded(dst: str, **fields: Any) -> Outcome:
    """Send a UDP packet from a known neighbor on lan."""
    packet = IP(src="10.0.0.9", dst=dst, **fields) / UDP(sport=1, dport=2) / Raw(bytes(600))
    frame = Ether(dst=LAN.hex(":"), src=HOST.hex(":")) / packet
    return strategies.router().receive("lan", bytes(frame))


@pytest.mark.parametrize(
    ("dst", "port", "gateway"),
    [
        ("198.51.100.129", "p2p", "192.0.2.9"),
        ("198.51.100.200", "lan.10", "10.0.10.9"),
        ("198.51.101.9", "lan.4094", "10.0.94.9"),
        ("10.1.0.9", "lan", "10.1.0.9"),
        ("192.0.2.9", "p2p", "192.0.2.9"),  # a /31 has no broadcast address
    ],
)
def test_forwarding(dst: str, port: str, gateway: str) -> None:
    got = forwarded(dst, ttl=2)
    assert (got.kind, got.port) == ("sent", port)
    seen = Ether(got.frame)
    assert seen.dst == NEIGHBORS[port, ip(gateway)].hex(":")
    assert seen[IP].ttl == 1
    assert fresh(seen.copy(), IP, UDP) == got.frame


@pytest.mark.parametrize(
    ("dst", "fields", "kind", "code"),
    [
        ("8.8.8.8", {}, 3, 0),
        ("100.64.0.64", {}, 3, 1),
        ("100.64.0.128", {}, 3, 13),
        ("198.51.100.129", {"ttl": 1}, 11, 0),
        ("198.51.100.129", {"ttl": 0}, 11, 0),
        ("198.51.100.1", {"flags": "DF"}, 3, 4),
        ("198.51.100.1", {"flags": "DF", "ttl": 1}, 11, 0),
        ("192.0.2.1", {}, 3, 3),
        ("10.0.0.1", {"proto": 47}, 3, 2),
    ],
)
def test_errors(dst: str, fields: dict[str, Any], kind: int, code: int) -> None:
    got = forwarded(dst, **fields)
    seen = Ether(got.frame)
    assert (got.kind, got.port, seen.dst) == ("sent", "lan", HOST.hex(":"))
    assert (seen[IP].src, seen[IP].dst, seen[IP].ttl) == ("10.0.0.1", "10.0.0.9", 64)
    assert (seen[ICMP].type, seen[ICMP].code, len(got.frame)) == (kind, code, 14 + 576)
    if (kind, code) == (3, 4):
        assert seen[ICMP].nexthopmtu == 576


def test_directed_broadcasts_and_networks() -> None:
    broadcasts = ("10.0.0.255", "10.1.255.255", "192.0.2.3", "255.255.255.255", "239.1.2.3")
    for dst in (*broadcasts, "0.0.0.0", "0.1.2.3", "127.0.0.1"):
        assert forwarded(dst).reason == "ip4-lookup:blackhole", dst
    assert forwarded("203.0.113.1").next_hop == ip("10.0.0.77")
    assert forwarded("10.0.0.50").next_hop == ip("10.0.0.50")


def punted(dst: str, proto: int = 17, link: bytes = LAN, src: str = "10.0.0.9") -> Outcome:
    """Send to a router whose port has a host: an echo request if it is ICMP."""
    port = Port("lan", LAN, ((ip("10.0.0.1"), 24),), host=True)
    body = ICMP() if proto == 1 else Raw(bytes(8))
    packet = IP(src=src, dst=dst, proto=proto) / body
    frame = Ether(dst=link.hex(":"), src=HOST.hex(":")) / packet
    return Router([port], (), {("lan", ip("10.0.0.9")): HOST}).receive("lan", bytes(frame))


def test_what_a_host_gets() -> None:
    group, everybody = bytes.fromhex("01005e000005"), b"\xff" * 6
    for proto in (2, 6, 17, 89):
        assert punted("10.0.0.1", proto).kind == "punted"
        assert punted("224.0.0.5", proto, group).kind == "punted"
    assert punted("10.0.0.1", 1).kind == "sent"
    assert punted("224.0.0.1", 1, group).kind == "punted"
    assert punted("255.255.255.255", 17, everybody, "0.0.0.0").kind == "punted"
    assert punted("255.255.255.255", 17, everybody, "127.0.0.1").reason == "ip4-input:martian"
    assert punted("224.0.1.1", 17, group).reason == "ip4-lookup:blackhole"
    assert punted("224.0.0.5", 17, LAN).reason == "ip4-lookup:blackhole"
    assert punted("10.0.0.1", 17, everybody).reason == "ip4-input:link-broadcast"


def test_errors_are_limited() -> None:
    router = strategies.router()
    router.limits = Limits(step=0, burst=1, each_step=10, each_burst=2)
    packet = IP(src="10.0.0.9", dst="8.8.8.8") / UDP()
    frame = bytes(Ether(dst=LAN.hex(":"), src=HOST.hex(":")) / packet)
    assert [router.receive("lan", frame).reason for _ in range(3)] == [
        "", "", "icmp4-error:rate-limited",
    ]  # fmt: skip
    router.clock = 10
    assert router.receive("lan", frame).kind == "sent"


def test_own_address_wins_over_everything() -> None:
    port = Port("a", LAN, ((ip("10.0.0.255"), 24), (ip("10.0.1.1"), 32)))
    router = Router([port], [Route(ip("10.0.1.1"), 32, "prohibit")])
    for own in ("10.0.0.255", "10.0.1.1"):
        route = router.fib.lookup(ip(own))
        assert route is not None
        assert route.kind == "local"


def test_xconnect_passes_anything_of_14_bytes() -> None:
    router = strategies.router()
    assert router.receive("x0", bytes(13)).reason == "ethernet-input:truncated"
    assert router.receive("x0", bytes(14)) == Outcome("sent", "x1", bytes(14), "", "ethernet-input")
