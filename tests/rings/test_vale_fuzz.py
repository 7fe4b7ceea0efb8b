# SPDX-License-Identifier: Apache-2.0
"""Ports that write anything into their regions. VFORWARD_FUZZ_CASES=1000000 runs so many cases.

A case: two hostile ports write slots, heads and whatever, most of them nearly right; a good one sends a
frame to all; the switch goes round once; and the other good one has that frame. An access outside of
the regions is a segmentation fault: they end at pages without access.
"""

import numpy as np
import pytest

from fuzzing import cases
from rings.guarded_regions import any_place, guarded_regions, write_anywhere, write_slot
from rings.vale_ports import attach, shut
from storms import draw, hailed
from vforward.jit.atomics import load_acquire64
from vforward.jit.intrinsics import address, view
from vforward.jit.kernel import i64, kernel, u64
from vforward.rings.netmap_layout import BUF_SIZE, FIRST_BUF, NS_MOREFRAG, PAGE, SLOTS, load, store
from vforward.rings.netmap_sync import PORT_CUR, PORT_WAITS, SWITCH_TAIL, following
from vforward.rings.vale import COUNTERS, WORDS, forward
from vforward.rings.vale_switch import Switch

CASES = cases(1_000_000)  # of each test: a few seconds
FIRST, SENDER, RECEIVER, SECOND = range(4)  # the good ones in the middle
HOSTILE_SLOTS = 80  # more than a frame may have
GOOD_SLOTS = 128  # room for all that one round brings before the good frame
MISSED, ODD, TAKEN = range(3)
SIZE = 60
GUARD = np.uint64(0x6B6B6B6B6B6B6B6B)


@kernel
def write_macs(state, port, slot):
    """Into a slot's buffer: from one of a few stations to one, or to many."""
    buf = load(slot)
    if FIRST_BUF <= buf < port.bufs:
        dst = 2 | draw(state, 5) << 40 | i64(draw(state, 8) == 0)
        src = 2 | draw(state, 5) << 40 | i64(draw(state, 32) == 0)
        words = view(port.base + buf * BUF_SIZE, 2, np.uint64)
        words[0], words[1] = u64(dst) | u64(src) << u64(48), u64(src) >> u64(16)


@kernel
def disturb(state, port):
    """What a hostile program writes between two rounds."""
    long = draw(state, 64) == 0
    count = HOSTILE_SLOTS - draw(state, 20) - 1 if long else draw(state, 6)
    for k in range(count):
        slot = port.tx + SLOTS + 16 * ((port.tx_cur + k) % port.tx_n)
        write_slot(state, slot, port.bufs, long)
        write_macs(state, port, slot)
    for k in range(draw(state, 4)):
        slot = port.rx + SLOTS + 16 * ((port.rx_tail + k) % port.rx_n)
        write_slot(state, slot, port.bufs, False)
    write_anywhere(state, port.tx_link, port.base + port.bufs * BUF_SIZE - port.tx_link)
    store(port.tx_link, any_place(state, port.tx_n, (port.tx_cur + count) % port.tx_n))
    store(port.rx_link, any_place(state, port.rx_n, port.rx_tail))
    store(port.tx_link + PORT_WAITS, draw(state, 2))
    store(port.rx_link + PORT_WAITS, draw(state, 2))


@kernel
def stamp(number, k):
    return (u64(number) + u64(k)) * u64(0x9E3779B97F4A7C15)


@kernel
def offer(port, number):
    """The good program sends a frame of this number to all."""
    at = port.tx_cur
    slot = port.tx + SLOTS + 16 * at
    frame = view(port.base + load(slot) * BUF_SIZE, 8, np.uint64)
    frame[0], frame[1] = u64(0x0002FFFFFFFFFFFF), u64(0x99000000)
    for k in range(2, 8):
        frame[k] = stamp(number, k)
    view(slot, 2, np.uint32)[1] = SIZE
    store(port.tx_link + PORT_CUR, following(port.tx_n, at))
    store(port.tx_link, following(port.tx_n, at))


@kernel
def is_it(where, number):
    frame = view(where, 7, np.uint64)
    good = frame[0] == u64(0x0002FFFFFFFFFFFF) and frame[1] == u64(0x99000000)
    for k in range(2, 7):
        good = good and frame[k] == stamp(number, k)
    return good


@kernel
def collect(port, bufs, number, seen):
    """The good program takes all that has come: each slot as it must be, the frame among them."""
    found = False
    at, tail = load(port.rx_link), load(port.rx_link + SWITCH_TAIL)
    while at != tail and tail < port.rx_n:
        word = load_acquire64(port.rx + SLOTS + 16 * at)
        buf, size = i64(word & u64(0xFFFFFFFF)), i64(word >> u64(32)) & 0xFFFF
        flags = i64(word >> u64(48)) & 0xFF
        if buf != bufs[at] or size > BUF_SIZE or (flags & ~NS_MOREFRAG) != 0:
            seen[ODD] += u64(1)
        elif size == SIZE and is_it(port.base + buf * BUF_SIZE, number):
            found = True
        at = following(port.rx_n, at)
    store(port.rx_link, at)
    if not found:
        seen[MISSED] += u64(1)


@kernel
def storm(cases, state, ports, macs, words, bufs, seen, wild):
    """Run cases. bufs: of the receiver's slots."""
    for number in range(cases):
        if not wild:
            disturb(state, ports[FIRST])
            disturb(state, ports[SECOND])
        offer(ports[SENDER], number)
        seen[TAKEN] += u64(forward(ports, macs, (number >> 12) & 255, words, 1))
        collect(ports[RECEIVER], bufs, number, seen)
        for p in range(ports.size):
            port = ports[p]
            port.wake = i64(0)


@kernel
def hail(cases, state, ports, stop):
    """As storm, only writing: beside a switch at work."""
    done = 0
    while done < cases and not load_acquire64(address(stop)):
        disturb(state, ports[FIRST])
        disturb(state, ports[SECOND])
        done += 1
    return done


@pytest.fixture
def world():
    """A switch whose thread does not run, and its ports."""
    with guarded_regions():
        switch = Switch("t")
        sizes = {"a": HOSTILE_SLOTS, "b": GOOD_SLOTS, "c": GOOD_SLOTS, "d": HOSTILE_SLOTS}
        ports = [attach(switch, name, n, n)[1] for name, n in sizes.items()]
        yield switch, ports
        switch.close()
        for port in ports:
            shut(port)


def left_alone(switch, port):
    """What the switch has no business with, of a port that only receives: all but links and rx slots."""
    where = switch.members[RECEIVER].region.where
    bufs = sorted({*range(where.bufs)} - {*port.rx.slots["buf_idx"].tolist()})
    buffers = port.memory[where.bufs_at :].reshape(-1, BUF_SIZE)
    return port.memory[PAGE : where.ends[0].rx + SLOTS].tobytes() + buffers[bufs].tobytes()


def run_storm(switch, port, state, *, wild):
    """Run the cases, and see that the good ports' lives went on. Returns all ports' counters."""
    ports = switch.ports[: len(switch.members)]
    port.memory[switch.members[RECEIVER].region.where.bufs_at :] = 0xC5
    before, bufs = left_alone(switch, port), port.rx.slots["buf_idx"].astype(np.int64)
    words, seen = np.full(WORDS + 8, GUARD), np.zeros(3, np.uint64)
    storm(CASES, state, ports, switch.macs, words[:WORDS], bufs, seen, wild)
    assert (seen[MISSED], seen[ODD]) == (0, 0)
    assert seen[TAKEN] >= CASES
    assert (words[WORDS:] == GUARD).all()
    assert left_alone(switch, port) == before
    assert (ports["received"][SENDER], ports["bad"][SENDER]) == (CASES, 0)
    assert (ports["sent"][RECEIVER] >= CASES, ports["bad"][RECEIVER]) == (True, 0)
    hostile = ports[[FIRST, SECOND]]
    return {name: int(hostile[name].sum()) for name in COUNTERS}


def test_nothing_that_a_port_writes_harms_others(world):
    switch, ports = world
    state = np.array([88172645463325252], np.uint64)
    count = run_storm(switch, ports[RECEIVER], state, wild=False)
    # All was met, and often nothing was wrong.
    assert count["received"] > CASES // 2, count
    assert count["bad"] > CASES // 20, count
    assert count["sent"] > CASES // 2, count
    assert min(count.values()) > CASES // 1000, count


def test_nor_what_it_writes_meanwhile(world):
    switch, ports = world
    with hailed(hail, switch.ports) as state:
        count = run_storm(switch, ports[RECEIVER], state, wild=True)
    assert count["bad"] > 0, count
