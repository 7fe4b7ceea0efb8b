"""A shard of sessions in this process's memory, and segments that are put to it."""

import struct
from typing import cast

import numpy as np

from vforward.jit.kernel import kernel, u64
from vforward.layout import HEADROOM
from vforward.memory.arena import Arena
from vforward.tables import session as t
from vforward.tables import session_follow, session_index, session_life, session_open
from vforward.tables.session_table import Sessions
from vforward.testing.run_node import heap_pool

L3, L4 = HEADROOM, HEADROOM + 20
NO_GRANT = t.Grant(0, 0, 0, 0, 0, 0)


class Heap:
    """What a table needs of an arena."""

    def make(self, _name, shape, dtype):
        return np.zeros(shape, dtype)


@kernel
def open4(sessions, data, meta, row, src, dst, reply_src, reply_dst, protocol, zone, grant):
    return session_open.open4(
        t.shard(sessions),
        data,
        meta,
        row,
        L4,
        src,
        dst,
        reply_src,
        reply_dst,
        protocol,
        zone,
        grant,
    )


@kernel
def find4(sessions, src, dst, protocol, zone):
    return session_index.find4(t.shard(sessions), src, dst, protocol, zone)


@kernel
def follow4(sessions, data, meta, row, found):
    return session_follow.follow4(t.shard(sessions), data, meta, row, L3, L4, found)


@kernel
def close(sessions, number):
    session_life.close(t.shard(sessions), number)


@kernel
def sweep(sessions, budget):
    return session_life.sweep(t.shard(sessions), budget)


@kernel
def _open6(sessions, data, meta, row, src, sport, dst, dport, protocol, zone, grant):
    return session_open.open6(
        t.shard(sessions), data, meta, row, L4,
        src[0], src[1], sport, dst[0], dst[1], dport, protocol, zone, grant,
    )  # fmt: skip


@kernel
def _find6(sessions, src, sport, dst, dport, protocol, zone):
    return session_index.find6(
        t.shard(sessions), src[0], src[1], sport, dst[0], dst[1], dport, protocol, zone
    )


def halves(address):
    return u64(address >> 64), u64(address & (1 << 64) - 1)


def endpoint(address, port):
    return address << 16 | port


def header(flags=0, seq=0, ack=0, window=0, scale=None, ports=(0, 0)):
    """A TCP header; with a window scale option if a scale is given."""
    options = b"" if scale is None else bytes((1, 3, 3, scale))
    offset = (20 + len(options)) // 4 << 4
    fields = (*ports, seq % 2**32, ack % 2**32, offset, flags, window, 0, 0)
    return struct.pack(">HHIIBBHHH", *fields) + options


class World:
    """A table with a packet in row 0. Time stands still until it is told."""

    def __init__(self, capacity=63):
        self.sessions = Sessions(cast("Arena", Heap()), capacity)
        self.array = self.sessions.array
        self.pool = heap_pool(1)
        self.pool.meta[0] = 0
        self.pool.meta[0]["off"] = self.pool.meta[0]["l3"] = L3
        self.put(b"\0" * 20)

    @property
    def hot(self):
        return self.sessions.parts.hot

    @property
    def head(self):
        return self.sessions.parts.head

    def put(self, message, payload=0):
        """Let the packet carry a transport message, of which payload bytes more are not written."""
        self.pool.data[0, L3:L4] = 0
        self.pool.data[0, L4 : L4 + len(message)] = np.frombuffer(message, np.uint8)
        self.pool.meta[0]["end"] = L4 + len(message)
        self.pool.meta[0]["rest"] = payload

    def open(self, src, dst, protocol=17, zone=0, reply=None, grant=NO_GRANT):
        """src, dst: endpoints. reply: those of the replies, with NAT."""
        back = reply or (dst, src)
        return int(
            open4(
                self.array, self.pool.data, self.pool.meta, 0,
                src, dst, *back, protocol, zone, tuple(grant),
            )
        )  # fmt: skip

    def open6(self, src, sport, dst, dport, protocol=17, zone=0, grant=NO_GRANT):
        return int(
            _open6(
                self.array, self.pool.data, self.pool.meta, 0,
                halves(src), sport, halves(dst), dport, protocol, zone, tuple(grant),
            )
        )  # fmt: skip

    def find(self, src, dst, protocol=17, zone=0):
        """(number, reply_key, from_initiator) or None."""
        found = int(find4(self.array, src, dst, protocol, zone))
        return None if found < 0 else (found >> 2, found >> 1 & 1, found & 1)

    def find6(self, src, sport, dst, dport, protocol=17, zone=0):
        """(number, from_initiator) or None."""
        found = int(_find6(self.array, halves(src), sport, halves(dst), dport, protocol, zone))
        return None if found < 0 else (found >> 2, found & 1)

    def follow(self, number, direction):
        """The packet is one of a session's. Returns the verdict."""
        return int(follow4(self.array, self.pool.data, self.pool.meta, 0, number << 1 | direction))

    def close(self, number):
        close(self.array, number)

    def at(self, tick, budget=1 << 30):
        """Let it be that tick, and sessions time out. Returns how many were looked after."""
        self.head[t.NOW] = tick
        return int(sweep(self.array, budget))

    def state(self, number):
        return t.STATES[self.hot[number]["state"]]
