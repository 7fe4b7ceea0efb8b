# SPDX-License-Identifier: Apache-2.0
"""The checks together: random configurations load; with one fault, the message is one line."""

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from config_nets import networks, own
from configs import A, message, neighbors, refusal, routes
from vforward.control.config import parse
from vforward.control.config_errors import dotted


@given(networks())
def test_random_configurations_load(net):
    config = parse(net.text(), "r.toml")
    assert list(config.ports) == list(net.ports)
    assert list(config.bridges) == list(net.bridges)
    assert len(config.routes) == len(net.lists["routes"])


def leaves(value, path=()):
    """(table or list, key, path) of each value that has no parts."""
    for key in value if isinstance(value, dict) else range(len(value)):
        part = value[key]
        if isinstance(part, dict | list):
            yield from leaves(part, (*path, key))
        else:
            yield value, key, (*path, key)


def tables(value, path=()):
    """(table, path) of each table."""
    if isinstance(value, dict) and len(path) > 1:
        yield value, path
    for key in value if isinstance(value, dict) else range(len(value)):
        if isinstance(value[key], dict | list):
            yield from tables(value[key], (*path, key))


def _whole(net):
    return {"ports": net.ports, "bridges": net.bridges, **net.lists}


def _pick(draw, items):
    items = list(items)
    assume(items)
    return draw(st.sampled_from(items))


def _member(net, name):
    """The key of a bridge's port."""
    for bridge, its in net.bridges.items():
        for i, member in enumerate(its["ports"]):
            if member == name:
                return ("bridges", bridge, "ports", i)
            if isinstance(member, dict) and member["port"] == name:
                return ("bridges", bridge, "ports", i, "port")
    raise AssertionError(name)


def wrong_type(draw, net):
    where, key, path = _pick(draw, leaves(_whole(net)))
    where[key] = 3.5
    return path, "is "


def unknown_key(draw, net):
    table, path = _pick(draw, tables(_whole(net)))
    table["zzz"] = 1
    return (*path, "zzz"), "is not a key here"


def mtu_for_ip6(draw, net):
    name = _pick(draw, (name for name, _, version, _ in net.nets() if version == 6))
    net.ports[name]["mtu"] = 1279
    return ("ports", name, "mtu"), "is too small for IPv6"


def _later(draw, net):
    """An address, and another port of its VRF that is further down in the file."""
    order = list(net.ports)
    pairs = [
        (one, name)
        for one in net.nets()
        for name in net.of("routed")
        if order.index(name) > order.index(one[0]) and net.vrf(name) == one[1]
    ]
    (_, _, version, n), name = _pick(draw, pairs)
    return version, n, name


def address_twice(draw, net):
    version, n, name = _later(draw, net)
    addresses = net.ports[name].setdefault("address", [])
    addresses.append(own(version, n))
    return ("ports", name, "address", len(addresses) - 1), "is an address of port"


def prefix_overlaps(draw, net):
    version, n, name = _later(draw, net)
    addresses = net.ports[name].setdefault("address", [])
    addresses.append(own(version, n, 7))
    return ("ports", name, "address", len(addresses) - 1), "overlaps with"


def bridged_with_address(draw, net):
    name = _pick(draw, net.of("bridged"))
    net.ports[name]["address"] = ["10.99.0.1/24"]
    return _member(net, name), "has an address: remove that"


def bridged_with_vrf(draw, net):
    name = _pick(draw, net.of("bridged"))
    net.ports[name]["vrf"] = draw(st.sampled_from(["red", "default"]))
    return ("ports", name, "vrf"), "is for routed ports"


def bridged_twice(draw, net):
    name, bridge = _pick(draw, net.of("bridged")), "x9"
    net.bridges[bridge] = {"ports": [name]}
    return ("bridges", bridge, "ports", 0), "is in bridge"


def bridged_and_crossed(draw, net):
    name = _pick(draw, net.of("bridged"))
    net.ports["new"] = {"type": "memory"}
    net.lists["cross_connects"].append({"ports": ["new", name]})
    path = ("cross_connects", len(net.lists["cross_connects"]) - 1, "ports", 1)
    return path, "is in bridge"


def no_such_port(draw, net):
    named = [
        (where, key, path)
        for where, key, path in leaves(_whole(net))
        if key in ("port", "parent", "host_of") or (isinstance(key, int) and path[-2] == "ports")
    ]
    where, key, path = _pick(draw, named)
    where[key] = "nowhere"
    return path, "names a port that does not exist"


def no_such_bridge(draw, net):
    name = _pick(draw, net.typed("bvi"))
    net.ports[name]["bridge"] = "nowhere"
    return ("ports", name, "bridge"), "names a bridge that does not exist"


def two_bvis(draw, net):
    name = _pick(draw, net.typed("bvi"))
    net.ports["new"] = {"type": "bvi", "bridge": net.ports[name]["bridge"]}
    return ("ports", "new", "bridge"), "has port"


def two_taps(draw, net):
    name = _pick(draw, net.typed("tap"))
    net.ports["new"] = {**net.ports[name], "interface": "new"}
    return ("ports", "new", "host_of"), "has port"


def tap_with_address(draw, net):
    name = _pick(draw, net.typed("tap"))
    net.ports[name]["address"] = ["10.99.0.1/24"]
    return ("ports", name, "address"), "cannot be given"


def host_at_a_bridged_port(draw, net):
    name = _pick(draw, net.of("bridged") + net.of("crossed"))
    net.ports["new"] = {"type": "tap", "interface": "new", "host_of": name}
    return ("ports", "new", "host_of"), "is in "


def same_vlan(draw, net):
    name = _pick(draw, net.typed("vlan"))
    port = net.ports[name]
    net.ports["new"] = {k: port[k] for k in ("type", "parent", "vlan", "inner") if k in port}
    return ("ports", "new", "inner" if "inner" in port else "vlan"), "is port"


def other_outer_tag(draw, net):
    name = _pick(draw, net.typed("vlan"))
    port = net.ports[name]
    net.ports["new"] = {**port, "inner": 77, "dot1ad": not port["dot1ad"]}
    for key in ("address", "rewrite", "vrf", "mtu"):
        net.ports["new"].pop(key, None)
    return ("ports", "new", "dot1ad"), "differs from that of port"


def rewrite_of_a_routed_port(draw, net):
    name = _pick(draw, set(net.typed("vlan")) & set(net.of("routed")))
    net.ports[name]["rewrite"] = {"pop": 1}
    return ("ports", name, "rewrite"), "is for a port of a bridge or a cross connect"


def too_many_tags(draw, net):
    name = _pick(draw, set(net.typed("vlan")) - set(net.of("routed")))
    port = net.ports[name]
    pop = draw(st.integers(0, 1))
    port["rewrite"] = {"pop": pop, "push": [5] * (2 if "inner" not in port else 1 + pop)}
    assume("inner" in port or pop == 0)
    return ("ports", name, "rewrite", "push"), "would give its frames 3 tags"


def pop_too_much(draw, net):
    name = _pick(draw, set(net.typed("vlan")) - set(net.of("routed")))
    assume("inner" not in net.ports[name])
    net.ports[name]["rewrite"] = {"pop": 2}
    return ("ports", name, "rewrite", "pop"), "is more than its frames have"


def static_elsewhere(draw, net):
    name = _pick(draw, net.bridges)
    members = {m if isinstance(m, str) else m["port"] for m in net.bridges[name]["ports"]}
    port = _pick(draw, set(net.ports) - members)
    net.bridges[name]["static"] += [{"mac": "02:00:00:00:00:aa", "port": port}]
    path = ("bridges", name, "static", len(net.bridges[name]["static"]) - 1, "port")
    return path, "is not in bridge"


def next_hop_without_a_route(draw, net):
    hops = [(where, key, path) for where, key, path in leaves(_whole(net)) if key == "via"]
    where, key, path = _pick(draw, hops)
    where[key] = "2001:db8:ffff::1" if ":" in where[key] else "192.0.2.1"
    return path, "is a next hop without a route"


def no_such_vrf(draw, net):
    i = _pick(draw, range(len(net.lists["routes"])))
    net.lists["routes"][i]["vrf"] = "blue"
    return ("routes", i, "vrf"), "is a VRF that no port is in"


def port_of_another_vrf(draw, net):
    pairs = [
        (i, name)
        for i, route in enumerate(net.lists["routes"])
        for name in net.of("routed")
        if "port" in route and net.vrf(name) != route["vrf"]
    ]
    i, name = _pick(draw, pairs)
    net.lists["routes"][i]["port"] = name
    return ("routes", i, "port"), "is in VRF"


def route_through_a_switched_port(draw, net):
    name = _pick(draw, net.of("bridged") + net.of("crossed"))
    net.lists["routes"].append({"prefix": "192.0.2.0/24", "port": name})
    return ("routes", len(net.lists["routes"]) - 1, "port"), "is in "


def route_twice(draw, net):
    routes = net.lists["routes"]
    routes.append(_pick(draw, routes))
    return ("routes", len(routes) - 1, "prefix"), "is the prefix of routes["


def two_forms(draw, net):
    i = _pick(draw, range(len(net.lists["routes"])))
    route = net.lists["routes"][i]
    assume("type" not in route)
    route["type"] = "local"
    return ("routes", i, "type"), "cannot stand beside"


def neighbor_elsewhere(draw, net):
    i = _pick(draw, range(len(net.lists["neighbors"])))
    net.lists["neighbors"][i]["address"] = draw(st.sampled_from(["192.0.2.1", "2001:db8:ffff::1"]))
    return ("neighbors", i, "address"), "is not in a prefix of port"


def neighbor_on_a_switched_port(draw, net):
    name = _pick(draw, net.of("bridged") + net.of("crossed"))
    neighbor = {"address": "10.1.0.2", "mac": "02:00:00:00:00:01", "port": name}
    net.lists["neighbors"].append(neighbor)
    return ("neighbors", len(net.lists["neighbors"]) - 1, "port"), "is in "


FAULTS = [
    *(wrong_type, unknown_key, mtu_for_ip6, address_twice, prefix_overlaps, bridged_with_address),
    *(bridged_with_vrf, bridged_twice, bridged_and_crossed, no_such_port, no_such_bridge, two_bvis),
    *(two_taps, tap_with_address, host_at_a_bridged_port, same_vlan, other_outer_tag),
    *(rewrite_of_a_routed_port, too_many_tags, pop_too_much, static_elsewhere),
    *(next_hop_without_a_route, no_such_vrf, port_of_another_vrf, route_through_a_switched_port),
    *(route_twice, two_forms, neighbor_elsewhere, neighbor_on_a_switched_port),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@settings(max_examples=30, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_one_fault_is_one_line_that_names_its_key(fault, data):
    net = data.draw(networks())
    path, what = fault(data.draw, net)
    (found,) = refusal(net.text())
    line, key, said = found.removeprefix("r.toml:").split(": ", 2)
    assert key == dotted(path)
    assert int(line) <= net.text().count("\n")
    assert said.startswith(what) or (fault is wrong_type and said.startswith("has the wrong type"))


def test_a_refused_port_draws_no_complaints_about_its_absence():
    text = A.replace("memory", "memroy")
    text += routes('prefix = "10.9.0.0/16", via = "10.0.1.2", port = "a"')
    text += neighbors('address = "10.0.1.2", port = "a"')
    types = (
        '"af_packet", "pcap", "memory", "netmap", "memring", "memif", "vhost-user", "generator", "null", '
        '"vlan", "bvi", "tap"'
    )
    what = 'is not a type of port; did you mean "memory"?'
    assert refusal(text) == [message("1: ports.a.type", what, '"memroy"', types)]


def test_a_section_that_is_none_draws_no_complaints_about_its_absence():
    text = "ports = 1\n" + neighbors('address = "10.0.1.2", port = "a"')
    (found,) = refusal(text)
    assert found.startswith("r.toml:1: ports: is not a table (got 1); allowed: ")
