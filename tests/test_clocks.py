# SPDX-License-Identifier: Apache-2.0
"""The wall clock is for people to read: it may jump, and nothing is timed by it."""

import ast
import contextlib
import itertools
import re
import time
from pathlib import Path

import pytest

import vforward
from vforward.control.capture import Captures
from vforward.testing import packets as pk

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "vforward"
WALL = {
    "control/publish.py": "when a forwarder was started, for people and Prometheus",
    "control/plugins.py": "when a plug-in was loaded, for people",
    "control/capture.py": "a captured packet's time, in the file",
    "control/logs.py": "a line's time",
    "control/show_capture.py": "a captured packet's time, printed",
    "io/pcap.py": "a packet's time, in the file",
    "rings/netmap.py": "a netmap ring's time stamp, as netmap has it",
    "memory/arena.py": "what tells an arena from an earlier one; its lock says whose it is",
}
"""Files that read the wall clock, and what for."""
WALL_C = {"netmap_sync.c": "a netmap ring's time stamp"}
NAMES = {"time", "time_ns", "now", "utcnow", "today", "fromtimestamp", "localtime", "gmtime"}


def reads(tree):
    """Whether a module reads the wall clock, or makes something readable of what it said."""
    for item in ast.walk(tree):
        if isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name):
            if item.value.id in ("time", "datetime", "date") and item.attr in NAMES:
                yield item.lineno
        elif isinstance(item, ast.ImportFrom) and item.module == "time":
            yield from (item.lineno for name in item.names if name.name in NAMES)
        elif isinstance(item, ast.Name) and item.id == "CLOCK_REALTIME":
            yield item.lineno


def test_where_the_wall_clock_is_read():
    texts = {path: path.read_text() for path in SOURCE.rglob("*.py")}
    found = {
        path.relative_to(SOURCE).as_posix()
        for path, text in texts.items()
        if re.search("time|REALTIME", text) and [*reads(ast.parse(text))]
    }
    assert found == set(WALL)
    pattern = re.compile(r"\b(gettimeofday|CLOCK_REALTIME|time\(NULL\))")
    in_c = {
        path.name for path in (ROOT / "csrc").glob("*.[ch]") if pattern.search(path.read_text())
    }
    assert in_c == set(WALL_C)


def test_the_search_would_find_it():
    for text in ("time.time()", "time.time_ns()", "datetime.now()", "from time import time"):
        assert [*reads(ast.parse(text))], text
    for text in ("time.monotonic()", "time.perf_counter_ns()", "view.runtime()", "loop.time()"):
        assert not [*reads(ast.parse(text))], text


@pytest.fixture
def jumping(monkeypatch):
    """The wall clock, by decades back and forth with each look."""
    years = itertools.cycle((0, 10**9, 4 * 10**9, 1, 2 * 10**9))

    def ns():
        return next(years) * 10**9

    monkeypatch.setattr(time, "time_ns", ns)
    monkeypatch.setattr(time, "time", lambda: ns() / 1e9)


def test_a_forwarder_under_a_clock_that_jumps(tmp_path, monkeypatch, jumping):
    """Sessions, neighbors, MACs, publishing and captures go by other clocks."""
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "r"))
    mac = "02:00:00:00:00:09"
    with vforward.Forwarder("clock", buffers=4096) as router:
        lan = router.add_port("lan", vforward.MemoryPort(), "10.0.1.1/24")
        wan = router.add_port("wan", vforward.MemoryPort(), "10.0.2.1/24")
        router.set_firewall(vforward.FirewallSettings(default="deny"))
        router.set_rules([vforward.Rule(name="out", action="permit", in_="lan")])
        router.build()
        router.start()
        asks = pk.arp_reply(mac, "10.0.2.9", router.interfaces.find("wan").port.mac, "10.0.2.1")
        wan.send([pk.eth(wan.mac, mac, pk.ETH_ARP, asks)])  # nobody asked: it is stale
        there = udp("10.0.1.9", "10.0.2.9")
        back = udp("10.0.2.9", "10.0.1.9")
        with Captures(router).begin("wan", "", count=0, snap=100) as capture:
            for _ in range(50):
                lan.send([pk.eth(lan.mac, mac, pk.ETH_IP4, there)])
                assert until(wan, mac, "10.0.2.9"), "no packet came through"
                wan.send([pk.eth(wan.mac, mac, pk.ETH_IP4, back)])
                until(lan, mac, "10.0.1.9", answer="10.0.1.9")
            assert len(capture.take()) > 50 * 58
        assert router.count_sessions() == 1
        states = {row["address"]: row["state"] for row in router.known_neighbors()}
        assert states["10.0.2.9"] != "failed"
        router.publish()


def udp(src, dst):
    ports = (4000, 53) if src.startswith("10.0.1.") else (53, 4000)
    return pk.ip4(src, dst, pk.PROTO_UDP, pk.udp(src, dst, *ports, b"x"))


def until(port, mac, address, answer=""):
    """A datagram from the port; ARP requests for a host are answered, as it would."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for frame in port.received():
            kind = int.from_bytes(frame[12:14], "big")
            if kind == pk.ETH_IP4:
                return frame
            if kind == pk.ETH_ARP and frame[20:22] == b"\0\1":
                with contextlib.suppress(StopIteration):
                    said = pk.arp_reply(mac, address, frame[6:12], ".".join(map(str, frame[28:32])))
                    port.send([pk.eth(frame[6:12], mac, pk.ETH_ARP, said)])
        time.sleep(0.001)
    return None
