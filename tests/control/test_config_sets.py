# SPDX-License-Identifier: Apache-2.0
"""Named sets: what they hold, and what is wrong with them."""

import pytest

from configs import A, message, refusal
from vforward.control.config import parse
from vforward.control.flow_words import Range, Span

ADDRESSES = 'addresses like "10.0.0.1", "10.1.0.0/16", "10.0.0.5-10.0.0.9", "2001:db8::/32"'
PORTS = 'ports from 0 to 65535 like 80, "8000-8080"'
NAME = "1 to 32 of A-Z a-z 0-9 _ . -, the first a letter or digit"


def test_sets():
    config = parse(A + 'address_sets = {a = ["0.0.0.1", "::2"], b = []}\nport_sets.c = "1-2"', "r")
    assert config.address_sets == {"a": (Range(4, 1, 1), Range(6, 2, 2)), "b": ()}
    assert config.port_sets == {"c": (Span(1, 2),)}


@pytest.mark.parametrize(
    ("text", "where", "what", "got", "allowed"),
    [
        (
            'address_sets.x = ["10.0.0.1", "10.0.0.256"]',
            "2: address_sets.x[1]",
            "is not an address, a prefix or a range of addresses",
            '"10.0.0.256"',
            ADDRESSES,
        ),
        (
            'address_sets.x = ["@y"]',
            "2: address_sets.x[0]",
            "is a set, and cannot be in another",
            '"@y"',
            ADDRESSES,
        ),
        (
            "port_sets.x = 65536",
            "2: port_sets.x",
            "is not a port or a range of ports",
            "65536",
            PORTS,
        ),
        ('port_sets."a b" = 1', '2: port_sets."a b"', "is not a name that can be used", "1", NAME),
        ("address_sets = 3", "2: address_sets", "is not a table", "3", "a table [address_sets]"),
        ("port_sets.x = {}", "2: port_sets.x", "has the wrong type", "a table", PORTS),
    ],
)
def test_what_is_wrong(text, where, what, got, allowed):
    assert refusal(A + text) == [message(where, what, got, allowed)]


def test_a_wrong_set_is_not_missed_by_rules():
    text = 'address_sets.x = "y"\nfirewall.default = "deny"\nrules = [{action = "deny", to = "@x"}]'
    assert len(refusal(A + text)) == 1
