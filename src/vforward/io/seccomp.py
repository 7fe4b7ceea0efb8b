# SPDX-License-Identifier: Apache-2.0
"""seccomp: a filter of system calls, for a process that forwards and shall never do anything else.

The filter refuses what a forwarder has no use for, EPERM, and lets the rest through: an interpreter with a
compiler in it uses too many calls, other ones with each version of the C library, for a list of those
that it may make. Calls that are newer than Linux 6.1 are refused as if there were no such thing, ENOSYS,
and so are those that hide their arguments from a filter: clone3, in place of which the C library uses
clone, and io_uring. It looks at arguments of two calls only, clone and ioctl; of all others Linux from 5.11
on knows beforehand whether they pass, so that they cost next to nothing.

Sources: seccomp(2), Linux seccomp_filter.rst, asm/unistd_64.h, asm-generic/unistd.h, clone(2),
ioctl_tty(2).
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterator

from vforward.errors import VforwardError
from vforward.io import shim

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Place in a pair of numbers below, and what seccomp calls the machine (linux/audit.h)."""
X32 = 0x40000000
"""From here on: x86-64's other numbers for the same calls."""
NEWEST = 450
"""Of Linux 6.1. Behind it numbers are the same on all machines."""

Numbers = tuple[int | None, int | None]

REFUSED: dict[str, Numbers] = {
    # another program, and other processes' memory
    "execve": (59, 221),
    "execveat": (322, 281),
    "uselib": (134, None),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "userfaultfd": (323, 282),
    # the kernel
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "perf_event_open": (298, 241),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    # what is mounted
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "open_by_handle_at": (304, 265),
    # namespaces, terminals
    "unshare": (272, 97),
    "setns": (308, 268),
    "vhangup": (153, 58),
    # clocks and names of the machine
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    # keys, and programs for the kernel
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
}
HIDDEN: dict[str, Numbers] = {
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
CLONE: Numbers = (56, 220)
NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
IOCTL: Numbers = (16, 29)
TYPING = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put words into the mouth of who sits at the terminal."""

NR, ARCH, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24  # of struct seccomp_data; lower halves
LD, JEQ, JGE, JGT, JSET, RET = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000

Step = tuple[int, int, int, int]
"""Code, steps to pass over if so, if not so, operand: struct sock_filter."""


def program(machine: str, allowed: frozenset[str] = frozenset()) -> list[Step]:
    """The filter for a machine. allowed: names of REFUSED that are not refused."""
    which, arch = MACHINES[machine]
    refuse, unknown = (RET, 0, 0, ERRNO | errno.EPERM), (RET, 0, 0, ERRNO | errno.ENOSYS)
    steps: list[Step] = [(LD, 0, 0, ARCH), (JEQ, 1, 0, arch), refuse, (LD, 0, 0, NR)]
    if machine == "x86_64":
        steps += [(JGE, 0, 1, X32), unknown]
    steps += [(JGT, 0, 1, NEWEST), unknown]
    for numbers in HIDDEN.values():
        steps += _if(numbers[which], unknown)
    for name, numbers in REFUSED.items():
        if name not in allowed:
            steps += _if(numbers[which], refuse)
    clone, ioctl = CLONE[which], IOCTL[which]
    assert clone is not None
    assert ioctl is not None
    steps += [(JEQ, 0, 3, clone), (LD, 0, 0, FIRST_ARGUMENT), (JSET, 0, 6, NAMESPACES), refuse]
    steps += [(JEQ, 0, 4, ioctl), (LD, 0, 0, SECOND_ARGUMENT), (JEQ, 1, 0, TYPING[0])]
    return [*steps, (JEQ, 0, 1, TYPING[1]), refuse, (RET, 0, 0, ALLOW)]


def _if(number: int | None, then: Step) -> Iterator[Step]:
    if number is not None:
        yield (JEQ, 0, 1, number)
        yield then


def install(allowed: frozenset[str] = frozenset()) -> None:
    """Put the filter in force, in all threads and all that they start. no_new_privs must be set.

    Raises VforwardError where that cannot be, and says why; ShimMissing.
    """
    machine = platform.machine()
    if machine not in MACHINES:
        raise VforwardError(
            f"seccomp: there is a filter for {', '.join(MACHINES)}, not for {machine}"
        )
    steps = program(machine, allowed)
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    advice = {
        errno.ENOSYS: "this kernel has none (CONFIG_SECCOMP_FILTER, Linux 4.17)",
        errno.EINVAL: "this kernel has none (CONFIG_SECCOMP_FILTER, Linux 4.17)",
        errno.EBUSY: "a thread has a filter of its own",
    }
    try:
        shim.check(shim.lib.vf_seccomp(shim.pointer(code), len(steps)), "seccomp")
    except OSError as error:
        why = advice.get(error.errno or 0, str(error.strerror))
        raise VforwardError(f"seccomp: {why}") from error
