# SPDX-License-Identifier: Apache-2.0
"""What the packets of the cases are like: it stands in every row."""

from __future__ import annotations

from typing import NamedTuple

TSC = "TSC"
WALL = "CLOCK_MONOTONIC"
REAL = "CLOCK_REALTIME"
"""Clocks: the time stamp counter, of which a second has tsc_hz; the kernel's, in nanoseconds; and the one
that its time stamps of packets go by."""


class Load(NamedTuple):
    """What the packets of a case are like, and the clock that it goes by: stands in each of its rows.

    touches: what is touched of each packet. bytes: on the wire, frame check sequence included.
    """

    touches: str
    bytes: int | str
    flows: int | str
    clock: str = TSC


HEADERS = Load("whole packet written, headers read and changed", 64, "a random destination each")
CLASSIFIED = HEADERS._replace(flows="65536 different packets")
OPENING = HEADERS._replace(flows="a new one each")
TRANSLATED = HEADERS._replace(touches="headers read and changed", flows="random endpoints each")
SESSIONS = Load("whole packet written, headers read and changed", 64, "random, as many as sessions")
BRIDGED = Load("whole packet written, header read", 64, "random pairs of stations")
NOTHING = Load("nothing", "-", "-")
NUMBERS = Load("pointers", 8, "-")
KEYS = Load("header fields, no packet", "-", "65536 different")
"""Of the classifier's cases; rows of others say how many."""
CONTROL = Load("no packets", "-", "-", WALL)
STARTS = Load("whole packet", 64, 1, WALL)
WIRES = Load("whole packet, copied by the kernel", 64, 256, WALL)
TESTED = WIRES._replace(clock=TSC)
"""By benchmarks.rate_tester, which sends and stamps by the TSC."""
WORKERS = HEADERS._replace(flows="4096 of each worker", clock=WALL)
STREAM = Load("whole packet, copied by the kernel", "64 KB, or 1518 without offloads", 1, WALL)
GUEST = Load("whole packet, copied once each way", 64, "1; echo: 1024", WALL)
COPIED = Load("whole packet written and read", 64, 1, WALL)
WOKEN = Load("8 bytes of each packet", 64, 1)
WOKEN_WIRE = Load("whole packet, copied by the kernel", 64, 100, REAL)
PINGS = Load("whole packet", 98, 1, REAL)
PASSED = Load("whole packet written, header changed by each function", 64, 1)
