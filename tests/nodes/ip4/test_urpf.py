"""ip4-urpf against the oracle."""

from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.reverse_paths import PORTS, World, compare, worlds
from oracles.urpf import Route
from strategies import Ip4Spec, ip
from vforward.nodes.ip4.urpf import NODE


def packet(port, source):
    return port, Ip4Spec(b"", src=source, dst=ip("10.0.0.1")).build(), source


@st.composite
def cases(draw):
    world = draw(worlds(32, strategies.prefixes()))
    known = [prefix for routes in world.routes.values() for prefix, _, _ in routes]
    near = st.sampled_from(known or [0]).flatmap(
        lambda p: st.sampled_from((p, p + 1, p - 1, p | 0xFF)).map(lambda a: a & 0xFFFFFFFF)
    )
    sources = st.one_of(near, near, strategies.addresses())
    made = draw(st.lists(st.tuples(st.sampled_from(PORTS), sources), min_size=1, max_size=20))
    return world, [packet(*one) for one in made]


@settings(max_examples=150, deadline=None)
@given(cases())
def test_against_the_oracle(case):
    compare(NODE, *case)


NET, HOST = ip("198.51.100.0"), ip("198.51.100.7")


def edges(mode, route, sources=((1, HOST),), length=24):
    routes = [] if route is None else [(NET if length else 0, length, route)]
    world = World(32, {0: routes}, dict.fromkeys(PORTS, mode))
    return [
        {"drop": "drop"}.get(e, "pass")
        for e in compare(NODE, world, [packet(*one) for one in sources])
    ]


def test_strict_asks_for_the_port():
    both = ((1, HOST), (2, HOST))
    assert edges("strict", Route("via", (2,)), both) == ["drop", "pass"]
    assert edges("loose", Route("via", (2,)), both) == ["pass", "pass"]
    assert edges("", None, both) == ["pass", "pass"]


def test_any_of_several_next_hops_will_do():
    all_ports = tuple((port, HOST) for port in PORTS)
    assert edges("strict", Route("via", (2, 3, 2)), all_ports) == ["drop", "pass", "pass"]


def test_a_default_route_is_a_route():
    assert edges("loose", Route("via", (2,)), length=0) == ["pass"]
    assert edges("loose", None) == ["drop"]


def test_routes_that_lead_nowhere_refuse():
    for kind in ("blackhole", "unreachable", "local"):
        assert edges("loose", Route(kind)) == edges("strict", Route(kind)) == ["drop"]


def test_who_has_no_address_yet_passes():
    assert edges("strict", None, ((1, 0), (1, 1))) == ["pass", "drop"]
