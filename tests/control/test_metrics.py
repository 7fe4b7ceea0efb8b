# SPDX-License-Identifier: Apache-2.0
"""Metrics, read back by Prometheus' own parser and held against the arena's known numbers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import fake_forwarder as fake
from http_calls import call
from vforward import __version__
from vforward.control import metrics, observe
from vforward.control.observe import View
from vforward.graph import control as c
from vforward.memory.arena import Arena
from vforward.memory.place import API_SOCKET

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana.json"


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


@pytest.fixture
def arena():
    with fake.arena() as made:
        fake.add_firewall(made)
        stack = made.make("stack", 4 + 1024, np.uint32)
        stack[2] = 1000
        yield made


def samples(text):
    """Name and labels, without quotes, -> value."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def read():
    with Arena.attach("fake") as arena:
        return samples(metrics.text(View(arena, heeds_clear=False)))


WANTED = {
    f"vforward_info{{name=fake,version={__version__}}}": 1,
    "vforward_start_time_seconds": 1.0e9,
    "vforward_clocks_per_second": fake.HZ,
    "vforward_worker_running": 1,
    "vforward_rounds_total": 40,
    "vforward_sleeps_total": 7,
    "vforward_port_received_packets_total{port=lan}": 100,
    "vforward_port_received_bytes_total{port=lan}": 6400,
    "vforward_port_received_drops_total{port=lan}": 11,
    "vforward_port_sent_packets_total{port=lan}": 87,
    "vforward_port_sent_bytes_total{port=lan}": 5568,
    "vforward_port_sent_drops_total{port=lan}": 3,
    "vforward_node_calls_total{node=lan-rx}": 4,
    "vforward_node_packets_total{node=ethernet-input}": 100,
    "vforward_node_clocks_total{node=ethernet-input}": 2000,
    "vforward_node_empty_polls_total{node=lan-rx}": 50,
    "vforward_drops_total{node=ethernet-input,reason=not-for-us}": 6,
    "vforward_drops_total{node=lan,reason=kernel-ring-full}": 11,
    "vforward_events_total{event=bytes,node=lan-rx}": 6400,
    "vforward_routes": 1,
    "vforward_neighbors": 1,
    "vforward_macs{bridge=office}": 3,
    "vforward_buffers": 1024,
    "vforward_buffers_free": 1000,
    "vforward_sessions{state=established}": 1,
    "vforward_sessions_max": 7,
    "vforward_policer_packets_total{colour=green,policer=gold}": 5,
    "vforward_policer_bytes_total{colour=red,policer=gold}": 200,
    "vforward_nat_allocated_total{rule=0}": 4,
    "vforward_nat_exhausted_total{rule=0}": 1,
}


def test_all_of_it(arena):
    found = read()
    assert {name: found.get(name) for name in WANTED} == WANTED


def test_a_sub_interface_counts_nothing(arena):
    assert not [name for name in read() if "port=seven" in name]


def test_clear_changes_nothing(arena):
    before = read()
    with observe.attach() as view:
        view.clear()
        assert view.runtime().packets == 0
    assert read() == before
    fake.work(arena)
    assert read()["vforward_port_received_packets_total{port=lan}"] == 200


def test_without_a_firewall():
    with fake.arena():
        found = read()
    assert found["vforward_routes"] == 1
    assert not [name for name in found if "sessions" in name or "policer" in name]


def test_the_latency_of_the_loop(arena):
    control = arena.open("control")
    control[c.ROUND_TIMES] = 3
    control[c.ROUND_TIMES + 4] = 2
    control[c.ROUND_TIMES + c.ROUND_BUCKETS - 1] = 1
    control[c.ROUND_CLOCKS] = fake.HZ // 2
    found = read()
    assert found["vforward_round_seconds_count"] == 6
    assert found["vforward_round_seconds_sum"] == 0.5
    assert found["vforward_round_seconds_bucket{le=5.12e-07}"] == 3
    assert found["vforward_round_seconds_bucket{le=8.19e-06}"] == 5
    assert found["vforward_round_seconds_bucket{le=+Inf}"] == 6


def test_served():
    with fake.served() as arena:
        answer = call(arena.path / API_SOCKET, "GET", "/metrics")
        assert answer.status == 200
        assert answer.kind.startswith("text/plain; version=")
        assert samples(answer.body) == read()


def test_the_dashboard_asks_for_what_there_is(arena):
    names = {re.sub(r"\{.*", "", name) for name in read()}
    board = json.loads(DASHBOARD.read_text())
    texts = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = set(re.findall(r"vforward_\w+", " ".join(texts)))
    assert len(asked) > 20
    assert asked <= names, asked - names
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
