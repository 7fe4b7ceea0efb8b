# SPDX-License-Identifier: Apache-2.0
"""`vforward run` with one configuration that has it all: it forwards, and leaves nothing behind."""

import json
import socket

import pytest

from e2e.lab import ipv6, lab, ping, transfer
from e2e.test_daemon import daemon, left, show

pytestmark = pytest.mark.root

LAN, OFFICE, DMZ = "10.1.0.1", "10.2.0.1", "10.3.0.1"
H1, H2, H3 = "10.1.0.2", "10.2.0.2", "10.3.0.2"
LAN6, OFFICE6 = "2001:db8:1::1", "2001:db8:2::1"
H1_6, H2_6 = "2001:db8:1::2", "2001:db8:2::2"
ANYCAST = "192.0.2.1"

CONFIG = f"""
[forwarder]
name = "e2e"
vector = 64
buffers = 8192
icmp_errors_per_second = 500
mac_table = 8192
mac_age_s = 60
neighbors = 1000

[ports.lan]
type = "af_packet"
interface = "lan"
address = ["{LAN}/24", "{LAN6}/64", "fe80::1/64"]
urpf = "strict"

[ports.wan]
type = "af_packet"
interface = "wan"

[ports."wan.7"]
type = "vlan"
parent = "wan"
vlan = 7
rewrite = {{ pop = 1 }}

[ports.dmz]
type = "af_packet"
interface = "dmz"
address = "{DMZ}/24"
mtu = 1400
urpf = "loose"

[ports."dmz.20"]
type = "vlan"
parent = "dmz"
vlan = 20
inner = 30
dot1ad = true
rewrite = {{ pop = 2, push = [40] }}

[ports."dmz.21"]
type = "vlan"
parent = "dmz"
vlan = 21

[ports."dmz.22"]
type = "vlan"
parent = "dmz"
vlan = 22
address = "{LAN}/24"
vrf = "red"

[ports.file]
type = "pcap"
write = "written.pcap"

[ports.sink]
type = "null"
address = "10.5.0.1/24"

[ports.office]
type = "bvi"
bridge = "office"
address = ["{OFFICE}/24", "{OFFICE6}/64"]

[ports.lan-host]
type = "tap"
interface = "host0"
host_of = "lan"

[ports.office-host]
type = "tap"
interface = "host1"
host_of = "office"

[bridges.office]
ports = ["wan", {{ port = "wan.7", group = 1 }}, {{ port = "file", group = 1 }}]
static = [{{ mac = "02:00:00:00:00:01", port = "file" }}]
limit = 100

[[cross_connects]]
ports = ["dmz.20", "dmz.21"]

[[routes]]
prefix = "{ANYCAST}/32"
paths = [{{ via = "{H2}", weight = 2 }}, {{ via = "10.2.0.3" }}]

[[routes]]
prefix = "198.51.100.0/24"
type = "prohibit"

[[routes]]
prefix = "2001:db8:bad::/48"
type = "blackhole"

[[routes]]
prefix = "10.1.0.0/16"
vrf = "red"
via = "10.1.0.9"
metric = 5

[[route_files]]
file = "routes.txt"
via = "{H3}"

[[neighbors]]
address = "10.5.0.2"
mac = "02:00:00:00:05:02"
port = "sink"
"""


@pytest.fixture
def net(tmp_path):
    with lab(3) as place:
        place.address(f"{H1}/24", f"{H2}/24", f"{H3}/24")
        place.default_routes(LAN, OFFICE, DMZ)
        place.h2.run("ip", "address", "add", "10.2.0.3/24", "dev", "eth0")
        place.h2.run("ip", "address", "add", f"{ANYCAST}/32", "dev", "lo")
        place.h3.run("ip", "address", "add", "203.0.113.1/32", "dev", "lo")
        (tmp_path / "routes.txt").write_text("203.0.113.0/24\n100.64.0.0/10\n")
        place.file = tmp_path / "e2e.toml"
        place.file.write_text(CONFIG)
        yield place


def state(router):
    """What Linux has in the router's namespace, besides counters."""
    links = json.loads(router.run("ip", "-j", "link", "show"))
    told = [router.run("ip", "-o", what, "show") for what in ("address", "rule")]
    told += [router.run("ip", "route", "show", "table", "all")]
    told += [router.run("sysctl", f"net.ipv4.conf.{port}.rp_filter") for port in ("lan", "wan")]
    return sorted(link["ifname"] for link in links), told


def test_all_at_once(net, runtime):
    before = state(net.router)
    with daemon(net) as process:
        ipv6(net.h1, f"{H1_6}/64", via=LAN6)
        ipv6(net.h2, f"{H2_6}/64", via=OFFICE6)
        _forwards(net)
        _shows(net)
        process.terminate()
        assert process.wait(20) == 0, process.log.read_text()
        assert "Traceback" not in process.log.read_text()
    assert left(runtime) == []
    assert state(net.router) == before
    assert (net.file.parent / "written.pcap").stat().st_size > 24, "what was flooded is in it"


def _forwards(net):
    for to in (H2, H2_6, H3, ANYCAST, "203.0.113.1", LAN, LAN6, OFFICE, OFFICE6):
        assert "1 received" in ping(net.h1, to, "-c1"), to
    assert "2 received" in ping(net.h1, H3, "-c2", "-l2", "-s4000", "-Mdont")
    assert "mtu = 1400" in ping(net.h1, H3, "-c1", "-s1400", "-Mdo")
    assert "Packet filtered" in ping(net.h1, "198.51.100.1", "-c1")
    transfer(net.h1, net.h2, H2, 3_000_000)
    transfer(net.h2, net.h1, H1_6, 3_000_000)
    transfer(net.h1, net.h3, H3, 3_000_000)
    for own in (LAN, LAN6):
        transfer(net.h1, net.router, own, 1_000_000, 5001)
    transfer(net.h2, net.router, OFFICE, 1_000_000, 5002)
    transfer(net.router, net.h2, H2_6, 1_000_000)
    with net.h1.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.sendto(b"swallowed", ("10.5.0.2", 9))


def _shows(net):
    ports = {row["name"]: row for row in json.loads(show("show", "ports", "--json"))}
    assert set(ports) >= {"lan", "wan", "wan.7", "dmz.20", "file", "sink", "office", "lan-host"}
    assert ports["sink"]["tx"]["packets"] == 1
    routes = json.loads(show("show", "routes", "--json"))
    assert {"203.0.113.0/24", "198.51.100.0/24"} <= {row["prefix"] for row in routes}
    neighbors = json.loads(show("show", "neighbors", "--json"))
    assert {row["address"] for row in neighbors} >= {H1, H2, H3, H1_6, H2_6, "10.5.0.2"}
