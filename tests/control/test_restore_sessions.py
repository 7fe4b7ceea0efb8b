# SPDX-License-Identifier: Apache-2.0
"""Shards of the last process: which can be read, clocks and secrets, who was to be ended."""

import numpy as np
import pytest

from restore_worlds import answer, die, router, udp
from vforward.control import restore_sessions as module
from vforward.memory.previous import Previous
from vforward.tables import session as t


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime"


def test_clocks_go_on():
    with router() as made:
        udp(made, 5000)
        for shard in made.firewall.shards:
            shard.array[t.NOW] += np.uint64(5000)
            shard.array[t.SWEPT] += np.uint64(5000)
            shard.parts.hot["seen"] = shard.array[t.NOW] & np.uint64(0xFFFF)
        clock = int(made.firewall.shards[0].array[t.NOW])
        die(made)
    with router() as made:
        assert clock <= int(made.firewall.shards[0].array[t.NOW]) <= clock + 60
        (session,) = made.sessions()
        assert session["age"] >= 5000


@pytest.mark.parametrize("clock", [1 << 31, 1 << 63, (1 << 64) - 1])
def test_a_clock_that_cannot_be_is_not_believed(clock):
    with router() as made:
        udp(made, 5000)
        made.firewall.shards[0].array[t.NOW] = clock
        die(made)
    with router() as made:
        assert int(made.firewall.shards[0].array[t.NOW]) < 1 << 31
        for shard in made.firewall.shards:
            shard.check()


def test_secrets_stay_where_they_are_some():
    with router(workers=2) as made:
        seeds = [shard.array[t.SEED : t.SEED + 6].tolist() for shard in made.firewall.shards]
        home = made.firewall.shards[0].array[t.HOME_SEED : t.HOME_SEED + 2].tolist()
        made.firewall.shards[1].array[t.SEED] = 0
        die(made)
    with router(workers=2) as made:
        again = [shard.array[t.SEED : t.SEED + 6].tolist() for shard in made.firewall.shards]
        assert again[0] == seeds[0]
        assert again[1] != seeds[1]
        for shard in made.firewall.shards:
            assert shard.array[t.HOME_SEED : t.HOME_SEED + 2].tolist() == home


def test_what_was_to_be_ended_is_not_there():
    """It was acknowledged; the worker had not come to it."""
    with router() as made:
        keep, end = udp(made, 5000), udp(made, 5001)
        assert made.kill_sessions(from_="10.0.1.9", port=5001) == 1
        die(made)
    with router() as made:
        assert len(made.sessions()) == 1
        assert answer(made, keep) == 5000
        assert answer(made, end) is None


def test_what_a_shard_has_counted_goes_on():
    with router(workers=2) as made:
        for port in range(5000, 5020):
            udp(made, port)
        opened = sum(shard.statistics()["opened"] for shard in made.firewall.shards)
        die(made)
    with router() as made:
        assert made.firewall.shards[0].statistics()["opened"] == opened == 20


@pytest.mark.parametrize("damage", ["head", "cut"])
def test_a_shard_that_cannot_be_read_is_named_and_the_other_is_there(runtime, caplog, damage):
    with router(workers=2) as made:
        for port in range(5000, 5040):
            udp(made, port)
        there = int(made.firewall.shards[0].array[t.OPEN])
        if damage == "head":
            made.firewall.shards[1].array[t.BITS] = 3
        die(made)
    if damage == "cut":
        file = runtime / "kept" / "sessions-1"
        file.write_bytes(file.read_bytes()[:9000])
    with router(workers=2) as made:
        assert len(made.sessions()) == there
        assert "the sessions of worker 1 are lost: segment 'sessions-1'" in caplog.text


def test_records_that_are_damaged_are_counted(caplog):
    with router() as made:
        for port in range(5000, 5010):
            udp(made, port)
        made.firewall.shards[0].parts.hot["k1"][[3, 5]] ^= np.uint64(1)
        die(made)
    with router() as made:
        assert len(made.sessions()) == 8
        assert "sessions of worker 0: 2 are damaged, and left out" in caplog.text


def test_a_firewall_that_is_off_now_has_none():
    with router() as made:
        udp(made, 5000)
        die(made)
    with router(rules=None) as made:
        assert int(made.firewall.shards[0].array[t.OPEN]) == 0
        made.firewall.shards[0].check()


def test_a_ring_that_is_not_there_dooms_nobody(tmp_path):
    assert module._doomed(Previous(tmp_path, 1), 0, 63).size == 0
