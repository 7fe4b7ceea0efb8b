# SPDX-License-Identifier: Apache-2.0
"""Random rules as tables of a configuration, and packets near them, for Hypothesis."""

from ipaddress import ip_address

from hypothesis import strategies as st

from oracles import rule_match as oracle

ADDRESS_SETS = {
    "four": ["10.0.0.1", "10.0.0.2-10.0.0.9", "10.0.0.8/29"],
    "both": ["10.0.1.0/24", "2001:db8::/126"],
}
PORT_SETS = {"web": [80, "81-90", 443], "edges": [0, 65535]}
PORTS = {"lan": 1, "wan": 2, "dmz": 300}
ADDRESSES4 = [
    "0.0.0.0",
    "10.0.0.1",
    "10.0.0.9",
    "10.0.0.15",
    "10.0.0.16",
    "10.0.1.0",
    "255.255.255.255",
]
ADDRESSES6 = ["::", "2001:db8::", "2001:db8::3", "2001:db8::4", "2001:db8:0:1::", "ffff::ffff"]
ITEMS4 = [
    "0.0.0.0/0",
    "10.0.0.0/31",
    "10.0.0.1",
    "10.0.0.1-10.0.0.14",
    "10.0.0.0/24",
    "@four",
    "@both",
]
ITEMS6 = ["::/0", "2001:db8::/32", "2001:db8::3", "::1-2001:db8::3", "2001:db8:0:1::/64", "@both"]
PORT_ITEMS = [0, 80, 65535, "0-65535", "80-89", "89-91", "1024-65535", "@web", "@edges"]
FLAGS = ["syn", "ack", "fin", "rst"]
FLAG_TEXTS = ["syn", "syn,!ack", "!syn", "fin,rst", "!rst,!fin,ack"]
ICMP4 = ["echo-request", 8, "unreachable/4", "3/4", 0, "time-exceeded"]
ICMP6 = ["echo-request", 128, "packet-too-big", "1/4", "unreachable"]


def some(items, **sizes):
    """One of the items, or a list of them."""
    return st.one_of(st.sampled_from(items), st.lists(st.sampled_from(items), min_size=1, **sizes))


@st.composite
def rules(draw):
    """A rule that is right."""
    rule = {"action": draw(st.sampled_from(["permit", "deny", "reject"]))}
    family = draw(st.sampled_from([None, 4, 6]))
    items = {4: ITEMS4, 6: ITEMS6, None: ["@both"]}[family]
    for key in ("from", "to"):
        if draw(st.booleans()):
            rule[key] = draw(some([i for i in items if i != "@four" or family == 4], max_size=3))
    if family and not {"from", "to"} & rule.keys() and draw(st.booleans()):
        rule["family"] = family
    kind = draw(st.sampled_from(["", "ports", "tcp", "icmp", "number"]))
    if kind == "ports":
        rule["protocol"] = draw(some(["tcp", "udp", "sctp", 17], max_size=2))
        for key in ("from_ports", "to_ports"):
            if draw(st.booleans()):
                rule[key] = draw(some(PORT_ITEMS, max_size=3))
    elif kind == "tcp":
        rule |= {"protocol": "tcp", "tcp_flags": draw(st.sampled_from(FLAG_TEXTS))}
    elif kind == "icmp":
        six = family == 6 or (family is None and draw(st.booleans()))
        rule["protocol"] = "icmp6" if six else "icmp"
        if draw(st.booleans()):
            rule["icmp"] = draw(some(ICMP6 if six else ICMP4, max_size=3))
    elif kind == "number":
        rule["protocol"] = draw(some([0, 255, "gre"], max_size=2))
    extras = {
        "dscp": st.sampled_from(["be", "af11", 63, 0]),
        "vlan": st.sampled_from([1, 4094]),
        "in": some(["lan", "dmz"], max_size=2),
        "out": some(["wan", "self", "dmz"], max_size=2),
        "fragments": st.booleans(),
    }
    for key in draw(st.sets(st.sampled_from(sorted(extras)), max_size=2)):
        rule[key] = draw(extras[key])
    return rule


@st.composite
def packets(draw):
    """A packet, at the edges of what rules name."""
    version = draw(st.sampled_from([4, 6]))
    ends = ADDRESSES4 if version == 4 else ADDRESSES6
    icmp = 1 if version == 4 else 58
    protocol = draw(st.sampled_from([0, 6, 6, 17, 132, icmp, icmp, 47, 255]))
    packet = {
        "version": version,
        "src": draw(st.sampled_from(ends)),
        "dst": draw(st.sampled_from(ends)),
        "protocol": protocol,
        "sport": 0,
        "dport": 0,
        "flags": set(),
        "dscp": draw(st.sampled_from([0, 10, 63])),
        "vlan": draw(st.sampled_from([0, 1, 4094])),
        "in": draw(st.sampled_from(sorted(PORTS))),
        "out": draw(st.sampled_from([*sorted(PORTS), "self"])),
        "fragment": draw(st.booleans()),
    }
    if protocol in (6, 17, 132):
        for key in ("sport", "dport"):
            packet[key] = draw(st.sampled_from([0, 80, 89, 90, 91, 1023, 1024, 65535]))
    if protocol == 6:
        packet["flags"] = draw(st.sets(st.sampled_from(FLAGS)))
    if protocol == icmp:
        packet["type"] = draw(st.sampled_from([0, 1, 2, 3, 8, 11, 128]))
        packet["code"] = draw(st.sampled_from([0, 4, 255]))
    return packet


def kind_of(packet):
    """The packet's word "kind", see tables.policy."""
    flags = sum(1 << ["fin", "syn", "rst", "psh", "ack"].index(flag) for flag in packet["flags"])
    return packet["protocol"] << 24 | flags << 16 | packet["dscp"] << 8 | packet["fragment"]


def place_of(packet):
    """The packet's word "place"."""
    return PORTS[packet["in"]] << 16 | PORTS.get(packet["out"], 0xFFFF)


def ports_of(packet):
    """The packet's source and destination port, as the classifier has them."""
    if "type" in packet:
        return 0, packet["type"] << 8 | packet["code"]
    return packet["sport"], packet["dport"]


def address_of(packet, end):
    return int(ip_address(packet[end]))


def first(listed, packet):
    """The place of the first rule that matches, by the oracle."""
    return oracle.first(listed, packet, ADDRESS_SETS, PORT_SETS)
