"""arp-input against the oracle: what is answered, what is told, what is dropped and why."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import arp as oracle
from oracles import ethernet
from strategies import OURS, PORTS, arp_payloads, ip, mac, random_frames
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, GSO, LINK_BROADCAST, SELF_MADE, TRACED
from vforward.nodes.arp.input import NODE
from vforward.nodes.neighbor import events as ev
from vforward.tables import addresses as address_table
from vforward.tables.addresses import MAPPED
from vforward.tables.ports import PORT
from vforward.testing import run_node

ROUTED = [p for p in PORTS if p.mode == "l3"]
NUMBER = {port.name: i for i, port in enumerate(PORTS, 1)}
LAN = PORTS[0]


def make_tables(events=1024):
    ports = np.zeros(len(PORTS) + 1, PORT)
    addresses = np.zeros(32, address_table.ADDRESS)
    for port in PORTS:
        ports[NUMBER[port.name]]["mac"] = int.from_bytes(port.mac, "big")
        ports[NUMBER[port.name]]["vlan"] = port.vid or 0
        ports[NUMBER[port.name]]["tags"] = bool(port.vid)
        for own, length in port.addresses:
            address_table.add(
                addresses, NUMBER[port.name], address_table.mapped_int(own), 96 + length
            )
    ring = np.zeros(ev.items_for(events), np.uint64)
    return {"ports": ports, "addresses": addresses, "events": ring}


TABLES = make_tables()


def frame_of(port, payload, tci=None):
    """A frame as it comes in, and where its message begins."""
    vid = port.vid if tci is None else tci
    tag = b"" if vid is None else b"\x81\x00" + vid.to_bytes(2, "big")
    header = ethernet.header(ethernet.BROADCAST, mac(0x19), ethernet.ARP, tag)
    return header + payload, len(header)


def run(port, payloads, *, vector=256, tables=TABLES, tci=None, **given):
    frames = [frame_of(port, p, tci) for p in payloads]
    result = run_node(
        NODE,
        [f for f, _ in frames],
        l3=frames[0][1],
        rx_port=NUMBER[port.name],
        tables=tables,
        vector=vector,
        **given,
    )
    result.pool.check(held=result.rows)
    return result, [(e.kind, e.flags, e.port, e.ip, e.mac) for e in ev.drain(tables["events"])]


def expect(port, payloads, tci=None):
    """Edges, frames, reasons and events by the oracle."""
    edges, frames, reasons, events = [], [], [], []
    for payload in payloads:
        # First as one who knows every neighbor, to be told of all that could be learned; then none.
        result = oracle.receive(payload, port.mac, port.addresses, range(2**32))
        new = oracle.receive(payload, port.mac, port.addresses)
        if result.learn:
            flags = ev.OVERRIDE | (ev.ADD if new.learn else 0)
            flags |= ev.SOLICITED if result.reason == "reply" else 0
            sender, its_mac = MAPPED | result.learn[0], int.from_bytes(result.learn[1], "big")
            events.append((ev.LEARN, flags, NUMBER[port.name], sender, its_mac))
        reasons.append(result.reason)
        edges.append("drop" if result.reason else "reply")
        if result.reason:
            frames.append(frame_of(port, payload, tci)[0])
        else:
            pcp = (tci if tci is not None else port.vid) if port.vid is not None else None
            tag = ethernet.tag_of(pcp)
            head = ethernet.header(payload[8:14], port.mac, ethernet.ARP, tag)
            frames.append(head + result.reply)
    return edges, frames, reasons, events


def compare(port, payloads, vector, tci=None):
    result, events = run(port, payloads, vector=vector, tci=tci)
    edges, frames, reasons, expected_events = expect(port, payloads, tci)
    assert (result.edges, result.frames, events) == (edges, frames, expected_events)
    for i, reason in enumerate(reasons):
        assert not reason or result.reason(i) == reason
        assert result.counters.get(reason, 0) == (reasons.count(reason) if reason else 0)
        if not reason:
            assert result.meta[i]["tx_port"] == NUMBER[port.name]
    assert sum(result.counted.values()) == edges.count("drop")


@settings(max_examples=40, deadline=None)
@given(data=st.data(), port=st.sampled_from(ROUTED), vector=st.sampled_from([1, 3, 256]))
def test_it_does_what_the_oracle_does(data, port, vector):
    payloads = data.draw(st.lists(arp_payloads(port), min_size=1, max_size=24))
    compare(port, payloads, vector)


@settings(max_examples=15, deadline=None)
@given(payloads=st.lists(random_frames(60), min_size=1, max_size=9))
def test_random_bytes_are_dropped(payloads):
    compare(LAN, payloads, 256)


OWN, NEIGHBOR = ip("10.0.0.1"), ip("10.0.0.9")


def request(target=OWN, sender=NEIGHBOR, padding=b""):
    return oracle.request(mac(0x19), sender, target) + padding


@pytest.mark.parametrize("tci", [0, 0x6000])
def test_a_priority_tag_is_taken_off(tci):
    compare(LAN, [request(), request(padding=b"\xa5" * 18)], 256, tci)


@pytest.mark.parametrize("pcp", [0, 0x6000, 0xF000])
def test_the_tag_of_a_sub_interface_stays_as_it_came(pcp):
    vlan = PORTS[1]
    assert vlan.vid is not None
    asked = request(vlan.addresses[0][0], ip("10.0.10.9"))
    result, _ = run(vlan, [asked], tci=pcp | vlan.vid)
    assert result.frames[0][12:16] == b"\x81\x00" + (pcp | vlan.vid).to_bytes(2, "big")
    assert result.frames[0][:12] == mac(0x19) + LAN.mac


@pytest.mark.parametrize("outer", [b"\x88\xa8", b"\x81\x00"])
def test_both_tags_of_a_sub_interface_stay(outer):
    tables = make_tables()
    tables["ports"][NUMBER[LAN.name]]["tags"] = 2
    header = ethernet.BROADCAST + mac(0x19) + outer + b"\x20\x07\x81\x00\x00\x08\x08\x06"
    result = run_node(
        NODE, [header + request()], l3=len(header), rx_port=NUMBER[LAN.name], tables=tables
    )
    assert result.frames == [mac(0x19) + LAN.mac + header[12:] + oracle.reply(request(), LAN.mac)]


def test_a_reply_to_everybody_confirms_nothing():
    def prepare(record, i):
        record["flags"] |= LINK_BROADCAST if i else 0

    reply = oracle.reply(oracle.request(LAN.mac, OWN, NEIGHBOR), mac(0x19))
    _, events = run(LAN, [reply, reply], meta=prepare)
    assert [event[1] for event in events] == [7, ev.OVERRIDE | ev.ADD]


def test_a_long_frame_keeps_its_length():
    payload = request(padding=bytes(range(256)) * 10)
    assert len(payload) > BUF_ROOM
    compare(LAN, [payload], 256)


def test_a_reply_is_ours_and_carries_no_offload():
    def prepare(record, _):
        record["flags"] |= TRACED | LINK_BROADCAST | GSO | CSUM_PARTIAL

    result, _ = run(LAN, [request()], meta=prepare)
    assert result.edges == ["reply"]
    assert result.meta[0]["flags"] == TRACED | SELF_MADE


def test_a_probe_is_answered_and_not_learned():
    result, events = run(LAN, [request(sender=0)])
    assert (result.edges, events) == (["reply"], [])


def test_a_slow_control_plane_costs_no_answer():
    tables = make_tables(events=2)
    payloads = [request(sender=ip("10.0.0.2") + i) for i in range(5)]
    result, events = run(LAN, payloads, tables=tables)
    assert result.edges == ["reply"] * 5
    assert result.counted == {"events-full": 3}
    assert [event[3] & 0xFFFFFFFF for event in events] == [ip("10.0.0.2"), ip("10.0.0.3")]


def test_other_ports_addresses_are_not_ours():
    others = [a for a in OURS if a not in [own for own, _ in LAN.addresses]]
    result, _ = run(LAN, [request(a) for a in others])
    assert set(result.edges) == {"drop"}
    assert result.counted == {"not-for-us": len(others)}
