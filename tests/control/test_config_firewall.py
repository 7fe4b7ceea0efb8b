# SPDX-License-Identifier: Apache-2.0
"""The firewall's part of a file: what it means, what it is as objects, what is refused."""

import pytest

from configs import A, message, refusal
from vforward.control import config_firewall as models
from vforward.control import rules as r
from vforward.control.config import parse

B = 'ports.b = {type = "memory", address = "192.0.2.1/24"}\n'
ON = A + B + 'firewall.default = "deny"\n'
ACTION = '"permit", "deny" or "reject"'


def rule(more=""):
    return ON + "rules = [{" + ('action = "permit"' + (more and ", " + more)) + "}]\n"


def nat(what):
    return ON + "nat = [{" + what + "}]\n"


def policer(what):
    return A + "policers.p = {" + what + "}\n"


def test_a_rule_is_an_object():
    text = rule(
        'name = "x", from = "10.0.0.0/8", to = ["192.0.2.1"], protocol = ["tcp"], to_ports = [80, "1-2"],'
        ' in = "a", out = ["b", "self"], tcp_flags = "syn", dscp = 3, vlan = 4, fragments = false,'
        ' mark = "ef", sessions = 5, per_source = 6'
    )
    (found,) = parse(text, "r").rules
    assert models.as_object(found) == r.Rule(
        action="permit",
        name="x",
        from_="10.0.0.0/8",
        to="192.0.2.1",
        protocol="tcp",
        to_ports=[80, "1-2"],
        in_="a",
        out=["b", "self"],
        tcp_flags="syn",
        dscp=3,
        vlan=4,
        fragments=False,
        mark="ef",
        sessions=5,
        per_source=6,
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            'type = "masquerade", out = "b", from = "10.0.0.0/8"',
            r.Masquerade(out="b", from_="10.0.0.0/8"),
        ),
        (
            'type = "source", pool = "203.0.113.0/30", ports = "5000-5999"',
            r.SourceNat(pool="203.0.113.0/30", ports="5000-5999"),
        ),
        (
            'type = "destination", to = "192.0.2.1", new = "10.0.0.1", protocol = "tcp",'
            ' to_ports = 80, new_port = 8080, in = "b"',
            r.DestinationNat(
                to="192.0.2.1", new="10.0.0.1", protocol="tcp", to_ports=80, new_port=8080, in_="b"
            ),
        ),
        (
            'type = "static", inside = "10.0.0.0/30", outside = "203.0.113.0/30", port = "b"',
            r.StaticNat(inside="10.0.0.0/30", outside="203.0.113.0/30", port="b"),
        ),
    ],
)
def test_nat_is_objects(text, wanted):
    assert models.as_object(parse(nat(text), "r").nat[0]) == wanted


def test_policers_are_objects():
    single = policer('type = "single-rate", rate = "1M", burst = 1500, red = "cs1"')
    assert models.as_object(parse(single, "r").policers["p"]) == r.Policer(
        rate="1M", burst=1500, red=8
    )
    two = policer('type = "two-rate", rate = 8, burst = 64, peak_rate = 9, peak_burst = 65')
    assert models.as_object(parse(two, "r").policers["p"]) == r.Policer(
        rate=8, burst=64, peak_rate=9, peak_burst=65
    )


def test_settings():
    text = A + 'firewall = {default = "permit", ports = "a", loose = true, timeouts = {udp = 9}}'
    found = parse(text, "r").firewall
    assert models.as_settings(found) == r.FirewallSettings(
        default="permit", ports="a", loose=True, timeouts={"udp": 9}
    )
    assert parse(A, "r").firewall is None


def test_timeouts_are_all_that_there_are():
    assert tuple(models.Timeouts.model_fields) == r.TIMEOUTS


@pytest.mark.parametrize(
    ("text", "where", "what", "got", "allowed"),
    [
        (A + "firewall = {}", "2: firewall.default", "is missing", "nothing", ACTION),
        (
            A + 'firewall.default = "dney"',
            "2: firewall.default",
            "is not one of the choices",
            '"dney"',
            ACTION,
        ),
        (
            ON + "firewall.timeouts.upd = 3",
            "4: firewall.timeouts.upd",
            'is not a key here; did you mean "udp"?',
            "3",
            '"tcp_opening", "tcp_established", "tcp_half_closed", "tcp_closing", "tcp_time_wait", '
            '"tcp_closed", "udp_unreplied", "udp", "icmp_unreplied", "icmp", "other_unreplied", "other"',
        ),
        (
            rule('from = ["10.0.0.300"]'),
            "4: rules[0].from[0]",
            "is not an address, a prefix or a range of addresses",
            '"10.0.0.300"',
            models.words.ADDRESSES_SAY,
        ),
        (
            rule('to_ports = "x"'),
            "4: rules[0].to_ports",
            "is not a port or a range of ports",
            '"x"',
            models.words.PORTS_SAY,
        ),
        (
            rule('protocol = "tpc"'),
            "4: rules[0].protocol",
            'is not a protocol; did you mean "tcp"?',
            '"tpc"',
            models.words.PROTOCOL_SAYS,
        ),
        (
            rule("in = 3"),
            "4: rules[0].in",
            "is not a text",
            "3",
            "the names of ports under [ports]",
        ),
        (rule("family = 5"), "4: rules[0].family", "is not one of the choices", "5", "4 or 6"),
        (
            rule('tcp_flags = "sny"'),
            "4: rules[0].tcp_flags",
            'has a flag that does not exist; did you mean "syn"?',
            '"sny"',
            models.words.FLAGS_SAY,
        ),
        (rule("dscp = 64"), "4: rules[0].dscp", "is not a DSCP", "64", models.words.DSCP_SAYS),
        (
            nat('type = "mascarade", out = "b"'),
            "4: nat[0].type",
            'is not a type of nat; did you mean "masquerade"?',
            '"mascarade"',
            '"masquerade", "source", "destination", "static"',
        ),
        (
            nat('type = "masquerade"'),
            "4: nat[0].out",
            "is missing",
            "nothing",
            "the name of a port under [ports]",
        ),
        (
            nat('type = "source", pool = "::1"'),
            "4: nat[0].pool",
            "is not an IPv4 address, nor a range of them",
            '"::1"',
            r.POOL_SAYS,
        ),
        (
            nat('type = "masquerade", out = "b", ports = 0'),
            "4: nat[0].ports",
            "begins at 0, which is no port",
            "0",
            'ports from 1 to 65535 like "1024-65535"',
        ),
        (
            policer("rate = 1"),
            "2: policers.p.type",
            "is missing",
            "nothing",
            '"single-rate", "two-rate"',
        ),
        (
            policer('type = "single-rate", rate = "fast", burst = 64'),
            "2: policers.p.rate",
            "is not a rate",
            '"fast"',
            r.RATE_SAYS,
        ),
        (
            policer('type = "single-rate", rate = 8, burst = 63'),
            "2: policers.p.burst",
            "is too small",
            "63",
            "a whole number from 64 to 2147483647",
        ),
        (ON + "rules = [3]", "4: rules[0]", "has the wrong type", "3", "a table"),
        (ON + "nat = [3]", "4: nat[0]", "is not a table", "3", "a table [[nat]]"),
        (ON + "nat = 3", "4: nat", "is not an array of tables", "3", "one table [[nat]] for each"),
    ],
)
def test_what_is_refused(text, where, what, got, allowed):
    assert refusal(text) == [message(where, what, got, allowed)]
