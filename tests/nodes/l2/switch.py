# SPDX-License-Identifier: Apache-2.0
"""A switch of eight ports for the tests of its nodes: as tables, and as the oracle.

Ports 1 to 4 and the BVI 7 are domain 1's, 5, 6 and 8 domain 2's. 2 and 3 are of one split-horizon
group. 3 is a VLAN sub-interface, 4 pushes a service tag, 6 translates two tags to one.
"""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from nodes.network import Heap
from oracles import bridge as oracle
from vforward.control.bridging import BridgeSettings, Bridging, Tag, rewrite
from vforward.tables.ports import BRIDGED, BVI, NO_MAC, PORT

BVI_MAC = bytes.fromhex("02000000bb01")
C_TAG, S_TAG = 0x8100, 0x88A8
PORTS = [
    oracle.Port(1, 1),
    oracle.Port(2, 1, group=1),
    oracle.Port(3, 1, group=1, in_pop=1, out_push=((C_TAG, 10),)),
    oracle.Port(4, 1, in_push=((S_TAG, 200),), out_pop=1),
    oracle.Port(5, 2),
    oracle.Port(6, 2, in_pop=2, in_push=((C_TAG, 4094),), out_pop=1, out_push=((S_TAG, 7), (C_TAG, 8))),
    oracle.Port(7, 1, bvi=True),
    oracle.Port(8, 2, group=255),
]  # fmt: skip
REWRITES = {
    3: rewrite([Tag(C_TAG, 10)]),
    4: rewrite([], 0, [Tag(S_TAG, 200)]),
    6: rewrite([Tag(S_TAG, 7), Tag(C_TAG, 8)], 2, [Tag(C_TAG, 4094)]),
}
STATIC = (1, bytes.fromhex("020000000005"), 2)
MACS = [
    *(bytes([2, 0, 0, 0, 0, i]) for i in range(1, 9)),
    BVI_MAC,
    b"\xff" * 6,
    bytes.fromhex("01005e000001"),
    *(bytes.fromhex(text) for text in ("0180c200000e", "0180c2000010", "0180c2000000")),
    bytes(6),
]
SETTINGS = st.builds(
    oracle.Domain,
    *[st.sampled_from([True, True, True, False])] * 4,
    st.booleans(),
    st.sampled_from([None, 0, 1, 3]),
)


@st.composite
def frames(draw: Any) -> bytes:
    """A frame with up to three tags, now and then cut short or longer than a buffer."""
    frame: bytes = draw(st.sampled_from(MACS)) + draw(st.sampled_from(MACS))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        kind = draw(st.sampled_from([C_TAG, S_TAG]))
        frame += kind.to_bytes(2, "big") + draw(st.integers(0, 0xFFFF)).to_bytes(2, "big")
    frame += draw(st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x90\x00"]))
    frame += bytes(range(draw(st.sampled_from([0, 1, 46, 255]))))
    if draw(st.integers(0, 19)) == 0:
        frame += bytes(2000)
    return frame[: draw(st.integers(1, 22))] if draw(st.integers(0, 9)) == 0 else frame


def ports(given: list[oracle.Port]) -> NDArray[Any]:
    table = np.zeros(16, PORT)
    table["filter"] = NO_MAC
    for port in given:
        table[port.number]["mode"] = BVI if port.bvi else BRIDGED
        table[port.number]["parent"] = port.number
        if port.bvi:
            table[port.number]["mac"] = int.from_bytes(BVI_MAC, "big")
    return table


def build(
    domains: dict[int, oracle.Domain], *, plain: bool = False
) -> tuple[Bridging, dict[str, NDArray[Any]], oracle.Bridge]:
    """The control side, the tables of its nodes, and the oracle. plain: no tags change."""
    given = [oracle.Port(p.number, p.domain, p.group, p.bvi) for p in PORTS] if plain else PORTS
    heap: Any = Heap()
    table = ports(given)
    bridging = Bridging(heap, table, entries=1 << 13)
    reference = oracle.Bridge(given, {n: oracle.Domain(**vars(d)) for n, d in domains.items()})
    for number, domain in sorted(reference.domains.items()):
        domain.members, domain.moves = [], 0
        settings = BridgeSettings(
            domain.learn, domain.flood_unknown, domain.flood_broadcast, domain.flood_multicast,
            domain.forward_reserved, domain.limit,
        )  # fmt: skip
        assert bridging.add_domain(f"domain {number}", settings) == number
    for port in given:
        if port.number in REWRITES and not plain:
            bridging.set_tags(port.number, REWRITES[port.number])
        if port.bvi:
            bridging.set_bvi(port.domain, port.number)
            reference.domains[port.domain].bvi = port.number
            reference.add_static(port.domain, BVI_MAC, port.number)
        else:
            bridging.add_member(port.domain, port.number, port.group)
            reference.domains[port.domain].members.append(port.number)
    bridging.add_static(STATIC[0], int.from_bytes(STATIC[1], "big"), STATIC[2])
    reference.add_static(*STATIC)
    return bridging, {**bridging.tables, "ports": table}, reference
