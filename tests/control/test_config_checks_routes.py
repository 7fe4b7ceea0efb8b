# SPDX-License-Identifier: Apache-2.0
"""Routes, files of routes, neighbors."""

import pytest

from configs import (
    A6,
    B6,
    BARE,
    RED,
    A,
    B,
    bridge,
    crosses,
    message,
    neighbors,
    refusal,
    route_files,
    routes,
    tap,
)
from vforward.control.config import parse

P = 'prefix = "10.9.0.0/16", '
P6 = 'prefix = "2001:db8:9::/48", '
CASES = [
    (
        A + routes(P + 'port = "a"', P + 'via = "10.0.1.2"'),
        "2: routes[1].prefix",
        "is the prefix of routes[0] already, with the same metric",
        '"10.9.0.0/16"',
        "one route for each prefix, VRF and metric",
    ),
    (
        A + routes(P + 'port = "a", metric = 5', P + 'port = "a", metric = 5'),
        "2: routes[1].prefix",
        "is the prefix of routes[0] already, with the same metric",
        '"10.9.0.0/16"',
        "one route for each prefix, VRF and metric",
    ),
    (
        A
        + RED
        + routes(
            P + 'port = "a"', P + 'port = "r", vrf = "red"', P + 'type = "local", vrf = "red"'
        ),
        "3: routes[2].prefix",
        "is the prefix of routes[1] already, with the same metric",
        '"10.9.0.0/16"',
        "one route for each prefix, VRF and metric",
    ),
    (
        A + RED + routes(P + 'type = "blackhole", vrf = "rad"'),
        "3: routes[0].vrf",
        'is a VRF that no port is in; did you mean "red"?',
        '"rad"',
        '"default", "red"',
    ),
    (
        A + routes(P + 'port = "c"'),
        "2: routes[0].port",
        "names a port that does not exist",
        '"c"',
        '"a"',
    ),
    (
        BARE + crosses('"a", "b"') + routes(P + 'port = "a"'),
        "4: routes[0].port",
        "is in a cross connect",
        '"a"',
        "a routed port: in no bridge and no cross connect",
    ),
    (
        BARE + bridge("x", '"a"') + routes(P + 'port = "a"'),
        "4: routes[0].port",
        'is in bridge "x"',
        '"a"',
        "a routed port: in no bridge and no cross connect",
    ),
    (
        A + tap("t", "a") + routes(P + 'port = "t"'),
        "3: routes[0].port",
        "is a tap port",
        '"t"',
        "a port of another type",
    ),
    (
        A + RED + routes(P + 'port = "r"'),
        "3: routes[0].port",
        'is in VRF "red", and the route in VRF "default"',
        '"r"',
        "a port of the route's VRF",
    ),
    (
        A + RED + routes(P + 'port = "a", vrf = "red"'),
        "3: routes[0].port",
        'is in VRF "default", and the route in VRF "red"',
        '"a"',
        "a port of the route's VRF",
    ),
    (
        A + routes(P6 + 'port = "a"'),
        "2: routes[0].port",
        "has no IPv6 address",
        '"a"',
        "a port with an IPv6 address",
    ),
    (
        A + routes(P + 'via = "10.0.2.1"'),
        "2: routes[0].via",
        'is a next hop without a route: in no prefix of a port of VRF "default"',
        '"10.0.2.1"',
        "an address in 10.0.1.0/24",
    ),
    (
        A + RED + routes(P + 'via = "10.0.2.1", vrf = "red"'),
        "3: routes[0].via",
        'is a next hop without a route: in no prefix of a port of VRF "red"',
        '"10.0.2.1"',
        "an address in 10.0.1.0/24",
    ),
    (
        B + routes(P + 'via = "10.0.2.1"'),
        "2: routes[0].via",
        'is a next hop without a route: in no prefix of a port of VRF "default"',
        '"10.0.2.1"',
        "none, since there is no such prefix",
    ),
    (
        A + B + routes(P + 'via = "10.0.1.2", port = "b"'),
        "3: routes[0].via",
        'is a next hop without a route: in no prefix of port "b"',
        '"10.0.1.2"',
        "none, since there is no such prefix",
    ),
    (
        A6 + routes(P6 + 'via = "2001:db8:1::1"'),
        "2: routes[0].via",
        'is a next hop without a route: in no prefix of a port of VRF "default"',
        '"2001:db8:1::1"',
        "an address in 2001:db8::/64",
    ),
    (
        A + routes(P + 'via = "10.0.1.1"'),
        "2: routes[0].via",
        'is the address of port "a" here',
        '"10.0.1.1"',
        "the address of another router",
    ),
    (
        A6 + routes(P6 + 'via = "2001:db8::1"'),
        "2: routes[0].via",
        'is the address of port "a" here',
        '"2001:db8::1"',
        "the address of another router",
    ),
    (
        A + B6 + routes(P + 'via = "2001:db8::2"'),
        "3: routes[0].via",
        "is an IPv6 address for an IPv4 prefix",
        '"2001:db8::2"',
        "an IPv4 address",
    ),
    (
        A + B6 + routes(P6 + 'via = "10.0.1.2"'),
        "3: routes[0].via",
        "is an IPv4 address for an IPv6 prefix",
        '"10.0.1.2"',
        "an IPv6 address",
    ),
    (
        A6 + routes(P6 + 'via = "fe80::2"'),
        "2: routes[0].via",
        "is link-local, so it needs a port beside it",
        '"fe80::2"',
        "an address that is not link-local, or a port with it",
    ),
    (
        A + routes(P6 + 'via = "fe80::2", port = "a"'),
        "2: routes[0].via",
        'is a next hop without a route: port "a" has no IPv6 address',
        '"fe80::2"',
        "an address on the link of a port with IPv6",
    ),
    (
        A + routes(P + 'paths = [{via = "10.0.1.2"}, {via = "10.0.2.2"}]'),
        "2: routes[0].paths[1].via",
        'is a next hop without a route: in no prefix of a port of VRF "default"',
        '"10.0.2.2"',
        "an address in 10.0.1.0/24",
    ),
    (
        A + routes(P + 'paths = [{via = "10.0.1.2"}, {port = "a"}]'),
        "2: routes[0].paths[1].via",
        "is missing: each of several paths needs a next hop",
        "nothing",
        "a host, with or without port beside it",
    ),
    (
        A + routes(P + 'paths = [{port = "b"}]'),
        "2: routes[0].paths[0].port",
        "names a port that does not exist",
        '"b"',
        '"a"',
    ),
    (
        A + routes(P + 'paths = [{via = "10.0.1.2"}, {via = "10.0.1.2", weight = 5}]'),
        "2: routes[0].paths[1]",
        "is the same way as routes[0].paths[0]",
        "a table",
        "different paths; more packets for one: a larger weight",
    ),
    (
        A + route_files('file = "/bin/sh", vrf = "red"'),
        "2: route_files[0].vrf",
        "is a VRF that no port is in",
        '"red"',
        '"default"',
    ),
    (
        A + route_files('file = "/bin/sh", via = "10.0.2.2"'),
        "2: route_files[0].via",
        'is a next hop without a route: in no prefix of a port of VRF "default"',
        '"10.0.2.2"',
        "an address in 10.0.1.0/24",
    ),
    (
        A6 + route_files('file = "/bin/sh", via = "fe80::2"'),
        "2: route_files[0].via",
        "is link-local, so it needs a port beside it",
        '"fe80::2"',
        "an address that is not link-local, or a port with it",
    ),
    (
        A + neighbors('address = "10.0.1.2", port = "c"'),
        "2: neighbors[0].port",
        "names a port that does not exist",
        '"c"',
        '"a"',
    ),
    (
        A + neighbors('address = "10.0.2.2", port = "a"'),
        "2: neighbors[0].address",
        'is not in a prefix of port "a"',
        '"10.0.2.2"',
        "an address in 10.0.1.0/24",
    ),
    (
        A + neighbors('address = "10.0.1.1", port = "a"'),
        "2: neighbors[0].address",
        'is the address of port "a" itself',
        '"10.0.1.1"',
        "the address of another host",
    ),
    (
        A + neighbors('address = "2001:db8::2", port = "a"'),
        "2: neighbors[0].address",
        'is not in a prefix of port "a"',
        '"2001:db8::2"',
        "none, since there is no such prefix",
    ),
    (
        A + neighbors('address = "fe80::2", port = "a"'),
        "2: neighbors[0].address",
        'is link-local, and port "a" has no IPv6 address',
        '"fe80::2"',
        "an address on the link of a port with IPv6",
    ),
    (
        A + neighbors(*['address = "10.0.1.2", port = "a"'] * 2),
        "2: neighbors[1].address",
        "is the address of neighbors[0] already",
        '"10.0.1.2"',
        "one neighbor for each address",
    ),
    (
        BARE + bridge("x", '"a"') + neighbors('address = "10.0.1.2", port = "a"'),
        "4: neighbors[0].port",
        'is in bridge "x"',
        '"a"',
        "a routed port: in no bridge and no cross connect",
    ),
    (
        BARE + crosses('"a", "b"') + neighbors('address = "10.0.1.2", port = "a"'),
        "4: neighbors[0].port",
        "is in a cross connect",
        '"a"',
        "a routed port: in no bridge and no cross connect",
    ),
    (
        A + tap("t", "a") + neighbors('address = "10.0.1.2", port = "t"'),
        "3: neighbors[0].port",
        "is a tap port",
        '"t"',
        "a port of another type",
    ),
]

GOOD = [
    A + routes(P + 'via = "10.0.1.2"', P + 'via = "10.0.1.3", port = "a", metric = 1'),
    A + RED + routes(P + 'port = "a"', P + 'port = "r", vrf = "red"'),
    A + routes(P6 + 'type = "local"', P + 'type = "prohibit"'),
    A6 + routes(P6 + 'via = "2001:db8::2"', P6 + 'via = "fe80::2", port = "a", metric = 1'),
    A + routes(P + 'paths = [{via = "10.0.1.2", weight = 255}, {via = "10.0.1.3", port = "a"}]'),
    A + routes(P + 'paths = [{port = "a"}]'),
    A + RED + route_files('file = "/bin/sh", via = "10.0.1.2", vrf = "red"'),
    A6 + neighbors('address = "2001:db8::2", port = "a"', 'address = "fe80::2", port = "a"'),
]


@pytest.mark.parametrize(("text", "where", "what", "got", "allowed"), CASES)
def test_a_contradiction_is_named_with_its_key_and_line(text, where, what, got, allowed):
    assert refusal(text) == [message(where, what, got, allowed)]


@pytest.mark.parametrize("text", GOOD)
def test_what_agrees_is_accepted(text):
    assert parse(text, "r.toml").ports
