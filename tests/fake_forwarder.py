"""A forwarder's arena without the forwarder: what control.publish publishes, in chosen numbers."""

import os
import threading
import time
from contextlib import contextmanager

import numpy as np

from vforward.control.api import make_app
from vforward.control.api_server import Server
from vforward.control.observe import View
from vforward.graph import control as c
from vforward.layout import EDGE_HELD
from vforward.memory.arena import Arena
from vforward.tables import session as t
from vforward.tables.nat import NatPools
from vforward.tables.policer import Policers
from vforward.tables.session_table import Sessions

HZ = 1_000_000_000
INPUT, ETHERNET, DROP, OUT = range(4)
NODES = [
    {
        "name": "lan-rx",
        "kind": "input",
        "edges": [{"edge": 0, "label": "next", "to": "ethernet-input"}],
        "counters": [
            {"label": "bytes", "help": "bytes received", "drop": False},
            {"label": "no-buffer", "help": "no buffer was free", "drop": False},
        ],
        "counts_at": 0,
    },
    {
        "name": "ethernet-input",
        "kind": "inner",
        "edges": [
            {"edge": 0, "label": "output", "to": "lan-tx"},
            {"edge": 1, "label": "drop", "to": "drop"},
        ],
        "counters": [
            {"label": "truncated", "help": "too short", "drop": True},
            {"label": "not-for-us", "help": "another station's", "drop": True},
        ],
        "counts_at": 2,
    },
    {"name": "drop", "kind": "inner", "edges": [], "counters": [], "counts_at": 4},
    {
        "name": "lan-tx",
        "kind": "inner",
        "edges": [{"edge": 0, "label": "drop", "to": "drop"}],
        "counters": [
            {"label": "bytes", "help": "bytes sent", "drop": False},
            {"label": "ring-full", "help": "no room", "drop": True},
        ],
        "counts_at": 4,
    },
]
PORTS = [
    {
        "number": 1,
        "name": "lan",
        "type": "af_packet",
        "mac": "02:00:00:00:00:01",
        "mtu": 1500,
        "addresses": ["10.0.1.1/24"],
        "parent": None,
        "vlan": None,
        "peer": None,
        "rx": "lan-rx",
        "tx": "lan-tx",
        "statistics": ["kernel-ring-full"],
    },
    {
        "number": 2,
        "name": "seven",
        "type": "vlan",
        "mac": "02:00:00:00:00:01",
        "mtu": 1400,
        "addresses": ["10.0.7.1/24", "10.0.8.1/24"],
        "parent": "lan",
        "vlan": 7,
        "peer": None,
        "rx": None,
        "tx": None,
        "statistics": [],
    },
]
MAC = "02:00:00:00:00:02"
ROUTES = [{"prefix": "10.0.1.0/24", "kind": "connected", "via": "", "port": "lan"}]
BRIDGES = {
    "bridges": [{"bridge": "office", "ports": ["a", "b"], "macs": 3, "moves": 1}],
    "count": 3,
    "macs": [
        {"bridge": "office", "mac": MAC, "port": "a", "static": False, "age": 18.8},
        {"bridge": "office", "mac": MAC, "port": "b", "static": True, "age": None},
    ],
}
NEIGHBORS = [
    {
        "port": "lan",
        "address": "10.0.1.2",
        "mac": "02:00:00:00:00:02",
        "state": "reachable",
        "since": 1000.0,
    }
]
SHAPES = {
    "stats": (len(NODES), c.STATS),
    "taken": (len(NODES), 256),
    "counts": 6,
    "drops": (64, 4),
}


@contextmanager
def arena(name="fake"):
    """A whole arena. 100 packets came in by 4 calls, 90 went out, 10 were dropped."""
    with Arena.create(name) as made:
        control = made.make("control", c.CONTROL_WORDS, np.uint64)
        made.make("trace", c.TRACE_ROOM, c.TRACE)
        for segment, shape in SHAPES.items():
            made.make(segment, shape, np.uint64)
            made.make(f"{segment}-cleared", shape, np.uint64)
        control[c.STATE], control[c.VECTOR] = c.RUNNING, 256
        control[c.STARTED], control[c.NOW] = HZ, 3 * HZ
        control[c.SLEEPS], control[c.ROUNDS] = 7, 40
        work(made)
        made.write_document("routes", {"count": 1, "routes": ROUTES})
        made.write_document("bridges", BRIDGES)
        made.write_document("peers", {"lan": "nobody there"})
        made.write_document("neighbors", {"count": 1, "neighbors": NEIGHBORS})
        about = {"name": name, "pid": os.getpid(), "started": 1.0e9, "tsc_hz": HZ, "vector": 256}
        about["vrfs"] = ["default"]
        made.write_document("forwarder", {**about, "config": None, "nodes": NODES, "ports": PORTS})
        yield made


@contextmanager
def served(name="fake"):
    """The same, and its API: for what needs no forwarder."""
    with arena(name) as made:
        server = Server(made.path, lambda: make_app(View(Arena.attach(name))))
        try:
            yield made
        finally:
            server.stop()


def work(made):
    """Count another 100 packets."""
    stats, taken, counts, drops = (made.open(segment) for segment in SHAPES)
    stats[INPUT, :5] += np.array([4, 100, 1000, 50, 5000], np.uint64)
    stats[ETHERNET, :3] += np.array([4, 100, 2000], np.uint64)
    stats[OUT, :3] += np.array([3, 90, 900], np.uint64)
    stats[DROP, :3] += np.array([2, 13, 100], np.uint64)
    stats[OUT, c.FULL] += 3
    taken[INPUT, 0] += 100
    taken[ETHERNET, 0] += 90
    taken[ETHERNET, 1] += 10
    taken[OUT, EDGE_HELD] += 87
    taken[DROP, EDGE_HELD] += 13
    counts += np.array([6400, 0, 4, 6, 5568, 3], np.uint64)
    drops[1, 0] += 11


FIREWALL = {
    "default": "deny",
    "default_hits": 0,
    "capacity": 7,
    "rules": [
        {
            "name": "web",
            "action": "permit",
            "match": "protocol tcp to_ports 80",
            "then": "police gold",
            "hits": 1,
        }
    ],
    "count": 1,
    "nat": [
        {
            "name": "",
            "type": "masquerade",
            "match": "out wan",
            "new": "address of wan",
            "hits": 2,
            "pool": 0,
        }
    ],
    "policers": [{"name": "gold", "number": 1, "what": "1M burst 1500 red drop"}],
}


def add_firewall(made):
    """A rule that 10 packets came by, the default 3; NAT, a policer, and one session."""
    hits = made.make("rule-hits", 8, np.uint64)
    hits[:6] = 3, 180, 10, 640, 4, 0
    made.make("rule-hits-cleared", 8, np.uint64)
    NatPools(made).table[0]["allocated"] = 4
    made.open("nat_pools")[0]["exhausted"] = 1
    policers = Policers(made, HZ, 2)
    policers.table[1]["packets"] = 5, 0, 2
    policers.table[1]["bytes"] = 500, 0, 200
    sessions = Sessions(made, 7)
    sessions.array[t.UNUSED] = 2
    hot, cold = sessions.parts.hot[1], sessions.parts.cold[1]
    hot["k0"], hot["k1"] = 6 << 48 | 4000 << 16 | 80, 0x0A000102 << 32 | 0xC0000209
    hot["k2"], hot["k3"] = 6 << 48 | 80 << 16 | 4000, 0xC0000209 << 32 | 0x0A000102
    hot["protocol"], hot["state"] = 6, t.ESTABLISHED
    cold["generation"], cold["hits"], cold["in_port"] = 3, 1, 1
    made.write_document("firewall", FIREWALL)


class Worker:
    """Does rounds and, when tracing, gives every round one packet the way of each of these paths.

    path: (node, edge, reason, head) for each record. A context manager.
    """

    def __init__(self, made, paths, *, packets=10**9):
        self._control, self._trace = made.open("control"), made.open("trace")
        self._paths, self._left = paths, packets
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._live)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _live(self):
        control = self._control
        while not self._end.is_set():
            if control[c.TRACING]:
                for path in self._paths:
                    if control[c.TRACE_WANTED] and self._left:
                        self._left -= 1
                        control[c.TRACE_WANTED] -= 1
                        self._record(path)
            control[c.ROUNDS] += 1
            time.sleep(0.0005)

    def _record(self, path):
        control = self._control
        number = int(control[c.TRACE_NEXT])
        control[c.TRACE_NEXT] += 1
        for i, (node, edge, reason, head) in enumerate(path):
            at = int(control[c.TRACED_ROWS])
            if at >= self._trace.size:
                return
            record = self._trace[at]
            record["clock"], record["packet"] = 5000 + 2000 * i, number & 0xFFFF
            record["node"], record["edge"], record["reason"] = node, edge, reason
            record["rx_port"], record["total"], record["length"] = 1, len(head), min(len(head), 92)
            record["head"][: min(len(head), 92)] = np.frombuffer(head, np.uint8)[:92]
            control[c.TRACED_ROWS] = at + 1
