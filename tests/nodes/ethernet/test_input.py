"""ethernet-input against the oracle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.network import NUMBER, bytes_from_l3, drops, run_both
from oracles import ethernet
from strategies import PORTS, mac
from vforward.layout import HEADROOM, LINK_BROADCAST
from vforward.nodes.ethernet.input import NODE

BY_NAME = {port.name: port for port in PORTS}
EDGE = {ethernet.IP4: "ip4", ethernet.IP6: "ip6", ethernet.ARP: "arp"}


def compare(arrivals):
    """Give frames, as (port name, frame), to the node and to the oracle."""

    def prepare(record, i):
        record["rx_port"] = NUMBER[arrivals[i][0]]

    result = run_both(NODE, [frame for _, frame in arrivals], meta=prepare)
    assert result.frames == [frame for _, frame in arrivals]
    for i, (name, frame) in enumerate(arrivals):
        record = result.meta[i]
        if BY_NAME[name].mode == "xconnect":
            assert result.edges[i] == ("cross-connect" if len(frame) >= 14 else "drop")
            assert record["rx_port"] == NUMBER[name]
            continue
        vids = {p.vid: p for p in PORTS if p.parent == name}
        want = ethernet.receive(frame, BY_NAME[name].mac, vids)
        if want.reason:
            assert (result.edges[i], result.reason(i)) == ("drop", want.reason)
            continue
        assert result.edges[i] == EDGE[want.ethertype]
        assert bytes_from_l3(result, i) == want.payload
        assert bool(record["flags"] & LINK_BROADCAST) == want.link_multicast
        assert record["rx_port"] == NUMBER[name if want.vid is None else vids[want.vid].name]
    assert result.counted == drops(result)
    return result


@settings(max_examples=60, deadline=None)
@given(st.lists(strategies.arrivals(), min_size=1, max_size=12))
def test_against_the_oracle(arrivals):
    compare(arrivals)


@pytest.mark.parametrize("tags", [[], [10], [0], [4094], [11], [10, 10]])
def test_every_truncation(tags):
    spec = strategies.EthSpec(mac(1), tags=[(ethernet.VLAN, vid) for vid in tags])
    frame = spec.build(bytes(8))
    compare([("lan", frame[:n]) for n in range(len(frame) + 1)])
    compare([("x0", frame[:n]) for n in range(len(frame) + 1)])


def test_every_ethertype():
    head = mac(1) + mac(9)
    compare([("lan", head + kind.to_bytes(2, "big") + bytes(46)) for kind in range(0, 65536, 8)])
    compare([("lan", head + kind.to_bytes(2, "big")) for kind in (0x0800, 0x0806, 0x8100, 0x88A8)])


def test_each_bit_of_the_destination():
    ours = int.from_bytes(mac(1), "big")
    others = [ours] + [ours ^ 1 << bit for bit in range(48)]
    compare([("lan", to.to_bytes(6, "big") + mac(9) + b"\x08\x00" + bytes(46)) for to in others])


def test_a_port_that_is_down_takes_nothing():
    result = run_both(NODE, [mac(1) + mac(9) + b"\x08\x00", bytes(13), b"\xff" * 60], rx_port=0)
    assert result.edges == ["drop"] * 3
    assert result.counted == {"down": 2, "truncated": 1}


def test_long_frames_are_passed_on_as_chains():
    frame = mac(1) + mac(9) + b"\x08\x00" + bytes(5000)
    result = compare([("lan", frame), ("x0", frame)])
    assert result.edges == ["ip4", "cross-connect"]
    assert result.meta[0]["l3"] == HEADROOM + 14
