"""ip6-urpf against the oracle."""

from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.reverse_paths import PORTS, World, compare, worlds
from oracles.urpf import Route
from vforward.nodes.ip6.urpf import NODE

LAST = (1 << 128) - 1


def ip(text):
    return int(IPv6Address(text))


def packet(port, source):
    header = bytes.fromhex("6000000000003b40")
    return port, header + source.to_bytes(16, "big") + ip("2001:db8::1").to_bytes(16, "big"), source


INTERESTING = tuple(
    ip(a)
    for a in (
        "::", "::1", "2001:db8::", "2001:db8::1", "2001:db8:0:1::", "2001:db8:ffff:ffff::1",
        "2001:db8::8000:0:0:0", "fe7f:ffff::", "fe80::", "fe80::1", "febf:ffff::1", "fec0::", "ff02::1",
    )
)  # fmt: skip
addresses = st.one_of(st.sampled_from(INTERESTING), st.integers(0, LAST))
lengths = st.one_of(
    st.sampled_from((0, 1, 16, 17, 32, 48, 63, 64, 65, 127, 128)), st.integers(0, 128)
)
prefixes = st.tuples(addresses, lengths).map(lambda p: (p[0] >> (128 - p[1]) << (128 - p[1]), p[1]))


@st.composite
def cases(draw):
    world = draw(worlds(128, prefixes))
    known = [prefix for routes in world.routes.values() for prefix, _, _ in routes]
    near = st.sampled_from(known or [0]).flatmap(
        lambda p: st.sampled_from((p, p + 1, p - 1, p | 0xFFFF << 64)).map(lambda a: a & LAST)
    )
    sources = st.one_of(near, near, addresses)
    made = draw(st.lists(st.tuples(st.sampled_from(PORTS), sources), min_size=1, max_size=20))
    return world, [packet(*one) for one in made]


@settings(max_examples=150, deadline=None)
@given(cases())
def test_against_the_oracle(case):
    compare(NODE, *case)


@pytest.mark.parametrize(
    ("mode", "source", "passed"),
    [
        ("strict", "::", True),
        ("strict", "::1", False),
        ("strict", "fe80::1", True),
        ("strict", "febf:ffff::1", True),
        ("loose", "fec0::1", False),
        ("loose", "fe7f::1", False),
        ("strict", "2001:db8::7", True),
        ("strict", "2001:db8:0:2::7", False),
        ("loose", "2001:db8:0:2::7", True),
        ("loose", "2001:db8:0:3::7", False),
        ("", "2001:db8:0:3::7", True),
    ],
)
def test_sources(mode, source, passed):
    routes = [
        (ip("2001:db8::"), 64, Route("via", (2, 1))),
        (ip("2001:db8:0:2::"), 64, Route("via", (2,))),
        (ip("2001:db8:0:3::"), 64, Route("blackhole")),
    ]
    world = World(128, {0: routes}, {1: mode})
    edges = compare(NODE, world, [packet(1, ip(source))])
    assert (edges != ["drop"]) == passed
