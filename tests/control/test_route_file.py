"""Routes from a text file, held against ipaddress and a dict: what is read, refused, and routed then."""

import ipaddress
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.network import Heap
from vforward.control import config, route_file
from vforward.control.forwarder import Forwarder
from vforward.control.routing import Routing
from vforward.control.run import from_config
from vforward.errors import ConfigError
from vforward.io.null import NullPort
from vforward.tables.ports import PORT

MIXED = """\
# what the provider sends

10.1.0.0/16\t192.0.2.7
  2001:db8:5::/48   2001:db8::7   # IPv6
0.0.0.0/0 192.0.2.8#a comment
10.1.0.0/16 192.0.2.9\r
::/0 2001:DB8:0::7
#10.2.0.0/16 192.0.2.9
203.0.113.9/32 192.0.2.8"""
HOPS = [f"192.0.2.{n}" for n in range(2, 6)] + [f"2001:db8::{n}" for n in range(2, 6)]
A, HOST = "10.0.0.0/8 192.0.2.2", "allowed: a prefix like 10.1.0.0/16"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "routes.txt"


def routing():
    made = Routing(Heap(), np.zeros(4, PORT), {1: "one", 2: "two"}.__getitem__, 64, 1024)
    for port, *addresses in (
        (1, IPv4Interface("192.0.2.1/24"), IPv6Interface("2001:db8::1/64")),
        (2, IPv4Interface("198.51.100.1/24")),
    ):
        for address in addresses:
            made.connect(port, address)
    return made


def routed(made, vrf=0):
    """The configured routes: prefix -> next hop."""
    return {r.prefix: r.via for r in made.routes(vrf) if r.source == "configured"}


def expected(text, via=None):
    """The same from the text, one line after the other."""
    found = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words:
            hop = ip_address(words[1] if len(words) == 2 else via)
            found[str(ipaddress.ip_network(words[0]))] = str(hop)
    return found


def test_comments_both_families_and_prefixes_that_come_twice(path):
    path.write_text(MIXED, newline="")
    four, six = route_file.read(path)
    assert (four.version, four.prefixes.tolist()) == (4, [0x0A010000, 0, 0x0A010000, 0xCB007109])
    assert (four.lengths.tolist(), four.lines) == ([16, 0, 16, 32], [3, 5, 6, 9])
    assert [str(four.hops[i]) for i in four.which] == [f"192.0.2.{n}" for n in (7, 8, 9, 8)]
    assert (six.version, six.prefixes.tolist()) == (6, [[0x20010DB800050000, 0], [0, 0]])
    assert six.hops == [IPv6Address("2001:db8::7")]  # written in two ways
    made, told = routing(), []
    assert route_file.load(made, path, progress=lambda *of: told.append(of)) == 6
    assert routed(made) == expected(MIXED)
    assert routed(made)["10.1.0.0/16"] == "192.0.2.9"
    assert (told[0], told[-1]) == ((0, 6), (6, 6))
    made.fib4.check()
    made.fib6.check()


@pytest.mark.parametrize("text", ["", "\n", "\n  \n# nothing", "#"])
def test_a_file_without_routes(path, text):
    path.write_text(text)
    told = []
    assert route_file.load(routing(), path, progress=lambda *of: told.append(of)) == 0
    assert told == [(0, 0)]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("10.0.0.0 192.0.2.2", f"'10.0.0.0' is no prefix: it has no length; {HOST}"),
        ("x/8 192.0.2.2", f"'x/8' is no prefix: 'x' is no address; {HOST}"),
        ("10.0/8 192.0.2.2", f"'10.0/8' is no prefix: '10.0' is no address; {HOST}"),
        ("10.0.0.256/32 192.0.2.2", "'10.0.0.256' is no address"),
        ("010.0.0.0/8 192.0.2.2", "'010.0.0.0' is no address"),
        ("/8 192.0.2.2", "'' is no address"),
        ("10.0.0.\0/8 192.0.2.2", "is no address"),
        ("2001:db8::g/64 2001:db8::2", "'2001:db8::g' is no address; allowed: a prefix like 2001"),
        ("fe80::%1/64 2001:db8::2", "'fe80::%1' is no address"),
        ("10.0.0.0/33 192.0.2.2", "'10.0.0.0/33' has the length '33'; allowed: 0 to 32"),
        ("10.0.0.0/ 192.0.2.2", "has the length ''; allowed: 0 to 32"),
        ("10.0.0.0/-1 192.0.2.2", "has the length '-1'; allowed: 0 to 32"),
        ("10.0.0.0/8/8 192.0.2.2", "has the length '8/8'; allowed: 0 to 32"),
        ("10.0.0.0/٨ 192.0.2.2", "has the length '٨'; allowed: 0 to 32"),
        ("10.0.0.0/255.0.0.0 192.0.2.2", "has the length '255.0.0.0'; allowed: 0 to 32"),
        ("2001:db8::/129 2001:db8::2", "has the length '129'; allowed: 0 to 128"),
        ("10.0.0.1/8 192.0.2.2", "'10.0.0.1/8' has host bits set; allowed: 10.0.0.0/8"),
        ("0.0.0.1/0 192.0.2.2", "'0.0.0.1/0' has host bits set; allowed: 0.0.0.0/0"),
        ("2001:db8::1/64 2001:db8::2", "has host bits set; allowed: 2001:db8::/64"),
        ("2001:db8:0:1::/48 2001:db8::2", "has host bits set; allowed: 2001:db8::/48"),
        ("10.0.0.0/8", "'10.0.0.0/8' has no next hop; allowed: a next hop behind it; or via beside"),
        ("10.0.0.0/8 # 192.0.2.2", "'10.0.0.0/8' has no next hop"),
        ("10.0.0.0/8 192.0.2", "next hop '192.0.2' is no address; allowed: an IPv4 address like"),
        ("10.0.0.0/8 2001:db8::2", "next hop '2001:db8::2' is an address of the other family"),
        ("2001:db8::/48 192.0.2.2", "'192.0.2.2' is an address of the other family; allowed: an IPv6"),
        ("10.0.0.0/8 192.0.2.2 5", "has 3 words; allowed: a prefix and its next hop"),
        ("10.0.0.0/8 203.0.113.1", "next hop 203.0.113.1 is in no port's prefix; allowed: the addr"),
        ("2001:db8::/48 fe80::1", "next hop fe80::1 is in no port's prefix"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_and_nothing_is_added(path, line, what):
    path.write_text(f"# first\n{A}\n\n{line}\n2001:db8:9::/48 2001:db8::3\n")
    made = routing()
    free = made._adjacencies.free
    with pytest.raises(ConfigError) as caught:
        route_file.load(made, path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line 4: ")
    assert what in message
    assert "\n" not in message
    assert routed(made) == {}
    made.reclaim()
    assert made._adjacencies.free == free


def test_the_first_problems_are_told_in_the_order_of_lines(path):
    wrong = [3, 4, 10, 11, 12, 20, 30]
    lines = [A] * 40
    for n in wrong:
        lines[n - 1] = "10.0.0.1/8 192.0.2.2" if n == 4 else "10.0.0.0/99 192.0.2.2"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError) as caught:
        route_file.read(path)
    *told, rest = str(caught.value).split("\n")
    assert [line.partition(":")[0] for line in told] == [f"{path}, line {n}" for n in wrong[:5]]
    assert rest == "and 2 more"


def test_the_first_line_of_each_next_hop_that_cannot_be_reached(path):
    path.write_text(f"{A}\n" + "".join(f"10.{n}.0.0/16 203.0.113.{n % 8}\n" for n in range(64)))
    with pytest.raises(ConfigError) as caught:
        route_file.load(routing(), path)
    *told, rest = str(caught.value).split("\n")
    assert [line.partition(":")[0] for line in told] == [f"{path}, line {n}" for n in range(2, 7)]
    assert rest == "and 3 more"


def test_more_next_hops_than_adjacencies(path):
    path.write_text("".join(f"10.{n}.0.0/16 192.0.2.{n}\n" for n in range(2, 100)))
    made = routing()
    with pytest.raises(ConfigError, match=r"routes.txt: all 64 adjacencies are in use"):
        route_file.load(made, path)
    assert routed(made) == {}


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        route_file.read(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        route_file.read(tmp_path / "none")


def test_via_is_for_lines_without_a_next_hop(path):
    text = "10.1.0.0/16\n10.2.0.0/16 192.0.2.3\n2001:db8:1::/48 2001:db8::2\n"
    path.write_text(text)
    made = routing()
    assert route_file.load(made, path, via=IPv4Address("198.51.100.2")) == 3
    assert routed(made) == expected(text, "198.51.100.2")
    path.write_text(text + "2001:db8:2::/48\n")
    what = "line 4: '2001:db8:2::/48' has no next hop, and via is 198.51.100.2, of the other fam"
    with pytest.raises(ConfigError, match=what):
        route_file.load(made, path, via=IPv4Address("198.51.100.2"))


@st.composite
def files(draw):
    """Text of routes: few prefixes, so that some come twice and cover others."""
    lines = []
    for _ in range(draw(st.integers(0, 20))):
        bits, first = draw(st.sampled_from([(32, 0x0A000000), (128, 0x20010DB8 << 96)]))
        length = draw(st.integers(0, bits))
        address = first ^ draw(st.integers(0, 7)) << draw(st.integers(0, bits - 3))
        kind = ipaddress.IPv4Network if bits == 32 else ipaddress.IPv6Network
        net = kind((address >> bits - length << bits - length, length))
        hop = draw(st.sampled_from([h for h in HOPS if (":" in h) == (bits == 128)]))
        if bits == 32 and not draw(st.integers(0, 3)):
            hop = ""
        space = draw(st.sampled_from([" ", "\t", "  "]))
        shown = net.exploded if draw(st.booleans()) else str(net)
        lines.append(shown + space + hop + draw(st.sampled_from(["", " # x", "#", " "])))
        lines += draw(st.sampled_from([[], [], ["# note"], [""]]))
    return "\n".join(lines)


@given(files(), st.booleans())
def test_a_file_gives_the_routes_that_its_lines_say(tmp_path_factory, text, ends):
    path = tmp_path_factory.mktemp("files") / "routes"
    path.write_text(text + "\n" * ends)
    made = Routing(Heap(), np.zeros(2, PORT), lambda _: "one", 64, 64)
    for address in (IPv4Interface("192.0.2.1/24"), IPv6Interface("2001:db8::1/64")):
        made.connect(1, address)
    route_file.load(made, path, via=IPv4Address(HOPS[0]))
    wanted = expected(text, HOPS[0])
    got = routed(made)
    theirs = {r.prefix for r in made.routes() if r.source != "configured"}  # go before
    assert {p: h for p, h in wanted.items() if p not in theirs} == got


def test_100_000_lines(path):
    rng = np.random.default_rng(1)
    prefixes = (rng.integers(0x0B000000 >> 8, 0x7E000000 >> 8, 100_000) << 8).tolist()
    hops = rng.integers(2, 6, 100_000).tolist()
    text = "".join(f"{IPv4Address(p)}/24 192.0.2.{h}\n" for p, h in zip(prefixes, hops))
    path.write_text(text)
    made, told = routing(), []
    assert route_file.load(made, path, progress=lambda *of: told.append(of)) == 100_000
    wanted = dict(zip(prefixes, hops))
    assert routed(made) == {f"{IPv4Address(p)}/24": f"192.0.2.{h}" for p, h in wanted.items()}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) > 20
    assert {total for _, total in told} == {100_000}


TOML = """
[forwarder]
buffers = 1024
[ports.one]
type = "null"
address = "192.0.2.1/24"
[ports.two]
type = "null"
address = "198.51.100.1/24"
vrf = "red"
[[routes]]
prefix = "10.1.0.0/16"
via = "192.0.2.9"
[[route_files]]
file = "routes.txt"
via = "192.0.2.2"
[[route_files]]
file = "red.txt"
vrf = "red"
"""


def test_the_configuration_names_files(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "routes.txt").write_text("10.1.0.0/16\n10.2.0.0/16\n10.3.0.0/16 192.0.2.3")
    (tmp_path / "red.txt").write_text("10.1.0.0/16 198.51.100.2")
    (tmp_path / "r.toml").write_text(TOML)
    wanted, told = config.load(tmp_path / "r.toml"), []
    with from_config(wanted, lambda *of: told.append(of)) as forwarder:
        red = forwarder.interfaces.vrf("red")
        first, second = "192.0.2.2", "192.0.2.3"  # and a route that is not from the file wins
        there = {"10.1.0.0/16": "192.0.2.9", "10.2.0.0/16": first, "10.3.0.0/16": second}
        assert routed(forwarder.routing, 0) == there
        assert routed(forwarder.routing, red) == {"10.1.0.0/16": "198.51.100.2"}
    assert told[0] == (0, 2, "routes.txt"), "one of three is told by the configuration"
    assert told[-1] == (1, 1, "red.txt")
    (tmp_path / "red.txt").write_text("10.1.0.0/16 192.0.2.2")
    with pytest.raises(ConfigError, match=r"red.txt, line 1: next hop 192.0.2.2 is in no port's"):
        from_config(wanted)


def test_a_forwarder_that_runs_takes_a_file(tmp_path, monkeypatch, path):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    path.write_text("10.1.0.0/16\n")
    with Forwarder("test", buffers=1024) as forwarder:
        forwarder.add_port("one", NullPort(), "192.0.2.1/24")
        assert forwarder.add_route_file(path, via="192.0.2.2") == 1
        assert routed(forwarder.routing) == {"10.1.0.0/16": "192.0.2.2"}
        with pytest.raises(ConfigError, match="no next hop"):
            forwarder.add_route_file(str(path))
