# SPDX-License-Identifier: Apache-2.0
"""session: how a shard of the session table lies in memory; keys, hash, and the views of kernels.

    sessions  u64[]   a segment of the arena, one for each worker, all its own but the words marked (c)

    head     64 words, see below
    hot      SESSION[1 + n]      a cache line each: all that a packet of a known session reads
    cold     COLD[1 + n + 264]   links, limits, what an operator asks for; behind the sessions' the
                                 heads of the lists and of the wheel
    entries  u32[16 * buckets]   a bucket is a cache line of entries: tag | number of a session
    sources  u64[3 * (n + 1) / 2]  how many sessions each source has, where a rule limits that
    limits   u32[LIMITS_MAX]     how many sessions are counted under each limit

A session costs 64 + 32 + 16 + 12 = 124 bytes where n is 2**k - 1, as tables.session_table has it; the
lists and limits 25 KiB.

Record 0 is nobody's: no packet has its key, so that a look-up that found nothing may compare with it.

IPv4: an endpoint is address << 16 | port, 48 bits. A session has two keys, one for each direction: the
endpoints of the packets as they come, so each key tells who has sent a packet. Without NAT the reply
key is the original one turned around. IPv6: k0 to k3 are the initiator's address and the responder's,
and ``ports`` has theirs; there is no NAT.

    k0  zone << 56 | protocol << 48 | source port << 16 | destination port    what the initiator sends
    k1  source address << 32 | destination address
    k2, k3  the same of what the responder sends

(zone: the VRF of the port that packets come by.)

Hash: two multiplications of 64 to 128 bits by secret words (RFC 4987 section 3.6 on guessable tables).
Time is counted in ticks of a second; ``seen`` has the low 16 bits, so timeouts are at most TIMEOUT_MAX.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.jit.intrinsics import address, fold_multiply, view
from vforward.jit.kernel import i64, inline, u64

SESSION = np.dtype(
    [
        ("k0", np.uint64),
        ("k1", np.uint64),
        ("k2", np.uint64),
        ("k3", np.uint64),
        ("ports", np.uint32),  # IPv6: the initiator's port << 16 | the responder's
        ("protocol", np.uint8),
        ("zone", np.uint8),
        ("flags", np.uint8),
        ("state", np.uint8),
        ("seen", np.uint16),  # tick of its last packet
        ("scale", np.uint8, 2),  # TCP: window scale of the initiator, of the responder
        # TCP, of what the initiator sends and of what the responder sends (see session_tcp):
        ("end", np.uint32, 2),
        ("maxend", np.uint32, 2),
        ("maxwin", np.uint16, 2),
    ]
)
assert SESSION.itemsize == 64, "a cache line"

COLD = np.dtype(
    [
        ("next", np.uint32),
        ("prev", np.uint32),
        ("hits", np.uint32),  # its rule's place in rule_hits
        ("limit", np.uint32),  # where it is counted, 0: nowhere
        ("generation", np.uint32),  # odd: open. Tells a session from those before it in this record
        ("created", np.uint32),  # tick
        ("treatment", np.uint16),
        ("in_port", np.uint16),
        ("out_port", np.uint16),
        ("spare", np.uint16),
    ]
)
assert COLD.itemsize == 32

# SESSION.flags
SIX, NAT, TREATED, SOURCED, LOOSE, STRAY = (1 << k for k in range(6))
"""SOURCED: counted in sources. LOOSE: picked up in its middle. STRAY: a direction of it is in strays."""

# SESSION.state. Of what is not TCP: UNREPLIED, REPLIED.
(
    FREE, SYN_SENT, SYN_BOTH, SYN_RECEIVED, SYN_ANSWERED, PICKED_UP, ESTABLISHED, FIN_INITIATOR,
    FIN_RESPONDER, CLOSING, LAST_INITIATOR, LAST_RESPONDER, TIME_WAIT, CLOSED, UNREPLIED, REPLIED,
) = range(16)  # fmt: skip
STATES = (
    "free", "syn-sent", "syn-both", "syn-received", "syn-answered", "picked-up", "established",
    "fin-initiator", "fin-responder", "closing", "last-ack-initiator", "last-ack-responder",
    "time-wait", "closed", "unreplied", "replied",
)  # fmt: skip

# Words of the head. (c): the control plane writes it, at any time.
(
    CAPACITY, BITS, BUCKET_MASK, N_SOURCES, HOT_AT, COLD_AT, INDEX_AT, SOURCES_AT, LIMITS_AT,
    FREE_FIRST, UNUSED, SECOND, OPEN, EMBRYONIC,
) = range(14)  # fmt: skip
"""HOT_AT ... LIMITS_AT: bytes from the start. BITS: of an index entry, that hold number and direction.
FREE_FIRST: head of the free records' list; UNUSED: the first that never was used. SECOND: entries that
lie in their second bucket."""
NOW, SWEPT, NEXT_AT, HZ, BEHIND = 16, 17, 18, 19, 20
"""Tick that it is; tick up to which the wheel was turned; clock of the next tick; cycles a tick has,
0: somebody else writes NOW (c). BEHIND: 1 while there is more to do in this tick."""
SETTINGS_LOOSE = 21
"""1: TCP may be picked up in its middle (c)."""
SEED = 24  # 6 words
COUNTERS = 32
OPENED, EXPIRED, EVICTED, KILLED, REOPENED, REFUSED = range(COUNTERS, COUNTERS + 6)
"""Sessions opened; how they ended; what found no room."""
WORKERS, WORKER, HOME_SEED, STRAYS_AT, STRAYS_WORDS = 40, 41, 42, 44, 45
"""How many workers there are, and whose shard it is; 2 words by which a flow's home is found; address
and words of tables.strays, in its owner's process (c, before the workers start)."""
TIMEOUTS = 48
"""Ticks, by what KINDS says (c)."""
SCRATCH = 60
"""4 words, for who reads the ring of sessions to be ended."""
HEADER = 64

KINDS = (
    "tcp-opening", "tcp-established", "tcp-half-closed", "tcp-closing", "tcp-time-wait",
    "tcp-closed", "udp-unreplied", "udp", "icmp-unreplied", "icmp", "other-unreplied", "other",
)  # fmt: skip
DEFAULTS = (240, 7440, 7440, 240, 240, 10, 300, 300, 60, 60, 300, 300)
"""Seconds. RFC 5382 section 5: established, which lasts until both have sent a FIN, 2 h 4 min; else 4
min. RFC 4787 section 4.3: UDP 5 min. RFC 5508 section 3.2: ICMP 60 s."""
TIMEOUT_MAX = 60_000

LISTS, SLOTS = 8, 256
WAYS = 16
LIMITS_MAX = 4096
CAPACITY_MAX = (1 << 24) - 1
SOURCE_COUNT = 24
"""Low bits of a word of sources: how many; the others are of the source's hash."""

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58

FULL, NOT_A_BEGINNING, SOURCE_LIMIT, RULE_LIMIT, TAKEN = range(5)
"""Why a session was not opened. NOT_A_BEGINNING: TCP that is no SYN, an ICMP reply. TAKEN: a session
with one of its keys exists."""


class Shard(NamedTuple):
    """The parts of a shard, as kernels see them. Made anew in each call: see shard."""

    head: NDArray[np.uint64]
    hot: NDArray[Any]
    words: NDArray[np.uint64]  # hot, once more
    cold: NDArray[Any]
    entries: NDArray[np.uint32]
    sources: NDArray[np.uint64]
    limits: NDArray[np.uint32]


class Grant(NamedTuple):
    """What the policy says of a session that is to be opened: fields of policy.ACTION, and a port."""

    hits: int
    treatment: int
    limit: int
    sessions: int
    per_source: int
    out_port: int


@inline
def shard(sessions: Any) -> Any:
    """The parts of the shard that an array holds."""
    base = address(sessions)
    n = i64(sessions[CAPACITY])
    return Shard(
        view(base, HEADER, np.uint64),
        view(base + i64(sessions[HOT_AT]), n + 1, SESSION),
        view(base + i64(sessions[HOT_AT]), (n + 1) * 8, np.uint64),
        view(base + i64(sessions[COLD_AT]), n + 1 + LISTS + SLOTS, COLD),
        view(base + i64(sessions[INDEX_AT]), (i64(sessions[BUCKET_MASK]) + 1) * WAYS, np.uint32),
        view(base + i64(sessions[SOURCES_AT]), i64(sessions[N_SOURCES]), np.uint64),
        view(base + i64(sessions[LIMITS_AT]), LIMITS_MAX, np.uint32),
    )


@inline
def key4(src: Any, dst: Any, protocol: Any, zone: Any) -> Any:
    """The key of an IPv4 packet, by its endpoints: (k0, k1)."""
    ports = (src & 0xFFFF) << 16 | dst & 0xFFFF
    return u64(zone << 56 | protocol << 48 | ports), u64(src >> 16 << 32 | dst >> 16)


@inline
def source4(k0: Any, k1: Any) -> Any:
    """The source's endpoint in an IPv4 key."""
    return i64(k1 >> u64(32)) << 16 | i64(k0 >> u64(16)) & 0xFFFF


@inline
def destination4(k0: Any, k1: Any) -> Any:
    """The destination's endpoint in an IPv4 key."""
    return i64(k1 & u64(0xFFFFFFFF)) << 16 | i64(k0 & u64(0xFFFF))


@inline
def hash4(s: Any, k0: Any, k1: Any) -> Any:
    """The hash of an IPv4 key, u64: 24 bits of bucket above, 32 of entry and second bucket below."""
    seed = s.head
    return fold_multiply(
        fold_multiply(k0 ^ seed[SEED], k1 ^ seed[SEED + 1]) ^ seed[SEED + 2], seed[SEED + 3]
    )


@inline
def hash6(s: Any, k0: Any, k1: Any, k2: Any, k3: Any, ports: Any, protocol: Any, zone: Any) -> Any:
    """The hash of an IPv6 packet: its addresses and ports, the source's first."""
    seed = s.head
    half = fold_multiply(k0 ^ seed[SEED], k1 ^ seed[SEED + 1])
    other = fold_multiply(k2 ^ seed[SEED + 2], k3 ^ seed[SEED + 3])
    what = u64(ports << 16 | protocol << 8 | zone)
    return fold_multiply(half ^ seed[SEED + 4] ^ what, other ^ seed[SEED + 5])


def power_of_two(n: int) -> int:
    """The least power of two that is n or more."""
    return 1 << max(0, n - 1).bit_length()


def words_for(capacity: int) -> int:
    """Length of the array of a shard: what to ask an arena for."""
    return _layout(capacity)[-1] // 8


def _layout(capacity: int) -> list[int]:
    """Entries of the index and of the sources; bytes at which each part begins, and the end."""
    if not 1 <= capacity <= CAPACITY_MAX:
        msg = f"a table of {capacity} sessions: from 1 to {CAPACITY_MAX}"
        raise ValueError(msg)
    entries = max(2 * WAYS, power_of_two(capacity + 1) * 4)
    sources = 3 * (capacity + 1) // 2 + 1
    sizes = (
        HEADER * 8, (capacity + 1) * 64, (capacity + 1 + LISTS + SLOTS) * 32,
        entries * 4, sources * 8, LIMITS_MAX * 4,
    )  # fmt: skip
    starts = [0]
    for size in sizes:
        starts.append(-(-(starts[-1] + size) // 64) * 64)
    return [entries, sources, *starts[1:]]


def prepare(sessions: NDArray[np.uint64], capacity: int, seed: bytes) -> None:
    """Make an array of zeros a table without sessions. seed: 48 secret bytes."""
    entries, sources, *starts = _layout(capacity)
    head = sessions[:HEADER]
    head[[CAPACITY, BITS]] = capacity, capacity.bit_length() + 1
    head[[BUCKET_MASK, N_SOURCES]] = entries // WAYS - 1, sources
    head[[HOT_AT, COLD_AT, INDEX_AT, SOURCES_AT, LIMITS_AT]] = starts[:5]
    head[UNUSED] = head[WORKERS] = 1
    head[SEED : SEED + 6] = np.frombuffer(seed, np.uint64)
    head[TIMEOUTS : TIMEOUTS + len(DEFAULTS)] = DEFAULTS
    parts = arrays(sessions)
    parts.hot[0]["k0"] = parts.hot[0]["k2"] = 0xFFFFFFFFFFFFFFFF
    heads = np.arange(capacity + 1, capacity + 1 + LISTS + SLOTS, dtype=np.uint32)
    parts.cold["next"][heads] = parts.cold["prev"][heads] = heads


def arrays(sessions: NDArray[np.uint64]) -> Shard:
    """The parts of the shard that an array holds, for Python: see shard."""
    raw = sessions.view(np.uint8)
    n = int(sessions[CAPACITY])
    lengths = (
        (HOT_AT, n + 1, SESSION), (HOT_AT, (n + 1) * 8, np.dtype(np.uint64)),
        (COLD_AT, n + 1 + LISTS + SLOTS, COLD),
        (INDEX_AT, (int(sessions[BUCKET_MASK]) + 1) * WAYS, np.dtype(np.uint32)),
        (SOURCES_AT, int(sessions[N_SOURCES]), np.dtype(np.uint64)),
        (LIMITS_AT, LIMITS_MAX, np.dtype(np.uint32)),
    )  # fmt: skip
    parts: list[Any] = []
    for word, length, kind in lengths:
        first = int(sessions[word])
        parts.append(raw[first : first + length * kind.itemsize].view(kind))
    return Shard(sessions[:HEADER], *parts)
