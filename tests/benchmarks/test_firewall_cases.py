# SPDX-License-Identifier: Apache-2.0
"""The cases of the firewall, run small: what a row says, and that a wrong packet is noticed."""

import numpy as np
import pytest

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.session import Session, arena

from benchmarks import acl_path_cases, firewall, rule_sets, session_cases


class Still:
    """A gauge of a core that nobody else uses."""

    best = 1.0

    def read(self):
        return 1.0

    def disturbed(self, _reading):
        return False


@pytest.fixture
def small():
    return Session(gauge=Still(), wanted=2, limit_s=0.1)


def test_packets_for_rules_can_be_forwarded():
    packets = acl_path_cases.forwardable(rule_sets.rules(200, 4), 5000)
    assert len(packets) == 5000
    for word in (acl_path_cases.SRC, acl_path_cases.DST):
        first = packets[:, word] >> 24
        assert not np.isin(first, [0, 127]).any()
        assert (first < 224).all()
    assert {6, 17, 1} < set((packets[:, acl_path_cases.KIND] >> 24).tolist())


def test_rules_without_sessions_add_to_a_path(small):
    first, last = acl_path_cases._rows(small, "acl-1k", 60)
    assert (first["case"], last["case"]) == ("acl-1k-session", "acl-1k")
    assert list(last["nodes"]) == ["ip4-acl", "rest of the path"]
    assert list(first["nodes"]) == ["ip4-session", *last["nodes"]]
    assert last["nodes"]["ip4-acl"] > 0
    assert last["rules"] == 60


def test_a_wrong_rule_is_noticed():
    with arena() as memory:
        bench = acl_path_cases.Bench(memory, 60)
        bench.check()
        bench.rules["rule"] = np.roll(bench.rules["rule"], 1)
        with pytest.raises(AssertionError, match="other rules"):
            bench.check()


@pytest.mark.parametrize("nat", [False, True])
def test_known_sessions_add_to_a_path(small, nat):
    udp, tcp = session_cases._known(small, "case", 500, nat=nat)
    assert (udp["protocol"], tcp["protocol"]) == ("udp", "tcp")
    assert tcp["nodes"]["ip4-session"] > 0
    assert tcp["sessions"] == 500


def test_a_packet_that_is_not_translated_is_noticed():
    with arena() as memory:
        bench = session_cases.Bench(memory, 500, session_cases.TCP, nat=True)
        bench.check()
        bench.nat = False
        with pytest.raises(AssertionError, match="packets are wrong"):
            bench.check()


def test_a_packet_without_a_session_is_noticed():
    with arena() as memory:
        bench = session_cases.Bench(memory, 500, session_cases.UDP)
        bench.sessions.clear()
        bench.switch(firewall.FEATURES)
        with pytest.raises(AssertionError, match="not all went"):
            bench.clocks([firewall.SESSION])


def test_new_sessions_are_opened_by_the_rules_in_a_full_table_too(small, monkeypatch):
    monkeypatch.setattr(session_cases, "ROOM", 4095)
    full, last = session_cases.session_new(small)
    assert (full["full"], last["full"]) == (True, False)
    for made in (full, last):
        assert made["clocks"]["ip4-acl"] > 0
        clocks = sum(made["clocks"].values())
        assert 0.1 < made["value"] * clocks / made["tsc_hz"] < 10
