# SPDX-License-Identifier: Apache-2.0
"""host-punt against the oracle: the frame in which the host gets a packet."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.network import run_both
from oracles import host as oracle
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, GSO, LINK_BROADCAST
from vforward.nodes.host.punt import NODE
from vforward.tables.ports import HOST, PORT, ROUTED
from vforward.testing import packets

LAN, VLAN, ALONE, TAP = 1, 2, 3, 4
MAC = b"\x02\x00\x00\x00\x00\x01"
FROM = b"\x02\x00\x00\x00\x00\x99"


def ports():
    table = np.zeros(5, PORT)
    table["mac"] = int.from_bytes(MAC, "big")
    table["mode"] = ROUTED
    table[[LAN, VLAN]]["host"] = TAP
    table["host"][[LAN, VLAN]] = TAP
    table["mode"][TAP], table["peer"][TAP] = HOST, LAN
    table["mode"][0] = 0
    return {"ports": table}


def packet(version, payload):
    if version == 4:
        return packets.ip4("10.0.0.9", "10.0.0.1", packets.PROTO_TCP, payload)
    return b"\x60" + bytes(3) + len(payload).to_bytes(2, "big") + b"\x06\x40" + bytes(32) + payload


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([4, 6]),
            st.integers(0, 2),
            st.booleans(),
            st.sampled_from([LAN, VLAN, ALONE]),
            st.binary(max_size=40),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_as_the_oracle(given_packets):
    frames, offsets = [], []
    for version, tags, group, _, payload in given_packets:
        to = b"\x01\x00\x5e\x00\x00\x05" if group else MAC
        head = to + FROM + b"\x81\x00\x00\x07" * tags + b"\x08\x00"
        frames.append(head + packet(version, payload))
        offsets.append(len(head))

    def prepare(record, i):
        record["l3"] = int(record["off"]) + offsets[i]
        record["rx_port"] = given_packets[i][3]
        record["flags"] |= LINK_BROADCAST * given_packets[i][2]

    result = run_both(NODE, frames, meta=prepare, tables=ports())
    for i, (_, tags, group, port, _) in enumerate(given_packets):
        if port == ALONE:
            assert (result.edges[i], result.reason(i)) == ("drop", "no-host")
            continue
        assert result.edges[i] == "output"
        assert result.frames[i] == oracle.to_host(frames[i], tags, MAC, group=group)
        assert result.meta[i]["tx_port"] == TAP
    assert result.counters == {"no-host": result.edges.count("drop")}


def test_a_tap_that_is_down_is_none():
    tables = ports()
    tables["ports"]["mode"][TAP] = 0
    result = run_both(NODE, [bytes(60)], l3=14, rx_port=LAN, tables=tables)
    assert (result.edges, result.reason(0)) == (["drop"], "no-host")


def test_without_a_link_layer_header_it_is_from_the_proxy():
    bare = packet(4, b"x" * 30)
    result = run_both(NODE, [bare], l3=0, rx_port=LAN, tables=ports())
    assert result.frames == [MAC + oracle.proxy(MAC) + b"\x08\x00" + bare]


def test_offloads_and_chains_stay_as_they_are():
    frame = MAC + FROM + b"\x08\x00" + packet(4, bytes(BUF_ROOM))

    def prepare(record, _):
        record["flags"] |= GSO | CSUM_PARTIAL
        record["csum_start"] = int(record["off"]) + 34
        record["csum_off"], record["gso_size"] = 16, 1000

    result = run_both(NODE, [frame], l3=14, rx_port=LAN, meta=prepare, tables=ports())
    record = result.meta[0]
    assert result.frames == [frame]
    assert record["flags"] & GSO
    assert record["flags"] & CSUM_PARTIAL
    assert (record["csum_start"], record["csum_off"], record["gso_size"]) == (172, 16, 1000)
