# SPDX-License-Identifier: Apache-2.0
"""btf: by what number the running kernel knows one of its functions, for a BPF program that calls it.

Linux bpf/btf.rst. All numbers are in the host's byte order.

    header      magic u16, version u8, flags u8, then u32: its length; types from there on, their length;
                names from there on, their length
    a type      name u32, info u32 (bits 24 to 28: kind; bits 0 to 15: how many follow), size u32; then what
                its kind asks for. Types have no numbers of their own: they count, from 1 on
    a name      bytes, and a 0 behind
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path

KERNEL = Path("/sys/kernel/btf/vmlinux")
MAGIC = 0xEB9F
HEADER = struct.Struct("=HBBIIIII")
TYPE = struct.Struct("=III")
FUNCTION = 12
FOLLOWS = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0)}
FOLLOWS |= {15: (0, 12), 17: (4, 0), 19: (0, 12)}
"""By kind, bytes behind the type, and for each of those that follow: integer, array, structure, union,
enumeration, prototype, variable, section, declaration tag, enumeration of 64 bits. The others: none."""


@cache
def function_id(name: str) -> int:
    """The number of a function of the running kernel; 0 if it has none, or does not say."""
    try:
        return find(KERNEL.read_bytes(), name)
    except (OSError, ValueError, struct.error):
        return 0


def find(btf: bytes, name: str) -> int:
    """The number of a function, 0 if there is none. Raises ValueError or struct.error: no BTF."""
    magic, version, _, header, types, types_size, names, names_size = HEADER.unpack_from(btf)
    if (magic, version) != (MAGIC, 1):
        msg = "no BTF of version 1 in this machine's byte order"
        raise ValueError(msg)
    names_at = header + names
    place = btf.find(b"\0" + name.encode() + b"\0", names_at, names_at + names_size)
    if place < 0:
        return 0
    wanted, at, end, number = place + 1 - names_at, header + types, header + types + types_size, 1
    while at < end:
        named, info, _ = TYPE.unpack_from(btf, at)
        kind = info >> 24 & 31
        if kind == FUNCTION and named == wanted:
            return number
        behind, each = FOLLOWS.get(kind, (0, 0))
        at += TYPE.size + behind + each * (info & 0xFFFF)
        number += 1
    return 0
