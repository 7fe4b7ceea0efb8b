# SPDX-License-Identifier: Apache-2.0
"""The firewall's parts among each other: every message, and what is nothing to complain about."""

import pytest

from configs import A, crosses, message, port, refusal
from vforward.control.config import parse

PORTS = (
    A
    + port("b", 'address = ["203.0.113.1/24", "203.0.113.2/24", "2001:db8::1/64"]')
    + port("c")
    + port("d")
    + crosses('"c", "d"')
    + 'address_sets = {four = "10.0.0.0/8", six = "2001:db8::/32", both = ["10.0.0.1", "::1"], none = []}\n'
    + "port_sets = {web = [80, 443]}\n"
    + 'policers = {gold = {type = "single-rate", rate = "1M", burst = 1500}}\n'
)
ON = PORTS + 'firewall.default = "deny"\n'
AT = 10  # the line behind
NO_PORTS = "without it, or with protocol tcp, udp, dccp, sctp, udplite only"


def rule(more, action="permit"):
    return ON + f'rules = [{{action = "{action}", {more}}}]\n'


def nat(what):
    return ON + f"nat = [{{{what}}}]\n"


def source(more):
    return nat(f'type = "source", {more}')


def destination(more):
    return nat(f'type = "destination", to = "203.0.113.1", new = "10.0.1.9", {more}')


def policer(more, kind="single-rate"):
    return A + f'policers = {{x = {{type = "{kind}", rate = 1000, burst = 64, {more}}}}}\n'


RULES = [
    (
        'from = "@fuor"',
        "from",
        'names a set that does not exist; did you mean "@four"?',
        '"@fuor"',
        '"@four", "@six", "@both", "@none"',
    ),
    (
        'protocol = "tcp", to_ports = ["@wbe"]',
        "to_ports[0]",
        'names a set that does not exist; did you mean "@web"?',
        '"@wbe"',
        '"@web"',
    ),
    (
        "to_ports = 80",
        "to_ports",
        "is for protocols that have ports, and none is given",
        "80",
        NO_PORTS,
    ),
    (
        'protocol = ["tcp", "gre"], from_ports = 80',
        "from_ports",
        "is for protocols that have ports",
        "80",
        NO_PORTS,
    ),
    (
        'protocol = ["tcp", "udp"], tcp_flags = "syn"',
        "tcp_flags",
        "is for TCP",
        '"syn"',
        "without it, or with protocol tcp only",
    ),
    ("icmp = 8", "icmp", "is for ICMP", "8", "without it, or with protocol icmp or icmp6 only"),
    (
        'protocol = "icmp", icmp = "packet-too-big"',
        "icmp",
        "is not a type of this protocol",
        '"packet-too-big"',
        '"echo-reply", "unreachable", "redirect", "echo-request", '
        '"router-advertisement", "router-solicitation", "time-exceeded", '
        '"parameter-problem", "timestamp-request", "timestamp-reply"',
    ),
    (
        'in = "aa"',
        "in",
        'names a port that does not exist; did you mean "a"?',
        '"aa"',
        '"a", "b", "c", "d"',
    ),
    ('in = "self"', "in", "names a port that does not exist", '"self"', '"a", "b", "c", "d"'),
    (
        'out = ["a", "c"]',
        "out[1]",
        "is in a cross connect",
        '"c"',
        "a routed port: in no bridge and no cross connect",
    ),
    (
        'police = "glod"',
        "police",
        'names a policer that does not exist; did you mean "gold"?',
        '"glod"',
        '"gold"',
    ),
    (
        "stateful = false, sessions = 3",
        "sessions",
        "is for rules that are stateful",
        "3",
        "no sessions here",
    ),
    (
        'from = "10.0.0.1", to = "::1"',
        "from",
        "is IPv4, and to, protocol and family are for others",
        '"10.0.0.1"',
        "addresses of one family",
    ),
    (
        'from = ["10.0.0.1", "::1"], to = "@four"',
        "from[1]",
        "is IPv6, and the rule is for IPv4",
        '"::1"',
        "addresses of one family",
    ),
    (
        'to = "::1", family = 4',
        "to",
        "is IPv6, and from, protocol and family are for others",
        '"::1"',
        "addresses of one family",
    ),
    (
        'to = "::1", protocol = "icmp"',
        "to",
        "is IPv6, and from, protocol and family are for others",
        '"::1"',
        "addresses of one family",
    ),
]
WHOLE = [
    'from = "@four", to = "@six"',
    'from = "@none"',
    'family = 6, protocol = "icmp"',
    'family = 4, from = "@six"',
]
OUTCOMES = [
    ("mark", '"ef"'),
    ("police", '"gold"'),
    ("stateful", "false"),
    ("sessions", "1"),
    ("per_source", "1"),
]


@pytest.mark.parametrize(("more", "key", "what", "got", "allowed"), RULES)
def test_rules(more, key, what, got, allowed):
    assert refusal(rule(more)) == [message(f"{AT}: rules[0].{key}", what, got, allowed)]


@pytest.mark.parametrize("more", WHOLE)
def test_a_rule_that_no_packet_matches(more):
    allowed = "addresses, protocol and family that go together"
    where = f"{AT}: rules[0]"
    assert refusal(rule(more)) == [message(where, "can match no packet", "a table", allowed)]


@pytest.mark.parametrize(("key", "value"), OUTCOMES)
def test_what_is_for_rules_that_permit(key, value):
    found = refusal(rule(f"{key} = {value}", "reject"))
    what = "is for rules that permit"
    assert found == [message(f"{AT}: rules[0].{key}", what, value, f"no {key} here")]


@pytest.mark.parametrize(
    "more",
    [
        'from = "@both"',
        'from = "@both", to = "10.0.0.1"',
        'from = ["10.0.0.1", "::1"], to = ["@four", "@six"]',
        'protocol = ["icmp", "icmp6"], icmp = ["echo-request", "packet-too-big"]',
        'protocol = ["tcp", "udp", 132], to_ports = "@web", police = "gold", mark = 0',
        'out = "self", in = ["a", "b"]',
        "stateful = false, police = 'gold'",
    ],
)
def test_what_is_right(more):
    assert parse(rule(more), "r").rules


def test_a_name_is_once_in_the_list():
    one = '{name = "x", action = "deny"}'
    what = "is the name of rules[0] already"
    allowed = "a name that no other rule has, or none"
    assert refusal(ON + f"rules = [{one}, {one}]") == [
        message(f"{AT}: rules[1].name", what, '"x"', allowed)
    ]


def test_rules_need_a_firewall():
    for key, text in (
        ("rules", 'rules = [{action = "deny"}]'),
        ("nat", 'nat = [{type = "masquerade", out = "a"}]'),
    ):
        what = f"is missing, and there is [[{key}]]"
        allowed = 'a table [firewall], with default = "deny" say'
        assert refusal(PORTS + text) == [
            f"r.toml: firewall: {what} (got nothing); allowed: {allowed}"
        ]


def test_where_it_is_on():
    found = refusal(PORTS + 'firewall = {default = "deny", ports = ["a", "c", "x", "a"]}')
    routed = "a routed port: in no bridge and no cross connect"
    assert found == [
        message("9: firewall.ports[1]", "is in a cross connect", '"c"', routed),
        message("9: firewall.ports[2]", "names a port that does not exist", '"x"', '"a", "b", "c", "d"'),
        message("9: firewall.ports[3]", "is there already", '"a"', "each port once"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key", "what", "got", "allowed"),
    [
        (
            policer("excess_burst = 64, yellow = 'af11'").replace("excess_burst = 64, ", ""),
            "yellow",
            "is for policers of three colours",
            '"af11"',
            "without it, or with excess_burst",
        ),
        (
            policer("peak_rate = 999, peak_burst = 64", "two-rate"),
            "peak_rate",
            "is below rate",
            "999",
            "1000 or more",
        ),
        (
            policer("red = 'drop'").replace("burst = 64", "burst = 1000000000"),
            "burst",
            "is more bytes than rate makes in a day",
            "1000000000",
            "at most 10800000, or a higher rate",
        ),
    ],
)
def test_policers(text, key, what, got, allowed):
    assert refusal(text) == [message(f"2: policers.x.{key}", what, got, allowed)]


POOL = "addresses beyond that prefix, or own ones: add them to port "
SELF = "the names of ports under [ports]"


@pytest.mark.parametrize(
    ("text", "key", "what", "got", "allowed"),
    [
        (
            source('pool = "203.0.113.2-203.0.113.3"'),
            ".pool",
            'lies in 203.0.113.0/24 of port "b", where not all of it is an own address',
            '"203.0.113.2-203.0.113.3"',
            POOL + '"b"',
        ),
        (
            source('pool = "192.0.2.1", out = ["b", "self"]'),
            ".out",
            "is the router itself",
            "a list of 2",
            SELF,
        ),
        (
            source('pool = "192.0.2.1", from = ["10.0.0.1", "::1"]'),
            ".from[1]",
            "is IPv6, and NAT is for IPv4",
            '"::1"',
            "IPv4 addresses",
        ),
        (
            source('pool = "192.0.2.1", from = "@six"'),
            "",
            "can match no packet",
            "a table",
            "IPv4 addresses, and no icmp6",
        ),
        (
            source('pool = "192.0.2.1", protocol = "icmp6"'),
            "",
            "can match no packet",
            "a table",
            "IPv4 addresses, and no icmp6",
        ),
        (
            source('pool = "192.0.2.1", to = "@zzz"'),
            ".to",
            "names a set that does not exist",
            '"@zzz"',
            '"@four", "@six", "@both", "@none"',
        ),
        (
            nat('type = "masquerade", out = "c"'),
            ".out",
            "is in a cross connect",
            '"c"',
            "a routed port: in no bridge and no cross connect",
        ),
        (nat('type = "masquerade", out = "self"'), ".out", "is the router itself", '"self"', SELF),
        (
            destination("to_ports = 80"),
            ".to_ports",
            "is for protocols that have ports, and none is given",
            "80",
            NO_PORTS,
        ),
        (
            destination('protocol = "tcp", new_port = 80'),
            ".new_port",
            "needs to_ports beside it",
            "80",
            "both, or no new_port",
        ),
        (
            destination('protocol = "tcp", to_ports = "1-10", new_port = 65527'),
            ".new_port",
            "is the first of 10 ports",
            "65527",
            "at most 65526",
        ),
        (
            destination('in = "x"'),
            ".in",
            "names a port that does not exist",
            '"x"',
            '"a", "b", "c", "d"',
        ),
        (
            nat('type = "destination", to = "203.0.113.9", new = "10.0.0.9"'),
            ".to",
            'lies in 203.0.113.0/24 of port "b", where not all of it is an own address',
            '"203.0.113.9"',
            POOL + '"b"',
        ),
        (
            nat('type = "static", inside = "10.0.0.0/30", outside = "192.0.2.0/29"'),
            ".outside",
            "is not as many addresses as inside, 10.0.0.0/30",
            '"192.0.2.0/29"',
            "a prefix of the same length",
        ),
        (
            nat('type = "static", inside = "10.0.0.0/30", outside = "10.0.0.0/30"'),
            ".outside",
            "overlaps with inside",
            '"10.0.0.0/30"',
            "other addresses than inside",
        ),
        (
            nat('type = "static", inside = "10.0.0.1", outside = "203.0.113.0"'),
            ".outside",
            'lies in 203.0.113.0/24 of port "b", where not all of it is an own address',
            '"203.0.113.0"',
            POOL + '"b"',
        ),
        (
            nat('type = "static", inside = "10.0.0.1", outside = "192.0.2.0", port = ["b", "x"]'),
            ".port[1]",
            "names a port that does not exist",
            '"x"',
            '"a", "b", "c", "d"',
        ),
    ],
)
def test_nat(text, key, what, got, allowed):
    assert refusal(text) == [message(f"{AT}: nat[0]{key}", what, got, allowed)]


@pytest.mark.parametrize(
    "text",
    [
        source('pool = "203.0.113.1-203.0.113.2", out = "b"'),
        destination('protocol = "tcp", to_ports = "1-10", new_port = 65526'),
        nat('type = "static", inside = "10.0.0.0/31", outside = "203.0.113.2/31"').replace(
            '"203.0.113.2/24", ', '"203.0.113.2/24", "203.0.113.3/24", '
        ),
        nat('type = "masquerade", out = "b", from = "@both", protocol = ["icmp", "tcp"]'),
    ],
)
def test_nat_that_is_right(text):
    assert parse(text, "r").nat
