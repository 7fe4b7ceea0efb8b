"""A forwarder's graph is laid out anew while it forwards; who looks on follows."""

import random
import threading
import time

import numpy as np
import pytest

from vforward import ConfigError, WiringError
from vforward.control import observe, packet_trace
from vforward.control.packet_trace import collect
from vforward.errors import ArenaError
from vforward.graph import control as c
from vforward.graph.node import Labels, Node
from vforward.jit.kernel import kernel
from vforward.layout import U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.interface import past
from worker_worlds import World, in_order, mix


class Edge(Labels):
    """None but those of the arc."""


@kernel
def wants_more(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, nowhere: U64) -> None:
    edge[:] = 0


WANTS_MORE = Node("wants-more", wants_more, Edge)


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


def with_past(name, arc="ip4-input", bit=3):
    """A change: a node more, through which all packets of the arc go."""

    def change(graph):
        graph.add(past.NODE, name)
        graph.add_feature(arc, name, bit)

    return change


def on(world, name, arc="ip4-input"):
    for interface in world.router.interfaces:
        world.router.graph.arcs[arc].enable(name, interface.number)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_nothing_is_lost_miscounted_or_overtaken(n_workers):
    with World(n_workers) as world:
        world.router.start()
        packets, got = mix(3, flows=20, per_flow=200), []
        rng = random.Random(1)
        for i, first in enumerate(range(0, len(packets), 200)):
            world.send(world.lan, packets[first : first + 200])
            change = with_past(f"extra-{i}") if rng.random() < 0.5 else lambda graph: None
            stood = world.router.replace_graph(change)
            assert len(stood) == n_workers
            assert all(0 < seconds < 5 for seconds in stood)
            got += world.take(world.wan)
        world.settle()
        got += world.take(world.wan)
        assert in_order(got)
        assert len(got) == len(packets)
        assert world.node("ethernet-input") >= len(packets)
        assert world.router.graph.generation == i + 1
        with observe.attach(world.router.name) as view:
            rows = {row.name: row for row in view.ports()}
            assert rows["lan"].rx.packets == len(packets)
            assert rows["wan"].tx.packets == len(packets)


def test_a_node_more_and_one_less():
    with World(1) as world:
        world.router.replace_graph(with_past("extra"))
        on(world, "extra")
        packets = mix(4, flows=3, per_flow=20)
        out = world.exchange(world.lan, packets)
        assert len(out[1]) == len(packets)
        assert world.node("extra") == sum(packet[0] >> 4 == 4 for packet in packets)
        seen = world.node("ip4-input")
        world.router.replace_graph()
        assert "extra" not in world.router.graph.members
        assert world.node("ip4-input") == seen


def test_what_cannot_be_changes_nothing():
    with World(1) as world:
        before = world.router.graph
        files = sorted(path.name for path in world.router.arena.path.iterdir())

        def unwired(graph):
            graph.add(WANTS_MORE)

        with pytest.raises(WiringError, match="wants-more: table 'nowhere' is not given"):
            world.router.replace_graph(unwired)

        def standing():
            raise ConfigError("no")

        with pytest.raises(ConfigError, match="no"):
            world.router.replace_graph(standing=standing)
        assert world.router.graph is before
        assert sorted(path.name for path in world.router.arena.path.iterdir()) == files
        world.exchange(world.lan, mix(4, flows=3, per_flow=20))


def test_old_segments_are_given_back():
    with World(2) as world:
        count = len([*world.router.arena.path.iterdir()])
        view = observe.attach(world.router.name)
        for _ in range(5):
            world.router.replace_graph()
        names = [path.name for path in world.router.arena.path.iterdir()]
        assert len(names) == count
        assert "stats-1.5" in names
        assert "stats" not in names
        assert view.errors() == []  # what it has mapped is there until it goes
        assert view.now().generation == 5
        assert view.now() is view.now()
        view.close()


def test_where_there_is_no_room_to_publish_it_the_new_graph_is_there_all_the_same(
    monkeypatch, caplog
):
    def no_room(name, _content):
        raise ArenaError(f"document {name!r}: no room")

    with World(1) as world:
        router = world.router
        count = len([*router.arena.path.iterdir()])
        with monkeypatch.context() as patched:
            patched.setattr(router.arena, "write_document", no_room)
            router.replace_graph(with_past("extra"))
        assert "publishing the new graph failed: document 'forwarder': no room" in caplog.text
        names = [path.name for path in router.arena.path.iterdir()]
        assert len(names) == count, "what the old graph had is given back"
        assert "stats" not in names
        router._publisher.catch_up()
        with observe.attach(router.name) as view:
            assert "extra" in {node["name"] for node in view.nodes}
        world.exchange(world.lan, mix(4, flows=3, per_flow=20))


def test_what_was_cleared_stays_cleared():
    with World(1) as world:
        packets = mix(4, flows=3, per_flow=20)
        world.exchange(world.lan, packets)
        with observe.attach(world.router.name) as view:
            view.clear()
            world.router.replace_graph(with_past("extra"))
            assert view.now().runtime().packets == 0
            world.exchange(world.lan, packets)
            world.router.replace_graph()
            now = view.now()
            assert now.runtime().packets == len(packets)
            assert {row.name: row for row in now.ports()}["lan"].rx.packets == len(packets)
            view.clear()  # of a graph that is no more: of the one that is there
            assert view.now().runtime().packets == 0
        with observe.View(now.arena, heeds_clear=False) as view:
            assert view.runtime().packets == 2 * len(packets)


def test_a_capture_goes_on():
    with World(1) as world:
        packets = [p for p in mix(4, flows=3, per_flow=20) if p[0] >> 4 == 4]
        with world.router.captures.begin("ip4-lookup") as one:
            for change in (with_past("a"), with_past("b"), lambda graph: None):
                world.router.replace_graph(change)
                world.exchange(world.lan, packets)
                one.take()
            assert one.progress.packets == 3 * len(packets)
        world.router.replace_graph(with_past("extra"))
        with world.router.captures.begin("extra") as one:
            world.router.replace_graph()
            world.exchange(world.lan, packets)
            one.take()
            assert one.progress.packets == 0


def test_a_trace_is_of_one_graph():
    """Its nodes are named as they are in the graph that the packet went through."""
    with World(1) as world:
        world.router.start()
        stop = threading.Event()
        packets = mix(4, flows=3, per_flow=20)

        def busy():
            """Packets, and now and then another graph: a trace that meets one may begin anew."""
            rng, due = random.Random(1), 0.0
            while not stop.is_set():
                world.send(world.lan, packets)
                world.take(world.wan)
                if time.monotonic() >= due:
                    world.router.replace_graph(with_past("extra", bit=3))
                    due = time.monotonic() + rng.uniform(0.02, 0.2)

        thread = threading.Thread(target=busy)
        thread.start()
        try:
            with observe.attach(world.router.name) as view:
                for _ in range(5):
                    for packet in collect(view, 3, timeout_s=60):
                        names = [step.node for step in packet.steps]
                        assert names[0] == "lan-rx"
                        assert names[1] == "ethernet-input"
                        assert packet.steps[-1].end in ("sent", "kept", "freed")
        finally:
            stop.set()
            thread.join(60)


def test_a_trace_ends_though_graphs_change_faster_than_it_waits_for_more(monkeypatch):
    monkeypatch.setattr(packet_trace, "SETTLE_S", 60.0)
    with World(1) as world:
        world.router.start()
        stop = threading.Event()

        def changing():
            while not stop.wait(0.01):
                world.router.replace_graph()
                for _ in range(5):  # what was marked under the one before is not there any more
                    world.send(world.lan, mix(4, flows=3, per_flow=1))
                    time.sleep(0.005)
                world.take(world.wan)

        thread = threading.Thread(target=changing)
        thread.start()
        try:
            with observe.attach(world.router.name) as view:
                assert len(collect(view, 3, timeout_s=30)) == 3
        finally:
            stop.set()
            thread.join(60)


def test_readers_never_mix_two_graphs():
    with World(1) as world:
        packets = mix(4, flows=5, per_flow=100)
        world.router.start()
        stop, faults = threading.Event(), []

        def look():
            with observe.attach(world.router.name) as view:
                last = 0
                while not stop.is_set():
                    now = view.now()
                    runtime, ports = now.runtime(), {row.name: row for row in now.ports()}
                    if runtime.packets < last or ports["lan"].rx.packets < runtime.packets - 1:
                        faults.append((runtime.packets, last, ports["lan"]))
                    if {n.name for n in runtime.nodes} != {n["name"] for n in now.nodes}:
                        faults.append(now.generation)
                    last = runtime.packets
                    view.now().graph()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            for i, first in enumerate(range(0, len(packets), 25)):
                world.send(world.lan, packets[first : first + 25])
                world.router.replace_graph(with_past("extra") if i % 2 else lambda graph: None)
        finally:
            stop.set()
            thread.join(60)
        assert not faults


def test_a_queue_moves_between_changes():
    with World(2) as world:
        world.router.start()
        packets, got = mix(3, flows=20, per_flow=100), []
        for i, first in enumerate(range(0, len(packets), 100)):
            world.send(world.lan, packets[first : first + 100])
            world.router.move_queue("lan", i % 2)
            world.router.replace_graph()
            world.router.move_queue("wan", i % 2)
            assert world.router.placement.queues["lan", 0].worker == i % 2
            got += world.take(world.wan)
        world.settle()
        got += world.take(world.wan)
        assert in_order(got)
        assert len(got) == len(packets)


def test_control_words_stay(monkeypatch):
    with World(1) as world:
        control = world.router.graph.plan.control
        event = world.router.workers[0].event
        world.router.start()
        world.router.replace_graph()
        assert world.router.graph.plan.control is control
        assert world.router.workers[0].event == event
        assert int(control[c.GENERATION]) == 1
        rounds = int(control[c.ROUNDS])
        assert world.router.workers.quiesce(30)
        assert int(control[c.ROUNDS]) > rounds
        assert np.shares_memory(world.router.workers[0].plan.control, control)


def test_before_build():
    from vforward import Forwarder, VforwardError

    with Forwarder("early") as router, pytest.raises(VforwardError, match="build comes first"):
        router.replace_graph()
