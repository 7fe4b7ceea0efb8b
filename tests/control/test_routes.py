# SPDX-License-Identifier: Apache-2.0
"""Prefixes as keys, and the routes that an address gives."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given as given_by
from hypothesis import strategies as st

from vforward.control.route_table import CONNECTED_RANK, LOCAL_RANK
from vforward.control.routes import (
    given,
    is_link_local,
    key_of_prefix,
    native,
    prefix_of,
    sorted_keys,
    text_of,
    version_of,
    wide,
)
from vforward.errors import ConfigError

networks4 = st.builds(
    lambda a, n: ip_network((a >> 32 - n << 32 - n, n)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
networks6 = st.builds(
    lambda a, n: ip_network((a.to_bytes(16, "big"), n), strict=False),
    st.integers(0, 2**128 - 1),
    st.integers(0, 128),
)


@given_by(st.one_of(networks4, networks6), st.one_of(networks4, networks6))
def test_keys_are_prefixes_and_sort_as_they_do(one, two):
    key = key_of_prefix(one)
    assert prefix_of(key, one.max_prefixlen) == str(one)
    if one.version == two.version:
        assert (key < key_of_prefix(two)) == (one < two)


@pytest.mark.parametrize("text", ["10.0.1.9", "2001:db8::9", "fe80::1", "febf::", "fec0::1", "::"])
def test_addresses(text):
    address = ip_address(text)
    whole = wide(address)
    assert text_of(whole) == text
    assert version_of(whole) == address.version
    assert native(whole) == int(address)
    assert is_link_local(whole) == (address.version == 6 and address.is_link_local)


@pytest.mark.parametrize(
    ("interface", "expected"),
    [
        ("10.0.1.1/24", {"10.0.1.1/32": "local", "10.0.1.0/24": "connected",
                         "10.0.1.255/32": "blackhole"}),
        ("10.0.1.0/31", {"10.0.1.0/32": "local", "10.0.1.0/31": "connected"}),
        ("10.0.1.1/32", {"10.0.1.1/32": "local"}),
        ("2001:db8::1/64", {"2001:db8::1/128": "local", "2001:db8::/128": "local",
                            "2001:db8::/64": "connected"}),
        ("2001:db8::/64", {"2001:db8::/128": "local", "2001:db8::/64": "connected"}),
        ("2001:db8::1/127", {"2001:db8::1/128": "local", "2001:db8::/127": "connected"}),
        ("2001:db8::1/128", {"2001:db8::1/128": "local"}),
        ("fe80::1/64", {}),
    ],
)  # fmt: skip
def test_what_an_address_gives(interface, expected):
    routes = given(5, ip_interface(interface))
    bits = ip_interface(interface).max_prefixlen
    assert {prefix_of(key, bits): kind for (key, _), kind in routes.items()} == expected
    for (_, order), kind in routes.items():
        assert order == (LOCAL_RANK if kind == "local" else CONNECTED_RANK, 0, 5)


@given_by(st.lists(networks4, max_size=20))
def test_many_ip4(networks):
    prefixes = [int(n.network_address) for n in networks]
    whole, order, keys = sorted_keys(prefixes, [n.prefixlen for n in networks], 32)
    assert keys == sorted(map(key_of_prefix, networks))
    assert [prefixes[i] for i in order] == whole.tolist() == [key >> 8 for key in keys]
    assert all(i < j for i, j, a, b in zip(order, order[1:], keys, keys[1:]) if a == b)


@given_by(st.lists(networks6, min_size=1, max_size=20))
def test_many_ip6(networks):
    halves = [divmod(int(n.network_address), 1 << 64) for n in networks]
    whole, order, keys = sorted_keys(halves, [n.prefixlen for n in networks], 128)
    assert keys == sorted(map(key_of_prefix, networks))
    assert [list(halves[i]) for i in order] == whole.tolist()


@pytest.mark.parametrize(("length", "match"), [(33, "length"), (-1, "length"), (7, "host bits")])
def test_what_is_no_prefix(length, match):
    with pytest.raises(ConfigError, match=match):
        sorted_keys([1 << 24], [length], 32)
