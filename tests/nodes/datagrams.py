"""Datagrams in pieces, as they should come and as they should not, for tests of both reassemblies."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from nodes.network import Heap
from oracles import reassembly as oracle
from tables.session_world import header
from vforward.layout import PORTS_KNOWN
from vforward.tables.ports import PORT
from vforward.tables.reassembly import Reassembly
from vforward.tables.reassembly_check import check
from vforward.testing import packets, run_node
from vforward.testing.run_node import BUF_ROOM

L2, ON = 14, "arc-3"
FEATURES = 0b11000 | 1 << 62
SIZE, LIMIT, HZ = 4, 14, 10**15
TCP, UDP, GRE = 6, 17, 47
ZONE = 5


@dataclass(frozen=True)
class Cut:
    """Bytes of datagram n from an offset on."""

    n: int
    protocol: int
    offset: int
    body: bytes
    more: bool


def message(n: int, protocol: int, size: int) -> bytes:
    """A transport message; n makes its ports."""
    rest = bytes(k % 251 for k in range(size))
    if protocol == TCP:
        return header(16, 1, 1, 100, None, (1000 + n, 80)) + rest
    if protocol == UDP:
        return packets.udp("10.0.0.1", "10.0.0.2", 1000 + n, 53, rest)
    if protocol in (1, 58):
        return bytes((8 if protocol == 1 else 128, 0, 0, 0, n, 7, 0, 0)) + rest
    return rest


def cuts_of(n: int, protocol: int, size: int, step: int) -> list[Cut]:
    """A datagram in pieces of step bytes."""
    whole = message(n, protocol, size)
    return [
        Cut(n, protocol, at, whole[at : at + step], at + step < len(whole))
        for at in range(0, len(whole), step)
    ]


def bent(cut: Cut, how: str, by: int) -> Cut:
    """A piece that is not as it was cut."""
    offset, body, more = cut.offset, cut.body, cut.more
    if how == "shift":
        offset = min(max(offset + 8 * by, 0), 65528)
    elif how == "short":
        body = body[: max(len(body) - abs(by), 0)]
    elif how == "long":
        body += bytes(8 * abs(by))
    elif how == "more":
        more = not more
    elif how == "far":
        offset = 65528 - 8 * abs(by)
    return Cut(cut.n, cut.protocol, offset, body, more)


@st.composite
def traffic(draw, icmp: int) -> list[Cut]:
    """Pieces of up to six datagrams, in any order, with copies and faults."""
    found: list[Cut] = []
    for n in range(draw(st.integers(1, 6))):
        protocol = draw(st.sampled_from((UDP, UDP, TCP, icmp, GRE)))
        pieces = cuts_of(n, protocol, draw(st.integers(1, 90)), draw(st.sampled_from((8, 24, 32))))
        found += pieces
        found += draw(st.lists(st.sampled_from(pieces), max_size=1))
    if draw(st.booleans()):
        found = draw(st.permutations(found))
    for at in draw(st.lists(st.integers(0, len(found) - 1), max_size=3)):
        how = draw(st.sampled_from(("shift", "short", "long", "more", "far", "drop")))
        if how != "drop":
            found[at] = bent(found[at], how, draw(st.integers(-3, 3)))
    return found


def compare(node, given: list[bytes], piece_of: Callable, vector: int = 256):
    """Let packets come to the node; asserts that each becomes what the oracle says. Returns both."""
    tables = Reassembly(Heap(), HZ, SIZE, LIMIT)
    ports = np.zeros(4, PORT)
    ports["vrf"] = ZONE
    result = run_node(
        node, [bytes(L2) + packet for packet in given], l3=L2, rx_port=1, vector=vector,
        tables=tables.tables | {"ports": ports}, meta=_on_the_arc,
    )  # fmt: skip
    model = oracle.Reassembly(SIZE, LIMIT, 30)
    edges, emitted, reasons, known = [], [], [], {}
    for i, packet in enumerate(given):
        piece = piece_of(packet, ZONE)
        if piece is None:
            edges.append(ON)
            continue
        outcome = model.arrive(0, i, piece, -(-(len(packet) + L2) // BUF_ROOM))
        edges.append({"pass": ON, "held": "held"}.get(outcome.way, "drop"))
        emitted += [("drop", each) for each, _ in outcome.freed]
        emitted += [(ON, each) for each in outcome.followed]
        reasons += [reason for _, reason in outcome.freed]
        if outcome.way == "pass":
            known |= dict.fromkeys((i, *outcome.followed), outcome.ports)
        elif outcome.way != "held":
            reasons.append(outcome.way)
            assert result.reason(i) == outcome.way
    assert result.edges == edges
    rows = result.rows.tolist()
    sent = [(edge, rows.index(row)) for (edge, _), row in
            zip(result.emitted, result.emitted_rows, strict=True)]  # fmt: skip
    assert sent == emitted
    assert result.counted == {label: reasons.count(label) for label in sorted({*reasons})}
    for i, row in enumerate(rows):
        record = result.pool.meta[row]
        assert bool(record["flags"] & PORTS_KNOWN) == (i in known)
        assert i not in known or record["hash"] == known[i]
    held = [rows[i] for d in model.known.values() for i, _ in d.waiting]
    assert sorted(tables.held_rows()) == sorted(held) == sorted(result.held)
    for table in (tables.ip4, tables.ip6):
        check(table, result.pool.meta)
    return result


def _on_the_arc(record, _):
    record["features"] = FEATURES
