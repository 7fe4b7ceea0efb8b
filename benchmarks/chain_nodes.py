# SPDX-License-Identifier: Apache-2.0
"""What a service chain is made of here: a function, and the two loops that join functions by rings.

The function looks at a packet's header and changes it, as the least of all functions do: TTL less one, the
checksum patched. It is the same code in one process, behind rings and behind interfaces.

Rings: the source takes a buffer that is free, writes all of the frame anew, its number in it, and pushes
its row; each member pops rows, calls its function, and pushes the same rows; the source looks into what
comes back. Nothing is copied: what is pushed is 4 bytes of a row's number.
"""

from __future__ import annotations

from benchmarks.frames import FRAME_BYTES
from vforward.graph.node import Labels, Node
from vforward.jit.atomics import load_acquire64
from vforward.jit.be import load16, load64, store16, store64
from vforward.jit.intrinsics import address, call3, copy
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import HEADROOM, VECTOR_MAX, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet, byte_address
from vforward.packet.checksum import update16
from vforward.rings.spsc import pop, push

TTL = 14 + 8
NUMBER = 44
"""Where the source writes a packet's number, 8 bytes."""
STOP = 0
"""Word of all processes: whether to end."""
DONE, YIELDS, WRONG = range(3)
"""Words of one of them: packets passed; calls of sched_yield; packets that came back wrong."""


class Edge(Labels):
    """Ways out of the function."""

    NEXT = 0, "every packet that lives on"
    DROP = 1, "its TTL is over"


@kernel
def function(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    for i in range(idx.size):
        row = i64(idx[i])
        ip = i64(meta[row].off) + 14
        old = load16(data, row, ip + 8)
        if old < 0x200:
            edge[i] = Edge.DROP
            continue
        store16(data, row, ip + 8, old - 0x100)
        store16(data, row, ip + 10, update16(load16(data, row, ip + 10), old, old - 0x100))
        edge[i] = Edge.NEXT


FUNCTION = Node("bench-function", function, Edge)


@kernel
def member(data, meta, source, sink, words, own, sched_yield, rows, edge, count):
    """Be a member of the chain until STOP is set. rows u32[VECTOR_MAX], edge u8[VECTOR_MAX].

    sched_yield: address of the C function.
    """
    while load_acquire64(address(words) + 8 * STOP) == u64(0):
        n = pop(source, rows, VECTOR_MAX)
        if n == 0:
            own[YIELDS] += u64(1)
            call3(sched_yield, 0, 0, 0)
            continue
        function(data, meta, rows[:n], edge[:n], count)
        done = push(sink, rows, n)  # what does not fit waits
        while done < n and load_acquire64(address(words) + 8 * STOP) == u64(0):
            own[YIELDS] += u64(1)
            call3(sched_yield, 0, 0, 0)
            done += push(sink, rows[done:], n - done)
        own[DONE] += u64(n)


@kernel
def drive(data, meta, first, last, own, sched_yield, rows, out, frame, state, packets, ttl):
    """Send so many packets through the chain and see them back, in order, with this TTL.

    rows u32[n]: packet k is in buffer rows[k % n]; out u32[VECTOR_MAX]. state u64[2]: the number of
    the next packet to send, and of the next to come back.
    """
    end = state[1] + u64(packets)
    while state[1] < end:
        room = rows.size - i64(state[0] - state[1])
        n = min(min(VECTOR_MAX, room), i64(end - state[0]))
        for i in range(n):
            number = state[0] + u64(i)
            row = i64(rows[i64(number) % rows.size])
            copy(byte_address(address(data), row, HEADROOM), address(frame), FRAME_BYTES)
            store64(data, row, HEADROOM + NUMBER, number)
            begin_packet(meta, row, FRAME_BYTES, 1)
            out[i] = row
        sent = push(first, out, n)
        state[0] += u64(sent)
        got = pop(last, out, VECTOR_MAX)
        for i in range(got):
            row = i64(out[i])
            own[WRONG] += u64(
                row != i64(rows[i64(state[1]) % rows.size])
                or load64(data, row, HEADROOM + NUMBER) != state[1]
                or i64(data[row, HEADROOM + TTL]) != ttl
            )
            state[1] += u64(1)
        own[DONE] += u64(got)
        if sent == 0 and got == 0:
            own[YIELDS] += u64(1)
            call3(sched_yield, 0, 0, 0)
