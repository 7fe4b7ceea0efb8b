# SPDX-License-Identifier: Apache-2.0
"""What checks ask of a draft."""

from ipaddress import IPv4Network, IPv6Interface, IPv6Network

from configs import RED, A, bridge, crosses, port, tap
from vforward.control import (
    config_checks_addresses,
    config_checks_bridges,
    config_checks_ports,
    config_draft,
    interfaces,
)
from vforward.control.config import parse
from vforward.control.config_draft import Draft, has_ip6, in_words, prefixes
from vforward.tables.addresses import ADDRESSES_MAX
from vforward.tables.bridge import DOMAINS
from vforward.tables.ports import STACKED_MAX


def draft(text, refused=()):
    config = parse(text, "r.toml")
    return Draft(
        ports=dict(config.ports),
        declared=tuple(config.ports),
        bridges=dict(config.bridges),
        declared_bridges=tuple(config.bridges),
        routes=dict(enumerate(config.routes)),
        route_files=dict(enumerate(config.route_files)),
        neighbors=dict(enumerate(config.neighbors)),
        cross_connects=dict(enumerate(config.cross_connects)),
        refused=frozenset(refused),
    )


def test_limits_are_not_beyond_those_of_the_tables():
    assert min(interfaces.PORTS_MAX, STACKED_MAX) > config_draft.PORTS_MAX
    assert config_checks_ports.VRFS_MAX <= interfaces.VRFS_MAX
    assert config_checks_addresses.ADDRESSES_MAX == ADDRESSES_MAX
    assert config_checks_bridges.BRIDGES_MAX == DOMAINS - 1


def test_which_ports_are_switched():
    text = "".join(port(name) for name in "abcde")
    text += bridge("x", '"a", {port = "b"}') + crosses('"c", "d"')
    found = draft(text)
    assert found.joined == {
        "a": 'bridge "x"', "b": 'bridge "x"', "c": "a cross connect", "d": "a cross connect"
    }  # fmt: skip
    assert found.all_are_joined
    assert not draft(text, ["bridges"]).all_are_joined
    assert draft(text, ["routes"]).all_are_joined


def test_what_was_refused_is_not_whole():
    found = draft(A, ["ports"])
    assert not found.whole("ports", "routes")
    assert found.whole("routes")


def test_vrfs_and_addresses_are_those_of_routed_ports():
    found = draft(RED + A + tap("t", "a"))
    assert found.vrfs == {"default", "red"}
    assert [(own.port, own.vrf, own.path) for own in found.owned] == [
        ("r", "red", ("ports", "r", "address", 0)),
        ("a", "default", ("ports", "a", "address", 0)),
    ]
    assert draft(port("a") + bridge("x", '"a"')).vrfs == set()


def test_prefixes_are_those_that_are_routed():
    text = port("a", 'address = ["10.0.1.1/24", "fe80::1/64", "2001:db8::1/64"]') + port("b")
    ports = draft(text).ports
    assert prefixes(ports["a"], 4) == [IPv4Network("10.0.1.0/24")]
    assert prefixes(ports["a"], 6) == [IPv6Network("2001:db8::/64")]
    assert ports["a"].address[1] == IPv6Interface("fe80::1/64")
    assert has_ip6(ports["a"])
    assert not has_ip6(ports["b"])


def test_prefixes_in_words():
    networks = [IPv4Network(f"10.{n}.0.0/16") for n in range(7)]
    assert in_words(networks[:2]) == "an address in 10.0.0.0/16, 10.1.0.0/16"
    assert in_words(networks).endswith("10.5.0.0/16, ...")
    assert in_words([]) == "none, since there is no such prefix"
