"""Numbered packets at a rate into one memory port, and a look at each that comes out of another.

Both are one compiled function in a thread of its own: it holds no GIL, so Python may be busy with the
forwarder meanwhile, and the rate stays. It makes up for what it is late with; `caught_up` waits for that.
Never are more under way than it is told, so that what a ring has no room for is not its doing.
"""

import threading
import time

import numpy as np

from vforward.io.libc import libc_address
from vforward.jit.atomics import load_acquire64, store_release64
from vforward.jit.be import load16, load32, store16, store32
from vforward.jit.intrinsics import address, call2, call3, copy
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import HEADROOM, VECTOR_MAX
from vforward.memory.buffer import begin_packet, byte_address
from vforward.memory.pool import drain_cache, put, take
from vforward.rings.spsc import pop, push
from vforward.testing import packets as pk

RATE = 100_000
"""Packets per second."""
LATE = 100
"""Packets that it may be late with, a millisecond's: it sends some at a time."""
FLOWS = 16
FIRST_PORT = 2000
ETHERTYPE, SOURCE_PORT, UDP_SUM, NUMBER = 12, 34, 40, 42
END_IN_ORDER, END_NOW = 1, 2
END, SENT, GOT, OTHER, WRONG, CAME, WANTED, START, NOW, ONE, NAP = (*range(9), 10, 11)
"""Words. NOW and NAP: timespecs, of two words. WRONG: packets that were not the next one of their flow;
CAME, WANTED: the first of them, and which one was to come. OTHER: frames that are no IPv4."""
WORDS = 13
NAP_NS = 50_000


@kernel
def _offer(
    data, meta, pool, rows, inbox, outbox, wake, template, following, w, port, most, event, calls
):
    clock, nap, write = i64(calls[0]), i64(calls[1]), i64(calls[2])
    words = address(w)
    sent, got = i64(0), i64(0)
    while True:
        n = pop(outbox, rows, rows.size)
        for i in range(n):
            row = i64(rows[i])
            off = i64(meta[row].off)
            if load16(data, row, off + ETHERTYPE) != 0x0800:
                w[OTHER] += u64(1)
                continue
            got += 1
            number = i64(load32(data, row, off + NUMBER))
            flow = number % FLOWS
            if number != following[flow]:
                if w[WRONG] == u64(0):
                    w[CAME], w[WANTED] = u64(number), u64(following[flow])
                w[WRONG] += u64(1)
            following[flow] = number + FLOWS
        put(pool, meta, rows, n)
        store_release64(words + 8 * GOT, u64(got))

        end = load_acquire64(words + 8 * END)
        if end >= END_NOW or (end and got >= sent):
            drain_cache(pool)
            return
        call2(clock, 1, words + 8 * NOW)
        now = load_acquire64(words + 8 * NOW) * u64(1_000_000_000) + load_acquire64(
            words + 8 * NOW + 8
        )
        due = i64((now - w[START]) * u64(RATE) // u64(1_000_000_000))
        wanted = i64(0) if end else min(min(due - sent, most - (sent - got)), rows.size)
        if wanted <= 0:
            if n == 0:
                call2(nap, words + 8 * NAP, 0)
            continue
        ready = take(pool, rows, wanted)
        for i in range(ready):
            row = i64(rows[i])
            begin_packet(meta, row, template.size, port)
            copy(byte_address(address(data), row, HEADROOM), address(template), template.size)
            store16(data, row, HEADROOM + SOURCE_PORT, FIRST_PORT + (sent + i) % FLOWS)
            store32(data, row, HEADROOM + NUMBER, sent + i)
        sent += push(inbox, rows, ready)  # fewer are under way than it has room for
        store_release64(words + 8 * SENT, u64(sent))
        call3(write, event, words + 8 * ONE, 8)
        store_release64(address(wake), u64(1))


class Offered:
    """Packets of FLOWS flows from one memory port to the other; nobody else uses them meanwhile.

    mac: of the sender. source, target: addresses. most: how many packets may be under way.
    """

    def __init__(self, pool, into, out_of, mac, source, target, most):
        udp = bytearray(pk.udp(source, target, FIRST_PORT, 53, bytes(4)))
        udp[6:8] = bytes(2)  # no checksum
        frame = pk.eth(into.mac, mac, 0x0800, pk.ip4(source, target, pk.PROTO_UDP, bytes(udp)))
        assert frame[UDP_SUM : UDP_SUM + 2] == bytes(2)
        self.words = np.zeros(WORDS, np.uint64)
        self.words[[ONE, NAP + 1]] = 1, NAP_NS
        calls = [libc_address(name) for name in ("clock_gettime", "nanosleep", "write")]
        self._arguments = (
            pool.data, pool.meta, pool.cache(), np.zeros(VECTOR_MAX, np.uint32),
            into._inbox.array, out_of._outbox.array, into._wake, np.frombuffer(frame, np.uint8).copy(),
            np.arange(FLOWS, dtype=np.int64), self.words, into._number, most, into._event,
            np.array(calls, np.int64),
        )  # fmt: skip
        self._thread = threading.Thread(target=_offer, args=self._arguments)

    def __enter__(self):
        self.words[END] = END_NOW
        _offer(*self._arguments)  # so that it is compiled
        self.words[END] = 0
        self.words[START] = time.monotonic_ns()
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        """All that was offered has come, or does not come in a minute."""
        self.words[END] = END_IN_ORDER if kind is None else END_NOW
        self._thread.join(60)
        self.words[END] = END_NOW
        self._thread.join()

    @property
    def sent(self):
        return int(self.words[SENT])

    @property
    def got(self):
        return int(self.words[GOT])

    def caught_up(self, seconds=60):
        """Wait until all have been offered that were due, but for LATE. Returns when that was, in ns, and
        how many had been.
        """
        end = time.monotonic() + seconds
        while True:
            now, sent = time.monotonic_ns(), self.sent
            due = (now - int(self.words[START])) * RATE // 10**9
            if due - sent < LATE:
                return now, sent
            assert time.monotonic() < end, f"offered {sent} packets where {due} were due"
            time.sleep(0.001)

    def wrong(self):
        """What was lost, doubled or overtaken, in words; empty: nothing."""
        words = self.words.tolist()
        if not words[WRONG]:
            return "" if self.got == self.sent else f"of {self.sent} came {self.got}"
        return f"{words[WRONG]} out of turn, first {words[CAME]} where {words[WANTED]} was to come"
