# SPDX-License-Identifier: Apache-2.0
"""The examples run and say what they should; their configurations do what their first lines say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from e2e import machines
from vforward.control import config, dissect, interface_steps, reload_ports, run
from vforward.io.memory import MemoryPort
from vforward.testing import packets as pk

EXAMPLES = Path(__file__).parents[1] / "examples"
SAY = {
    "ecmp_shares": """\
{'10.0.2.2': '50%', '10.0.2.3': '25%', '10.0.2.4': '25%'}
N flows moved; all of 10.0.2.4
""",
    "firewall_sessions": """\
10.0.2.9:53 > 10.0.1.9:4000 denied
10.0.1.9:4000 > 10.0.2.9:80 denied
10.0.1.9:4000 > 10.0.2.9:53 passed
10.0.2.9:53 > 10.0.1.9:4000 passed
udp 10.0.1.9:4000 10.0.2.9:53 replied dns
0 sessions
""",
    "fragments": """\
without DF:
  wan: MAC > MAC IPv4 10.0.1.9 > 10.0.2.9 ttl 63 fragment at 0 UDP 4000 > 53 length 1408
  wan: MAC > MAC IPv4 10.0.1.9 > 10.0.2.9 ttl 63 fragment at 576 UDP
  wan: MAC > MAC IPv4 10.0.1.9 > 10.0.2.9 ttl 63 fragment at 1152, the last UDP
with DF set:
  lan: MAC > MAC IPv4 10.0.1.1 > 10.0.1.9 ttl 64 ICMP unreachable: fragmentation needed
""",
    "hop_guard": "vforward node load hop_guard.py",
    "load_a_plugin": """\
2 of 2 without it
1 of 2 with it
refused: < does not go with what it is given here
1 of 2 still; nearly-expired
2 of 2 without it
""",
    "machine_and_processes": [
        "a knows: 10.0.0.9 is at 02:00:00:00:01:09",
        "b knows: 10.0.0.9 is at 02:00:00:00:01:09",
    ],
    "netmap_pipe": """\
bytes taken: 3 3 5 0
b'one'
b'two'
b'three'
a to b; others got it: 1
b to a; others got it: 0
a to b; others got it: 0
""",
    "own_node": "1 came through, 1 did not\n",
    "pcap_to_pcap": "1000 packets in, 1000 out\n",
    "route_ipv6": """\
wan: MAC > MAC IPv6 2001:db8:2::1 > ff02::1:ff00:9 hops 255 ND who-has 2001:db8:2::9 tell MAC
wan: MAC > MAC IPv6 2001:db8:1::9 > 2001:db8:2::9 hops 63 UDP 4000 > 53 length 108
lan: MAC > MAC IPv6 2001:db8:1::1 > 2001:db8:1::9 hops 64 ICMPv6 packet too big mtu 1280
""",
    "route_two_memory_ports": "came out of wan: 02 00 00 00 00 02",
    "serve_api": """\
10.9.0.0/16
captured 44 bytes to MAC
sent by wan: 1
vforward_routes 12.0
""",
    "switch_of_three_ports": """\
from a to b: came out of b c
from b to a: came out of a
from a to b: came out of b
02000000000a is at a
02000000000b is at b
""",
    "trace_a_packet": "icmp4-echo",
    "two_workers": """\
N flows went out
100 replies came back
100 sessions; each worker has some: True
100 more, when lan is the other worker's; 100 sessions
""",
    "two_processes": "b is there\na got: yes, here I am!!!\n",
}
"""What each prints, or a part of it. A list: its lines, in any order."""
LINES_MAX = 40
MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")

STATION, OTHER, ALL = "02:00:00:00:0a:01", "02:00:00:00:0a:02", "ff:ff:ff:ff:ff:ff"


def frame_to_all(_mac):
    return pk.eth(ALL, STATION, 0x88B5, b"for local experiments")


def ip4_to(dst, n=0, src="10.0.1.9"):
    segment = pk.udp(src, dst, 1000 + n, 22)
    packet = pk.ip4(src, dst, pk.PROTO_UDP, segment)
    return lambda mac: pk.eth(mac, STATION, pk.ETH_IP4, packet)


def tcp_to(dst, dport, src="10.0.1.9"):
    """A SYN."""
    segment = pk.tcp(src, dst, 1000, dport)
    packet = pk.ip4(src, dst, pk.PROTO_TCP, segment)
    return lambda mac: pk.eth(mac, STATION, pk.ETH_IP4, packet)


def ip6_to(dst, src="2001:db8:1::9"):
    segment = pk.udp(src, dst, 1000, 22)
    packet = pk.ip6(src, dst, pk.PROTO_UDP, segment)
    return lambda mac: pk.eth(mac, STATION, pk.ETH_IP6, packet)


def tagged(vid, make):
    def made(mac):
        frame = make(mac)
        return frame[:12] + b"\x81\x00" + pk.vlan(vid, int.from_bytes(frame[12:14]), frame[14:])

    return made


EXPERIMENT = "type 0x88b5"
FAR, FAR6 = "198.51.100.1", "2001:db9::1"
DO = {
    "bridge": [
        ("guest1", frame_to_all, {"server": [EXPERIMENT]}),
        ("server", frame_to_all, {"guest1": [EXPERIMENT], "guest2": [EXPERIMENT]}),
        ("guest2", lambda _: pk.eth("02:00:00:00:00:01", OTHER, 0x88B5), {"server": [EXPERIMENT]}),
    ],
    "bridge-vlans": [
        (
            "access10",
            frame_to_all,
            {"trunk": [f"vlan 10 {EXPERIMENT}"], "provider": [f"s-vlan 100 vlan 10 {EXPERIMENT}"]},
        ),
        ("trunk", tagged(20, frame_to_all), {"access20": [f"{ALL} {EXPERIMENT}"]}),
        ("trunk", tagged(30, frame_to_all), {}),
    ],
    "bvi": [
        (
            "desk1",
            lambda _: pk.eth(
                ALL, STATION, pk.ETH_ARP, pk.arp_request(STATION, "10.0.1.9", "10.0.1.1")
            ),
            {
                "desk1": ["ARP 10.0.1.1 is-at 02:00:00:00:01:01"],
                "desk2": ["ARP who-has 10.0.1.1"],
            },
        ),
        (
            "desk2",
            lambda _: ip4_to(FAR)("02:00:00:00:01:01"),
            {"uplink": ["ARP who-has 192.0.2.1"]},
        ),
        (
            "desk2",
            lambda _: ip6_to(FAR6)("02:00:00:00:01:01"),
            {"uplink": ["ND who-has 2001:db8:ffff::1"]},
        ),
    ],
    "containers": [
        ("web", ip4_to("10.0.2.9"), {"db": ["ARP who-has 10.0.2.9"]}),
        ("web", ip4_to("10.0.1.1"), {"edge-host": ["IPv4 10.0.1.9 > 10.0.1.1 ttl 64 UDP"]}),
    ],
    "cross-connect": [("left", frame_to_all, {"right": [EXPERIMENT]})],
    "netmap": [("pipe", frame_to_all, {"switch": [EXPERIMENT]})],
    "ecmp": [
        ("lan", [ip4_to(FAR, n) for n in range(40)], {
            "uplink1": ["ARP who-has 192.0.2.1"],
            "uplink2": ["ARP who-has 192.0.2.5"],
        }),
    ],
    "firewall": [
        ("outside", tcp_to("10.0.1.80", 22, FAR), {}),
        ("outside", tcp_to("10.0.1.80", 443, FAR), {"inside": ["ARP who-has 10.0.1.80"]}),
        ("inside", tcp_to(FAR, 25), {"inside": ["ARP who-has 10.0.1.9"]}),
        ("inside", ip6_to(FAR6, "2001:db8:1::9"), {"outside": ["ND who-has 2001:db8:ffff::1"]}),
    ],
    "full-table": [
        ("lan", ip4_to("8.8.8.8"), {"transit1": ["ARP who-has 192.0.2.1"]}),
        ("lan", ip4_to("198.51.100.1"), {"transit2": ["ARP who-has 192.0.2.5"]}),
        ("lan", ip4_to("203.0.113.1"), {}),
        ("lan", ip6_to("2001:db8:9::1"), {"transit1": ["ND who-has 2001:db8:ffff::1"]}),
    ],
    "host": [
        ("lan", ip4_to("10.0.1.1"), {"lan-host": ["IPv4 10.0.1.9 > 10.0.1.1 ttl 64 UDP"]}),
        ("lan", ip4_to("192.0.2.2"), {"lan-host": ["IPv4 10.0.1.9 > 192.0.2.2 ttl 64 UDP"]}),
        ("lan-host", ip4_to(FAR, src="10.0.1.1"), {"wan": ["ARP who-has 192.0.2.1"]}),
    ],
    "ipv6-router": [
        ("lan", ip6_to(FAR6), {"wan": ["ND who-has fe80::ffff"]}),
        ("lan", ip6_to(FAR6, src="2001:db8:2::9"), {}),
    ],
    "nat": [
        ("lan", ip4_to(FAR), {"wan": ["ARP who-has 203.0.113.1"]}),
        ("wan", tcp_to("203.0.113.2", 443, FAR), {"lan": ["ARP who-has 10.0.1.10"]}),
        ("wan", tcp_to("203.0.113.3", 443, FAR), {"lan": ["ARP who-has 10.0.1.11"]}),
        ("wan", tcp_to("203.0.113.2", 444, FAR), {}),
    ],
    "pcap": [("in", ip4_to(FAR), {"out": ["02:00:00:00:02:02 IPv4 10.0.1.9"]})],
    "policer": [("customer", ip4_to(FAR), {"core": ["ARP who-has 10.0.2.2"]})],
    "router": [("lan", ip4_to(FAR), {"wan": ["ARP who-has 10.0.2.2"]})],
    "vhost": [
        ("vm1", frame_to_all, {"vm2": [EXPERIMENT]}),
        ("vm2", lambda _: pk.eth(
            ALL, STATION, pk.ETH_ARP, pk.arp_request(STATION, "10.0.1.9", "10.0.1.1")
        ), {"vm1": ["ARP who-has 10.0.1.1"], "vm2": ["ARP 10.0.1.1 is-at"]}),
    ],
    "vhost-frontend": [("switch", ip4_to(FAR), {"wan": ["ARP who-has 10.0.2.2"]})],
    "vlan": [("trunk", tagged(20, ip4_to(FAR, src="10.20.1.9")), {"uplink": ["who-has 192.0.2.1"]})],
    "vrf": [
        ("red", ip4_to(FAR), {"trunk": ["vlan 10 ARP who-has 192.0.2.1"]}),
        ("blue", ip4_to(FAR), {"trunk": ["vlan 20 ARP who-has 192.0.2.1"]}),
    ],
    "xdp": [("lan", ip4_to(FAR), {"wan": ["ARP who-has 10.0.2.2"]})],
}  # fmt: skip
"""For each configuration: by which port a frame comes in, and what then goes out where."""


def test_each_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAY)
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == set(DO)


def machine(directory):
    """Kernel and root of a virtual machine at 10.0.0.9, which sleeps."""
    image = directory / "root.cpio"
    image.write_bytes(machines.root("10.0.0.9/24", "sleep 1000"))
    return [next((machines.GUEST / "boot").glob("vmlinuz-*")), image]


ARGUMENTS = {"machine_and_processes": machine}
"""What makes the arguments of those that have some, in a directory."""
MARKS = {"machine_and_processes": [pytest.mark.slow, machines.needs_machines]}


@pytest.mark.parametrize("name", [pytest.param(n, marks=MARKS.get(n, ())) for n in sorted(SAY)])
def test_runs(name, tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    make = ARGUMENTS.get(name, lambda _: [])
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", EXAMPLES / f"{name}.py"),
            *make(tmp_path_factory.mktemp("arguments")),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    said, wanted = done.stdout, SAY[name]
    if isinstance(wanted, list):
        assert sorted(said.splitlines()) == wanted
    elif wanted.endswith("\n"):
        said = re.sub(r"^\d+ flows", "N flows", MAC.sub("MAC", said), flags=re.M)
        assert said == wanted
    else:
        assert wanted in said
    assert list(tmp_path.iterdir()) == [], "left behind"


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= LINES_MAX, path.name


@pytest.mark.parametrize("name", sorted(DO))
def test_a_configuration_does_what_it_says(name, tmp_path, monkeypatch):
    """With memory ports in place of Linux interfaces and files."""
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(reload_ports, "new_port", memory_port)
    monkeypatch.setattr(interface_steps, "TapPort", memory_tap)
    with run.from_config(config.load(EXAMPLES / f"{name}.toml")) as made:
        made.build()
        ports = dict(made.interfaces.real())
        for port, frames, wanted in DO[name]:
            frames = frames if isinstance(frames, list) else [frames]
            ports[port].send([make(ports[port].mac) for make in frames])
            made.run_until_idle()
            came = {out: [dissect.frame(f) for f in p.received()] for out, p in ports.items()}
            came = {out: texts for out, texts in came.items() if texts}
            assert came.keys() == wanted.keys(), (port, came)
            for out, parts in wanted.items():
                assert len(came[out]) == len(parts), (port, came)
                for part, text in zip(parts, came[out], strict=True):
                    assert part in text, (port, out)


def memory_port(model):
    mac = getattr(model, "mac", None)
    return MemoryPort(mac=mac.packed if mac else None, mtu=model.mtu)


def memory_tap(_interface, *, mac, mtu, **_):
    return MemoryPort(mac=mac, mtu=mtu)
