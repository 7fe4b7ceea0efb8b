# SPDX-License-Identifier: Apache-2.0
"""The configuration: what is good loads, and what is wrong is named, with its key and its line."""

import re
import tomllib
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface
from pathlib import Path

import pytest
from pydantic import ValidationError

from configs import GOOD
from vforward.control.config import Config, Forwarder, load, parse
from vforward.errors import ConfigError

ROOT = Path(__file__).parents[2]


def problems(text: str) -> list[str]:
    """Give the lines of the message with which `text` is refused."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "dir/r.toml")
    return str(caught.value).split("\n")


def test_a_full_file_means_what_it_says() -> None:
    config = parse(GOOD, "dir/r.toml")
    assert config.forwarder == Forwarder(
        name="edge-1", vector=64, buffers=2048, idle="spin", profile="throughput", core=3,
        icmp_errors_per_second=50, mac_table=8192, mac_age_s=16, neighbors=100,
        keep="always",
    )  # fmt: skip
    lan0, file, mem, gen, sink, vlan, *_ = config.ports.values()
    assert lan0.type == "af_packet"
    assert lan0.mac is not None
    assert (lan0.mac, lan0.mac.packed) == ("02:00:00:00:00:ab", bytes.fromhex("0200000000ab"))
    assert lan0.address[1:] == (IPv4Interface("10.0.3.1/31"), IPv6Interface("2001:db8:1::1/64"))
    assert (lan0.interface, lan0.mtu, lan0.ring_mib, lan0.promiscuous) == ("eth0", 9000, 8, False)
    assert file.type == "pcap"
    assert file.read == Path("dir/in.pcap").absolute()
    assert (file.write, file.resolution) == (Path("/tmp/out.pcap"), "us")
    assert mem.address == (IPv4Interface("10.0.2.1/24"),)
    assert gen.type == "generator"
    assert (gen.count, gen.size, gen.flows, gen.touch) == (1000, 64, 16, "headers")
    assert (gen.src, gen.dst) == (IPv4Address("10.0.1.7"), IPv4Address("10.0.2.7"))
    assert sink.type == "null"
    assert vlan.type == "vlan"
    assert (vlan.parent, vlan.vlan) == ("lan0", 7)
    assert config.routes[1].prefix == IPv4Network("10.9.0.0/16")
    assert config.routes[1].via == IPv4Address("10.0.1.2")
    assert [route.type for route in config.routes] == [*[None] * 3, "prohibit", None, None]
    assert config.neighbors[0].mac.packed == b"\2\0\0\0\0\2"
    assert config.cross_connects[0].ports == ("file", "gen")
    assert list(config.bridges) == ["office"]
    assert config.route_files[0].file == Path("/bin/sh")


def test_defaults() -> None:
    config = parse('[ports.p]\ntype = "generator"\n', "/etc/My Router.toml")
    assert config.forwarder == Forwarder(name="my-router")
    assert config.forwarder.model_dump() == {
        "name": "my-router", "vector": 256, "buffers": 16384, "idle": "poll", "profile": "latency",
        "workers": 1, "core": None,
        "icmp_errors_per_second": 1000, "mac_table": 65536, "mac_age_s": 300, "neighbors": 16384,
        "keep": "crash",
    }  # fmt: skip
    assert config.ports["p"].model_dump(mode="json") == {
        "type": "generator", "address": [], "mtu": 1500, "vrf": "default", "urpf": None,
        "count": None, "size": 60, "flows": 256, "src": "10.0.1.2", "dst": "10.0.2.2",
        "dst_mac": None, "touch": "whole", "mac": None,
    }  # fmt: skip
    assert parse("", "").forwarder.name == "vforward"


def test_models_are_frozen_and_compare_by_value() -> None:
    config = parse(GOOD, "r.toml")
    with pytest.raises(ValidationError):
        config.forwarder.vector = 1
    assert config == parse(GOOD, "r.toml")
    assert config != parse(GOOD.replace("mtu = 9000", "mtu = 9001"), "r.toml")


WRONG_VALUES = [
    ("forwarder.name", 'name = "edge-1"', ['"Edge"', '""', '"-a"', '"a\\n"', "1", f'"{"a" * 33}"']),
    ("forwarder.vector", "vector = 64", ["0", "257", "64.0", "true", '"64"', "0x" + "f" * 9000]),
    ("forwarder.buffers", "buffers = 2048", ["1023", "4194305", "nan"]),
    ("forwarder.idle", 'idle = "spin"', ['"sleep"', "1", "[]"]),
    ("forwarder.profile", 'profile = "throughput"', ['"fast"', "1", "[]"]),
    ("forwarder.core", "core = 3", ["-1", "1024", '"all"']),
    ("forwarder.icmp_errors_per_second", "icmp_errors_per_second = 50", ["0", "1000001"]),
    ("forwarder.mac_table", "mac_table = 8192", ["8191", "2097153", "1e6"]),
    ("forwarder.keep", 'keep = "always"', ['"Always"', '"fresh"', "true"]),
    ("forwarder.neighbors", "neighbors = 100", ["0", "1048577", "[]"]),
    ("ports.lan0.type", 'type = "af_packet"', ['"af_pakcet"', "3", "{}", "1979-05-27"]),
    (
        "ports.lan0.interface",
        'interface = "eth0"',
        ['""', '"a/b"', '"a b"', '".."', '"é"', f'"{"a" * 16}"', "0"],
    ),
    (
        "ports.lan0.mac",
        'mac = "02:00:00:00:00:AB"',
        ['"02-00-00-00-00-01"', '"01:00:00:00:00:00"', '"00:00:00:00:00:00"', '"2:0:0:0:0:1"', "2"],
    ),
    ("ports.lan0.mtu", "mtu = 9000", ["67", "65536"]),
    ("ports.lan0.ring_mib", "ring_mib = 8", ["0", "1025"]),
    ("ports.lan0.xdp", 'xdp = "off"', ['"on"', "true", "1"]),
    ("ports.lan0.promiscuous", "promiscuous = false", ["0", '"no"']),
    ("ports.file.read", 'read = "in.pcap"', ['""', '"a\\u0000b"', "1", "[]"]),
    ("ports.file.write", 'write = "/tmp/out.pcap"', ['""', "true"]),
    ("ports.file.resolution", 'resolution = "us"', ['"ms"', "1e-9"]),
    (
        "ports.mem.address",
        'address = "10.0.2.1/24"',
        ['"10.0.2.1"', '"10.0.2.1/33"', '"10.0.2.1/255.255.255.0"', '"10.0.2/24"', "1", "{}"]
        + ['"10.0.2.0/24"', '"10.0.2.255/24"', '"127.0.0.1/8"', '"224.0.0.1/24"', '"0.0.0.0/32"']
        + ['"255.255.255.255/32"', '"١.0.0.1/8"', '"2001:db8::1"', '"2001:db8::1/129"']
        + ['"2001:db8::/64"', '"2001:db8::/126"', '"ff02::1/64"', '"::1/128"', '"::/128"']
        + ['"::ffff:10.0.0.1/96"', '"fe80::1%eth0/64"', '"fe80::1/9"', '"1::2::3/64"'],
    ),
    ("ports.gen.count", "count = 1000", ["0", "-1", "inf", "9223372036854775808"]),
    ("ports.gen.size", "size = 64", ["59", "9001"]),
    ("ports.gen.flows", "flows = 16", ["0", "1048577"]),
    (
        "ports.gen.src",
        'src = "10.0.1.7"',
        ['"10.0.1"', '"10.0.1.7/24"', '"224.0.0.1"', "167772423", '"2001:db8::1"'],
    ),
    ("ports.gen.dst", 'dst = "10.0.2.7"', ['"x"', '"0.0.0.0"', '"127.0.0.1"']),
    ("ports.gen.dst_mac", 'dst_mac = "02:00:00:00:00:01"', ['"ff:ff:ff:ff:ff:ff"']),
    ("ports.gen.touch", 'touch = "headers"', ['"all"']),
    ('ports."lan0.7".parent', 'parent = "lan0"', ["0", '"lan1"']),
    ('ports."lan0.7".vlan', "vlan = 7", ["0", "4095"]),
    ("routes[0].prefix", 'prefix = "0.0.0.0/0"', ['"0.0.0.0"', '"0.0.0.1/0"', '"a/0"', "0"]),
    ("routes[0].via", 'via = "10.0.2.2"', ['"10.0.2"', '"0.0.0.0"', '"224.0.0.5"', "1", "true"]),
    ("routes[2].port", 'port = "mem"', ["1", '"men"']),
    ("routes[3].type", 'type = "prohibit"', ['"drop"', "1"]),
    ("neighbors[0].mac", 'mac = "02:00:00:00:00:02"', ['"03:00:00:00:00:02"']),
    ("cross_connects[0].ports", 'ports = ["file", "gen"]', ['["file"]', '"file"', "[1, 2, 3]"]),
]


@pytest.mark.parametrize(
    ("key", "good", "bad"), [(key, good, bad) for key, good, bads in WRONG_VALUES for bad in bads]
)
def test_a_wrong_value_is_named_with_its_key_and_line(key: str, good: str, bad: str) -> None:
    name = good.split(" = ")[0]
    assert GOOD.count("\n" + good + "\n") >= 1, "the example has this line"
    line = GOOD[: GOOD.index("\n" + good + "\n")].count("\n") + 2
    text = GOOD.replace("\n" + good + "\n", f"\n{name} = {bad}\n", 1)
    found = problems(text)
    assert len(found) == 1
    pattern = rf"dir/r\.toml:{line}: {re.escape(key)}: (is|has|names) .* \(got .+\); allowed: .+"
    assert re.fullmatch(pattern, found[0]), found[0]


MISSING = [
    ("ports.lan0.type", 'type = "af_packet"', "[ports.lan0]"),
    ("ports.lan0.interface", 'interface = "eth0"', "[ports.lan0]"),
    ('ports."lan0.7".parent', 'parent = "lan0"', '[ports."lan0.7"]'),
    ('ports."lan0.7".vlan', "vlan = 7", '[ports."lan0.7"]'),
    ("routes[0].prefix", 'prefix = "0.0.0.0/0"', "[[routes]]"),
    ("routes[0].type", 'via = "10.0.2.2"', "[[routes]]"),
    ("neighbors[0].address", 'address = "10.0.2.2"', "[[neighbors]]"),
    ("neighbors[0].mac", 'mac = "02:00:00:00:00:02"', "[[neighbors]]"),
    ("cross_connects[0].ports", 'ports = ["file", "gen"]', "[[cross_connects]]"),
]


@pytest.mark.parametrize(("key", "gone", "table"), MISSING)
def test_a_missing_key_is_named_with_the_line_of_its_table(key: str, gone: str, table: str) -> None:
    text = GOOD.replace(f"\n{gone}\n", "\n", 1)
    line = text[: text.index(table)].count("\n") + 1
    found = problems(text)
    assert len(found) == 1
    assert found[0].startswith(f"dir/r.toml:{line}: {key}: is missing")
    assert "(got nothing); allowed: " in found[0]


@pytest.mark.parametrize(
    ("where", "key", "hint"),
    [
        ("[forwarder]", "vectr", "vector"),
        ("[ports.lan0]", "intreface", "interface"),
        ("[ports.file]", "resolutoin", "resolution"),
        ("[ports.mem]", "adress", "address"),
        ("[ports.gen]", "flow", "flows"),
        ("[ports.sink]", "mut", "mtu"),
        ('[ports."lan0.7"]', "parnet", "parent"),
        ("[ports.qinq]", "iner", "inner"),
        ("[ports.irb]", "brigde", "bridge"),
        ("[ports.host]", "hostof", "host_of"),
        ("[bridges.office]", "lern", "learn"),
        ("[[route_files]]", "fil", "file"),
        ("[[routes]]", "prefx", "prefix"),
        ("[[neighbors]]", "addres", "address"),
        ("[[cross_connects]]", "port", "ports"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(
    where: str, key: str, hint: str
) -> None:
    line = GOOD[: GOOD.index(where)].count("\n") + 2
    (found,) = problems(GOOD.replace(where, f"{where}\n{key} = 1", 1))
    assert found.startswith(f"dir/r.toml:{line}: ")
    assert f'.{key}: is not a key here; did you mean "{hint}"? (got 1); allowed: ' in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[prots.x]", 'r.toml:1: prots: is not a key here; did you mean "ports"? (got a table)'),
        ("forwarder = 1", "r.toml:1: forwarder: has the wrong type (got 1); allowed: a table"),
        ("ports = []", "r.toml:1: ports: is not a table (got a list of 0)"),
        ("ports.a = 1", "r.toml:1: ports.a: is not a table (got 1); allowed: a table [ports.NAME]"),
        ("\nroutes = 1", "r.toml:2: routes: is not an array of tables (got 1)"),
        ("routes = [1]", "r.toml:1: routes[0]: has the wrong type (got 1); allowed: a table"),
        ("[ports.'a b']\ntype='null'", 'r.toml:1: ports."a b": is not a name that can be used'),
        ("[ports.a]\ntype='pcap'", "r.toml:1: ports.a.write: is missing, and so is read"),
        (
            "[ports.a]\ntype='null'\naddress=['fe80::1/64', 'fe80::2/64']",
            "r.toml:3: ports.a.address: has more than one link-local address (got a list of 2)",
        ),
        (
            "[ports.a]\ntype='null'\naddress=['10.0.0.1/8', 5]",
            "r.toml:3: ports.a.address[1]: has the wrong type (got 5)",
        ),
        (
            "[[routes]]\nprefix='10.0.0.0/8'\nport='a'\ntype='prohibit'\n[ports.a]\ntype='null'",
            "r.toml:4: routes[0].type: cannot stand beside via, port or paths",
        ),
        (
            "[[routes]]\nprefix='10.1.2.3/8'\ntype='prohibit'",
            'r.toml:2: routes[0].prefix: has host bits that are not zero; did you mean "10.0.0.0/8',
        ),
    ],
)
def test_wrong_shapes(text: str, message: str) -> None:
    (found,) = problems(text)
    assert found.startswith("dir/" + message)


def test_every_problem_is_listed_in_the_order_of_the_file() -> None:
    text = GOOD.replace("vector = 64", "vector = 0").replace("vlan = 7", "vlan = 0")
    text = text.replace('via = "10.0.1.2"', 'via = "10.99.0.1"').replace("flows = 16", "flow = 16")
    found = [line.split(": ")[1] for line in problems(text)]
    assert found == ["forwarder.vector", "ports.gen.flow", 'ports."lan0.7".vlan', "routes[1].via"]


def test_what_is_not_toml_carries_the_line() -> None:
    assert problems("a = 1\nb = = 2") == [
        'dir/r.toml:2: not TOML: Invalid value (column 5); a text stands in quotes, like "eth0"'
    ]
    assert problems("[ports.a]\n[ports.a]")[0].startswith("dir/r.toml:2: not TOML: Cannot declare")
    assert problems("a = 1\nb = [")[0].startswith("dir/r.toml:2: not TOML: ")
    assert problems("a = " + "[" * 5000) == ["dir/r.toml: not TOML: nested too deeply"]
    assert problems("a = " + "9" * 5000)[0].startswith("dir/r.toml:1: not TOML: ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "bin.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"bin\.toml: cannot be read: "):
        load(tmp_path / "bin.toml")


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.stem)
def test_the_examples_load(path: Path) -> None:
    assert load(path).forwarder.name == path.stem


def test_the_reference_names_every_key() -> None:
    reference = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    schema = Config.model_json_schema()
    keys = {key for model in schema["$defs"].values() for key in model.get("properties", ())}
    assert {key for key in keys if f"| `{key}` |" not in reference} == set()


EXAMPLES = re.findall(
    r"^```toml\n(.*?)^```$", (ROOT / "docs" / "configuration.md").read_text(), re.M | re.S
)


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_of_the_reference_load(text: str, tmp_path: Path) -> None:
    (tmp_path / "full-table.txt").write_text("203.0.113.0/24 192.0.2.1\n")
    (tmp_path / "api.token").write_text("0123456789abcdef\n")
    (tmp_path / "api.token").chmod(0o600)
    assert parse(text, str(tmp_path / "r.toml")).ports


def test_the_reference_has_an_example_of_each_part() -> None:
    parts = {key for text in EXAMPLES for key in tomllib.loads(text)}
    assert parts == set(Config.model_fields) - {"forwarder"}
