"""The link-layer header of an answer, on ports without tags, with one and with two."""

import numpy as np
import pytest

from nodes import network6 as net
from nodes.network6 import LAN, STACKED, SUB
from vforward.layout import HEADROOM
from vforward.nodes.icmp6.answer import put_link_header, sender_mac
from vforward.testing import heap_pool

PEER = bytes.fromhex("02fffefdfcfb")


@pytest.mark.parametrize("port", [LAN, SUB, STACKED])
@pytest.mark.parametrize("ahead", [0, 8, 22])
def test_back_to_who_sent(port, ahead):
    pool = heap_pool(2)
    header = net.link_header(port, net.mac(1), PEER)
    l3 = HEADROOM + len(header) + ahead
    pool.data[1, HEADROOM : HEADROOM + len(header)] = np.frombuffer(header, np.uint8)
    record = pool.meta[1]
    record["off"], record["l3"], record["end"], record["rx_port"] = HEADROOM, l3, l3 + 40, port
    mac = sender_mac(pool.data, pool.meta, 1)
    assert mac == int.from_bytes(PEER, "big")
    put_link_header(pool.data, pool.meta, 1, net.ports(), np.uint64(mac))
    want = net.link_header(port, PEER)
    assert pool.data[1, record["off"] : l3].tobytes() == want
    assert record["off"] == l3 - len(want)
    assert (record["tx_port"], record["l3"]) == (port, l3)
    assert pool.data[1, l3] == 0xA5
