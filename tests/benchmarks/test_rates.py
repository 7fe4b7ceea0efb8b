# SPDX-License-Identifier: Apache-2.0
"""The tester by RFC 2544: it notices what is lost, doubled, reordered and corrupted, and finds a rate."""

import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gauges import Quiet
from oracles import checksum
from vforward.control import bench_command
from vforward.testing import packets, run_node

bench_command.report()  # makes `benchmarks` importable

from benchmarks.cases import CASES
from benchmarks.harness import clock
from benchmarks.rate_search import Trial, search
from benchmarks.session import Session

from benchmarks import peer_lab, rate_cases, rate_tester, tabulate, veth_lab
from benchmarks import rate_nodes as r
from vforward.control.demo_world import may_use_interfaces

SIZES = (60, 61, 100, 1514)
NONE = {"check_words": np.zeros(r.CHECK_WORDS, np.uint64)}
TABLES = r.templates(SIZES, b"\2" * 6, b"\4" * 6, "10.0.0.1", "10.0.0.2")


def words(n, gap=1, start=None):
    """Of a source that began a while ago."""
    made = np.zeros(r.SOURCE_WORDS, np.uint64)
    made[[r.LEFT, r.GAP, r.START]] = n, gap, clock() - 1_000_000 if start is None else start
    return made


def sent(n, pattern=(0,)):
    """n frames of bench-source, in order."""
    source_words = words(n)
    found = run_node(
        r.SOURCE,
        tables={
            **TABLES,
            "pattern": np.array(pattern, np.uint32),
            "source_words": source_words,
            **NONE,
        },
    )
    assert source_words[r.LEFT] == max(0, n - r.BURST)
    return found.frames


def checked(frames, n=64):
    """bench-check's words after these, for numbers below n; and what each took."""
    seen, waits = np.zeros(-(-n // 64), np.uint64), np.zeros(len(frames) + 1, np.uint32)
    check_words = np.zeros(r.CHECK_WORDS, np.uint64)
    tables = {"seen": seen, "waits": waits, "check_words": check_words}
    assert run_node(r.CHECK, frames, tables=tables).edges == ["next"] * len(frames)
    return check_words.tolist()[: r.HIGHEST], waits[: int(check_words[r.RECEIVED])]


def test_frames_are_right_by_the_oracle():
    frames = sent(8, pattern=[0, 1, 2, 3])
    assert [len(frame) for frame in frames] == [*SIZES, *SIZES]
    for number, frame in enumerate(frames):
        assert frame[:14] == b"\2" * 6 + b"\4" * 6 + b"\x08\0"
        assert checksum.verifies(frame[14:34])
        pseudo = frame[26:34] + b"\0\x11" + (len(frame) - 34).to_bytes(2, "big")
        assert checksum.verifies(pseudo + frame[34:])
        assert int.from_bytes(frame[34:36], "big") == r.FIRST_PORT + number
        assert int.from_bytes(frame[r.NUMBER : r.NUMBER + 8], "big") == number
        assert frame[r.FILL :] == bytes(at & 0xFF for at in range(r.FILL, len(frame)))


def test_all_that_comes_as_it_was_sent_is_received():
    before = clock()
    frames = sent(r.BURST, pattern=[3, 0, 2])
    found, waits = checked(frames)
    assert found == [r.BURST, 0, 0, 0, 0]
    assert waits.max() < clock() - before


def test_one_lost_is_noticed():
    frames = sent(10)
    found, _ = checked(frames[:4] + frames[5:])
    assert found == [9, 0, 0, 0, 0]


def test_one_duplicated_is_noticed():
    frames = sent(10)
    found, waits = checked([*frames[:4], frames[3], *frames[4:]])
    assert found == [10, 1, 0, 0, 0]
    assert len(waits) == 10


def test_one_reordered_is_noticed():
    frames = sent(10)
    found, _ = checked([*frames[:4], frames[5], frames[4], *frames[6:]])
    assert found == [10, 0, 1, 0, 0]


@given(st.integers(r.SOURCE_PORT, 99), st.integers(0, 7))
def test_one_corrupted_is_noticed(at, bit):
    """Any bit of the datagram. What is no UDP datagram to the test's port any more is counted too."""
    frames = [bytearray(frame) for frame in sent(10, pattern=[2])]
    frames[4][at] ^= 1 << bit
    found, _ = checked([bytes(frame) for frame in frames])
    other = r.TARGET_PORT <= at < r.UDP_LENGTH
    assert found == [9, 0, 0, 0 if other else 1, 1 if other else 0]


@pytest.mark.parametrize("at", [26, 29, 33])
def test_a_wrong_address_is_noticed(at):
    frame = bytearray(sent(1)[0])
    frame[at] ^= 1
    assert checked([bytes(frame)])[0] == [0, 0, 0, 1, 0]


def test_what_is_not_of_the_test_is_told_apart():
    arp = packets.arp_request(b"\2" * 6, "10.0.0.1", "10.0.0.2")
    tcp = bytearray(sent(1)[0])
    tcp[23] = 6
    short = sent(1)[0][:59]
    assert checked([arp, bytes(tcp), short, b""])[0] == [0, 0, 0, 0, 4]


def test_a_frame_without_checksum_or_cut_is_corrupted():
    whole = sent(3, pattern=[2])
    without = bytearray(whole[0])
    without[r.UDP_SUM : r.UDP_SUM + 2] = bytes(2)
    assert checked([bytes(without), whole[1][:-1], whole[1] + b"\0"])[0] == [0, 0, 0, 3, 0]


def test_what_is_late_of_an_earlier_trial_is_told_apart():
    source_words = words(1)
    source_words[r.BASE] = 64
    tables = {**TABLES, "pattern": np.zeros(1, np.uint32), "source_words": source_words, **NONE}
    later = run_node(r.SOURCE, tables=tables).frames
    assert checked(later)[0] == [0, 0, 0, 0, 1]
    assert checked(later, 65)[0] == [1, 0, 0, 0, 0]


def test_the_source_waits_until_a_packet_is_due():
    tables = {**TABLES, "pattern": np.zeros(1, np.uint32)}
    later = words(100, gap=1 << 62)
    later[[r.START, r.NEXT]] = clock(), 1 << 62
    assert run_node(r.SOURCE, tables={**tables, "source_words": later, **NONE}).frames == []
    # So late that 1000 are due: BURST of them are sent, and the next is due now.
    hz_gap = 1_000_000
    late = words(5000, gap=hz_gap << r.FRACTION, start=clock() - 1000 * hz_gap)
    assert (
        len(run_node(r.SOURCE, tables={**tables, "source_words": late, **NONE}).frames) == r.BURST
    )
    assert int(late[r.NEXT]) >> r.FRACTION >= 999 * hz_gap


class Forwarder:
    """Forwards so many packets per second, and whatever else only in part."""

    def __init__(self, most, reached=1e9):
        self.most, self.reached, self.tried = most, reached, []

    def __call__(self, rate):
        offered = min(rate, self.reached)
        self.tried.append(rate)
        sent = round(offered)
        return Trial(offered, sent, min(sent, self.most))


def test_the_search_finds_the_highest_rate_without_loss():
    forwarder = Forwarder(300_000)
    found = search(forwarder, 1_000_000, 0.0, steps=10)
    assert 299_000 <= found <= 300_000
    assert len(forwarder.tried) == 11


def test_the_search_allows_for_what_is_tolerated():
    assert 300_000 < search(Forwarder(300_000), 1_000_000, 0.01, steps=12) <= 300_000 / 0.99


def test_the_search_ends_where_all_is_forwarded():
    forwarder = Forwarder(10**9, reached=500_000)
    assert search(forwarder, 1_000_000, 0.0) == 500_000
    assert forwarder.tried == [1_000_000]


def test_who_forwards_nothing_has_no_rate():
    assert search(Forwarder(0), 1_000_000, 0.005) == 0.0


def test_loss_is_not_what_the_receiver_had_no_room_for():
    assert Trial(1.0, 1000, 900, overrun=60).lost == 40
    assert Trial(1.0, 1000, 900, overrun=60).loss == 0.04
    assert Trial(1.0, 0, 0).loss == 1.0


@pytest.fixture
def wire():
    """Two hosts and a Linux bridge between them."""
    if not may_use_interfaces():
        pytest.skip("no interfaces")
    with peer_lab.lab() as where, where.bridge():
        yield where


@pytest.mark.root
@pytest.mark.parametrize("apart", [False, True])
def test_a_bridge_forwards_all_of_a_slow_trial(wire, apart):
    frames = r.templates((60, 1514), b"\2" * 6, b"\4" * 6, "10.0.0.1", "10.0.0.2")
    before = os.sched_getaffinity(0)
    with rate_tester.between(wire.h1, wire.h2, frames, apart=apart) as test:
        assert test.apart == apart
        assert set(test.cpus) <= before
        assert len(set(test.cpus)) == (2 if apart and len(before) > 1 else 1)
        for pattern in ([0], [1], [0, 0, 1]):
            found = test.trial(pattern, 5_000, 0.2)
            assert (found.sent, found.received, found.lost) == (1000, 1000, 0)
            assert (found.duplicated, found.reordered, found.corrupted) == (0, 0, 0)
            assert found.offered <= 5_100
            assert len(found.waits) == 1000
            assert found.waits == sorted(found.waits)
        assert ("one thread" in test.says()) == (not apart)
    assert os.sched_getaffinity(0) == before


@pytest.mark.root
def test_what_is_not_forwarded_is_lost():
    frames = r.templates((60,), b"\2" * 6, b"\4" * 6, "10.0.0.1", "10.0.0.2")
    with (
        peer_lab.lab() as where,
        rate_tester.between(where.h1, where.h2, frames) as test,
    ):
        found = test.trial([0], 10_000, 0.05)
    assert (found.sent, found.received, found.loss, found.waits) == (500, 0, 1.0, [])


@pytest.mark.root
@pytest.mark.slow
def test_the_case_has_rates_and_latencies_of_each_size(monkeypatch):
    if not may_use_interfaces():
        pytest.skip("no interfaces")
    monkeypatch.setattr(rate_cases, "SIZES", (64, 1518))
    monkeypatch.setattr(rate_cases, "RUNS", 2)
    monkeypatch.setattr(rate_cases, "LIMITED", 0.0)
    rows = list(CASES["rates"].run(Session(gauge=Quiet(), limit_s=2)))
    by_name = {row["case"]: row for row in rows}
    assert {row["clock"] for row in rows} == {"TSC"}
    for size in ("64", "1518", "IMIX"):
        partial = by_name[f"rates-{size}-half-percent"]
        assert partial["value"] > 0
        assert partial["bytes"] == size
        assert "limited by the sender" in partial["note"]
        for load in (10, 50, 90):
            row = by_name[f"rates-{size}-latency-{load}"]
            if row["value"] is not None:
                figures = row["percentiles"]
                assert 0 < figures["p50"] <= figures["p99"] <= figures["p99.9"]
                assert figures.keys() == row["spreads"].keys()
                assert row["sent"] > 0 <= row["lost"]
    assert rows[-1]["case"] == "rates"
    assert rows[-1]["value"] == rows[0]["value"]


def test_sizes_mix_and_losses_are_those_of_the_documentation():
    """RFC 2544, 9.1, for Ethernet; the usual mix of 7 to 4 to 1."""
    assert rate_cases.SIZES == (64, 128, 256, 512, 1024, 1280, 1518)
    assert Counter(rate_cases.IMIX) == {64: 7, 594: 4, 1518: 1}
    assert set(rate_cases.TOLERATED.values()) == {0.0, 0.005}
    assert rate_cases.TOLERATED["no-drop"] == 0.0


@pytest.mark.parametrize("kind", ["duplicated", "corrupted"])
def test_a_doubled_or_corrupted_packet_ends_the_case(kind):
    good = Trial(1.0, 10, 7, reordered=2, overrun=1)
    assert rate_cases.checked(good) is good
    what = {"duplicated": "1 more than once, 0 corrupted", "corrupted": "0 more than once, 1 corr"}
    with pytest.raises(AssertionError, match=f"of 10 packets came 9, {what[kind]}"):
        rate_cases.checked(Trial(1.0, 10, 9, **{kind: 1}))


class Loses:
    """A tester on a way that loses one of so many packets at every rate; none of 0."""

    def __init__(self, of):
        self.of = of

    def trial(self, pattern, rate, seconds):
        n = 10_000
        offered = min(rate, 1_000_000.0)
        lost = n // self.of if self.of else 0
        return Trial(offered, n, n - lost, waits=[1.0, 2.0, 3.0])

    def says(self):
        return "nowhere"


def test_latency_is_of_the_rate_without_loss_and_of_no_other():
    def measured(of):
        rows = rate_cases._size(Session(gauge=Quiet(), limit_s=2), Loses(of), "64", [0])
        return {row["case"].removeprefix("rates-64-"): row for row in rows}

    rows = measured(of=0)
    assert rows["no-drop"]["value"] == rows["half-percent"]["value"] == 1_000_000
    assert rows["latency-50"]["offered"] == 500_000
    assert rows["latency-50"]["value"] == 3.0
    rows = measured(of=1000)
    assert rows["no-drop"]["value"] == 0
    assert rows["half-percent"]["value"] == 1_000_000
    for load in rate_cases.LOADS:
        row = rows[f"latency-{load}"]
        assert (row["value"], row["missing"]) == (None, "no rate without loss")


def test_latency_tells_what_was_lost_and_how_far_its_percentiles_lie_apart(monkeypatch):
    waits = [[4.0] * 100, [5.0] * 100, [8.0] * 100, [5.0] * 98 + [6.0, 7.0], [5.0] * 100]
    made = iter([Trial(100.0, 100, 97, overrun=1, reordered=2, waits=each) for each in waits])
    more = {"vector": 256, "packets": 0, "touched": 0}
    monkeypatch.setattr(rate_cases, "RUNS", len(waits))
    session = Session(gauge=Quiet())
    row = rate_cases._latency(session, "rates-64-latency-10", lambda: next(made), more)
    assert (row["sent"], row["lost"], row["overrun"], row["reordered"]) == (500, 10, 5, 10)
    assert row["percentiles"] == {"p50": 5.0, "p99": 5.0, "p99.9": 5.0}
    assert row["spreads"] == {"p50": 0.0, "p99": 0.2, "p99.9": 0.4}
    said = tabulate.remarks(row)
    assert "p99.9 5 ± 40.0%" in said
    assert "lost 10" in said


def test_without_root_there_is_no_figure(monkeypatch):
    monkeypatch.setattr(rate_cases, "impossible", lambda **_: "needs root")
    (row,) = rate_cases.rates(Session(gauge=Quiet()))
    assert (row["case"], row["value"], row["missing"]) == ("rates", None, "needs root")
    assert veth_lab.percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.0
