# SPDX-License-Identifier: Apache-2.0
"""Ports among each other."""

import pytest

from configs import BARE, A, B, bridge, bvi, crosses, message, port, refusal, tap, vlan
from vforward.control.config import parse

CASES = [
    (
        port("a", 'interface = "eth0"', "af_packet") + port("b", 'interface = "eth0"', "af_packet"),
        "2: ports.b.interface",
        'is used by port "a" already',
        '"eth0"',
        "an interface that is free",
    ),
    (
        port("a", 'interface = "eth0"', "af_packet") + tap("t", "a", interface="eth0"),
        "2: ports.t.interface",
        'is used by port "a" already',
        '"eth0"',
        "an interface that is free",
    ),
    (
        port("a", 'read = "x", write = "x"', "pcap"),
        "1: ports.a.write",
        "would overwrite the file of ports.a.read",
        '"x"',
        "a file that no other key names",
    ),
    (
        port("a", 'socket = "x"', "memif") + port("b", 'socket = "x"', "memif"),
        "2: ports.b.socket",
        'is the socket of port "a" already',
        '"x"',
        "a socket for each port",
    ),
    (
        A + vlan("v", "vlan = 5", "aa"),
        "2: ports.v.parent",
        'names a port that does not exist; did you mean "a"?',
        '"aa"',
        '"a", "v"',
    ),
    (
        BARE + vlan("v", "vlan = 5") + vlan("w", "vlan = 5", "v"),
        "4: ports.w.parent",
        "is a vlan port itself",
        '"v"',
        "a port of another type",
    ),
    (
        BARE + bridge("x", '"b"') + bvi("i") + vlan("v", "vlan = 5", "i"),
        "5: ports.v.parent",
        "is a bvi port",
        '"i"',
        "a port of another type",
    ),
    (
        A + tap("t", "a") + vlan("v", "vlan = 5", "t"),
        "3: ports.v.parent",
        "is a tap port",
        '"t"',
        "a port of another type",
    ),
    (
        A + vlan("v", "vlan = 5") + vlan("w", "vlan = 5"),
        "3: ports.w.vlan",
        'is port "v" already on parent "a"',
        "5",
        "an id that is free on this parent",
    ),
    (
        A + vlan("v", "vlan = 5, inner = 6") + vlan("w", "vlan = 5, inner = 6"),
        "3: ports.w.inner",
        'is port "v" already on parent "a"',
        "6",
        "an id that is free on this parent",
    ),
    (
        A + vlan("v", "vlan = 5, dot1ad = true") + vlan("w", "vlan = 5, inner = 6"),
        "3: ports.w.dot1ad",
        'differs from that of port "v", of the same parent and vlan',
        "nothing",
        "one kind of outer tag for each vlan",
    ),
    (
        A + vlan("v", "vlan = 5, rewrite = {pop = 1}"),
        "2: ports.v.rewrite",
        "is for a port of a bridge or a cross connect, and this one is in neither",
        "a table",
        "no rewrite here",
    ),
    (
        BARE + vlan("v", "vlan = 5, rewrite = {pop = 2}") + bridge("x", '"v"'),
        "3: ports.v.rewrite.pop",
        "is more than its frames have: 1",
        "2",
        "a whole number from 0 to 1",
    ),
    (
        BARE + vlan("v", "vlan = 5, rewrite = {push = [6, 7]}") + bridge("x", '"v"'),
        "3: ports.v.rewrite.push",
        "would give its frames 3 tags",
        "a list of 2",
        "at most 1 here, for 2 in all",
    ),
    (
        BARE
        + vlan("v", "vlan = 5, inner = 6, rewrite = {pop = 1, push = [6, 7]}")
        + crosses('"v", "b"'),
        "3: ports.v.rewrite.push",
        "would give its frames 3 tags",
        "a list of 2",
        "at most 1 here, for 2 in all",
    ),
    (
        BARE + bvi("i"),
        "3: ports.i.bridge",
        "names a bridge that does not exist",
        '"x"',
        "none, since no bridge is declared",
    ),
    (
        BARE + bridge("lan", '"a"') + bvi("i", "lam"),
        "4: ports.i.bridge",
        'names a bridge that does not exist; did you mean "lan"?',
        '"lam"',
        '"lan"',
    ),
    (
        BARE + bridge("x", '"a"') + bvi("i") + bvi("j"),
        "5: ports.j.bridge",
        'has port "i" as its bvi port already',
        '"x"',
        "a bridge without a bvi port",
    ),
    (
        A + tap("t", "aa"),
        "2: ports.t.host_of",
        'names a port that does not exist; did you mean "a"?',
        '"aa"',
        '"a", "t"',
    ),
    (
        A + tap("t", "a") + tap("u", "t", interface="tap1"),
        "3: ports.u.host_of",
        "is a tap port",
        '"t"',
        "a port of another type",
    ),
    (
        A + tap("t", "a") + tap("u", "a", interface="tap1"),
        "3: ports.u.host_of",
        'has port "t" as its tap port already',
        '"a"',
        "a port without a tap port",
    ),
    (
        BARE + bridge("x", '"a"') + tap("t", "a"),
        "4: ports.t.host_of",
        'is in bridge "x"',
        '"a"',
        "a routed port: in no bridge and no cross connect",
    ),
    (
        BARE + crosses('"a", "b"') + tap("t", "a"),
        "4: ports.t.host_of",
        "is in a cross connect",
        '"a"',
        "a routed port: in no bridge and no cross connect",
    ),
    (
        A + tap("t", "a", 'address = "10.0.2.1/24"'),
        "2: ports.t.address",
        'cannot be given: a tap port has that of its host_of, "a"',
        '"10.0.2.1/24"',
        "no address here",
    ),
    (
        A + tap("t", "a", "mtu = 1400"),
        "2: ports.t.mtu",
        'cannot be given: a tap port has that of its host_of, "a"',
        "1400",
        "no mtu here",
    ),
    (
        A + tap("t", "a", 'vrf = "red"'),
        "2: ports.t.vrf",
        'cannot be given: a tap port has that of its host_of, "a"',
        '"red"',
        "no vrf here",
    ),
    (
        A + tap("t", "a", 'urpf = "loose"'),
        "2: ports.t.urpf",
        'cannot be given: a tap port has that of its host_of, "a"',
        '"loose"',
        "no urpf here",
    ),
    (
        "".join(port(f"p{i}") for i in range(256)),
        "256: ports.p255",
        "is port number 256",
        "a table",
        "at most 255 of all types",
    ),
    (
        port("a", 'socket = "x"', "vhost-user") + port("b", 'socket = "x"', "vhost-user"),
        "2: ports.b.socket",
        'is the socket of port "a" already',
        '"x"',
        "a socket for each port",
    ),
    (
        port("a", 'socket = "x", side = "frontend", trusted = true', "vhost-user"),
        "1: ports.a.trusted",
        "says nothing of a frontend, whose memory is its own",
        "true",
        'only with side = "backend"',
    ),
    (
        port("a", 'socket = "x", packed = true', "vhost-user"),
        "1: ports.a.packed",
        "is for the driver to choose, which is at the other end",
        "true",
        'only with side = "frontend"',
    ),
    (
        "".join(port(f"p{i}", f'vrf = "v{i}"') for i in range(64)),
        "64: ports.p63.vrf",
        "is VRF number 65",
        '"v63"',
        "at most 64, default included",
    ),
]

GOOD = [
    port("a", 'socket = "x", side = "frontend", queues = 8, packed = true', "vhost-user"),
    port("a", 'socket = "x"', "vhost-user") + port("b", 'socket = "y"', "vhost-user"),
    port("a", 'read = "x"', "pcap") + port("b", 'read = "x", write = "y"', "pcap"),
    A + vlan("v", "vlan = 5") + vlan("w", "vlan = 6, dot1ad = true"),
    A + vlan("v", "vlan = 5") + vlan("w", "vlan = 5, inner = 5") + vlan("u", "vlan = 5, inner = 6"),
    A + B + vlan("v", "vlan = 5") + vlan("w", "vlan = 5, dot1ad = true", "b"),
    BARE + crosses('"a", "b"') + vlan("v", 'vlan = 5, address = "10.0.1.1/24"'),
    BARE + bridge("x", '"a"') + vlan("v", 'vlan = 5, address = "10.0.1.1/24"'),
    B + vlan("v", "vlan = 5, rewrite = {pop = 1, push = [6, 7]}", "b") + bridge("x", '"v"'),
    B + vlan("v", "vlan = 5, inner = 6, rewrite = {pop = 2}", "b") + bridge("x", '"v"'),
    BARE + bridge("x", '"a"') + bvi("i") + tap("t", "i") + tap("u", "b", interface="tap1"),
    A + vlan("v", "vlan = 5") + tap("t", "v"),
    "".join(port(f"p{i}") for i in range(255)),
]


@pytest.mark.parametrize(("text", "where", "what", "got", "allowed"), CASES)
def test_a_contradiction_is_named_with_its_key_and_line(text, where, what, got, allowed):
    assert refusal(text) == [message(where, what, got, allowed)]


@pytest.mark.parametrize("text", GOOD)
def test_what_agrees_is_accepted(text):
    assert parse(text, "r.toml").ports
