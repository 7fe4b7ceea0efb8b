"""What a forwarder publishes of itself, read back as `vforward show` reads it."""

import json
import socket
import struct
import threading
import time
from collections import Counter

import pytest
from typer.testing import CliRunner

from vforward.control import observe, publish
from vforward.control.cli import app
from vforward.control.forwarder import Forwarder
from vforward.errors import ArenaError
from vforward.io.generator import GeneratorPort
from vforward.io.memory import MemoryPort
from vforward.io.vhost import VhostUserPort


@pytest.fixture
def router(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with Forwarder("test", buffers=1024) as made:
        made.lan = made.add_port("lan", MemoryPort(), "10.0.1.1/24")
        made.add_port("gen", GeneratorPort(size=300, touch="headers", count=5), "10.0.2.1/24")
        made.add_vlan("seven", "lan", 7, "10.0.7.1/24")
        made.build(config="lab.toml")
        yield made


def test_who_is_at_the_other_end(router, tmp_path):
    with Forwarder("second") as other:
        vm = other.add_port("vm", VhostUserPort(str(tmp_path / "vm")), "10.0.1.1/24")
        other.add_port("lan", MemoryPort(), "10.0.2.1/24")
        other.build()
        assert publish.peers(other) == {"vm": "nobody there; peers so far: 0; let go: none"}
        vm._peers.number, vm._peers.faults = 4, Counter(queue=2, length=1)
        said = "nobody there; peers so far: 4; let go: 2 for its queue, 1 for its length"
        assert publish.peers(other) == {"vm": said}
    assert publish.peers(router) == {}


def test_why_peers_were_let_go(tmp_path, monkeypatch):
    """By the command, as JSON, though the worker sleeps."""
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with Forwarder("machines", buffers=1024) as made:
        made.add_port("vm", VhostUserPort(str(tmp_path / "vm")), "10.0.1.1/24")
        made.build()
        made.start()
        made.serve()
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(tmp_path / "vm"))
            peer.sendall(struct.pack("=III", 77, 1, 0))  # there is no such request
            peer.settimeout(20)
            assert peer.recv(1) == b""
        ask = ["show", "errors", "--all", "--json"]
        end, found = time.monotonic() + 20, []
        while not found:
            assert time.monotonic() < end
            rows = json.loads(CliRunner().invoke(app, ask).stdout)
            found = [row for row in rows if row["reason"].startswith("let-go")]
        (row,) = found
        assert (row["node"], row["reason"], row["count"]) == ("vm-rx", "let-go-request", 1)
        assert row["help"].startswith("peers let go: ")


def test_ports_and_what_they_touch(router):
    with observe.attach("test") as view:
        lan, gen, seven = view.about["ports"]
        assert (lan["type"], lan["mac"]) == ("memory", router.lan.mac.hex(":"))
        assert (lan["rx"], lan["tx"], lan["addresses"]) == (["lan-rx"], "lan-tx", ["10.0.1.1/24"])
        assert (seven["type"], seven["parent"], seven["vlan"]) == ("vlan", "lan", 7)
        assert (seven["rx"], seven["tx"]) == ([], None)
        assert gen["touched"].startswith("the first ")
        assert "touched" not in lan
        assert "touched" not in seven
        assert [bool(row.touched) for row in view.ports()] == [False, True, False]
        assert view.about["config"] == "lab.toml"


def test_counters_lie_where_the_nodes_say(router):
    router.run_until_idle()
    with observe.attach("test") as view:
        gen = view.ports()[1]
        assert (gen.rx.packets, gen.rx.bytes) == (5, 1500)


def test_routes_and_neighbors_when_they_change(router):
    with observe.attach("test") as view:
        before = [route["prefix"] for route in view.routes().rows]
        router.add_route("10.9.0.0/16", kind="blackhole")
        router.add_neighbor("10.0.1.9", b"\2\0\0\0\0\x63", "lan")
        router._publisher.refresh()
        after = [route["prefix"] for route in view.routes().rows]
        assert sorted(after) == sorted([*before, "10.9.0.0/16"])
        assert [(n["address"], n["state"]) for n in view.neighbors().rows] == [
            ("10.0.1.9", "static")
        ]


def test_of_large_tables_the_first_and_how_many_there_are(router, monkeypatch):
    for table in ("NEIGHBORS_SHOWN", "MACS_SHOWN", "ROUTES_SHOWN"):
        monkeypatch.setattr(publish, table, 2)
    domain = router.bridging.add_domain("office")
    router.bridging.add_member(domain, 9)
    for n in range(5, 0, -1):
        router.add_neighbor(f"10.0.1.{n + 1}", b"\2\0\0\0\0\x63", "lan")
        router.bridging.add_static(domain, 1 << 41 | n, 9)
    router.interfaces._names[9] = "switched"
    router._publisher.refresh()
    with observe.attach("test") as view:
        found = view.neighbors()
        assert [row["address"] for row in found.rows] == ["10.0.1.2", "10.0.1.3"]
        assert found.count == 5
        found = view.macs()
        assert [row["mac"] for row in found.rows] == ["02:00:00:00:00:01", "02:00:00:00:00:02"]
        assert found.count == 5


def test_a_part_is_published_alone(router):
    with observe.attach("test") as view:
        router.add_route("10.9.0.0/16", kind="blackhole")
        router.publish("neighbors")
        assert "10.9.0.0/16" not in [row["prefix"] for row in view.routes().rows]
        router.publish("routes")
        assert "10.9.0.0/16" in [row["prefix"] for row in view.routes().rows]


def test_a_refresh_that_takes_long_comes_seldom(router, monkeypatch):
    monkeypatch.setattr(publish, "PERIOD_S", 0.001)
    pauses, enough = [], threading.Event()

    class Event(threading.Event):
        def wait(self, timeout=None):
            pauses.append(timeout)
            if len(pauses) == 3:
                enough.set()
            return super().wait(0.001)

    def slow():
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass

    publisher = router._publisher
    publisher._stopping = Event()
    monkeypatch.setattr(publisher, "refresh", slow)
    publisher.start()
    assert enough.wait(20)
    publisher.stop()
    assert pauses[0] == 0.001
    assert pauses[1] >= 0.02 / publish.SHARE


def test_routes_that_could_not_be_published_are_published_later(router, monkeypatch):
    routing, routes = router.routing, router.routing.routes
    router.add_route("10.9.0.0/16", kind="blackhole")

    def fails(**_):
        msg = "now not"
        raise RuntimeError(msg)

    monkeypatch.setattr(routing, "routes", fails)
    with pytest.raises(RuntimeError, match="now not"):
        router._publisher.refresh()
    monkeypatch.setattr(routing, "routes", routes)
    router._publisher.refresh()
    with observe.attach("test") as view:
        assert "10.9.0.0/16" in [row["prefix"] for row in view.routes().rows]


def test_ports_that_there_was_no_room_for_are_published_later(router, monkeypatch):
    def no_room(name, _content):
        raise ArenaError(f"document {name!r}: no room")

    router.interfaces.find("lan").addresses = ()
    with monkeypatch.context() as patched:
        patched.setattr(router.arena, "write_document", no_room)
        with pytest.raises(ArenaError, match="document 'forwarder': no room"):
            router._publisher.describe()
        router._publisher.catch_up()  # it is said, and not raised
    with observe.attach("test") as view:
        assert view.about["ports"][0]["addresses"] == ["10.0.1.1/24"]
    router._publisher.catch_up()
    with observe.attach("test") as view:
        assert view.about["ports"][0]["addresses"] == []


def test_a_vrf_made_while_routes_are_listed(router, monkeypatch):
    routing, routes = router.routing, router.routing.routes

    def late(**options):
        router.add_route("10.9.0.0/16", kind="blackhole", vrf="red")
        return routes(**options)

    router.add_route("10.8.0.0/16", kind="blackhole")
    monkeypatch.setattr(routing, "routes", late)
    router._publisher.refresh()
    with observe.attach("test") as view:
        assert ("10.9.0.0/16", "red") in [(row["prefix"], row["vrf"]) for row in view.routes().rows]
