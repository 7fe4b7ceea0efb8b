# SPDX-License-Identifier: Apache-2.0
"""netmap's shared memory to the byte: interface, ring and slot, and the regions that we put them in.

    region of a VALE port                        region of a pipe, for both of its ends
    +------------------------------+             +------------------------------+
    | links: tx, rx    (not netmap)|             | links: A to B, B to A        |  page 0
    | netmap_if                    |             | netmap_if A, netmap_if B     |  page 1
    | tx ring, rx ring             |             | A: tx, rx;  B: tx, rx        |
    | buffers 0 ... n - 1          |             | buffers 0 ... n - 1          |
    +------------------------------+             +------------------------------+

    netmap_ring            256 bytes, then the slots, 16 bytes each
        head  cur          (u) the slots [head, tail) are the user's; cur: wake when tail moves past it
        tail               (k) written by sync alone, and repaired where the user overwrote it
    netmap_slot            buf_idx, len, flags, ptr: whose the slot is, whose is the buffer

Places are offsets, never pointers: of a ring from its netmap_if (ring_ofs), of buffer i from its ring
(buf_ofs + i * nr_buf_size). Buffers 0 and 1 are nobody's: an index below 2 is no buffer.

A *link* is what both sides of a ring hand over slots by, and what netmap keeps in the kernel: two
cache lines, each written by one side (pipes: netmap_pipe; VALE: netmap_sync, after netmap's own CSB).

Sources: net/netmap.h of netmap's API 14 and 15 (structures, flags), netmap(4) (ownership).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import PortError
from vforward.jit.atomics import load_acquire32, store_release32
from vforward.jit.kernel import i64, inline

API = 15
API_LEAST = 11
"""The oldest version that programs may ask for: what they use of it is the same."""

SLOT = np.dtype([("buf_idx", "u4"), ("len", "u2"), ("flags", "u2"), ("ptr", "u8")])

RING = np.dtype(
    {
        "names": [
            *("buf_ofs", "num_slots", "nr_buf_size", "ringid", "dir", "head", "cur", "tail"),
            *("flags", "ts_sec", "ts_usec", "offset_mask", "buf_align", "sem"),
        ],
        "formats": [
            *("i8", "u4", "u4", "u2", "u2", "u4", "u4", "u4"),
            *("u4", "i8", "i8", "u8", "u8", ("u1", 128)),
        ],
        "offsets": [0, 8, 12, 16, 18, 20, 24, 28, 32, 40, 48, 56, 64, 128],
        "itemsize": 256,
    }
)
HEAD, CUR, TAIL, FLAGS, SLOTS = 20, 24, 28, 32, 256
"""Bytes from a ring's beginning."""

IF = np.dtype(
    [
        ("ni_name", "S16"),
        ("ni_version", "u4"),
        ("ni_flags", "u4"),
        ("ni_tx_rings", "u4"),
        ("ni_rx_rings", "u4"),
        ("ni_bufs_head", "u4"),  # (u) first of the list of extra buffers, 0: none
        ("ni_host_tx_rings", "u4"),
        ("ni_host_rx_rings", "u4"),
        ("ni_spare1", "u4", 3),
        ("ring_ofs", "i8", 4),  # tx, host tx (0: no such ring), rx, host rx
    ]
)
assert SLOT.itemsize == 16
assert IF.fields is not None
assert IF.fields["ring_ofs"][1] == 56

TX, RX = 0, 1
"""netmap_ring.dir."""

NS_BUF_CHANGED, NS_REPORT, NS_FORWARD, NS_NO_LEARN = 0x01, 0x02, 0x04, 0x08
NS_INDIRECT, NS_MOREFRAG, MAX_FRAGS = 0x10, 0x20, 64
NR_TIMESTAMP = 0x0002
NI_PRIV_MEM = 0x1

FIRST_BUF = 2
BUF_SIZE = 2048
RING_SLOTS = 1024
SLOTS_LEAST, SLOTS_MOST = 2, 16384
EXTRA_MOST = 65536

PAGE = 4096
LINK = 128
OURS, THEIRS = 0, 64
"""Bytes from a link's beginning to its two lines."""


@dataclass(frozen=True)
class Rings:
    """Where one netmap_if and its two rings lie, bytes from the region's beginning."""

    nifp: int
    tx: int
    rx: int


@dataclass(frozen=True)
class Geometry:
    """A region: one Rings for each end (a VALE port has one, a pipe two), then buffers."""

    ends: tuple[Rings, ...]
    slots: tuple[tuple[int, int], ...]
    """Of each end: slots of its tx ring, of its rx ring."""
    bufs_at: int
    bufs: int
    """How many, the two that are nobody's included."""

    @property
    def size(self) -> int:
        """Bytes, whole pages."""
        return self.bufs_at + -(-self.bufs * BUF_SIZE // PAGE) * PAGE


def bounded_slots(wanted: int, what: object) -> int:
    """How many slots a ring gets. Raises PortError."""
    n = wanted or RING_SLOTS
    if not SLOTS_LEAST <= n <= SLOTS_MOST:
        raise PortError(f"netmap port {what}: {n} slots; allowed: {SLOTS_LEAST} to {SLOTS_MOST}")
    return n


def geometry(slots: tuple[tuple[int, int], ...], bufs: int) -> Geometry:
    """Place rings of so many slots, one (tx, rx) for each end, and so many usable buffers."""
    at = PAGE + 256 * len(slots)
    ends = []
    for i, (tx, rx) in enumerate(slots):
        places = []
        for n in (tx, rx):
            at = -(-at // 128) * 128
            places.append(at)
            at += SLOTS + n * SLOT.itemsize
        ends.append(Rings(PAGE + 256 * i, *places))
    return Geometry(tuple(ends), slots, -(-at // PAGE) * PAGE, bufs + FIRST_BUF)


def link_at(number: int) -> int:
    """Where the link of that number lies: 0 and 1, one for each direction."""
    return number * LINK


def ring_at(memory: NDArray[np.uint8], at: int) -> Any:
    """The netmap_ring there, a record that reads and writes the memory."""
    return memory[at : at + RING.itemsize].view(RING)[0]


def slots_at(memory: NDArray[np.uint8], at: int, n: int) -> NDArray[Any]:
    """The slots of the ring there."""
    return memory[at + SLOTS : at + SLOTS + n * SLOT.itemsize].view(SLOT)


def if_at(memory: NDArray[np.uint8], at: int) -> Any:
    """The netmap_if there."""
    return memory[at : at + IF.itemsize].view(IF)[0]


def format_end(memory: NDArray[np.uint8], where: Geometry, end: int, name: str) -> None:
    """Write an end's netmap_if and ring headers. The slots have no buffers yet."""
    rings = where.ends[end]
    nifp = if_at(memory, rings.nifp)
    nifp["ni_name"] = name.encode()[:15]
    nifp["ni_version"], nifp["ni_flags"] = API, NI_PRIV_MEM
    # One host ring of each kind, which is not there: so programs of all versions find ring_ofs.
    for field in ("ni_tx_rings", "ni_rx_rings", "ni_host_tx_rings", "ni_host_rx_rings"):
        nifp[field] = 1
    nifp["ring_ofs"] = rings.tx - rings.nifp, 0, rings.rx - rings.nifp, 0
    for kind, at, n in zip((TX, RX), (rings.tx, rings.rx), where.slots[end], strict=True):
        ring = ring_at(memory, at)
        ring["buf_ofs"] = where.bufs_at - at
        ring["num_slots"], ring["nr_buf_size"], ring["dir"] = n, BUF_SIZE, kind
        ring["tail"] = n - 1 if kind == TX else 0
        slots_at(memory, at, n)["len"] = BUF_SIZE


def give_extra(memory: NDArray[np.uint8], where: Geometry, end: int, bufs: list[int]) -> None:
    """Make these the end's list of extra buffers: each begins with the next one's index, u32."""
    if_at(memory, where.ends[end].nifp)["ni_bufs_head"] = bufs[0] if bufs else 0
    for one, following in itertools.pairwise([*bufs, 0]):
        at = where.bufs_at + one * BUF_SIZE
        memory[at : at + 4].view(np.uint32)[0] = following


def extra_list(memory: NDArray[np.uint8], where: Geometry, end: int) -> list[int]:
    """The end's list of extra buffers, as far as it makes sense: the user writes it."""
    found: list[int] = []
    seen: set[int] = set()
    buf = int(if_at(memory, where.ends[end].nifp)["ni_bufs_head"])
    while FIRST_BUF <= buf < where.bufs and buf not in seen:
        found.append(buf)
        seen.add(buf)
        at = where.bufs_at + buf * BUF_SIZE
        buf = int(memory[at : at + 4].view(np.uint32)[0])
    return found


@inline
def load(where: Any) -> Any:
    """A u32 that another writes, as i64: read once, then checked."""
    return i64(load_acquire32(where))


@inline
def store(where: Any, value: Any) -> None:
    """A u32 that another reads, from an i64."""
    store_release32(where, np.uint64(value))


def address_of(memory: NDArray[np.uint8]) -> int:
    """Where mapped memory lies in this process."""
    return int(memory.ctypes.data)
