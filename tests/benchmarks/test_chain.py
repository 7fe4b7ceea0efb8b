# SPDX-License-Identifier: Apache-2.0
"""Service chains: each packet goes through every function, in each of the ways, and nothing is left."""

import numpy as np
import pytest

from gauges import Quiet
from oracles import checksum
from vforward.control import bench_command
from vforward.control.demo_world import may_use_interfaces
from vforward.memory.arena import runtime_directory
from vforward.rings.spsc import Ring
from vforward.testing import run_node

bench_command.report()  # makes `benchmarks` importable

from benchmarks.frames import udp_frame
from benchmarks.session import Session

from benchmarks import chain_cases, chain_nodes, peer_lab, perf


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(chain_cases, "RUNS", 2)
    monkeypatch.setattr(chain_cases, "COUNTED", 1 << 14)
    yield Session(gauge=Quiet(), limit_s=4, wanted=3, plot=tmp_path / "chain.png")
    assert not runtime_directory().exists() or list(runtime_directory().iterdir()) == []


@pytest.mark.parametrize("ttl", [0, 1, 2, 64, 255])
def test_the_function_is_a_hop(ttl):
    frame = bytearray(udp_frame(0x0A000002, 0x0B000001))
    frame[22] = ttl
    frame[24:26] = bytes(2)
    frame[24:26] = checksum.internet(frame[14:34]).to_bytes(2, "big")
    result = run_node(chain_nodes.FUNCTION, [bytes(frame)])
    if ttl < 2:
        assert result.out == {"drop": [bytes(frame)]}
        return
    (made,) = result.out["next"]
    assert made[22] == ttl - 1
    assert checksum.verifies(made[14:34])
    assert made[:22] == bytes(frame[:22])
    assert made[26:] == bytes(frame[26:])


@pytest.mark.parametrize("n", [1, 8])
def test_in_one_process(session, n):
    found = chain_cases.in_process(session, n)
    assert found.rates.value > 0
    assert found.copies == 0
    assert found.calls is None or found.calls.runs == 2
    assert found.calls is None or found.calls.value < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 3])
def test_on_rings(session, monkeypatch, n):
    monkeypatch.setattr(chain_cases, "PACKETS", 1 << 13)
    found = chain_cases.on_rings(session, n)
    assert found.rates.value > 0
    assert found.rates.runs == 2
    assert found.copies == 0
    assert found.calls is None or found.calls.value > 0


def test_without_perf_there_are_no_calls_and_all_else(session, monkeypatch):
    monkeypatch.setattr(perf, "PROGRAM", "no-such-program")
    found = chain_cases.in_process(session, 1)
    assert found.rates.value > 0
    assert found.calls is None
    row = chain_cases._row("chain-process-1", "process", 1, found)
    assert row["calls"] is None
    assert "calls_spread" not in row


def test_the_end_of_the_rings_sees_what_is_wrong():
    """A chain whose one ring leads back, so that no function sees the packets: wrong TTLs; and one from
    which two rows come in the wrong order."""
    from vforward.testing.run_node import heap_pool

    pool = heap_pool(64)
    frame = np.frombuffer(bytearray(udp_frame(1, 2)), np.uint8)

    def drive(packets, ttl, meddle=None):
        ring, own = Ring.make(64, np.uint32).array, np.zeros(8, np.uint64)
        state = np.zeros(2, np.uint64)
        rows = np.arange(8, dtype=np.uint32)
        if meddle is not None:
            state[0] = len(meddle)
            Ring(ring).push(meddle)
        out = np.zeros(256, np.uint32)
        chain_nodes.drive(
            pool.data, pool.meta, ring, ring, own, 0, rows, out, frame, state, packets, ttl
        )
        return own[chain_nodes.DONE], own[chain_nodes.WRONG]

    assert drive(100, 64) == (100, 0)
    assert drive(100, 63) == (100, 100)
    drive(8, 64)
    assert drive(2, 64, meddle=[0, 1]) == (2, 0)
    assert drive(2, 64, meddle=[1, 0]) == (2, 2)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize(("n", "copies"), [(1, (4, 5)), (3, (10, 13))])
def test_on_wires(session, monkeypatch, n, copies):
    """Copies: the sender's, and each member's three; or four, by AF_XDP."""
    if not may_use_interfaces():
        pytest.skip("no interfaces")
    monkeypatch.setattr(peer_lab, "RISE_S", 0.05)
    found = chain_cases.on_wires(session, n)
    assert found.rates.value > 0
    assert found.copies in copies
    assert found.calls is None or found.calls.value > 0
    assert found.calls is None or found.calls.runs == 2


def test_the_case_compares_the_ways(session, monkeypatch):
    figures = {"process": 8e6, "rings": 2e6, "wires": 1e5}

    def made(way):
        def measure(_session, n):
            found = chain_cases.repeat(lambda: [figures[way] / n], Quiet(), 10)
            calls = chain_cases.repeat(lambda: [0.25], Quiet(), 10)
            return chain_cases.Figures(found, 0, None if way == "wires" else calls)

        return measure

    monkeypatch.setattr(chain_cases, "MEASURE", {way: made(way) for way in figures})
    monkeypatch.setattr(chain_cases, "impossible", lambda **_: "")
    rows = list(chain_cases.chain(session))
    assert len(rows) == 3 * 8 + 1
    for row in rows[:-1]:
        assert row["calls"] == (None if row["way"] == "wires" else 0.25)
        assert row["what"] == "copies counted in the code, calls by perf"
    assert rows[0]["calls_spread"] == 0
    assert rows[-1]["ratios"] == {"rings": 4.0, "wires": 80.0}
    assert (rows[-1]["case"], rows[-1]["value"], rows[-1]["unit"]) == ("chain", 80.0, "x")
    assert session.plot.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(chain_cases, "impossible", lambda **_: "needs root")
    rows = list(chain_cases.chain(session))
    assert [row["missing"] for row in rows if row["case"].startswith("chain-wires")] == [
        "needs root"
    ] * 8
    assert rows[-1]["ratios"] == {"rings": 4.0}
