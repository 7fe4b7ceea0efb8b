# SPDX-License-Identifier: Apache-2.0
"""Rules as rows: as the oracle matches them, and no more of them than are needed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rule_worlds as worlds
from vforward.control import flow_words as words
from vforward.control.rule_rows import ANY, Expander, Sets, as_array, families
from vforward.control.rules import Rule

SETS = Sets(
    {name: words.many(items, words.addresses) for name, items in worlds.ADDRESS_SETS.items()},
    {name: words.many(items, words.ports) for name, items in worlds.PORT_SETS.items()},
)


def as_rule(table):
    """The object of a table of the configuration."""
    return Rule(**{key + "_" * (key in ("from", "in")): value for key, value in table.items()})


def expander():
    return Expander(SETS, worlds.PORTS)


def whole(address):
    """An address of a row as one number."""
    return int.from_bytes(np.atleast_1d(address).astype(">u4").tobytes())


def is_match(row, packet):
    """Whether a packet matches a row, as tables.acl_image describes it."""
    values = {
        "src": worlds.address_of(packet, "src"),
        "dst": worlds.address_of(packet, "dst"),
        "kind": worlds.kind_of(packet),
        "place": worlds.place_of(packet),
        "vlan": packet["vlan"],
    }
    ports = worlds.ports_of(packet)
    return all(
        value & whole(row[f"{name}_mask"]) == whole(row[name]) for name, value in values.items()
    ) and all(
        row[f"{end}_low"] <= port <= row[f"{end}_high"]
        for end, port in zip(("sport", "dport"), ports, strict=True)
    )


@given(st.lists(worlds.rules(), min_size=1, max_size=4), st.lists(worlds.packets(), max_size=8))
def test_rows_match_what_the_rules_match(tables, packets):
    rules = [as_rule(table) for table in tables]
    arrays = {}
    for version in (4, 6):
        rows = [row for i, rule in enumerate(rules) for row in expander().rows(rule, version, i)]
        arrays[version] = as_array(rows, version)
    for packet in packets:
        found = [row["rule"] for row in arrays[packet["version"]] if is_match(row, packet)]
        assert (found[0] if found else None) == worlds.first(tables, packet)


@given(worlds.rules())
def test_the_count_is_the_number_of_rows(table):
    rule = as_rule(table)
    for version in (4, 6):
        assert expander().count(rule, version) == len(list(expander().rows(rule, version, 0)))


def test_a_list_becomes_few_rows():
    rule = Rule(action="permit", from_=["10.0.0.0/25", "10.0.0.128-10.0.0.255", "10.0.0.7"])
    (row,) = expander().rows(rule, 4, 7)
    assert row[:2] == (0x0A000000, 0xFFFFFF00)
    assert row[-1] == 7
    ports = Rule(action="permit", protocol="tcp", to_ports=[80, "81-90", "89-95", 443])
    assert [row[-3:-1] for row in expander().rows(ports, 4, 0)] == [(80, 95), (443, 443)]


def test_a_rule_without_addresses_is_for_both_families():
    rule = Rule(action="deny")
    for version in (4, 6):
        (row,) = expander().rows(rule, version, 3)
        assert row == (*ANY[0] * 5, 0, 65535, 0, 65535, 3)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({}, [4, 6]),
        ({"family": 6}, [6]),
        ({"from_": "10.0.0.0/8"}, [4]),
        ({"from_": "@both"}, [4, 6]),
        ({"from_": "@both", "to": "@four"}, [4]),
        ({"from_": "10.0.0.1", "to": "::1"}, []),
        ({"protocol": "icmp"}, [4]),
        ({"protocol": ["icmp", "icmp6"]}, [4, 6]),
        ({"protocol": ["icmp", "icmp6"], "icmp": "packet-too-big"}, [6]),
        ({"protocol": "icmp6", "to": "10.0.0.1"}, []),
    ],
)
def test_families(rule, wanted):
    assert families(Rule(action="permit", **rule), SETS) == wanted


def test_the_same_port_twice_is_one_row():
    rule = Rule(action="permit", in_=["lan", "lan"], out=["self", "wan"])
    assert [row[6:8] for row in expander().rows(rule, 4, 0)] == [
        (1 << 16 | 0xFFFF, 0xFFFFFFFF),
        (1 << 16 | 2, 0xFFFFFFFF),
    ]


def test_no_rows_are_an_empty_array():
    assert as_array([], 4).size == as_array([], 6).size == 0
