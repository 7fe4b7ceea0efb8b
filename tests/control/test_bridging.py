"""Bridging: domains, members, static entries, ageing by a virtual clock, tags; and what it refuses."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.network import Heap
from oracles import bridge as oracle
from vforward.control.bridging import (
    AGE_S,
    BridgeSettings,
    Bridging,
    Counters,
    Known,
    Tag,
    rewrite,
)
from vforward.errors import ConfigError
from vforward.jit.kernel import i64, kernel, u64
from vforward.tables import bridge, mac
from vforward.tables.ports import BRIDGED, PORT

TICK = AGE_S / 16
MAC = 0x020000000001
BVI_MAC = 0x0200000000BB
C_TAG, S_TAG = 0x8100, 0x88A8


@kernel
def _learn(table, domains, domain, address, port):
    x = mac.mix(u64(address) << u64(16) | u64(domain) << u64(8))
    return mac.learn(table, domains, i64(domain), x, i64(port), i64(domains[0].now))


def new(n_ports: int = 16, **given: Any) -> Bridging:
    heap: Any = Heap()
    ports = np.zeros(n_ports, PORT)
    ports["mode"] = BRIDGED
    ports["mac"] = BVI_MAC
    return Bridging(heap, ports, **given)


def learn(bridging: Bridging, domain: int, address: int, port: int) -> int:
    return int(_learn(bridging.tables["mac"], bridging.tables["domains"], domain, address, port))


def test_a_domain():
    bridging = new()
    lan, other = bridging.add_domain("lan"), bridging.add_domain("other", BridgeSettings(limit=1))
    for port in (3, 1, 2):
        bridging.add_member(lan, port)
    bridging.add_member(other, 4, 7)
    assert bridging.members(lan) == [3, 1, 2]
    bridging.set_bvi(lan, 9)
    bridging.add_static(lan, MAC, 3)
    assert learn(bridging, other, MAC, 4) == mac.LEARNED
    assert learn(bridging, other, MAC + 1, 4) == mac.OVER_LIMIT
    bridging.check()
    assert bridging.entries() == [
        Known("lan", MAC, 3, True, 0),
        Known("lan", BVI_MAC, 9, True, 0),
        Known("other", MAC, 4, False, 0),
    ]
    assert bridging.counters() == {"lan": Counters(0, 0), "other": Counters(1, 0)}
    assert bridging.count() == 3
    assert [bridging.entries(n) for n in range(4)] == [bridging.entries()[:n] for n in range(4)]
    bridging.delete(lan, MAC)
    with pytest.raises(KeyError):
        bridging.delete(lan, MAC)
    bridging.set_bvi(lan, 10)
    assert bridging.entries()[0] == Known("lan", BVI_MAC, 10, True, 0)
    bridging.delete_member(lan, 1)
    bridging.check()
    assert bridging.members(lan) == [3, 2]
    bridging.delete_domain(lan)
    bridging.check()
    assert [entry.domain for entry in bridging.entries()] == ["other"]
    assert not bridging.tables["relay"][[1, 2, 3, 9, 10]].any()
    assert bridging.add_domain("again") == lan
    bridging.add_member(lan, 3)
    bridging.check()


def test_who_leaves_takes_its_stations_along():
    bridging = new()
    lan = bridging.add_domain("lan")
    bridging.add_member(lan, 1)
    bridging.add_member(lan, 2)
    learn(bridging, lan, MAC, 1)
    bridging.add_static(lan, MAC + 1, 1)
    learn(bridging, lan, MAC + 2, 2)
    bridging.delete_member(lan, 1)
    assert [entry.mac for entry in bridging.entries()] == [MAC + 2]
    assert bridging.flush(port=2) == 1
    with pytest.raises(KeyError):
        bridging.delete_member(lan, 1)
    bridging.check()


def test_ageing():
    bridging = new()
    lan = bridging.add_domain("lan")
    bridging.add_member(lan, 1)
    assert bridging.step(1000.0) == 1000.0 + TICK
    learn(bridging, lan, MAC, 1)
    bridging.add_static(lan, MAC + 1, 1)
    for k in range(1, 17):
        assert bridging.step(1000 + k * TICK) == pytest.approx(1000 + (k + 1) * TICK)
        assert bridging.entries() == [
            Known("lan", MAC, 1, False, pytest.approx(k * TICK)),
            Known("lan", MAC + 1, 1, True, 0),
        ]
    assert learn(bridging, lan, MAC, 1) == mac.SAME, "heard again: it begins anew"
    bridging.step(1000 + 32 * TICK)
    assert len(bridging.entries()) == 2
    bridging.step(1000 + 33.5 * TICK)
    assert [entry.mac for entry in bridging.entries()] == [MAC + 1]
    bridging.check()


def test_a_late_step_forgets_all_and_goes_on():
    bridging = new(age_s=160.0)
    lan = bridging.add_domain("lan")
    bridging.add_member(lan, 1)
    bridging.step(0.0)
    learn(bridging, lan, MAC, 1)
    assert bridging.step(1e6) == 1e6 + 10
    assert bridging.entries() == []
    learn(bridging, lan, MAC, 1)
    assert bridging.step(1e6 + 159) > 1e6 + 159
    assert len(bridging.entries()) == 1


def test_a_domain_that_learns_no_more_forgets():
    bridging = new()
    lan = bridging.add_domain("lan")
    bridging.add_member(lan, 1)
    learn(bridging, lan, MAC, 1)
    bridging.set(lan, BridgeSettings(learn=False))
    assert bridging.entries() == []
    assert learn(bridging, lan, MAC, 1) == mac.OFF


def test_settings_are_bits():
    bridging = new()
    for setting, bit in (
        ("learn", bridge.LEARN),
        ("flood_unknown", bridge.FLOOD_UNKNOWN),
        ("flood_broadcast", bridge.FLOOD_BROADCAST),
        ("flood_multicast", bridge.FLOOD_MULTICAST),
        ("forward_reserved", bridge.FORWARD_RESERVED),
    ):
        usual = BridgeSettings().flags
        assert BridgeSettings(**{setting: not usual & bit}).flags == usual ^ bit
    assert bridging.tables["domains"]["flags"][bridging.add_domain("x")] == BridgeSettings().flags


def test_the_worker_looks_for_tags_only_where_some_change():
    bridging = new()
    lan = bridging.add_domain("lan")
    rewriting = bridging.tables["domains"]["rewriting"]
    bridging.set_tags(1, rewrite([Tag(C_TAG, 10)]))
    assert not rewriting[0], "that port is in no domain"
    bridging.add_member(lan, 2)
    assert not rewriting[0]
    bridging.add_member(lan, 1)
    assert rewriting[0]
    bridging.delete_member(lan, 1)
    assert not rewriting[0]


TAGS = st.lists(st.builds(Tag, st.sampled_from([C_TAG, S_TAG]), st.integers(1, 4094)), max_size=2)


@given(TAGS, TAGS, st.integers(0, 2) | st.none())
def test_out_undoes_in(match, push, pop):
    if pop is not None and pop > len(match):
        with pytest.raises(ConfigError, match="pop"):
            rewrite(match, pop, push)
        return
    change = rewrite(match, pop, push)
    tags = b"".join(t.tpid.to_bytes(2, "big") + t.vid.to_bytes(2, "big") for t in match)
    frame = bytes(range(12)) + tags + b"\x08\x00" + bytes(46)
    inside = oracle.retag(frame, change.in_pop, change.in_push)
    assert inside is not None
    kept = tags[4 * (len(match) if pop is None else pop) :]
    pushed = b"".join(t.tpid.to_bytes(2, "big") + t.vid.to_bytes(2, "big") for t in push)
    assert inside == frame[:12] + pushed + kept + frame[12 + len(tags) :]
    assert oracle.retag(inside, change.out_pop, change.out_push) == frame


def test_what_is_refused():
    bridging = new()
    lan = bridging.add_domain("lan")
    bridging.add_member(lan, 1)
    other = bridging.add_domain("other")
    for message, call in (
        ("'lan': there is one", lambda: bridging.add_domain("lan")),
        ("'lan': port 1 is in 'lan'", lambda: bridging.add_member(lan, 1)),
        ("'other': port 1 is in 'lan'", lambda: bridging.add_member(other, 1)),
        ("'other': port 1 is in 'lan'", lambda: bridging.set_bvi(other, 1)),
        ("no port 99", lambda: bridging.add_member(lan, 99)),
        ("no port 0", lambda: bridging.add_member(lan, 0)),
        ("no bridge domain 77", lambda: bridging.add_member(77, 2)),
        ("port 2: split-horizon group 256", lambda: bridging.add_member(lan, 2, 256)),
        ("'other': port 1 is not in it", lambda: bridging.add_static(other, MAC, 1)),
        ("ffffffffffff is no station", lambda: bridging.add_static(lan, 0xFFFFFFFFFFFF, 1)),
        ("000000000000 is no station", lambda: bridging.add_static(lan, 0, 1)),
        ("limit = -1", lambda: bridging.add_domain("bad", BridgeSettings(limit=-1))),
        ("1025 ports", lambda: new(1025)),
        ("7 entries", lambda: new(entries=7)),
        ("ageing time 1", lambda: new(age_s=1)),
        ("push has 3 tags", lambda: rewrite([], 0, [Tag(C_TAG, 1)] * 3)),
        ("VLAN id 4095", lambda: rewrite([], 0, [Tag(C_TAG, 4095)])),
        ("0x9100", lambda: rewrite([], 0, [Tag(0x9100, 1)])),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
    for number in range(3, bridge.DOMAINS):
        bridging.add_domain(f"domain {number}")
    with pytest.raises(ConfigError, match="255 already"):
        bridging.add_domain("one too many")
