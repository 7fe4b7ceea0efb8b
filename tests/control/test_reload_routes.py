"""Which routes change when files of routes and routes of the configuration do: against a dict of both."""

import tempfile
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.control.config import parse
from vforward.control.difference import parts, plan
from vforward.control.reload_routes import FiledRoutes, read, stamp, work
from vforward.errors import ConfigError

PORTS = """
ports.a = {type = "memory", address = ["10.0.1.1/24", "2001:db8::1/64"]}
ports.b = {type = "memory", address = "10.0.2.1/24"}
"""
PREFIXES = ["10.9.0.0/16", "10.9.1.0/24", "0.0.0.0/0"]
SIX = "2001:db8:9::/48"
HOPS = ["10.0.1.9", "10.0.2.9"]
tables = st.dictionaries(st.sampled_from(PREFIXES), st.sampled_from(HOPS))
sides = st.tuples(
    tables, tables, tables, st.booleans()
)  # two files, routes, one of IPv6 in the second


def loaded(directory, side, known=None, before=None):
    first, second, told, six = side
    for name, routes in (("one", first), ("two", second)):
        lines = [f"{prefix} {hop}\n" for prefix, hop in routes.items()]
        if six and name == "two":
            lines.append(f"{SIX} 2001:db8::9\n")
        (directory / name).write_text("".join(lines))
    routes = ", ".join(f'{{prefix = "{prefix}", via = "{hop}"}}' for prefix, hop in told.items())
    text = f'{PORTS}route_files = [{{file = "one"}}, {{file = "two"}}]\nroutes = [{routes}]\n'
    config = parse(text, str(directory / "r.toml"))
    made = parts(config, {file.file: stamp(file.file) for file in config.route_files})
    return made, read(made, before or {}, known or {})


def in_force(side):
    first, second, told, six = side
    found = {**first, **second, **told}
    if six:
        found[SIX] = "2001:db8::9"
    return found


def key(text):
    prefix = ip_network(text)
    return int(prefix.network_address) << 8 | prefix.prefixlen


@given(sides, sides)
def test_what_is_done_leads_from_the_one_to_the_other(one, other):
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        before, was = loaded(directory, one)
        after, now = loaded(directory, other, was, before)
        made = work(before, after, plan(before, after), was, now)
    table = {key(prefix): hop for prefix, hop in in_force(one).items()}
    for bulk in made.bulks.values():
        for gone in bulk.gone:
            table.pop(gone, None)
        for prefix, which in zip(bulk.put, bulk.which, strict=True):
            table[prefix] = str(bulk.ways[which][0])
    for routed in made.gone:
        table.pop(key(str(routed.route.prefix)), None)
    for routed in made.put:
        table[key(str(routed.route.prefix))] = str(routed.route.via)
    assert table == {key(prefix): hop for prefix, hop in in_force(other).items()}


def test_of_a_file_only_what_differs_is_touched(tmp_path):
    one = dict.fromkeys(PREFIXES, HOPS[0])
    before, was = loaded(tmp_path, (one, {}, {}, True))
    after, now = loaded(tmp_path, ({**one, PREFIXES[1]: HOPS[1]}, {}, {}, True), was, before)
    made = work(before, after, plan(before, after), was, now)
    assert made.counts() == {"added": 0, "changed": 1, "deleted": 0}
    (bulk,) = made.bulks.values()
    assert (bulk.put, [str(hop) for hop, _ in bulk.ways]) == ([key(PREFIXES[1])], [HOPS[1]])
    assert [port for _, port in bulk.ways] == ["b"]


def test_a_file_that_is_as_before_is_not_read_again(tmp_path):
    before, was = loaded(tmp_path, ({PREFIXES[0]: HOPS[0]}, {}, {}, False))
    after, now = loaded(tmp_path, ({PREFIXES[0]: HOPS[0]}, {}, {}, False), was, before)
    assert all(now[name] is was[name] for name in now)
    assert not work(before, after, plan(before, after), was, now)


def test_a_file_that_is_wrong_says_where(tmp_path):
    loaded(tmp_path, ({}, {}, {}, False))
    (tmp_path / "one").write_text("10.9.0.0/16 10.0.1.9\n10.9.0.1/16 10.0.1.9\n")
    config = parse(f'{PORTS}route_files = [{{file = "one"}}]\n', str(tmp_path / "r.toml"))
    with pytest.raises(ConfigError, match=r"one, line 2: .* has host bits set"):
        read(parts(config), {}, {})
    with (
        pytest.raises(ConfigError, match="cannot be read: No such file"),
        suppress(FileExistsError),
    ):
        stamp(tmp_path / "none")


def test_which_routes_files_say(tmp_path):
    said = [
        "0.0.0.0/0",
        "10.1.0.0/16",
        "10.2.0.0/15",
        "255.255.255.255/32",
        "::/0",
        "2001:db8:1::/48",
    ]
    vias = {4: "10.0.0.9", 6: "2001:db8::9"}
    (tmp_path / "f").write_text("".join(f"{p} {vias[ip_network(p).version]}\n" for p in said[1:]))
    (tmp_path / "g").write_text(f"{said[0]} {vias[4]}\n")
    text = 'route_files = [{file = "f"}, {file = "g"}]\n[ports.lan]\ntype = "null"\n'
    text += 'address = ["10.0.0.1/24", "2001:db8::1/64"]\n'
    filed = FiledRoutes(read(parts(parse(text, str(tmp_path / "r.toml"))), {}, {}))

    def route(prefix, metric="0", vrf="default"):
        return "routes", vrf, prefix, metric

    assert all(route(prefix) in filed for prefix in said)
    for other in (
        "10.1.0.0/17",
        "10.2.0.0/16",
        "255.255.255.254/31",
        "2001:db8:1::/49",
        "2001::/48",
    ):
        assert route(other) not in filed
    assert route("10.1.0.0/16", metric="1") not in filed
    assert route("10.1.0.0/16", vrf="red") not in filed
    assert ("policers", "a") not in filed


@pytest.mark.parametrize("told", [{}, {PREFIXES[0]: HOPS[1]}])
def test_a_files_route_is_as_the_file_says_again(tmp_path, told):
    """What was changed at run time is put back, unless the configuration has a route in its place."""
    given, content = loaded(tmp_path, (dict.fromkeys([*PREFIXES], HOPS[0]), {}, told, False))
    again = [("routes", "default", prefix, "0") for prefix in (PREFIXES[0], "10.8.0.0/16")]
    made = work(given, given, plan(given, given), content, content, again)
    assert [str(one.route.via) for one in made.put] == [*told.values()]
    put = [(key, str(bulk.ways[which][0])) for bulk in made.bulks.values()
           for key, which in zip(bulk.put, bulk.which, strict=True)]  # fmt: skip
    assert put == ([] if told else [(key(PREFIXES[0]), HOPS[0])])
    assert not made.gone
    assert not any(bulk.gone for bulk in made.bulks.values())
