"""The router's graph, laid out and not compiled: all is wired and reached, and no name is in the way."""

import re

import numpy as np
import pytest

from nodes.network import Heap
from vforward.control import router_graph
from vforward.control.config_types import NAME
from vforward.control.hand_off import HandOff
from vforward.control.router_graph import BVI_EDGE, BVI_LABEL, OUTPUT, WORKER_LABEL, before_tx
from vforward.graph.build import Graph
from vforward.graph.checks import check, in_order
from vforward.graph.node import Kind
from vforward.io.memory import MemoryPort
from vforward.io.null import NullPort
from vforward.nodes import CATALOG
from vforward.tables.ports import PORT
from vforward.testing import heap_pool

LAID = {"whole", "skips", "features", "handoff", "handed"}
"""Tables that lay_out gives; all others are the forwarder's to give."""
SEVERAL = 3


class Several(MemoryPort):
    """A port of several queues, which sends no super-frames."""

    def __init__(self):
        super().__init__()
        self.whole = np.zeros(1, np.uint64)
        self.outboxes = [{"outbox": np.zeros(k + 1, np.uint32)} for k in range(SEVERAL)]

    def receivers(self):
        return super().receivers() * SEVERAL

    def senders(self):
        return super().senders()[0], self.outboxes


def laid(ports=(), workers=1):
    """The graph, found to be wired without a gap or a cycle, and the workers' rings."""
    pool = heap_pool(256)
    graph = Graph(Heap(), pool, workers=workers)
    given = {name for node in CATALOG for name in node.tables} - LAID
    graph.tables = dict.fromkeys(given, np.zeros(1, np.uint64))
    rings = HandOff(Heap(), pool, np.zeros(8, PORT), workers) if workers > 1 else None
    router_graph.lay_out(graph, ports, rings)
    check(graph)
    assert in_order(graph)[-1].name == "drop"
    return graph, rings


@pytest.fixture
def ports():
    return [("a", MemoryPort()), ("many", Several()), ("sink", NullPort())]


def reached(graph):
    """Nodes to which a way leads from an input."""
    found = {name for name, member in graph.members.items() if member.node.kind is Kind.INPUT}
    todo = list(found)
    while todo:
        ways = graph.ways(graph.members[todo.pop()]).values()
        todo += {to for _, to in ways} - found
        found.update(todo)
    return found


@pytest.mark.parametrize("workers", [1, SEVERAL])
def test_packets_come_to_every_node(ports, workers):
    graph, _ = laid(ports, workers)
    assert reached(graph) == {*graph.members}
    drops = {m.wired["drop"] for m in graph.members.values() if "drop" in m.edges}
    assert drops == {"drop"}


def test_every_node_has_its_place(ports):
    """But the one that stands where a plug-in was."""
    graph, _ = laid(ports, SEVERAL)
    there = {member.node.name for member in graph.members.values()}
    assert {node.name for node in CATALOG} - there == {"arc-past"}
    alone, _ = laid(ports)
    more = {name for name in graph.members if "hand-off" in name or "take-up" in name}
    assert {*graph.members} - {*alone.members} == more
    assert len(more) == 2 + 2 * 3  # of output; of each family, pieces too


def test_ports_in_their_order(ports):
    graph, _ = laid(ports)
    output = graph.members[OUTPUT]
    assert output.edges == [BVI_LABEL, "a", "many", "sink"]
    assert output.edges[BVI_EDGE] == BVI_LABEL
    to = {"a": "a-tx", "many": "many-segment", "sink": "sink-tx"}
    assert output.wired == {BVI_LABEL: "bvi-output", **to}
    assert {name: before_tx(graph, name) for name, _ in ports} == to
    cut = graph.members["many-segment"]
    assert cut.wired == {"next": "many-tx", "drop": "drop"}
    assert cut.tables["whole"] is ports[1][1].whole
    assert "sink-rx" not in graph.members
    for name in ("a-rx", "many-rx", "many-rx-1", "many-rx-2"):
        assert graph.members[name].wired == {"next": "ethernet-input"}
    assert len([m for m in graph.members.values() if m.node.name == "memory-rx"]) == 4


def test_each_worker_sends_by_tables_of_its_own_where_the_port_has_them(ports):
    graph, _ = laid(ports, SEVERAL)
    one, many = (graph.members[f"{name}-tx"].own for name in ("a", "many"))
    assert len(one) == SEVERAL
    assert all(own["outbox"] is one[0]["outbox"] for own in one)
    assert [own["outbox"].size for own in many] == [1, 2, 3]


@pytest.mark.parametrize(
    "name", ["ip4", "ip6", "drop", "again", "interface-output", "l2.forward-rx"]
)
def test_a_port_may_have_any_name(name):
    graph, _ = laid([(name, Several())])
    assert before_tx(graph, name) == f"{name}-segment"


@pytest.mark.parametrize("workers", [1, SEVERAL])
def test_no_other_node_is_named_as_those_of_ports(workers):
    graph, _ = laid((), workers)
    assert not [m for m in graph.members if re.fullmatch(r".+-(rx|rx-\d+|tx|segment)", m)]
    for label in (BVI_LABEL, WORKER_LABEL):
        assert not re.fullmatch(NAME, label)


@pytest.mark.parametrize(
    ("workers", "first"),
    [(1, ["urpf", "reassembly"]), (SEVERAL, ["urpf", "hand-off", "reassembly", "piece-hand-off"])],
)
@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_features_and_what_a_known_flow_goes_past(ports, family, workers, first):
    graph, _ = laid(ports, workers)
    arc = graph.arcs[f"{family}-input"]
    names = [f"{family}-{feature}" for feature in (*first, "session", "acl", "police")]
    assert list(arc.features) == names
    assert arc.end == f"{family}-lookup"
    assert arc.bits == laid((), workers)[0].arcs[arc.name].bits  # whatever ports come and go
    acl, police = (1 << arc.bits[f"{family}-{rule}"] for rule in ("acl", "police"))
    for node in ("session", "acl"):  # without a treatment, and with one
        skips = graph.members[f"{family}-{node}"].tables["skips"]
        assert skips.tolist() == [acl | police, acl]


def test_workers_hand_to_each_other_by_rings_of_one_kind(ports):
    graph, rings = laid(ports, SEVERAL)
    output = graph.members[OUTPUT]
    assert output.edges[-1] == WORKER_LABEL
    assert output.wired[WORKER_LABEL] == "output-hand-off"
    assert graph.members["output-take-up"].wired["next"] == OUTPUT
    for kind in ("output", "ip4", "ip6"):
        givers = ["hand-off"] if kind == "output" else ["hand-off", "piece-hand-off"]
        for giver in givers:
            assert graph.members[f"{kind}-{giver}"].tables["handoff"] is rings.giving(kind)
        taken = [own["handed"] for own in graph.members[f"{kind}-take-up"].own]
        wanted = [own["handed"] for own in rings.taking(kind)]
        assert all(mine is its for mine, its in zip(taken, wanted, strict=True))
    for family, again in (("ip4", "again"), ("ip6", "again6")):
        starts = graph.arcs[f"{family}-input"].starts
        assert starts == (f"{family}-input", again, f"{family}-take-up")
        assert graph.members[f"{family}-hand-off"].node.name == f"{family}-hand-off"
