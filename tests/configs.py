# SPDX-License-Identifier: Apache-2.0
"""Configurations in few words: one line of TOML for each part, and what a message must be."""

import json

import pytest

from vforward.control.config import parse
from vforward.errors import ConfigError


def port(name, more="", kind="memory"):
    return f'ports.{name} = {{type = "{kind}"{more and ", " + more}}}\n'


def vlan(name, more, parent="a"):
    return port(name, f'parent = "{parent}", {more}', "vlan")


def bvi(name, bridge="x", more=""):
    return port(name, f'bridge = "{bridge}"{more and ", " + more}', "bvi")


def tap(name, of, more="", interface="tap0"):
    return port(name, f'interface = "{interface}", host_of = "{of}"{more and ", " + more}', "tap")


def bridge(name, ports, more=""):
    return f"bridges.{name} = {{ports = [{ports}]{more and ', ' + more}}}\n"


def _array(key, items):
    return f"{key} = [" + ", ".join("{" + item + "}" for item in items) + "]\n"


def routes(*items):
    return _array("routes", items)


def route_files(*items):
    return _array("route_files", items)


def neighbors(*items):
    return _array("neighbors", ['mac = "02:00:00:00:00:02", ' + item for item in items])


def crosses(*pairs):
    return _array("cross_connects", [f"ports = [{pair}]" for pair in pairs])


A = port("a", 'address = "10.0.1.1/24"')
A6 = port("a", 'address = "2001:db8::1/64"')
B = port("b")
B6 = port("b", 'address = "2001:db8::1/64"')
BARE = port("a") + B
RED = port("r", 'vrf = "red", address = "10.0.1.1/24"')


def refusal(text):
    """The lines of the message with which ``text`` is refused."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "r.toml")
    return str(caught.value).split("\n")


def message(where, what, got, allowed):
    """One line: ``where`` is the line's number and the key."""
    return f"r.toml:{where}: {what} (got {got}); allowed: {allowed}"


def toml(value):
    """Write a value as TOML, tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, float):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


GOOD = """\
[forwarder]
name = "edge-1"
vector = 64
buffers = 2048
idle = "spin"
profile = "throughput"
core = 3
icmp_errors_per_second = 50
mac_table = 8192
mac_age_s = 16
neighbors = 100
keep = "always"

[ports.lan0]
type = "af_packet"
interface = "eth0"
mac = "02:00:00:00:00:AB"
address = ["10.0.1.1/24", "10.0.3.1/31", "2001:db8:1::1/64"]
mtu = 9000
ring_mib = 8
promiscuous = false
xdp = "off"

[ports.file]
type = "pcap"
read = "in.pcap"
write = "/tmp/out.pcap"
resolution = "us"

[ports.mem]
type = "memory"
address = "10.0.2.1/24"

[ports.gen]
type = "generator"
count = 1000
size = 64
flows = 16
src = "10.0.1.7"
dst = "10.0.2.7"
dst_mac = "02:00:00:00:00:01"
touch = "headers"

[ports.sink]
type = "null"

[ports."lan0.7"]
type = "vlan"
parent = "lan0"
vlan = 7
address = "10.7.0.1/16"

[ports.qinq]
type = "vlan"
parent = "lan0"
vlan = 8
inner = 9
dot1ad = true
rewrite = { pop = 2, push = ["dot1ad:10", 11] }

[ports.irb]
type = "bvi"
bridge = "office"
vrf = "red"
urpf = "strict"

[ports.host]
type = "tap"
interface = "vf0"
host_of = "mem"

[bridges.office]
ports = ["sink", { port = "qinq", group = 1 }]
learn = true
flood_unknown = true
flood_broadcast = true
flood_multicast = true
forward_reserved = false
limit = 10
static = [{ mac = "02:00:00:00:00:03", port = "qinq" }]

[[routes]]
prefix = "0.0.0.0/0"
via = "10.0.2.2"

[[routes]]
prefix = "10.9.0.0/16"
via = "10.0.1.2"
port = "lan0"

[[routes]]
prefix = "10.8.0.0/16"
port = "mem"

[[routes]]
prefix = "10.0.0.0/8"
type = "prohibit"
metric = 9

[[routes]]
prefix = "2001:db8:9::/48"
paths = [{ via = "2001:db8:1::2", weight = 3 }, { via = "fe80::2", port = "lan0" }]

[[routes]]
prefix = "10.6.0.0/16"
port = "irb"
vrf = "red"

[[route_files]]
file = "/bin/sh"

[[neighbors]]
address = "10.0.2.2"
mac = "02:00:00:00:00:02"
port = "mem"

[[cross_connects]]
ports = ["file", "gen"]

[firewall]
default = "reject"
sessions = 1023
loose = true
per_source = 9
ports = ["lan0", "mem"]

[firewall.timeouts]
udp = 30

[address_sets]
servers = ["10.0.2.8/29", "2001:db8:2::/64"]

[port_sets]
web = [80, "8000-8080"]

[[rules]]
name = "web"
action = "permit"
from = "10.0.0.0/8"
to = ["@servers", "10.0.2.1-10.0.2.7"]
protocol = "tcp"
from_ports = "1024-65535"
to_ports = ["@web", 443]
tcp_flags = "syn,!ack"
dscp = "be"
vlan = 3
in = "lan0"
out = ["mem", "self"]
fragments = false
mark = 10
police = "gold"
sessions = 1000
per_source = 10

[[rules]]
action = "permit"
protocol = "icmp6"
icmp = "echo-request"
family = 6
stateful = false

[policers.gold]
type = "two-rate"
rate = "10M"
burst = 15000
peak_rate = "20M"
peak_burst = 30000
yellow = "af12"
red = "drop"

[policers.plain]
type = "single-rate"
rate = 64000
burst = 1500
excess_burst = 3000

[[nat]]
type = "masquerade"
out = "mem"
from = "10.0.1.0/24"
ports = "20000-29999"

[[nat]]
type = "source"
name = "pool"
out = "mem"
to = "@servers"
protocol = "udp"
pool = "203.0.113.0/28"

[[nat]]
type = "destination"
to = "10.0.2.1"
protocol = "tcp"
to_ports = "80-89"
new = "10.0.1.9"
new_port = 8080
in = "mem"

[[nat]]
type = "static"
inside = "10.0.1.16/28"
outside = "203.0.113.16/28"
port = "mem"
"""
