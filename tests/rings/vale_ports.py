# SPDX-License-Identifier: Apache-2.0
"""Ports of a switch in this process, without a server: the test calls forward itself."""

import os
import socket

from vforward.rings import netmap


def attach(switch, name, tx=16, rx=16, extra=0):
    """A new port: (its number, the program's side of it)."""
    number, reply, descriptors = switch.attach(name, tx, rx, extra)
    connection, _ = pair = socket.socketpair()
    port = netmap.Port(name, reply, connection, [os.dup(d) for d in descriptors])
    port.other = pair[1]  # open as long as the port is
    return number, port


def shut(port):
    """Close a port of attach's."""
    port.close()
    port.other.close()


def put(port, parts, flags=0):
    """Fill tx slots with a frame in parts. Returns whether there was room; nothing is sent yet."""
    mine = port.tx.owned()
    if len(mine) < len(parts):
        return False
    for i, (at, part) in enumerate(zip(mine, parts)):
        slot = port.tx.slots[at]
        port.buffer(int(slot["buf_idx"]))[: len(part)] = list(part[:2048])
        slot["len"] = len(part)
        slot["flags"] = flags | (netmap.layout.NS_MOREFRAG if i + 1 < len(parts) else 0)
    port.tx.advance(len(parts))
    return True


def frame(dst, src, size):
    """A frame of so many bytes, told apart by its size."""
    return (dst + src + bytes(i * 7 % 251 for i in range(size)))[:size]


def mac(number, first=2):
    """A station's address; first = 1: a group's."""
    return bytes([first, 0, 0, 0, 0, number])
