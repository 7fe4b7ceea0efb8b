# SPDX-License-Identifier: Apache-2.0
"""The filter of system calls: by an interpreter of classic BPF, against Linux's headers, and by Linux."""

import errno
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.errors import VforwardError
from vforward.io import seccomp, shim

HEADERS = {
    "x86_64": ("x86_64-linux-gnu/asm/unistd_64.h", r"#define __NR_(\w+) (\d+)"),
    "aarch64": ("asm-generic/unistd.h", r"#define __NR(?:3264)?_(\w+) (\d+)"),
}
ARCHES = {"x86_64": 62 | 3 << 30, "aarch64": 183 | 3 << 30}  # ELF's machine, 64 bits, little-endian
ALLOWED, EPERM, ENOSYS = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
MACHINES = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


def verdict(machine, number, *arguments, arch=None, allowed=frozenset()):
    """What the filter says to a call (Linux networking/filter.rst, seccomp(2))."""
    words = [number & 0xFFFFFFFF, ARCHES[machine] if arch is None else arch, 0, 0]
    for argument in [*arguments, *[0] * (6 - len(arguments))]:
        words += [argument & 0xFFFFFFFF, argument >> 32]
    steps = seccomp.program(machine, allowed)
    a = at = 0
    while True:
        code, so, otherwise, k = steps[at]
        at += 1
        match code:
            case 0x20:
                assert k % 4 == 0
                a = words[k // 4]
            case 0x06:
                return k
            case 0x15 | 0x25 | 0x35 | 0x45:
                met = {0x15: a == k, 0x25: a > k, 0x35: a >= k, 0x45: bool(a & k)}[code]
                at += so if met else otherwise
            case _:
                pytest.fail(f"no such step: {code:#x}")


def numbers(machine):
    """The calls of a machine by name, from Linux's headers."""
    file, line = HEADERS[machine]
    path = Path("/usr/include", file)
    if not path.exists():
        pytest.skip(f"no {path}: apt-get install linux-libc-dev")
    return {name: int(number) for name, number in re.findall(line, path.read_text())}


def number(machine, pair):
    return pair[seccomp.MACHINES[machine][0]]


@MACHINES
def test_the_numbers_are_those_of_the_headers(machine):
    known = numbers(machine)
    if machine == "aarch64":
        known["open_by_handle_at"] = 265  # defined by a macro with two names
    table = seccomp.REFUSED | seccomp.HIDDEN | {"clone": seccomp.CLONE, "ioctl": seccomp.IOCTL}
    assert {name: number(machine, pair) for name, pair in table.items()} == {
        name: known.get(name) for name in table
    }


@MACHINES
def test_what_a_forwarder_has_no_use_for_is_refused_and_the_rest_passes(machine):
    refused = {number(machine, pair) for pair in seccomp.REFUSED.values()}
    hidden = {number(machine, pair) for pair in seccomp.HIDDEN.values()}
    for nr in range(seccomp.NEWEST + 1):
        wanted = EPERM if nr in refused else ENOSYS if nr in hidden else ALLOWED
        assert verdict(machine, nr) == wanted, nr
    for name in ("read", "sendmmsg", "ppoll", "mmap", "mprotect", "openat", "futex", "io_submit"):
        assert verdict(machine, numbers(machine)[name]) == ALLOWED, name


@MACHINES
@given(nr=st.integers(seccomp.NEWEST + 1, 0x3FFFFFFF) | st.integers(0, 0xFFFFFFFF))
def test_what_is_newer_is_not_there(machine, nr):
    if nr > seccomp.NEWEST:
        assert verdict(machine, nr) == ENOSYS
    if machine == "x86_64":
        assert verdict(machine, 0x40000000 | nr & 0xFFFF) == ENOSYS  # x32


@MACHINES
def test_calls_of_another_machine_are_refused(machine):
    for arch in {0x40000003, 0x40000028, *ARCHES.values()} - {ARCHES[machine]}:  # i386, arm
        for nr in (0, 1, 11, 59, 221):
            assert verdict(machine, nr, arch=arch) == EPERM


@MACHINES
@given(flags=st.integers(0, 0xFFFFFFFF))
def test_threads_and_children_may_be_started_but_not_in_namespaces_of_their_own(machine, flags):
    namespaces = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000
    namespaces |= 0x40000000
    wanted = EPERM if flags & namespaces else ALLOWED
    assert verdict(machine, number(machine, seccomp.CLONE), flags) == wanted
    threads, child = 0x3D0F00, 0x11
    assert verdict(machine, number(machine, seccomp.CLONE), threads) == ALLOWED
    assert verdict(machine, number(machine, seccomp.CLONE), child) == ALLOWED


@MACHINES
@given(request=st.integers(0, 0xFFFFFFFFFFFFFFFF))
def test_nobody_types_at_the_terminal(machine, request):
    ioctl = number(machine, seccomp.IOCTL)
    assert verdict(machine, ioctl, 0, request) == (
        EPERM if request & 0xFFFFFFFF in (0x5412, 0x541C) else ALLOWED
    )
    for wrong in (0x5412, 0x541C, 0x5412 | 7 << 32):
        assert verdict(machine, ioctl, 0, wrong) == EPERM


@MACHINES
def test_what_is_allowed_passes_and_nothing_else(machine):
    for name in ("bpf", "setns"):
        allowed = frozenset({name})
        assert verdict(machine, number(machine, seccomp.REFUSED[name]), allowed=allowed) == ALLOWED
        execve = number(machine, seccomp.REFUSED["execve"])
        assert verdict(machine, execve, allowed=allowed) == EPERM


PROGRAM = """
import ctypes, errno, json, os, subprocess, sys, threading
from vforward.io import capabilities, seccomp
go, found = threading.Event(), {}
libc = ctypes.CDLL(None, use_errno=True)

def refused(what):
    try:
        what()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def call(name, *arguments):
    def made():
        if libc[name](*arguments) < 0:
            raise OSError(ctypes.get_errno(), name)
    return made

def child():
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7

def tries(where):
    go.wait()
    found[where] = {
        "exec": refused(lambda: os.execv("/bin/true", ["true"])),
        "spawn": refused(lambda: subprocess.run(["/bin/true"])),
        "posix_spawn": refused(lambda: os.posix_spawn("/bin/true", ["true"], {})),
        "mount": refused(call("mount", b"none", b"/mnt", b"tmpfs", 0, None)),
        "ptrace": refused(call("ptrace", 0, 0, None, None)),
        "unshare": refused(call("unshare", 0x10000000)),
        "io_uring": refused(lambda: call("syscall", 425, 1, None)()),
        "fork": refused(child),
        "thread": refused(lambda: (thread := threading.Thread(target=int), thread.start(), thread.join())),
        "file": refused(lambda: open("/proc/self/status").close()),
    }

before = threading.Thread(target=tries, args=("before",))
before.start()
capabilities.drop(())
seccomp.install()
go.set()
before.join()
after = threading.Thread(target=tries, args=("after",))
after.start()
after.join()
tries("main")
found["modes"] = [t.seccomp for t in capabilities.threads()]
json.dump(found, sys.stdout)
"""


@pytest.mark.skipif(platform.machine() not in seccomp.MACHINES, reason="no filter for this machine")
def test_linux_holds_every_thread_to_it():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found.pop("modes")) == {2}
    calls = ("exec", "spawn", "posix_spawn", "mount", "ptrace", "unshare")
    wanted = dict.fromkeys(calls, "EPERM") | {"io_uring": "ENOSYS"}
    wanted |= dict.fromkeys(("fork", "thread", "file"), "done")
    assert found == {"before": wanted, "after": wanted, "main": wanted}


def test_a_machine_without_a_filter_is_named(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(VforwardError, match="a filter for x86_64, aarch64, not for riscv64"):
        seccomp.install()


@pytest.mark.parametrize(
    ("error", "says"), [(errno.ENOSYS, "this kernel has none"), (errno.EBUSY, "of its own")]
)
def test_what_linux_refuses_is_told(monkeypatch, error, says):
    class Refuses:
        vf_seccomp = staticmethod(lambda steps, n: -error)

    monkeypatch.setattr(shim, "lib", Refuses)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(VforwardError, match=f"seccomp: .*{says}"):
        seccomp.install()
