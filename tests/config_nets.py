# SPDX-License-Identifier: Apache-2.0
"""Random configurations that are right, for Hypothesis; as data, so that a test can spoil them."""

from dataclasses import dataclass, field

from hypothesis import strategies as st

from configs import toml

TAGS = (1, 2, 4094)
KINDS = ("routed", "bridged", "crossed")


@dataclass
class Net:
    """A configuration as TOML's data, and what its ports are."""

    ports: dict = field(default_factory=dict)
    bridges: dict = field(default_factory=dict)
    lists: dict = field(
        default_factory=lambda: {"cross_connects": [], "routes": [], "neighbors": []}
    )
    kinds: dict = field(default_factory=dict)

    def of(self, kind):
        return [name for name, its in self.kinds.items() if its == kind]

    def typed(self, kind):
        return [name for name, port in self.ports.items() if port["type"] == kind]

    def vrf(self, name):
        return self.ports[name].get("vrf", "default")

    def nets(self):
        """(port, VRF, IP version, its number) of each address."""
        return [
            (name, self.vrf(name), 6 if ":" in text else 4, number(text))
            for name in self.of("routed")
            for text in self.ports[name].get("address", [])
        ]

    def text(self):
        parts = [f"ports.{name} = {toml(port)}\n" for name, port in self.ports.items()]
        parts += [f"bridges.{name} = {toml(bridge)}\n" for name, bridge in self.bridges.items()]
        parts += [f"{key} = {toml(items)}\n" for key, items in self.lists.items()]
        return "".join(parts)


def number(text):
    return int(text.split(":")[2], 16) if ":" in text else int(text.split(".")[1])


def host(version, net, n):
    return f"10.{net}.0.{n}" if version == 4 else f"2001:db8:{net:x}::{n:x}"


def own(version, net, n=1):
    return host(version, net, n) + ("/24" if version == 4 else "/64")


def prefix(version, n):
    return f"172.16.{n}.0/24" if version == 4 else f"2001:db8:ff00:{n:x}::/64"


@st.composite
def networks(draw):
    """A configuration that is right."""
    net = Net()
    for i in range(draw(st.integers(1, 4))):
        net.ports[f"p{i}"] = {"type": draw(st.sampled_from(["memory", "null"]))}
    for i in range(draw(st.integers(1, 4))):
        _add_vlan(draw, net, f"v{i}")
    for name in net.ports:
        net.kinds[name] = draw(st.sampled_from(KINDS))
    crossed = net.of("crossed")
    if len(crossed) % 2:
        net.kinds[crossed.pop()] = "routed"
    net.lists["cross_connects"] = [
        {"ports": [a, b]} for a, b in zip(crossed[::2], crossed[1::2], strict=True)
    ]
    _add_bridges(draw, net)
    _rewrite(draw, net)
    _address(draw, net)
    for i, name in enumerate(net.of("routed")):
        if draw(st.booleans()):
            net.ports[f"t{i}"] = {"type": "tap", "interface": f"tap{i}", "host_of": name}
    _add_routes(draw, net)
    return net


def _add_vlan(draw, net, name):
    parent = draw(st.sampled_from([p for p in net.ports if p[0] == "p"]))
    outer, inner = draw(st.sampled_from(TAGS)), draw(st.sampled_from((None, *TAGS)))
    port = {"type": "vlan", "parent": parent, "vlan": outer, "dot1ad": outer == 2}
    if inner:
        port["inner"] = inner
    if port not in net.ports.values():
        net.ports[name] = port


def _add_bridges(draw, net):
    members = net.of("bridged")
    for i in range(draw(st.integers(1, 2))):
        name, mine = f"x{i}", members[i::2] if i else members[::2]
        ports = [p if draw(st.booleans()) else {"port": p, "group": 1} for p in mine]
        macs = enumerate(draw(st.lists(st.sampled_from(mine), max_size=2)) if mine else [])
        static = [{"mac": f"02:00:00:00:00:0{n}", "port": p} for n, p in macs]
        net.bridges[name] = {"ports": ports, "static": static}
        if draw(st.booleans()):
            net.ports[f"b{i}"] = {"type": "bvi", "bridge": name}
            net.kinds[f"b{i}"] = "routed"
    if len(net.bridges) == 1:
        for name in members[1::2]:
            net.kinds[name] = "routed"


def _rewrite(draw, net):
    for name in net.typed("vlan"):
        port = net.ports[name]
        tags = 2 if "inner" in port else 1
        if net.kinds[name] != "routed" and draw(st.booleans()):
            pop = draw(st.integers(0, tags))
            most = 2 - tags + pop
            push = draw(st.lists(st.sampled_from([5, "dot1ad:6", "dot1q:7"]), max_size=most))
            port["rewrite"] = {"pop": pop, "push": push}


def _address(draw, net):
    used = set()
    for name in net.of("routed"):
        port = net.ports[name]
        if draw(st.booleans()):
            port["vrf"] = draw(st.sampled_from(["default", "red"]))
        wanted = draw(st.lists(st.tuples(st.sampled_from([4, 6]), st.integers(1, 9)), max_size=3))
        addresses = []
        for version, n in wanted:
            if (net.vrf(name), version, n) not in used:
                used.add((net.vrf(name), version, n))
                addresses.append(own(version, n))
        if addresses:
            port["address"] = addresses
            port["mtu"] = draw(st.sampled_from([1280, 1500, 65535]))


def _add_routes(draw, net):
    nets = net.nets()
    for i in range(draw(st.integers(1, 4)) if nets else 0):
        name, vrf, version, n = draw(st.sampled_from(nets))
        via = {"via": host(version, n, 2)}
        form = draw(st.sampled_from(["via", "both", "port", "type", "paths"]))
        ways = {
            "via": via,
            "both": via | {"port": name},
            "port": {"port": name},
            "type": {"type": draw(st.sampled_from(["blackhole", "local"]))},
            "paths": {"paths": [via, via | {"port": name, "weight": 7}]},
        }
        route = {"prefix": prefix(version, draw(st.integers(0, 1))), "vrf": vrf, "metric": i}
        net.lists["routes"].append(route | ways[form])
    for name, _, version, n in nets:
        if draw(st.booleans()):
            neighbor = {"address": host(version, n, 9), "mac": "02:00:00:00:00:09", "port": name}
            net.lists["neighbors"].append(neighbor)
