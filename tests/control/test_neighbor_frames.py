"""Which address asks, and what goes out, by the address's family."""

from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest

from oracles import arp as arp_oracle
from oracles import ethernet
from oracles import nd as nd_oracle
from vforward.control import neighbor_frames as frames
from vforward.tables import addresses as address_table
from vforward.tables.ports import PORT

MAC, PEER = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\x19"
TAGS = {1: b"", 2: b"\x81\x00\x00\x0a", 3: b"\x88\xa8\x00\x05\x81\x00\x00\x07"}


def bits(text):
    return frames.bits_of(IPv6Address(text) if ":" in text else IPv4Address(text))


def make_ports():
    ports = np.zeros(4, PORT)
    ports["mac"] = int.from_bytes(MAC, "big")
    ports[2]["tags"], ports[2]["tpid"], ports[2]["vlan"] = 1, 0x8100, 10
    ports[3]["tags"], ports[3]["tpid"], ports[3]["vlan"], ports[3]["inner"] = 2, 0x88A8, 5, 7
    return ports


PORTS = make_ports()


@pytest.mark.parametrize("text", ["0.0.0.0", "10.0.0.1", "255.255.255.255", "::", "fe80::1"])
def test_addresses_have_128_bits_and_a_family(text):
    assert str(frames.address_of(bits(text))) == text
    assert frames.is_ip4(bits(text)) == ("." in text)


@pytest.mark.parametrize("port", TAGS)
def test_a_request_carries_the_ports_tags(port):
    record = PORTS[port]
    assert frames.tags_of(record) == TAGS[port]
    own, hop = bits("10.0.0.1"), bits("10.0.0.9")
    message = arp_oracle.request(MAC, 0x0A000001, 0x0A000009)
    for mac in (None, PEER):
        header = ethernet.header(mac or ethernet.BROADCAST, MAC, ethernet.ARP, TAGS[port])
        assert frames.request(record, own, hop, mac) == header + message


@pytest.mark.parametrize("port", TAGS)
def test_a_solicitation_goes_to_the_group_or_to_the_station(port):
    own, hop = bits("2001:db8::1"), bits("2001:db8::abcd:ef01")
    for mac, dst in ((None, None), (PEER, hop)):
        to = mac or b"\x33\x33\xff\xcd\xef\x01"
        packet = nd_oracle.solicitation(MAC, own, hop, dst)
        wanted = to + MAC + TAGS[port] + b"\x86\xdd" + packet
        assert frames.request(PORTS[port], own, hop, mac) == wanted


def test_announcements():
    header = ethernet.header(ethernet.BROADCAST, MAC, ethernet.ARP, TAGS[2])
    message = arp_oracle.request(MAC, 0x0A000001, 0x0A000001)
    assert frames.announcement(PORTS[2], bits("10.0.0.1")) == header + message
    packet = nd_oracle.advertisement(MAC, bits("fe80::1"), nd_oracle.ALL_NODES, 0xA0)
    wanted = b"\x33\x33\0\0\0\1" + MAC + TAGS[2] + b"\x86\xdd" + packet
    assert frames.announcement(PORTS[2], bits("fe80::1")) == wanted


OWN = ["10.0.0.1/24", "10.0.0.129/25", "192.0.2.0/31", "2001:db8::1/64", "fe80::1/64"]
CASES = {
    "10.0.0.9": "10.0.0.1",
    "10.0.0.130": "10.0.0.1 or 10.0.0.129",
    "10.0.0.1": None,
    "192.0.2.1": "192.0.2.0",
    "10.0.1.1": None,
    "2001:db8::9": "2001:db8::1",
    "2001:db9::9": "fe80::1",
    "fe80::9": "fe80::1",
    "fe80::1": None,
}


@pytest.mark.parametrize("asked", CASES)
def test_who_asks(asked):
    table = np.zeros(16, address_table.ADDRESS)
    for text in OWN:
        ip, length = text.split("/")
        address_table.add(table, 1, bits(ip), int(length) + (0 if ":" in ip else 96))
    address_table.add(table, 2, bits("0.0.0.0"), 96)
    source = frames.source_for(table, 1, bits(asked))
    wanted = (CASES[asked] or "none").split(" or ")
    assert (str(frames.address_of(source)) if source is not None else "none") in wanted
    assert frames.source_for(table, 3, bits(asked)) is None


def test_a_prefix_is_of_its_family():
    """The default prefixes cover everything, of their own family."""
    table = np.zeros(4, address_table.ADDRESS)
    address_table.add(table, 1, bits("2001:db8::1"), 0)
    assert frames.own_in_prefix(table, 1, bits("10.0.0.1")) is None
    assert frames.own_in_prefix(table, 1, bits("2001:db9::1")) == bits("2001:db8::1")
