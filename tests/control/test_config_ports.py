# SPDX-License-Identifier: Apache-2.0
"""The models of ports; test_config.py has those without switch and VRF."""

from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

import pytest

from configs import A, B, bridge, bvi, message, port, refusal, tap, vlan
from vforward.control.config import parse
from vforward.control.config_ports import Rewrite

SHARES = "true, said by you: a program on this port can read and change all packets of all ports"
WRONG = [
    (
        port("a", "mtu = 67"),
        "1: ports.a.mtu",
        "is too small",
        "67",
        "a whole number from 68 to 65535",
    ),
    (
        port("a", "mtu = 65536"),
        "1: ports.a.mtu",
        "is too large",
        "65536",
        "a whole number from 68 to 65535",
    ),
    (
        port("a", 'vrf = "a b"'),
        "1: ports.a.vrf",
        "is not a name that can be used",
        '"a b"',
        "the name of a VRF: 1 to 32 of A-Z a-z 0-9 _ . -, the first a letter or digit",
    ),
    (
        port("a", "vrf = 1"),
        "1: ports.a.vrf",
        "is not a text",
        "1",
        "the name of a VRF: 1 to 32 of A-Z a-z 0-9 _ . -, the first a letter or digit",
    ),
    (
        port("a", 'urpf = "on"'),
        "1: ports.a.urpf",
        "is not one of the choices",
        '"on"',
        '"loose" or "strict"',
    ),
    (
        port("a", "urpf = true"),
        "1: ports.a.urpf",
        "is not one of the choices",
        "true",
        '"loose" or "strict"',
    ),
    (
        port("a", "ipv6 = true"),
        "1: ports.a.ipv6",
        "is not a key here",
        "true",
        '"address", "mtu", "vrf", "urpf", "type", "mac"',
    ),
    (
        A + vlan("v", "vlan = 4095"),
        "2: ports.v.vlan",
        "is too large",
        "4095",
        "a whole number from 1 to 4094",
    ),
    (
        A + vlan("v", "vlan = 5, inner = 0"),
        "2: ports.v.inner",
        "is too small",
        "0",
        "a whole number from 1 to 4094",
    ),
    (
        A + vlan("v", "vlan = 5, inner = 4095"),
        "2: ports.v.inner",
        "is too large",
        "4095",
        "a whole number from 1 to 4094",
    ),
    (
        A + vlan("v", "vlan = 5, dot1ad = 1"),
        "2: ports.v.dot1ad",
        "is not true or false",
        "1",
        "true or false",
    ),
    (
        A + vlan("v", "vlan = 5, rewrite = 1"),
        "2: ports.v.rewrite",
        "has the wrong type",
        "1",
        "a table like { pop = 1, push = [100] }, with one of these or both",
    ),
    (
        A + vlan("v", "vlan = 5, rewrite = {pop = 3}"),
        "2: ports.v.rewrite.pop",
        "is too large",
        "3",
        "a whole number from 0 to 2",
    ),
    (
        A + vlan("v", "vlan = 5, rewrite = {pop = true}"),
        "2: ports.v.rewrite.pop",
        "is not a whole number",
        "true",
        "a whole number from 0 to 2",
    ),
    (
        A + vlan("v", "vlan = 5, rewrite = {pull = 1}"),
        "2: ports.v.rewrite.pull",
        "is not a key here",
        "1",
        '"pop", "push"',
    ),
    (
        A + vlan("v", "vlan = 5, rewrite = {push = 5}"),
        "2: ports.v.rewrite.push",
        "is not a list",
        "5",
        'at most two tags, the outer first, each like 100, "dot1q:100" or "dot1ad:100"',
    ),
    (
        A + vlan("v", "vlan = 5, rewrite = {push = [1, 2, 3]}"),
        "2: ports.v.rewrite.push",
        "has more than two tags",
        "a list of 3",
        'at most two tags, the outer first, each like 100, "dot1q:100" or "dot1ad:100"',
    ),
    (
        A + vlan("v", "vlan = 5, rewrite = {push = [1, 4095]}"),
        "2: ports.v.rewrite.push[1]",
        "is not a tag",
        "4095",
        'at most two tags, the outer first, each like 100, "dot1q:100" or "dot1ad:100"',
    ),
    (
        A + vlan("v", "vlan = 5, rewrite = {push = [true]}"),
        "2: ports.v.rewrite.push[0]",
        "is not a tag",
        "true",
        'at most two tags, the outer first, each like 100, "dot1q:100" or "dot1ad:100"',
    ),
    (
        A + vlan("v", "vlan = 5, rewrite = {push = ['dot1x:5']}"),
        "2: ports.v.rewrite.push[0]",
        "is not a tag",
        '"dot1x:5"',
        'at most two tags, the outer first, each like 100, "dot1q:100" or "dot1ad:100"',
    ),
    (
        A + vlan("v", "vlan = 5, rewrite = {push = ['dot1ad:0']}"),
        "2: ports.v.rewrite.push[0]",
        "is not a tag",
        '"dot1ad:0"',
        'at most two tags, the outer first, each like 100, "dot1q:100" or "dot1ad:100"',
    ),
    (
        port("i", "", "bvi"),
        "1: ports.i.bridge",
        "is missing",
        "nothing",
        "the name of a bridge under [bridges]",
    ),
    (
        port("i", "bridge = 1", "bvi"),
        "1: ports.i.bridge",
        "is not a text",
        "1",
        "the name of a bridge under [bridges]",
    ),
    (
        bridge("x", "") + bvi("i", "x", 'mac = "01:00:00:00:00:01"'),
        "2: ports.i.mac",
        "is a multicast MAC address",
        '"01:00:00:00:00:01"',
        'a unicast MAC address like "02:00:00:00:00:01"',
    ),
    (
        port("t", 'interface = "tap0"', "tap"),
        "1: ports.t.host_of",
        "is missing",
        "nothing",
        "the name of a port under [ports]",
    ),
    (
        A + port("t", 'host_of = "a"', "tap"),
        "2: ports.t.interface",
        "is missing",
        "nothing",
        "the name of a Linux interface, 1 to 15 characters",
    ),
    (
        A + tap("t", "a", interface="a/b"),
        "2: ports.t.interface",
        "is not a name that can be used",
        '"a/b"',
        "the name of a Linux interface, 1 to 15 characters",
    ),
    (
        A + tap("t", "a", 'mac = "02:00:00:00:00:01"'),
        "2: ports.t.mac",
        "is not a key here",
        '"02:00:00:00:00:01"',
        '"address", "mtu", "vrf", "urpf", "type", "interface", "netns", "queues", "host_of"',
    ),
    (
        A + tap("t", "a", "queues = 17"),
        "2: ports.t.queues",
        "is too large",
        "17",
        "a whole number from 1 to 16",
    ),
    *(
        (
            port("a", f'interface = "eth0", netns = "{netns}"', "af_packet"),
            "1: ports.a.netns",
            "is not a name that can be used",
            f'"{netns}"',
            "the name of a network namespace, or the path of one, like /proc/1234/ns/net",
        )
        for netns in ("", ".", "..", "a/b", "a b")
    ),
    (
        port("a", 'interface = "eth0", mode = "rings"', "af_packet"),
        "1: ports.a.mode",
        "is not one of the choices",
        '"rings"',
        '"auto", "ring", "raw" or "xdp"',
    ),
    (
        port("a", 'interface = "eth0", set_up = 1', "af_packet"),
        "1: ports.a.set_up",
        "is not true or false",
        "1",
        "true or false",
    ),
    (
        port("a", "trusted = true, room = 63", "memring"),
        "1: ports.a.room",
        "is too small",
        "63",
        "a whole number from 64 to 65536",
    ),
    (
        port("a", "", "memring"),
        "1: ports.a.trusted",
        "is missing",
        "nothing",
        SHARES,
    ),
    (
        port("a", "trusted = false", "memring"),
        "1: ports.a.trusted",
        "is not one of the choices",
        "false",
        SHARES,
    ),
    (
        port("a", "", "memif"),
        "1: ports.a.socket",
        "is missing",
        "nothing",
        "the path of a Unix socket, up to 107 bytes; "
        "a relative one counts from this file's directory",
    ),
    (
        port("a", 'socket = "s", role = "master"', "memif"),
        "1: ports.a.role",
        "is not one of the choices",
        '"master"',
        '"server" or "client"',
    ),
    (
        port("a", 'socket = "s", secret = "two words"', "memif"),
        "1: ports.a.secret",
        "is not a name that can be used",
        '"two words"',
        "at most 24 printable characters",
    ),
    (
        port("a", f'socket = "/{"x" * 107}"', "vhost-user"),
        "1: ports.a.socket",
        "is too long for a socket: 108 bytes",
        f'"/{"x" * 59}..."',
        "the path of a Unix socket, up to 107 bytes; "
        "a relative one counts from this file's directory",
    ),
    (
        port("a", 'socket = "/x", role = "peer"', "vhost-user"),
        "1: ports.a.role",
        "is not one of the choices",
        '"peer"',
        '"server" or "client"',
    ),
    (
        port("a", 'socket = "/x", queues = 9', "vhost-user"),
        "1: ports.a.queues",
        "is too large",
        "9",
        "a whole number from 1 to 8",
    ),
    (
        port("a", 'socket = "/x", trusted = 1', "vhost-user"),
        "1: ports.a.trusted",
        "is not true or false",
        "1",
        "true or false",
    ),
    (
        port("a", "", "bvj"),
        "1: ports.a.type",
        'is not a type of port; did you mean "bvi"?',
        '"bvj"',
        '"af_packet", "pcap", "memory", "netmap", "memring", "memif", "vhost-user", "generator", "null", '
        '"vlan", "bvi", "tap"',
    ),
]


@pytest.mark.parametrize(("text", "where", "what", "got", "allowed"), WRONG)
def test_what_is_wrong_is_named_with_its_key_and_line(text, where, what, got, allowed):
    assert refusal(text) == [message(where, what, got, allowed)]


def test_what_ports_mean():
    text = port(
        "a",
        'mtu = 1280, vrf = "red", urpf = "strict", address = ["10.0.1.1/24", "2001:DB8::1/64"]',
    )
    a = parse(text, "r.toml").ports["a"]
    assert (a.mtu, a.vrf, a.urpf) == (1280, "red", "strict")
    assert a.address == (IPv4Interface("10.0.1.1/24"), IPv6Interface("2001:db8::1/64"))


def test_what_sub_interfaces_mean():
    text = B + bridge("x", '"v"') + vlan("w", "vlan = 4094", "b")
    rewrite = 'rewrite = {pop = 2, push = [7, "dot1ad:8"]}'
    text += vlan("v", f"vlan = 5, inner = 6, dot1ad = true, {rewrite}", "b")
    ports = parse(text, "r.toml").ports
    v, w = ports["v"], ports["w"]
    assert (v.parent, v.vlan, v.inner, v.dot1ad, v.tags) == ("b", 5, 6, True, 2)
    assert v.rewrite == Rewrite(pop=2, push=(7, "dot1ad:8"))
    assert v.rewrite.push == (0x8100_0007, 0x88A8_0008)
    assert (w.vlan, w.inner, w.dot1ad, w.rewrite, w.tags) == (4094, None, False, None, 1)


def test_what_a_vhost_user_port_means():
    text = port("a", 'socket = "vm.sock"', "vhost-user")
    text += port(
        "b",
        'socket = "/x", role = "client", queues = 8, offloads = false, trusted = true',
        "vhost-user",
    )
    text += port("c", 'socket = "/y", side = "frontend"', "vhost-user")
    a, b, c = parse(text, "dir/r.toml").ports.values()
    assert (a.side, b.side, c.side, c.role) == ("backend", "backend", "frontend", "server")
    assert (a.socket, a.role) == (Path("dir/vm.sock").absolute(), "server")
    assert (a.queues, a.offloads, a.trusted, a.mac) == (1, True, False, None)
    assert b.queues == 8
    assert (b.socket, b.role, b.offloads, b.trusted) == (Path("/x"), "client", False, True)


def test_what_stands_for_other_ports():
    text = B + bridge("x", '"b"') + bvi("i", "x", 'mac = "02:00:00:00:00:0A"') + tap("t", "i")
    ports = parse(text, "r.toml").ports
    assert (ports["i"].bridge, ports["i"].mac) == ("x", "02:00:00:00:00:0a")
    assert (ports["t"].interface, ports["t"].host_of) == ("tap0", "i")
    assert (ports["b"].vrf, ports["b"].urpf) == ("default", None)
