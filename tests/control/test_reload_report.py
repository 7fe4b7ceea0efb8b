"""A difference in words."""

from configs import A, B, neighbors, port, routes
from vforward.control.config import parse
from vforward.control.difference import difference, parts
from vforward.control.reload_report import LISTED, Line, Report, lines_of, name_of, said

WALL = 'firewall = {default = "deny"}\n'


def lines(one, other):
    return [
        str(line)
        for line in lines_of(difference(*(parts(parse(t, "r.toml")) for t in (one, other))))
    ]


def test_each_thing_that_differs_is_a_line():
    route = routes('prefix = "10.9.0.0/16", via = "10.0.1.2"')
    assert lines(A, A + B + route) == [
        "+ ports.b: type memory",
        "+ routes 10.9.0.0/16: via 10.0.1.2",
    ]
    assert lines(A + route, A) == ["- routes 10.9.0.0/16: via 10.0.1.2"]
    two = A + neighbors('address = "10.0.1.9", port = "a"')
    assert lines(A, two) == [
        "+ neighbors 10.0.1.9 at a: address 10.0.1.9 mac 02:00:00:00:00:02 port a"
    ]


def test_of_a_model_only_the_keys_that_differ():
    other = port("a", 'address = ["10.0.1.1/24", "10.0.7.1/24"], urpf = "strict"')
    assert lines(A, other) == [
        "~ ports.a.address: 10.0.1.1/24 -> 10.0.1.1/24, 10.0.7.1/24",
        "~ ports.a.urpf: none -> strict",
    ]


def test_of_rules_what_went_and_what_came():
    one = A + WALL + 'rules = [{action = "permit"}, {action = "deny", to = "10.0.0.0/8"}]\n'
    two = (
        A
        + WALL
        + 'rules = [{action = "deny", to = "10.0.0.0/8"}, {action = "permit", name = "x"}]\n'
    )
    assert lines(one, two) == ["- rules: action permit", "+ rules[1]: name x action permit"]
    turned = A + WALL + 'rules = [{action = "deny", to = "10.0.0.0/8"}, {action = "permit"}]\n'
    assert lines(one, turned) == ["~ rules: another order"]


def test_what_needs_a_restart_says_so():
    assert lines(A, A + "forwarder = {buffers = 2048}\n") == [
        "~ forwarder.buffers: 16384 -> 2048  (needs a restart: the pool is made at the start)"
    ]


def test_no_secret_is_told():
    made = port("a", 'socket = "/x", secret = "geheim"', "memif")
    other = port("a", 'socket = "/x", secret = "anders"', "memif")
    told = "".join([*lines(A + B, made + B), *lines(made, other)])
    assert "geheim" not in told
    assert "anders" not in told
    assert "***" in told


def test_names():
    assert name_of(("routes", "red", "10.0.0.0/8", "7")) == "routes 10.0.0.0/8 metric 7 vrf red"
    assert (
        name_of(("bridges", "b", "static", "02:00:00:00:00:01"))
        == 'bridges.b.static."02:00:00:00:00:01"'
    )
    assert len(said("x" * 500)) == 120


def test_a_long_one_is_cut_and_counted():
    many = [Line("added", str(n)) for n in range(LISTED + 5)]
    told = list(Report(many, {"added": 2, "changed": 0, "deleted": 1}, ["rules"]).text())
    assert told[LISTED:] == [
        "  and 5 more",
        "  routes of files: 2 added, 1 deleted",
        "= rules: changed at run time, stays",
    ]
