"""The record of a port and the arrays of tags: what nodes rely on, and the last entries of all."""

import numpy as np
import pytest

from vforward.control.interfaces import PORTS_MAX
from vforward.nodes.ethernet.input import NODE
from vforward.tables import ports as table
from vforward.tables.ports import NO_MAC, PORT, ROUTED, STACKED, STACKED_MAX, TAGGED, VIDS
from vforward.testing import run_node

MAC = b"\x02\0\0\0\0\x01"
MAIN, ONE, TWO = PORTS_MAX - 1, PORTS_MAX - 2, PORTS_MAX - 3
LAST_VID, LAST_BLOCK = VIDS - 2, STACKED_MAX - 1
"""VLAN id 4095 is reserved (IEEE 802.1Q-2018 table 9-2)."""


def test_a_field_is_stored_at_once():
    """Packets come meanwhile: a store that lies across words could be seen by halves."""
    for name in PORT.names:
        kind, at = PORT.fields[name][:2]
        assert at % kind.base.itemsize == 0, name


def test_words_are_not_mistaken_for_each_other():
    assert NO_MAC > (1 << 48) - 1
    assert STACKED == 1 << 15  # of 16 bits
    assert max(PORTS_MAX, STACKED_MAX) <= STACKED
    modes = (table.ROUTED, table.CROSS_CONNECTED, table.BRIDGED, table.HOST, table.BVI)
    assert len({0, *modes}) == 6


@pytest.fixture
def tables():
    """The last port, with sub-interfaces of the last VLAN: one tag, and two with the last block."""
    ports = np.zeros(PORTS_MAX, PORT)
    ports["filter"], ports["mac"] = NO_MAC, int.from_bytes(MAC, "big")
    for number, tags in ((MAIN, 0), (ONE, 1), (TWO, 2)):
        ports[number]["mode"], ports[number]["tags"] = ROUTED, tags
        ports[number]["tpid"] = 0x8100 * (tags > 0)
    ports[MAIN]["flags"], ports[MAIN]["filter"] = TAGGED, ports[MAIN]["mac"]
    vlans, inner = (np.zeros(n * VIDS, np.uint16) for n in (PORTS_MAX, STACKED_MAX))
    vlans[MAIN * VIDS + LAST_VID] = STACKED | LAST_BLOCK
    inner[LAST_BLOCK * VIDS], inner[LAST_BLOCK * VIDS + LAST_VID] = ONE, TWO
    return {"ports": ports, "vlans": vlans, "inner_vlans": inner}


def test_the_last_of_all(tables):
    def frame(*vids):
        tags = b"".join(b"\x81\0" + (0xF000 | vid).to_bytes(2, "big") for vid in vids)
        return MAC + b"\x02\0\0\0\0\x63" + tags + b"\x08\0" + bytes(46)

    found = {(): (MAIN, 14), (LAST_VID,): (ONE, 18), (LAST_VID, LAST_VID): (TWO, 22)}
    result = run_node(NODE, [frame(*vids) for vids in found], tables=tables, rx_port=MAIN)
    assert result.edges == ["ip4"] * 3
    headers = (result.meta["l3"] - result.meta["off"]).tolist()
    assert list(zip(result.meta["rx_port"].tolist(), headers, strict=True)) == [*found.values()]
    others = [(VIDS - 1,), (1,), (VIDS - 1, LAST_VID), (LAST_VID - 1, LAST_VID)]
    result = run_node(NODE, [frame(*vids) for vids in others], tables=tables, rx_port=MAIN)
    assert result.edges == ["drop"] * 4
    assert result.counted == {"unknown-vlan": 4}
