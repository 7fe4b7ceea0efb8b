# SPDX-License-Identifier: Apache-2.0
"""Which of a port's receive sockets takes a frame: a filter of each, run by Linux (adr/0028).

Sources: packet(7), Linux networking/filter.rst (classic BPF). All sockets are bound to one interface; each
frame passes the filter of one. It is chosen by addresses and ports, the same in both directions of a flow:

    IPv4, IPv6   the sum of both addresses' words, and of both ports where they are there (TCP, UDP,
                 DCCP, SCTP, UDP-Lite; no fragment; of IPv6 directly behind the header)
    others       the sum of the MAC addresses' lower halves; VLAN tags that Linux leaves in are such

A sum is the same in both directions, and is then mixed. What is cut off belongs to socket 0.

Not PACKET_FANOUT, which does the same: a socket that has joined a group cannot be bound any more, so a port
would not come back with its interface (io.af_packet_life).
"""

from __future__ import annotations

import ctypes
import os
import socket as sockets
import struct

SO_ATTACH_FILTER = 26
MIX, PORTS_MIX = 0x9E3779B1, 0x85EBCA6B
"""Odd, bits at random."""
ETHERNET, IP4, IP6 = 14, 0x0800, 0x86DD
WITH_PORTS = (6, 17, 33, 132, 136)

# Classic BPF: class | size | mode, or class | operation | source.
LD_K, LD_W, LD_H, LD_B, LD_LEN, LD_MEM = 0x00, 0x20, 0x28, 0x30, 0x80, 0x60
LDX_HEADER, LDX_MEM, LDX_K, LD_IND_H, ST, TAX, TXA = 0xB1, 0x61, 0x01, 0x48, 0x02, 0x07, 0x87
ADD_K, ADD_X, MUL_K, RSH_K, MOD_K = 0x04, 0x0C, 0x24, 0x74, 0x94
JEQ, JGE, JGE_X, JSET, JA, RET_K = 0x15, 0x35, 0x3D, 0x45, 0x05, 0x06
TAKE = 0xFFFFFFFF
SUM, PORTS = 0, 1
"""Places in the filter's memory."""

Step = tuple[int, int, str, str]
"""Code, operand, and where a jump goes if so and if not: a label; "": to the next step."""


def program(number: int, n: int) -> list[tuple[int, int, int, int]]:
    """The filter of socket number of n: (code, if so, if not, operand) of each step."""
    steps: list[tuple[str, Step]] = []

    def add(code: int, operand: int = 0, yes: str = "", no: str = "", *, label: str = "") -> None:
        steps.append((label, (code, operand, yes, no)))

    def sum_words(places: range) -> None:
        add(LD_W, places[0])
        for place in places[1:]:
            add(TAX)
            add(LD_W, place)
            add(ADD_X)
        add(ST, SUM)

    def sum_ports(first: int) -> None:
        """Of the two that lie at X + first."""
        add(LD_IND_H, first)
        add(ST, PORTS)
        add(LD_IND_H, first + 2)
        add(LDX_MEM, PORTS)
        add(ADD_X)
        add(MUL_K, PORTS_MIX)
        add(ST, PORTS)

    add(LD_H, 12)
    add(JEQ, IP4, "ip4", "")
    add(JEQ, IP6, "ip6", "")
    add(LD_W, 2)
    add(TAX)
    add(LD_W, 8)
    add(ADD_X)
    add(ST, SUM)
    add(JA, 0, "mix")

    add(LD_LEN, label="ip4")
    add(JGE, ETHERNET + 20, "", "first")
    sum_words(range(26, 34, 4))
    add(LD_H, 20)
    add(JSET, 0x3FFF, "mix", "")
    add(LD_B, 23)
    for k, protocol in enumerate(WITH_PORTS):
        last = k == len(WITH_PORTS) - 1
        add(JEQ, protocol, "ip4-ports", "mix" if last else "")
    add(LDX_HEADER, ETHERNET, label="ip4-ports")
    add(TXA)
    add(ADD_K, ETHERNET + 4)
    add(TAX)
    add(LD_LEN)
    add(JGE_X, 0, "", "mix")
    add(LDX_HEADER, ETHERNET)
    sum_ports(ETHERNET)
    add(JA, 0, "mix")

    add(LD_LEN, label="ip6")
    add(JGE, ETHERNET + 40, "", "first")
    sum_words(range(22, 54, 4))
    add(LD_B, 20)
    for k, protocol in enumerate(WITH_PORTS):
        last = k == len(WITH_PORTS) - 1
        add(JEQ, protocol, "ip6-ports", "mix" if last else "")
    add(LD_LEN, label="ip6-ports")
    add(JGE, ETHERNET + 44, "", "mix")
    add(LDX_K, 0)
    sum_ports(ETHERNET + 40)

    add(LD_MEM, PORTS, label="mix")
    add(TAX)
    add(LD_MEM, SUM)
    add(ADD_X)
    add(MUL_K, MIX)
    add(RSH_K, 16)
    add(MOD_K, n)
    add(JEQ, number, "take", "leave")
    add(RET_K, 0 if number else TAKE, label="first")
    add(RET_K, TAKE, label="take")
    add(RET_K, 0, label="leave")
    return _resolved(_cleared(steps))


def _cleared(steps: list[tuple[str, Step]]) -> list[tuple[str, Step]]:
    """Linux refuses a filter that might read memory before it was written."""
    return [("", (LD_K, 0, "", "")), ("", (ST, PORTS, "", "")), *steps]


def _resolved(steps: list[tuple[str, Step]]) -> list[tuple[int, int, int, int]]:
    where = {label: at for at, (label, _) in enumerate(steps) if label}
    found = []
    for at, (_, (code, operand, yes, no)) in enumerate(steps):
        so, otherwise = (where[label] - at - 1 if label else 0 for label in (yes, no))
        found.append((code, 0, 0, so) if code == JA else (code, so, otherwise, operand))
    return found


def attach(fd: int, number: int, n: int) -> None:
    """Let a packet socket, before it is bound, take only its share. Raises OSError."""
    steps = program(number, n)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    with sockets.socket(fileno=os.dup(fd)) as packet:
        packet.setsockopt(
            sockets.SOL_SOCKET,
            SO_ATTACH_FILTER,
            struct.pack("HP", len(steps), ctypes.addressof(code)),
        )
