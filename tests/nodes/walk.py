# SPDX-License-Identifier: Apache-2.0
"""The IPv4 nodes wired by hand: many frames through their kernels, without the scheduler.

For fuzzing. `walk` takes frames as rows of an array; `made` makes them by the hundred thousand;
`check_walk` holds what becomes of each against the oracle.
"""

import random
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import strategies
from nodes.network import NAME, NUMBER, tables
from oracles import checksum, ethernet
from oracles.router import Outcome
from strategies import EthSpec, Ip4Spec, mac
from vforward.graph import emit
from vforward.graph.node import Node
from vforward.layout import EDGE_ARC, EDGE_HELD, HEADROOM, META, NIL, VECTOR_MAX
from vforward.memory.pool import Pool
from vforward.nodes.ethernet import input as ethernet_input
from vforward.nodes.icmp import echo, error
from vforward.nodes.ip4 import fragment, local, lookup, rewrite
from vforward.nodes.ip4 import input as ip4_input
from vforward.nodes.l2 import cross_connect
from vforward.testing import heap_pool

WIDTH = 680
END = EDGE_ARC + 62
BATCH = 4096

# In topological order; "again" is ip4-lookup in the next round.
WIRES: dict[str, tuple[Node, dict[str, str]]] = {
    node.name: (node, wires)
    for node, wires in (
        (
            ethernet_input.NODE,
            {
                "ip4": "ip4-input",
                "ip6": "ip6",
                "arp": "arp",
                "cross-connect": "l2-cross-connect",
                "drop": "dropped",
            },
        ),
        (cross_connect.NODE, {"output": "sent"}),
        (ip4_input.NODE, {"drop": "dropped", "local": "ip4-local", "end": "ip4-lookup"}),
        (
            lookup.NODE,
            {
                "rewrite": "ip4-rewrite",
                "resolve": "held",
                "local": "ip4-local",
                "notify": "ip4-rewrite",
                "drop": "dropped",
                "error": "icmp4-error",
            },
        ),
        (
            local.NODE,
            {
                "icmp-echo": "icmp4-echo",
                "error": "icmp4-error",
                "drop": "dropped",
                "punt": "punted",
            },
        ),
        (
            rewrite.NODE,
            {
                "error": "icmp4-error",
                "fragment": "ip4-fragment",
                "segment": "segmented",
                "end": "sent",
            },
        ),
        (fragment.NODE, {"drop": "dropped", "end": "sent"}),
        (echo.NODE, {"reply": "again"}),
        (error.NODE, {"reply": "again", "drop": "dropped"}),
    )
}
ORDER = list(WIRES)


@dataclass
class Walked:
    """What became of each frame: (the last node, where it went), and its buffer's row.

    more: the rows that were made besides, all of them sent; of which frame is in their meta.trace.
    """

    ends: list[tuple[str, str]]
    counts: dict[str, NDArray[np.uint64]]
    pool: Pool
    rows: NDArray[np.uint32]
    more: dict[int, list[int]]


def walk(
    frames: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    numbers: NDArray[np.int64],
    vector: int = VECTOR_MAX,
    pool: Pool | None = None,
) -> Walked:
    """Take frames[i, :lengths[i]] from port numbers[i] through the nodes, vector by vector."""
    pool = pool or heap_pool(2 * len(frames) + VECTOR_MAX)  # fragments: two of a packet at most
    rows = pool.take(len(frames))
    pool.data[rows] = 0xA5
    pool.data[rows, HEADROOM : HEADROOM + frames.shape[1]] = frames
    pool.meta[rows] = np.zeros(1, META)
    for name, value in (
        ("off", HEADROOM), ("l3", HEADROOM), ("end", HEADROOM + lengths), ("next", NIL),
        ("rx_port", numbers), ("trace", np.arange(len(frames))),
    ):  # fmt: skip
        pool.meta[name][rows] = value
    counts = {n: np.zeros(max(1, len(WIRES[n][0].counter_labels)), np.uint64) for n in ORDER}
    ends: dict[int, tuple[str, str]] = {}
    more: dict[int, list[int]] = {}
    waiting: dict[str, Any] = {ORDER[0]: rows}
    for _ in range(4):  # an answer to an answer to an answer: there is none
        again = []
        for name in ORDER:
            here = waiting.pop(name, rows[:0])
            for first in range(0, len(here), vector):
                idx = here[first : first + vector].copy()
                for to, part in _call(name, idx, counts[name], pool, more):
                    if to == "again":
                        again.append(part)
                    elif to in WIRES:
                        waiting[to] = np.concatenate([waiting.get(to, rows[:0]), part])
                    else:
                        ends.update((int(row), (name, to)) for row in part)
        if not again:
            break
        waiting["ip4-lookup"] = np.concatenate(again)
    assert not waiting
    return Walked([ends[int(row)] for row in rows], counts, pool, rows, more)


def _call(
    name: str, idx: Any, count: Any, pool: Pool, more: dict[int, list[int]]
) -> list[tuple[str, Any]]:
    """Call a kernel. Returns where to go, and which rows; adds to more what it has made and emits."""
    node, wires = WIRES[name]
    edges = np.full(len(idx), EDGE_HELD, np.uint8)
    emitted = emit.new()
    given = {**tables(), "pool": pool.caches[0], "emitted": emitted}
    node.kernel(pool.data, pool.meta, idx, edges, count, *(given[t] for t in node.tables))
    given_rows = set(idx.tolist())
    own = []
    for word in emitted[emit.FIRST :][: int(emitted[emit.EMITTED])].tolist():
        assert word >> 32 == END
        if word & NIL in given_rows:
            own.append(word & NIL)
        else:
            more.setdefault(int(pool.meta["trace"][word & NIL]), []).append(word & NIL)
    assert own == idx[edges == EDGE_HELD].tolist()
    found = [(wires["end"], np.array(own, np.uint32))] if own else []
    for edge in set(edges.tolist()) - {EDGE_HELD}:
        label = "end" if edge == END else node.edge_labels[edge]
        found.append((wires[label], idx[edges == edge]))
    return found


# --- frames --------------------------------------------------------------------------------------

L3_PORTS = ("lan", "wan", "p2p", "bare")
BYTES = (0, 1, 2, 5, 8, 0x1F, 0x20, 0x40, 0x44, 0x45, 0x46, 0x4F, 0x7F, 0x80, 0xE0, 0xFE, 0xFF)


@cache
def templates(n: int = 3000) -> tuple[list[bytes], list[int]]:
    """Frames that the router forwards, answers or refuses late, and their ports' numbers."""
    draw = random.Random(20)
    frames, numbers = [], []
    for _ in range(n):
        wire = strategies.PORTS[NUMBER[draw.choice((*L3_PORTS, "lan", "lan", "x0"))] - 1]
        spec = EthSpec(wire.mac)
        match draw.randrange(12):
            case 0:
                spec.dst = draw.choice((ethernet.BROADCAST, b"\x01\0\x5e\0\0\1", mac(0x77)))
            case 1 | 2:
                spec.tags = [(ethernet.VLAN, draw.choice((0, 10, 10, 4094, 77)))]
            case 3:
                spec.ethertype = draw.choice((ethernet.ARP, 0x86DD, ethernet.QINQ))
        frames.append(spec.build(_packet(draw))[:WIDTH])
        numbers.append(NUMBER[wire.name])
    return frames, numbers


def _packet(draw: random.Random) -> bytes:
    spec = Ip4Spec(
        bytes(draw.choice((0, 8, 20, 30))),
        draw.choice((17, 1, 1, 6, 47)),
        src=draw.choice((*strategies.NEIGHBOR_IPS * 4, *strategies.INTERESTING)),
        dst=draw.choice(strategies.INTERESTING),
        fragment=draw.choice((0, 0, 0x4000, 0x4000, 0x4000, 0x2000, 1, 0x1FFF)),
        ttl=draw.choice((64, 64, 2, 1, 0)),
        force=draw.choice((None, *strategies.CHECKSUMS)),
        options=draw.choice((b"", b"", b"", b"\x01" * 4, b"\x07" * 40)),
        padding=bytes(draw.choice((0, 0, 1, 18))),
    )
    if spec.proto == 1:
        kind = draw.choice((8, 8, 8, 0, 3, 11))
        body = bytes([kind, 0, 0, 0]) + draw.randbytes(4 + draw.choice((0, 0, 1, 56)))
        spec.payload = body[:2] + checksum.internet(body).to_bytes(2, "big") + body[4:]
        if draw.randrange(8) == 0:
            spec.payload = spec.payload[: draw.randrange(8)]
    if draw.randrange(8) == 0:
        spec = replace(spec, payload=spec.payload + bytes(580 - len(spec.payload)))
        if draw.randrange(2):  # where it is too long
            spec.dst = strategies.ip("198.51.100.7")
    return spec.build()


def made(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """n frames: templates with up to two bytes changed, most with a header checksum made right."""
    rng = np.random.default_rng(seed)
    bodies, numbers = templates()
    whole = np.full((len(bodies), WIDTH), 0xA5, np.uint8)
    for i, body in enumerate(bodies):
        whole[i, : len(body)] = np.frombuffer(body, np.uint8)
    sizes = np.array([len(body) for body in bodies])
    pick = rng.integers(0, len(bodies), n)
    frames, lengths, ports = whole[pick], sizes[pick], np.array(numbers)[pick]
    every = np.arange(n)
    for chance in (0.6, 0.3):
        hit = every[rng.random(n) < chance]
        steered = rng.random(len(hit)) < 0.5
        value = np.where(steered, rng.choice(BYTES, len(hit)), rng.integers(0, 256, len(hit)))
        at = rng.choice((*range(64), *range(12, 38), *range(14, 34)), len(hit))
        frames[hit, at] = value
    right = every[(rng.random(n) < 0.7) & (frames[:, 14] == 0x45)]
    words = frames[right, 14:34].astype(np.int64).reshape(-1, 10, 2)
    total = (words[:, :, 0] << 8 | words[:, :, 1]).sum(1) - (words[:, 5, 0] << 8 | words[:, 5, 1])
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    frames[right, 24], frames[right, 25] = (total ^ 0xFFFF) >> 8, (total ^ 0xFFFF) & 255
    cut = every[rng.random(n) < 0.1]
    lengths[cut] = rng.integers(0, lengths[cut] + 1)
    noise = every[rng.random(n) < 0.05]
    frames[noise] = rng.integers(0, 256, (len(noise), WIDTH))
    lengths[noise] = rng.integers(0, 200, len(noise))
    ours = noise[::2]  # or all of them would be for somebody else
    frames[ours, :6] = np.frombuffer(mac(1), np.uint8)
    frames[ours, 12:15] = (8, 0, 0x45)
    ports[ours] = NUMBER["lan"]
    frames[np.arange(WIDTH) >= lengths[:, None]] = 0xA5
    return frames, lengths, ports


# --- the oracle ----------------------------------------------------------------------------------


def check_walk(
    frames: NDArray[np.uint8], lengths: NDArray[np.int64], numbers: NDArray[np.int64], vector: int
) -> Counter[str]:
    """Walk and compare everything with the oracle. Returns how often what became of a frame."""
    done = walk(frames, lengths, numbers, vector)
    router = strategies.router()
    seen: Counter[str] = Counter()
    dropped: Counter[tuple[str, int]] = Counter()
    for i, (name, to) in enumerate(done.ends):
        frame = frames[i, : lengths[i]].tobytes()
        port = NAME[int(numbers[i])]
        if to == "arp":
            arrival = ethernet.receive(frame, router.port[port].mac, {10, 4094} & _vids(port))
            assert arrival.ethertype == ethernet.ARP
            seen["arp"] += 1
            continue
        want = router.receive(port, frame)
        row = int(done.rows[i])
        if to == "dropped":
            dropped[name, int(done.pool.meta[row]["reason"])] += 1
        if (name, to) == ("ip4-fragment", "sent") and i not in done.more:
            name = "ip4-rewrite"  # went by there behind one that was cut, and was not
        got = _outcome(done.pool, row, name, to)
        behind = (_frame(done.pool, row) for row in done.more.get(i, ()))
        got = replace(got, more=tuple(behind))
        if want.kind == "sent" and want.node == "ethernet-input":
            want = replace(want, node="l2-cross-connect")
        assert got == want, (port, frame.hex())
        seen[got.reason or f"{got.kind} by {got.node}"] += 1
    for (name, reason), n in dropped.items():
        assert done.counts[name][reason] == n, name
    return seen


def _vids(port: str) -> set[int]:
    return {p.vid for p in strategies.PORTS if p.parent == port and p.vid is not None}


def _frame(pool: Pool, row: int) -> bytes:
    return pool.data[row, pool.meta["off"][row] : pool.meta["end"][row]].tobytes()


def _outcome(pool: Pool, row: int, name: str, to: str) -> Outcome:
    """What became of a packet, as the oracle says it."""
    record = pool.meta[row]
    if to == "dropped":
        label = WIRES[name][0].counter_labels[int(record["reason"])]
        return Outcome("dropped", reason=f"{name}:{label}", node=name)
    if to == "sent":
        return Outcome("sent", NAME[int(record["tx_port"])], _frame(pool, row), node=name)
    if to == "ip6":
        return Outcome("ip6", NAME[int(record["rx_port"])], node=name)
    packet = pool.data[row, record["l3"] : record["end"]].tobytes()
    adjacency = tables()["adjacencies"][record["adjacency"]]
    hop = int(adjacency["next_hop"][1]) & 0xFFFFFFFF or int.from_bytes(packet[16:20], "big")
    return Outcome("held", NAME[int(adjacency["tx_port"])], packet, node=name, next_hop=hop)


def fuzz(n: int, vector: int = VECTOR_MAX, seed: int = 1) -> Counter[str]:
    """n frames against the oracle, in batches. Returns how often what became of a frame."""
    seen: Counter[str] = Counter()
    for first in range(0, n, BATCH):
        seen += check_walk(*made(min(BATCH, n - first), seed + first), vector)
    return seen


def truncations() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Every beginning of frames with every header there is, with a total length that agrees.

    Where only the frame is cut, ip4-input refuses it; so the IPv4 packet is cut as well.
    """
    bodies, numbers = [], []
    for tags in ([], [(ethernet.VLAN, 0)], [(ethernet.VLAN, 10)]):
        for proto, payload in (
            (1, bytes.fromhex("0800f7ff00000000")),
            (17, bytes(8)),
            (6, bytes(20)),
        ):
            for options in (b"", b"\x01" * 40):
                for dst in ("10.0.0.1", "10.0.0.9", "8.8.8.8", "10.0.0.77"):
                    spec = Ip4Spec(payload, proto, strategies.ip("10.0.0.9"), strategies.ip(dst))
                    spec.options = options
                    link = EthSpec(mac(1), tags=tags)
                    frame = link.build(spec.build())
                    cuts = [frame[:k] for k in range(len(frame) + 1)]
                    cuts += [
                        link.build(replace(spec, payload=payload[:k]).build())
                        for k in range(len(payload))
                    ]
                    bodies += cuts
                    numbers += [NUMBER["lan"]] * len(cuts)
    frames = np.full((len(bodies), WIDTH), 0xA5, np.uint8)
    for i, body in enumerate(bodies):
        frames[i, : len(body)] = np.frombuffer(body, np.uint8)
    return frames, np.array([len(body) for body in bodies]), np.array(numbers)
