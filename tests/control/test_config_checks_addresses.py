# SPDX-License-Identifier: Apache-2.0
"""Own addresses, and the MTU that they ask for."""

import pytest

from configs import A6, RED, A, message, port, refusal, vlan
from vforward.control.config import parse

CASES = [
    (
        A + port("b", 'address = "10.0.1.1/25"'),
        "2: ports.b.address",
        'is an address of port "a" already',
        '"10.0.1.1/25"',
        "an address that no port of the VRF has",
    ),
    (
        A6 + port("b", 'address = "2001:db8::1/48"'),
        "2: ports.b.address",
        'is an address of port "a" already',
        '"2001:db8::1/48"',
        "an address that no port of the VRF has",
    ),
    (
        port("a", 'address = ["10.0.1.1/24", "10.0.1.1/24"]'),
        "1: ports.a.address[1]",
        'is an address of port "a" already',
        '"10.0.1.1/24"',
        "an address that no port of the VRF has",
    ),
    (
        RED + port("b", 'vrf = "red", address = "10.0.1.1/25"'),
        "2: ports.b.address",
        'is an address of port "r" already',
        '"10.0.1.1/25"',
        "an address that no port of the VRF has",
    ),
    (
        A + port("b", 'address = "10.0.0.1/16"'),
        "2: ports.b.address",
        'overlaps with 10.0.1.0/24 of port "a"',
        '"10.0.0.1/16"',
        "a prefix apart from those of all other ports of the VRF",
    ),
    (
        A + port("b", 'address = "10.0.1.9/30"'),
        "2: ports.b.address",
        'overlaps with 10.0.1.0/24 of port "a"',
        '"10.0.1.9/30"',
        "a prefix apart from those of all other ports of the VRF",
    ),
    (
        A + port("b", 'address = ["10.0.2.1/24", "10.0.1.9/32"]'),
        "2: ports.b.address[1]",
        'overlaps with 10.0.1.0/24 of port "a"',
        '"10.0.1.9/32"',
        "a prefix apart from those of all other ports of the VRF",
    ),
    (
        A6 + port("b", 'address = "2001:db8:0:0:1::1/80"'),
        "2: ports.b.address",
        'overlaps with 2001:db8::/64 of port "a"',
        '"2001:db8:0:0:1::1/80"',
        "a prefix apart from those of all other ports of the VRF",
    ),
    (
        RED + port("b", 'vrf = "red", address = "10.0.0.1/16"'),
        "2: ports.b.address",
        'overlaps with 10.0.1.0/24 of port "r"',
        '"10.0.0.1/16"',
        "a prefix apart from those of all other ports of the VRF",
    ),
    (
        port("a", 'mtu = 1279, address = "2001:db8::1/64"'),
        "1: ports.a.mtu",
        "is too small for IPv6, of which the port has an address",
        "1279",
        "a whole number from 1280 to 65535",
    ),
    (
        port("a", 'mtu = 1279, address = "fe80::1/64"'),
        "1: ports.a.mtu",
        "is too small for IPv6, of which the port has an address",
        "1279",
        "a whole number from 1280 to 65535",
    ),
    (
        port("a", "mtu = 1279") + vlan("v", 'vlan = 5, address = "2001:db8::1/64"'),
        "1: ports.a.mtu",
        'is too small for IPv6, of which port "v" on it has an address',
        "1279",
        "a whole number from 1280 to 65535",
    ),
    (
        port("a", "mtu = 68")
        + "".join(vlan(f"v{i}", f'vlan = {i}, address = "2001:db8:{i}::1/64"') for i in (1, 2)),
        "1: ports.a.mtu",
        'is too small for IPv6, of which port "v1" on it has an address',
        "68",
        "a whole number from 1280 to 65535",
    ),
    (
        port(
            "a",
            "address = ["
            + ", ".join(f'"10.0.{i}.1/24"' for i in range(255))
            + ', "2001:db8::1/64"]',
        ),
        "1: ports.a.address[255]",
        "is own address number 257",
        '"2001:db8::1/64"',
        "at most 256 in all, one link-local for each port with IPv6",
    ),
]

GOOD = [
    A + port("b", 'address = "10.0.2.1/24"'),
    A + RED,
    port("a", 'address = ["10.0.1.1/24", "10.0.1.2/24", "10.0.1.3/16"]'),
    port("a", 'address = ["10.0.1.0/31", "10.0.1.7/32", "2001:db8::/127", "2001:db8:1::/128"]'),
    port("a", 'address = ["fe80::1/64", "2001:db8::1/64"]') + port("b", 'address = "fe80::1/64"'),
    port("a", 'mtu = 1280, address = "2001:db8::1/64"'),
    port("a", "mtu = 68") + vlan("v", 'vlan = 5, address = "10.0.1.1/24"'),
]


@pytest.mark.parametrize(("text", "where", "what", "got", "allowed"), CASES)
def test_a_contradiction_is_named_with_its_key_and_line(text, where, what, got, allowed):
    assert refusal(text) == [message(where, what, got, allowed)]


@pytest.mark.parametrize("text", GOOD)
def test_what_agrees_is_accepted(text):
    assert parse(text, "r.toml").ports
