# SPDX-License-Identifier: Apache-2.0
"""Whether a packet matches a rule, both in plain words, and which rule of a list it matches first.

A rule is a table of the configuration as docs/configuration.md describes it, as a dictionary; a list of
one may be that one. A packet is a dictionary: version, src, dst, protocol (a number), sport and dport or
type and code, flags (names of TCP flags that are set), dscp, vlan, in, out (a port's name or "self"),
fragment.
"""

from ipaddress import ip_address, ip_network

NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58, "sctp": 132, "gre": 47}
TYPES = {
    1: {"echo-request": 8, "echo-reply": 0, "unreachable": 3, "time-exceeded": 11},
    58: {"echo-request": 128, "echo-reply": 129, "unreachable": 1, "packet-too-big": 2},
}
DSCPS = {"be": 0, "af11": 10, "cs1": 8, "ef": 46}


def listed(value):
    return value if isinstance(value, list) else [value]


def in_addresses(items, address, sets):
    """Whether an address is in one of a list's addresses, prefixes, ranges and sets."""
    address = ip_address(address)
    for item in listed(items):
        if item.startswith("@"):
            if in_addresses(sets[item[1:]], str(address), {}):
                return True
        elif "/" in item:
            network = ip_network(item)
            if network.version == address.version and address in network:
                return True
        else:
            first, _, last = item.partition("-")
            first, last = ip_address(first), ip_address(last or first)
            if first.version == address.version and first <= address <= last:
                return True
    return False


def in_ports(items, port, sets):
    """Whether a port is in one of a list's ports, ranges and sets."""
    for item in listed(items):
        if isinstance(item, str) and item.startswith("@"):
            if in_ports(sets[item[1:]], port, {}):
                return True
        else:
            first, _, last = str(item).partition("-")
            if int(first) <= port <= int(last or first):
                return True
    return False


def is_icmp(items, packet):
    """Whether an ICMP message is of one of a list's types and codes."""
    if packet["protocol"] not in TYPES:
        return False
    for item in listed(items):
        kind, _, code = str(item).partition("/")
        number = TYPES[packet["protocol"]].get(kind)
        if kind.isdigit():
            number = int(kind)
        if number == packet["type"] and (not code or int(code) == packet["code"]):
            return True
    return False


def has_flags(text, flags):
    """Whether the flags of "syn,!ack" are set and not set."""
    return all(
        word.removeprefix("!") in flags if word[0] != "!" else word[1:] not in flags
        for word in text.split(",")
    )


def number(names, value):
    return names[value] if isinstance(value, str) else value


def matches(rule, packet, address_sets, port_sets):
    """Whether the packet matches."""
    protocols = [number(NUMBERS, one) for one in listed(rule.get("protocol", []))]
    ends = (("from", "src"), ("to", "dst"))
    ports = (("from_ports", "sport"), ("to_ports", "dport"))
    return (
        rule.get("family", packet["version"]) == packet["version"]
        and all(
            in_addresses(rule[key], packet[end], address_sets) for key, end in ends if key in rule
        )
        and (not protocols or packet["protocol"] in protocols)
        and all(in_ports(rule[key], packet[end], port_sets) for key, end in ports if key in rule)
        and ("icmp" not in rule or is_icmp(rule["icmp"], packet))
        and ("tcp_flags" not in rule or has_flags(rule["tcp_flags"], packet["flags"]))
        and ("dscp" not in rule or number(DSCPS, rule["dscp"]) == packet["dscp"])
        and rule.get("vlan", packet["vlan"]) == packet["vlan"]
        and all(packet[end] in listed(rule[end]) for end in ("in", "out") if end in rule)
        and rule.get("fragments", packet["fragment"]) == packet["fragment"]
    )


def first(rules, packet, address_sets, port_sets):
    """The place of the first rule that the packet matches, or None."""
    for i, rule in enumerate(rules):
        if matches(rule, packet, address_sets, port_sets):
            return i
    return None
