# SPDX-License-Identifier: Apache-2.0
"""What must hold between the parts of a configuration."""

import pytest

from vforward.control.config import parse
from vforward.errors import ConfigError

A = '[ports.a]\ntype = "memory"\naddress = "10.0.1.1/24"\n'
B = '[ports.b]\ntype = "memory"\n'
BARE = '[ports.a]\ntype = "memory"\n[ports.b]\ntype = "memory"\n'
VLAN = '[ports.v]\ntype = "vlan"\nparent = "a"\nvlan = 5\n'
ETH = 'type = "af_packet"\ninterface = "eth0"\n'
ROUTE = '[[routes]]\nprefix = "10.9.0.0/16"\n'
NEIGHBOR = '[[neighbors]]\nmac = "02:00:00:00:00:02"\n'
CROSS = "[[cross_connects]]\nports = "

CASES = [
    (f"[ports.a]\n{ETH}[ports.b]\n{ETH}", '6: ports.b.interface: is used by port "a" already'),
    (A + B + 'address = "10.0.1.1/25"', '6: ports.b.address: is an address of port "a" already'),
    (A + B + 'address = "10.0.0.1/16"', "6: ports.b.address: overlaps with 10.0.1.0/24 of port"),
    (A + B + 'address = "10.0.1.9/30"', "6: ports.b.address: overlaps with 10.0.1.0/24 of port"),
    (
        A + B + 'address = ["10.0.2.1/24", "10.0.1.9/32"]',
        "6: ports.b.address[1]: overlaps with 10.0.1.0/24 of port",
    ),
    (
        '[ports.a]\ntype = "null"\naddress = ["10.0.1.1/24", "10.0.1.1/24"]',
        '3: ports.a.address[1]: is an address of port "a" already',
    ),
    (A + VLAN.replace('"a"', '"aa"'), "6: ports.v.parent: names a port that does not exist; did"),
    (A + VLAN + VLAN.replace('"a"', '"v"').replace(".v]", ".w]"), "10: ports.w.parent: is a vlan"),
    (A + VLAN + VLAN.replace(".v]", ".w]"), '11: ports.w.vlan: is port "v" already on parent "a"'),
    (BARE + VLAN + CROSS + '["a", "b"]', "7: ports.v.parent: is in a cross connect"),
    (A + ROUTE + 'via = "10.0.2.1"', "6: routes[0].via: is not in a prefix of a port: correct it"),
    (A + ROUTE + 'via = "10.0.1.1"', '6: routes[0].via: is the address of port "a" here'),
    (
        A + B + ROUTE + 'via = "10.0.1.2"\nport = "b"',
        '8: routes[0].via: is not in a prefix of port "b": correct it',
    ),
    (A + ROUTE + 'port = "c"', "6: routes[0].port: names a port that does not exist"),
    (BARE + ROUTE + f'port = "a"\n{CROSS}["a", "b"]', "7: routes[0].port: is in a cross connect"),
    (
        A + (ROUTE + 'port = "a"\n') * 2,
        "8: routes[1].prefix: is the prefix of routes[0] already",
    ),
    (A + NEIGHBOR + 'address = "10.0.1.2"\nport = "c"', "7: neighbors[0].port: names a port that"),
    (
        A + NEIGHBOR + 'address = "10.0.2.2"\nport = "a"',
        '6: neighbors[0].address: is not in a prefix of port "a"',
    ),
    (
        A + NEIGHBOR + 'address = "10.0.1.1"\nport = "a"',
        '6: neighbors[0].address: is the address of port "a" itself',
    ),
    (
        A + (NEIGHBOR + 'address = "10.0.1.2"\nport = "a"\n') * 2,
        "10: neighbors[1].address: is the address of neighbors[0] already",
    ),
    (BARE + CROSS + '["a", "c"]', "6: cross_connects[0].ports[1]: names a port that does not"),
    (BARE + CROSS + '["a", "a"]', "6: cross_connects[0].ports[1]: is the same port twice"),
    (A + B + CROSS + '["a", "b"]', "7: cross_connects[0].ports[0]: has an address: remove that"),
    (
        BARE + VLAN.replace('"a"', '"c"') + '[ports.c]\ntype = "null"\n' + CROSS + '["a", "v"]',
        "12: cross_connects[0].ports[1]: is a vlan port",
    ),
    (
        BARE + '[ports.c]\ntype = "null"\n' + CROSS + '["a", "b"]\n' + CROSS + '["c", "b"]',
        "10: cross_connects[1].ports[1]: is in cross_connects[0] already",
    ),
    (
        '[ports.a]\ntype = "pcap"\nread = "x"\nwrite = "x"',
        "4: ports.a.write: would overwrite the file of ports.a.read",
    ),
]


@pytest.mark.parametrize(("text", "message"), CASES)
def test_a_contradiction_is_named_with_its_key_and_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "r.toml")
    (found,) = str(caught.value).split("\n")
    assert found.startswith("r.toml:" + message)
    assert " (got " in found
    assert "); allowed: " in found


@pytest.mark.parametrize(
    "text",
    [
        A + B + 'address = "10.0.2.1/24"',
        '[ports.a]\ntype = "null"\naddress = ["10.0.1.1/24", "10.0.1.2/24", "10.0.1.3/16"]',
        '[ports.a]\ntype = "null"\naddress = ["10.0.1.0/31", "10.0.1.7/32"]',
        A + VLAN + VLAN.replace(".v]", ".w]").replace("5", "6"),
        A + ROUTE + 'via = "10.0.1.2"\nport = "a"',
        BARE + CROSS + '["a", "b"]',
        '[ports.a]\ntype = "pcap"\nread = "x"\n[ports.b]\ntype = "pcap"\nread = "x"\nwrite = "y"',
    ],
)
def test_what_agrees_is_accepted(text: str) -> None:
    parse(text, "r.toml")


def test_a_refused_port_draws_no_complaints_about_its_absence() -> None:
    text = A.replace("memory", "memroy") + ROUTE + 'via = "10.0.1.2"\nport = "a"\n'
    text += NEIGHBOR + 'address = "10.0.1.2"\nport = "a"\n'
    with pytest.raises(ConfigError) as caught:
        parse(text, "r.toml")
    assert str(caught.value).startswith(
        'r.toml:2: ports.a.type: is not a type of port; did you mean "memory"? (got "memroy")'
    )
    assert "\n" not in str(caught.value)
