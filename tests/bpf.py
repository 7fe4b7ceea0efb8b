"""BPF programs of the tests' own, by bpf(2): what another host, or another program, has on an interface."""

import contextlib
import ctypes
import os
import struct

SYSCALL = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
MAP_CREATE, PROG_LOAD, LINK_CREATE = 0, 5, 28
SCHED_CLS, XDP = 3, 6
TCX_EGRESS, XDP_LINK = 47, 37
XDP_DROP, XDP_PASS = 1, 2
SKB_MODE = 1 << 1
VLAN_PUSH = 18
R0, R1, R2, R3 = range(4)


def _bpf(command, attributes):
    given = ctypes.create_string_buffer(attributes.ljust(144, b"\0"), 144)
    result = ctypes.CDLL(None, use_errno=True).syscall(SYSCALL, command, given, 144)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _op(code, dst=0, src=0, offset=0, value=0):
    return struct.pack("=BBhi", code, src << 4 | dst, offset, value)


def move(register, value):
    return _op(0xB7, register, value=value)


def call(helper):
    return _op(0x85, value=helper)


EXIT = _op(0x95)


def load(kind, *instructions):
    code = ctypes.create_string_buffer(b"".join(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    where = ctypes.addressof(code), ctypes.addressof(licence)
    return _bpf(PROG_LOAD, struct.pack("=IIQQ", kind, (len(code) - 1) // 8, *where))


@contextlib.contextmanager
def attached(program, index, kind, flags=0):
    """On an interface of the thread's namespace meanwhile."""
    try:
        link = _bpf(LINK_CREATE, struct.pack("=IIII", program, index, kind, flags))
    finally:
        os.close(program)
    try:
        yield
    finally:
        os.close(link)


def tags_beside(index, vid, ethertype=0x8100):
    """What leaves by an interface gets a VLAN tag beside it, for the hardware to put into the frame."""
    push = move(R2, int.from_bytes(ethertype.to_bytes(2, "big"), "little")), move(R3, vid)
    return attached(load(SCHED_CLS, *push, call(VLAN_PUSH), move(R0, 0), EXIT), index, TCX_EGRESS)


def xdp(index, action=XDP_PASS, flags=0):
    """Another XDP program."""
    return attached(load(XDP, move(R0, action), EXIT), index, XDP_LINK, flags)
