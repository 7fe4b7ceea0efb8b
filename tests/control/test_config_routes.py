# SPDX-License-Identifier: Apache-2.0
"""The models of routes, files of routes and neighbors."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from configs import A6, RED, A, message, neighbors, refusal, route_files, routes
from vforward.control.config import parse

P = 'prefix = "10.9.0.0/16", '
WRONG = [
    (
        A + routes('port = "a"'),
        "2: routes[0].prefix",
        "is missing",
        "nothing",
        'a prefix without host bits like "10.1.0.0/16" or "2001:db8:1::/48"',
    ),
    (
        A + routes('prefix = "10.9.0.0/16"'),
        "2: routes[0].type",
        "is missing, and so are via, port and paths: a route needs one of the four",
        "nothing",
        '"blackhole", "unreachable", "prohibit" or "local"',
    ),
    (
        A + routes(P + 'type = "drop"'),
        "2: routes[0].type",
        "is not one of the choices",
        '"drop"',
        '"blackhole", "unreachable", "prohibit" or "local"',
    ),
    (
        A + routes(P + 'type = "local", port = "a"'),
        "2: routes[0].type",
        "cannot stand beside via, port or paths: remove one of them",
        '"local"',
        '"blackhole", "unreachable", "prohibit" or "local"',
    ),
    (
        A + routes(P + 'type = "local", paths = [{port = "a"}]'),
        "2: routes[0].type",
        "cannot stand beside via, port or paths: remove one of them",
        '"local"',
        '"blackhole", "unreachable", "prohibit" or "local"',
    ),
    (
        A + routes(P + 'paths = [{port = "a"}], port = "a"'),
        "2: routes[0].paths",
        "cannot stand beside via or port: remove one of them",
        "a list of 1",
        "1 to 64 tables with via, port (one of them or both), weight (1 to 255)",
    ),
    (
        A + routes(P + 'paths = [{port = "a"}], via = "10.0.1.2"'),
        "2: routes[0].paths",
        "cannot stand beside via or port: remove one of them",
        "a list of 1",
        "1 to 64 tables with via, port (one of them or both), weight (1 to 255)",
    ),
    (
        A + routes(P + "paths = []"),
        "2: routes[0].paths",
        "has no path",
        "a list of 0",
        "1 to 64 tables with via, port (one of them or both), weight (1 to 255)",
    ),
    (
        A + routes(P + "paths = [" + ", ".join('{port = "a"}' for _ in range(65)) + "]"),
        "2: routes[0].paths",
        "has 65 paths",
        "a list of 65",
        "1 to 64 tables with via, port (one of them or both), weight (1 to 255)",
    ),
    (
        A + routes(P + 'paths = {port = "a"}'),
        "2: routes[0].paths",
        "is not a list",
        "a table",
        "1 to 64 tables with via, port (one of them or both), weight (1 to 255)",
    ),
    (
        A + routes(P + "paths = [1]"),
        "2: routes[0].paths[0]",
        "has the wrong type",
        "1",
        "1 to 64 tables with via, port (one of them or both), weight (1 to 255)",
    ),
    (
        A + routes(P + "paths = [{weight = 1}]"),
        "2: routes[0].paths[0].port",
        "is missing, and so is via: a path needs one of them or both",
        "nothing",
        "the name of a port under [ports]",
    ),
    (
        A + routes(P + 'paths = [{port = "a", weight = 0}]'),
        "2: routes[0].paths[0].weight",
        "is too small",
        "0",
        "a whole number from 1 to 255",
    ),
    (
        A + routes(P + 'paths = [{port = "a", weight = 256}]'),
        "2: routes[0].paths[0].weight",
        "is too large",
        "256",
        "a whole number from 1 to 255",
    ),
    (
        A + routes(P + 'paths = [{port = "a", wieght = 2}]'),
        "2: routes[0].paths[0].wieght",
        'is not a key here; did you mean "weight"?',
        "2",
        '"via", "port", "weight"',
    ),
    (
        A + routes(P + 'paths = [{via = "10.0.1"}]'),
        "2: routes[0].paths[0].via",
        "is not an IP address",
        '"10.0.1"',
        'a unicast address like "10.0.1.2" or "2001:db8::2"',
    ),
    (
        A + routes(P + 'port = "a", metric = -1'),
        "2: routes[0].metric",
        "is too small",
        "-1",
        "a whole number from 0 to 4294967295",
    ),
    (
        A + routes(P + 'port = "a", metric = 4294967296'),
        "2: routes[0].metric",
        "is too large",
        "4294967296",
        "a whole number from 0 to 4294967295",
    ),
    (
        A + routes(P + 'port = "a", vrf = ""'),
        "2: routes[0].vrf",
        "is not a name that can be used",
        '""',
        "the name of a VRF: 1 to 32 of A-Z a-z 0-9 _ . -, the first a letter or digit",
    ),
    (
        A + routes('prefix = "2001:db8::1/32", type = "local"'),
        "2: routes[0].prefix",
        'has host bits that are not zero; did you mean "2001:db8::/32"?',
        '"2001:db8::1/32"',
        'a prefix without host bits like "10.1.0.0/16" or "2001:db8:1::/48"',
    ),
    (
        A + routes('prefix = "2001:db8::/129", type = "local"'),
        "2: routes[0].prefix",
        "is not an IP prefix",
        '"2001:db8::/129"',
        'a prefix without host bits like "10.1.0.0/16" or "2001:db8:1::/48"',
    ),
    (
        A + routes('prefix = "fe80::%eth0/64", type = "local"'),
        "2: routes[0].prefix",
        "is not an IP prefix",
        '"fe80::%eth0/64"',
        'a prefix without host bits like "10.1.0.0/16" or "2001:db8:1::/48"',
    ),
    (
        A + routes(P + 'via = "ff02::1"'),
        "2: routes[0].via",
        "is a multicast address",
        '"ff02::1"',
        'a unicast address like "10.0.1.2" or "2001:db8::2"',
    ),
    (
        A + routes(P + 'via = "::ffff:10.0.1.2"'),
        "2: routes[0].via",
        "is an IPv4-mapped address",
        '"::ffff:10.0.1.2"',
        'a unicast address like "10.0.1.2" or "2001:db8::2"',
    ),
    (
        A + route_files('file = "none.txt"'),
        "2: route_files[0].file",
        "is not a file that exists",
        '"none.txt"',
        "the path of a file; a relative one counts from this file's directory",
    ),
    (
        A + route_files('file = "/"'),
        "2: route_files[0].file",
        "is not a file that exists",
        '"/"',
        "the path of a file; a relative one counts from this file's directory",
    ),
    (
        A + route_files('vrf = "default"'),
        "2: route_files[0].file",
        "is missing",
        "nothing",
        "the path of a file; a relative one counts from this file's directory",
    ),
    (
        A + route_files('file = "/bin/sh", via = "x"'),
        "2: route_files[0].via",
        "is not an IP address",
        '"x"',
        'a unicast address like "10.0.1.2" or "2001:db8::2"',
    ),
    (
        A + neighbors('address = "::1", port = "a"'),
        "2: neighbors[0].address",
        "is a loopback address",
        '"::1"',
        'a unicast address like "10.0.1.2" or "2001:db8::2"',
    ),
    (
        A + neighbors('address = "10.0.1.2/24", port = "a"'),
        "2: neighbors[0].address",
        "is not an IP address",
        '"10.0.1.2/24"',
        'a unicast address like "10.0.1.2" or "2001:db8::2"',
    ),
]


@pytest.mark.parametrize(("text", "where", "what", "got", "allowed"), WRONG)
def test_what_is_wrong_is_named_with_its_key_and_line(text, where, what, got, allowed):
    assert refusal(text) == [message(where, what, got, allowed)]


def test_what_routes_mean():
    text = A6 + RED
    text += routes(
        'prefix = "::/0", metric = 4294967295, paths = [{via = "2001:db8::2"}, '
        '{via = "2001:db8::3", port = "a"}, {via = "fe80::2", port = "a", weight = 255}]',
        P + 'type = "local", vrf = "red"',
    )
    text += route_files('file = "/bin/sh", vrf = "red", via = "10.0.1.2"', 'file = "/bin/sh"')
    config = parse(text, "r.toml")
    many, local = config.routes
    assert (many.prefix, many.metric, many.vrf) == (IPv6Network("::/0"), 2**32 - 1, "default")
    assert (many.via, many.port, many.type) == (None, None, None)
    assert [(path.via, path.port, path.weight) for path in many.paths] == [
        (IPv6Address("2001:db8::2"), None, 1),
        (IPv6Address("2001:db8::3"), "a", 1),
        (IPv6Address("fe80::2"), "a", 255),
    ]
    assert (local.type, local.vrf, local.paths, local.metric) == ("local", "red", None, 0)
    first, second = config.route_files
    assert (first.file, first.vrf, first.via) == (Path("/bin/sh"), "red", IPv4Address("10.0.1.2"))
    assert (second.vrf, second.via) == ("default", None)


def test_a_file_of_routes_counts_from_the_configuration(tmp_path):
    (tmp_path / "full.txt").write_text("10.0.0.0/8 10.0.1.2\n")
    config = parse(A + route_files('file = "full.txt"'), str(tmp_path / "r.toml"))
    assert config.route_files[0].file == tmp_path / "full.txt"
