# SPDX-License-Identifier: Apache-2.0
"""Every key of docs/configuration.md reaches what nodes read: the record or the table it should."""

import os

import pytest

from vforward.control import config, interface_steps
from vforward.control.run import from_config
from vforward.graph import workers
from vforward.io.memory import MemoryPort
from vforward.tables import bridge, rate_limit
from vforward.tables.addresses import of_port
from vforward.tables.ports import BRIDGED, BVI, CROSS_CONNECTED, HOST, ROUTED

MAC, OTHER = "02:00:00:00:00:77", "02:00:00:00:00:78"
NUMBER = int(MAC.replace(":", ""), 16)
BASE = """
[ports.a]
type = "memory"
address = ["10.0.1.1/24", "2001:db8:1::1/64"]
[ports.b]
type = "memory"
[ports.c]
type = "memory"
"""
CPU = min(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


def record(made, name):
    return made.interfaces.record(made.interfaces.find(name))


def field(name, *fields):
    """Reads fields of a port's record."""
    return lambda made: [record(made, name)[one].tolist() for one in fields]


def number(made, name):
    return made.interfaces.find(name).number


def tags(made, name):
    port = record(made, name)
    ways = (("in_pop", "in_push", "in_tags"), ("out_pop", "out_push", "out_tags"))
    return [(int(port[p]), port[t].tolist()[: port[n]]) for p, n, t in ways]


def domain(made, *fields):
    return [int(made.bridging.tables["domains"][1][one]) for one in fields]


def flags(made):
    return domain(made, "flags")[0]


def addresses(made, name):
    own = of_port(made.neighbors.tables["addresses"], number(made, name))
    return {(ip & 0xFFFFFFFF, length - 96) for ip, length in own if ip >> 32 == 0xFFFF}


def route(made, prefix="10.9.0.0/16"):
    found = [r for r in made.routing.routes() if r.prefix == prefix]
    return [(r.kind, r.via, r.port, r.metric, r.vrf) for r in found]


def ways(made):
    """Where 10.9.0.1 goes: the edge of its adjacency, and that one's port and next hop."""
    found = made.routing.adjacencies[made.routing.fib4.lookup(0x0A090001)]
    return int(found["tx_port"]), int(found["next_hop"][1]) & 0xFFFFFFFF


def vlan_of(made, parent, vlan):
    return int(made.interfaces.vlans[number(made, parent) * 4096 + vlan])


ALL = bridge.LEARN | bridge.FLOOD_UNKNOWN | bridge.FLOOD_BROADCAST | bridge.FLOOD_MULTICAST
VLAN = BASE + '[ports.v]\ntype = "vlan"\nparent = "b"\nvlan = 7\n'
BRIDGE = BASE + '[bridges.x]\nports = ["b", "c"]\n'
IRB = BRIDGE + '[ports.i]\ntype = "bvi"\nbridge = "x"\n'
RED = BASE.replace('[ports.b]\ntype = "memory"', '[ports.b]\ntype = "memory"\nvrf = "red"')
ROUTE = BASE + '[[routes]]\nprefix = "10.9.0.0/16"\n'
TWO = "10.0.1.2*3 10.0.1.3*1"


def settings(line):
    return f"[forwarder]\n{line}\n" + BASE


CASES = [
    # [forwarder]
    (settings('name = "some"'), lambda f: (f.name, f.arena.name), ("some", "some")),
    (settings("vector = 7"), lambda f: f.vector, 7),
    (settings("buffers = 2048"), lambda f: f.pool.size, 2048),
    (settings('idle = "spin"'), lambda f: f._idle, "spin"),
    (settings('profile = "throughput"'), lambda f: f.profile, "throughput"),
    (settings(f"core = {CPU}"), lambda f: f.cores, [CPU]),
    (settings("workers = 2"), lambda f: (f.n_workers, len(f.graph.own)), (2, 2)),
    (settings('workers = "auto"'), lambda f: f.n_workers, workers.number("auto")),
    (settings("mac_table = 8192"), lambda f: f.bridging.tables["mac"].size, 8192),
    (settings("mac_age_s = 32"), lambda f: f.bridging.step(5.0), 7.0),
    (settings('keep = "never"'), lambda f: f._kept, "never"),
    (settings("neighbors = 9"), lambda f: f.neighbors._machine._limits.neighbors, 9),
    (BASE, lambda f: (f.vector, f.pool.size, f.cores), (256, 16384, [None])),
    (BASE, lambda f: (f._idle, f.profile, f._kept), ("poll", "latency", "crash")),
    (BASE, lambda f: f.bridging.tables["mac"].size, 65536),
    (BASE, lambda f: f.bridging.step(0.0), 300 / 16),
    (BASE, lambda f: f.neighbors._machine._limits.neighbors, 16384),
    # [ports.NAME]
    (BASE, lambda f: addresses(f, "a"), {(0x0A000101, 24)}),
    (BASE, field("a", "mtu", "vrf", "urpf", "mode"), [1500, 0, 0, ROUTED]),
    (BASE, lambda f: route(f, "10.0.1.0/24"), [("connected", "", "a", 0, 0)]),
    (BASE, lambda f: route(f, "2001:db8:1::/64"), [("connected", "", "a", 0, 0)]),
    (BASE + "mtu = 9000", field("c", "mtu"), [9000]),
    (BASE + 'urpf = "loose"', field("c", "urpf"), [1]),
    (BASE + 'urpf = "strict"', field("c", "urpf"), [2]),
    (BASE + 'vrf = "red"', field("c", "vrf"), [1]),
    (BASE + f'mac = "{MAC}"', field("c", "mac", "filter"), [NUMBER, NUMBER]),
    # vlan
    (VLAN, lambda f: vlan_of(f, "b", 7), 4),
    (VLAN, field("v", "parent", "vlan", "tags", "tpid", "mtu"), [2, 7, 1, 0x8100, 1500]),
    (VLAN + "dot1ad = true", field("v", "tpid"), [0x88A8]),
    (VLAN + "inner = 8", field("v", "inner", "tags"), [8, 2]),
    (VLAN + "inner = 8", lambda f: 4 in f.interfaces.inner_vlans, True),
    (VLAN + "mtu = 9000", field("v", "mtu"), [1500]),
    (VLAN + "mtu = 1400", field("v", "mtu"), [1400]),
    (VLAN + 'vrf = "red"\nurpf = "loose"', field("v", "vrf", "urpf"), [1, 1]),
    (VLAN + 'address = "10.0.7.1/24"', lambda f: addresses(f, "v"), {(0x0A000701, 24)}),
    (
        VLAN + '[bridges.x]\nports = ["v"]',
        lambda f: tags(f, "v"),
        [(1, []), (0, [0x81000007])],
    ),
    (
        VLAN + 'rewrite = { pop = 1, push = [9, "dot1ad:10"] }\n[bridges.x]\nports = ["v"]',
        lambda f: tags(f, "v"),
        [(1, [0x81000009, 0x88A8000A]), (2, [0x81000007])],
    ),
    (
        VLAN + 'rewrite = { push = [9] }\n[bridges.x]\nports = ["v"]',
        lambda f: tags(f, "v"),
        [(0, [0x81000009]), (1, [])],
    ),
    (
        VLAN + '[[cross_connects]]\nports = ["v", "c"]',
        lambda f: tags(f, "v"),
        [(0, []), (0, [])],
    ),
    (
        VLAN + 'rewrite = { pop = 1 }\n[[cross_connects]]\nports = ["v", "c"]',
        lambda f: tags(f, "v"),
        [(1, []), (0, [0x81000007])],
    ),
    # bvi
    (IRB, field("i", "mode", "mtu"), [BVI, 1500]),
    (IRB, lambda f: domain(f, "bvi"), [4]),
    (IRB + f'mac = "{MAC}"', field("i", "mac"), [NUMBER]),
    (
        IRB + f'mac = "{MAC}"',
        lambda f: [(k.mac, k.port, k.static) for k in f.bridging.entries()],
        [(NUMBER, 4, True)],
    ),
    (
        IRB + 'mtu = 1300\nvrf = "red"\nurpf = "strict"\naddress = "10.0.8.1/24"',
        field("i", "mtu", "vrf", "urpf", "address"),
        [1300, 1, 2, 0x0A000801],
    ),
    (
        IRB + 'vrf = "red"\naddress = "10.0.1.1/24"',  # as a's, in another VRF
        lambda f: route(f, "10.0.1.0/24"),
        [("connected", "", "a", 0, 0), ("connected", "", "i", 0, 1)],
    ),
    # bridges
    (BRIDGE, lambda f: f.bridging.members(1), [2, 3]),
    (BRIDGE, field("b", "mode"), [BRIDGED]),
    (BRIDGE, flags, ALL),
    (BRIDGE, lambda f: domain(f, "limit"), [bridge.NO_LIMIT]),
    (BRIDGE + "limit = 5", lambda f: domain(f, "limit"), [5]),
    (BRIDGE + "learn = false", flags, ALL & ~bridge.LEARN),
    (BRIDGE + "flood_unknown = false", flags, ALL & ~bridge.FLOOD_UNKNOWN),
    (BRIDGE + "flood_broadcast = false", flags, ALL & ~bridge.FLOOD_BROADCAST),
    (BRIDGE + "flood_multicast = false", flags, ALL & ~bridge.FLOOD_MULTICAST),
    (BRIDGE + "forward_reserved = true", flags, ALL | bridge.FORWARD_RESERVED),
    (
        BRIDGE + f'static = [{{ mac = "{MAC}", port = "c" }}]',
        lambda f: [(k.mac, k.port, k.static) for k in f.bridging.entries()],
        [(NUMBER, 3, True)],
    ),
    (
        BASE + '[bridges.x]\nports = ["b", { port = "c", group = 6 }]',
        lambda f: [int(word) & 0xFFFF for word in f.bridging.tables["relay"][2:4]],
        [bridge.OWN | 2, 6],
    ),
    # routes
    (ROUTE + 'via = "10.0.1.2"', ways, (1, 0x0A000102)),
    (ROUTE + 'via = "10.0.1.2"', route, [("via", "10.0.1.2", "a", 0, 0)]),
    (ROUTE + 'via = "10.0.1.2"\nport = "a"\nmetric = 7', route, [("via", "10.0.1.2", "a", 7, 0)]),
    (ROUTE + 'port = "c"', ways, (3, 0)),
    (ROUTE + 'port = "c"', route, [("connected", "", "c", 0, 0)]),
    *[
        (ROUTE + f'type = "{kind}"', route, [(kind, "", "", 0, 0)])
        for kind in ("blackhole", "unreachable", "prohibit", "local")
    ],
    (
        ROUTE + 'paths = [{ via = "10.0.1.2", weight = 3 }, { via = "10.0.1.3" }]',
        route,
        [("via", TWO, "", 0, 0)],
    ),
    (
        RED + '[[routes]]\nprefix = "10.9.0.0/16"\nvrf = "red"\ntype = "local"',
        route,
        [("local", "", "", 0, 1)],
    ),
    (
        BASE + '[[routes]]\nprefix = "2001:db8:9::/48"\nvia = "fe80::2"\nport = "a"',
        lambda f: route(f, "2001:db8:9::/48"),
        [("via", "fe80::2", "a", 0, 0)],
    ),
    # neighbors, cross connects
    (
        BASE + f'[[neighbors]]\naddress = "10.0.1.2"\nmac = "{MAC}"\nport = "a"',
        lambda f: [(str(n.address), n.mac.hex(":"), n.port) for n in f.neighbors.entries()],
        [("10.0.1.2", MAC, 1)],
    ),
    (
        BASE + '[[cross_connects]]\nports = ["b", "c"]',
        lambda f: field("b", "peer", "mode")(f) + field("c", "peer", "mode")(f),
        [3, CROSS_CONNECTED, 2, CROSS_CONNECTED],
    ),
]


@pytest.mark.parametrize(("text", "look", "wanted"), CASES)
def test_a_key_is_where_nodes_read_it(text, look, wanted, tmp_path):
    with from_config(config.parse(text, str(tmp_path / "keys.toml"))) as forwarder:
        assert look(forwarder) == wanted


def test_icmp_errors_per_second(tmp_path):
    limits = []
    for text in (BASE, settings("icmp_errors_per_second = 7")):
        with from_config(config.parse(text, str(tmp_path / "keys.toml"))) as forwarder:
            limits.append(int(forwarder.icmp_limits[rate_limit.STEP]))
    assert limits[1] / limits[0] == pytest.approx(1000 / 7, rel=0.05)  # cycles for each


def test_a_route_file(tmp_path):
    (tmp_path / "table.txt").write_text("10.9.0.0/16\n10.8.0.0/16 10.0.1.3\n")
    text = BASE + '[[route_files]]\nfile = "table.txt"\nvia = "10.0.1.2"'
    with from_config(config.parse(text, str(tmp_path / "keys.toml"))) as forwarder:
        assert route(forwarder) == [("via", "10.0.1.2", "a", 0, 0)]
        assert route(forwarder, "10.8.0.0/16") == [("via", "10.0.1.3", "a", 0, 0)]


def test_a_route_file_of_a_vrf(tmp_path):
    (tmp_path / "table.txt").write_text("10.9.0.0/16\n")
    text = RED.replace('"red"', '"red"\naddress = "10.0.1.1/24"')
    text += '[[route_files]]\nfile = "table.txt"\nvia = "10.0.1.2"\nvrf = "red"'
    with from_config(config.parse(text, str(tmp_path / "keys.toml"))) as forwarder:
        assert route(forwarder) == [("via", "10.0.1.2", "b", 0, 1)]


def test_a_tap_has_what_its_port_has(tmp_path, monkeypatch):
    given = {}

    class Tap(MemoryPort):
        def __init__(self, interface, *, mac, mtu, addresses, host_routes, **options):
            given.update(interface=interface, addresses=[str(a) for a in addresses], **options)
            super().__init__(mac=mac, mtu=mtu)

    monkeypatch.setattr(interface_steps, "TapPort", Tap)
    text = VLAN + 'mtu = 1400\naddress = "10.0.7.1/24"\nvrf = "red"\n'
    text += '[ports.h]\ntype = "tap"\ninterface = "vf-h"\nhost_of = "v"\nqueues = 3\nnetns = "blue"'
    with from_config(config.parse(text, str(tmp_path / "keys.toml"))) as forwarder:
        host, port = record(forwarder, "h"), record(forwarder, "v")
        assert given == {
            "interface": "vf-h",
            "addresses": ["10.0.7.1/24"],
            "queues": 3,
            "netns": "blue",
        }
        assert (host["mac"], host["mtu"]) == (port["mac"], 1400)
        assert (host["mode"], host["peer"]) == (HOST, number(forwarder, "v"))
        assert port["host"] == number(forwarder, "h")
