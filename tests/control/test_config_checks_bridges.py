# SPDX-License-Identifier: Apache-2.0
"""Bridges and cross connects."""

import pytest

from configs import BARE, A, B, bridge, bvi, crosses, message, port, refusal, tap, vlan
from vforward.control.config import parse

CASES = [
    (
        A + B + bridge("x", '"b", "bb"'),
        "3: bridges.x.ports[1]",
        'names a port that does not exist; did you mean "b"?',
        '"bb"',
        '"a", "b"',
    ),
    (
        BARE + bridge("x", '"a", {port = "c"}'),
        "3: bridges.x.ports[1].port",
        "names a port that does not exist",
        '"c"',
        '"a", "b"',
    ),
    (
        BARE + bridge("x", '"a", "a"'),
        "3: bridges.x.ports[1]",
        'is in bridge "x" already',
        '"a"',
        "a port that is in no other bridge and only once in this",
    ),
    (
        BARE + bridge("x", '"a"') + bridge("y", '"b", {port = "a"}'),
        "4: bridges.y.ports[1].port",
        'is in bridge "x" already',
        '"a"',
        "a port that is in no other bridge and only once in this",
    ),
    (
        BARE + bridge("x", '"a"') + crosses('"a", "b"'),
        "4: cross_connects[0].ports[0]",
        'is in bridge "x" already',
        '"a"',
        "a port that is in no bridge and no other cross connect",
    ),
    (
        A + bridge("x", '"a"'),
        "2: bridges.x.ports[0]",
        "has an address: remove that, or take it out of the bridge",
        '"a"',
        "a port without addresses",
    ),
    (
        port("a", 'vrf = "red"') + bridge("x", '"a"'),
        "1: ports.a.vrf",
        "is for routed ports: remove it, or take it out of the bridge",
        '"red"',
        "no vrf here",
    ),
    (
        port("a", 'urpf = "strict"') + bridge("x", '"a"'),
        "1: ports.a.urpf",
        "is for routed ports: remove it, or take it out of the bridge",
        '"strict"',
        "no urpf here",
    ),
    (
        B + bridge("x", '"b", "i"') + bvi("i"),
        "2: bridges.x.ports[1]",
        "is a bvi port",
        '"i"',
        "a port of another type",
    ),
    (
        A + B + tap("t", "a") + bridge("x", '"b", "t"'),
        "4: bridges.x.ports[1]",
        "is a tap port",
        '"t"',
        "a port of another type",
    ),
    (
        BARE + bridge("x", '"a"', 'static = [{mac = "02:00:00:00:00:01", port = "c"}]'),
        "3: bridges.x.static[0].port",
        "names a port that does not exist",
        '"c"',
        '"a", "b"',
    ),
    (
        BARE + bridge("x", '"a"', 'static = [{mac = "02:00:00:00:00:01", port = "b"}]'),
        "3: bridges.x.static[0].port",
        'is not in bridge "x"',
        '"b"',
        '"a"',
    ),
    (
        BARE
        + bridge(
            "x",
            '"a"',
            'static = [{mac = "02:00:00:00:00:0A", port = "a"}, {mac = "02:00:00:00:00:0a", port = "a"}]',
        ),
        "3: bridges.x.static[1].mac",
        "is the MAC of static[0] already",
        '"02:00:00:00:00:0a"',
        "one entry for each MAC",
    ),
    (
        BARE
        + bridge("x", '"a"', 'static = [{mac = "02:00:00:00:00:01", port = "a"}]')
        + bvi("i", "x", 'mac = "02:00:00:00:00:01"'),
        "3: bridges.x.static[0].mac",
        "is the MAC of the bridge's bvi port",
        '"02:00:00:00:00:01"',
        "the MAC of another station",
    ),
    (
        BARE + "".join(bridge(f"x{i}", "") for i in range(256)),
        "258: bridges.x255",
        "is bridge number 256",
        "a table",
        "at most 255",
    ),
    (
        BARE + crosses('"a", "c"'),
        "3: cross_connects[0].ports[1]",
        "names a port that does not exist",
        '"c"',
        '"a", "b"',
    ),
    (
        BARE + crosses('"a", "a"'),
        "3: cross_connects[0].ports[1]",
        "is the same port twice",
        '"a"',
        "two different ports",
    ),
    (
        A + B + crosses('"a", "b"'),
        "3: cross_connects[0].ports[0]",
        "has an address: remove that, or remove the cross connect",
        '"a"',
        "a port without addresses",
    ),
    (
        port("a", 'vrf = "red"') + B + crosses('"a", "b"'),
        "1: ports.a.vrf",
        "is for routed ports: remove it, or remove the cross connect",
        '"red"',
        "no vrf here",
    ),
    (
        BARE + port("c") + crosses('"a", "b"', '"c", "b"'),
        "4: cross_connects[1].ports[1]",
        "is in cross_connects[0] already",
        '"b"',
        "a port that is in no bridge and no other cross connect",
    ),
    (
        BARE + bridge("x", "") + bvi("i") + crosses('"a", "i"'),
        "5: cross_connects[0].ports[1]",
        "is a bvi port",
        '"i"',
        "a port of another type",
    ),
]

GOOD = [
    BARE + bridge("x", '"a", {port = "b", group = 255}'),
    BARE + bridge("x", '"a"', 'static = [{mac = "02:00:00:00:00:01", port = "a"}]') + bvi("i"),
    BARE + crosses('"a", "b"'),
    A + vlan("v", "vlan = 5") + vlan("w", "vlan = 6") + crosses('"v", "w"'),
]


@pytest.mark.parametrize(("text", "where", "what", "got", "allowed"), CASES)
def test_a_contradiction_is_named_with_its_key_and_line(text, where, what, got, allowed):
    assert refusal(text) == [message(where, what, got, allowed)]


@pytest.mark.parametrize("text", GOOD)
def test_what_agrees_is_accepted(text):
    assert parse(text, "r.toml").ports
