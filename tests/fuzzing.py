"""What the fuzzers of messages share: cases, a seed, descriptors of every kind, and what may leak.

VFORWARD_FUZZ_CASES=1000000 runs so many cases, VFORWARD_FUZZ_SEED=7 others than usually.
"""

import contextlib
import fcntl
import os
import random
import select
import socket
from pathlib import Path

EDGES = [0, 1, 2, 3, 7, 8, 9, 64, 128, 255, 256, 4095, 4096, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**20]
EDGES += [
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**44,
    2**46,
    2**63 - 1,
    2**63,
    2**64 - 4096,
    2**64 - 1,
]
MEMORY = 1 << 20
LOOK_EVERY = 100
"""Conversations, after which it is looked for descriptors left open: a look takes as long as a few."""
SEAL_SHRINK, SEAL_WRITE = 2, 8


def cases(usually):
    """How many to run."""
    return int(os.environ.get("VFORWARD_FUZZ_CASES", usually))


class Draw(random.Random):
    """Numbers to fuzz with. The seed is printed: pytest shows it when a test fails."""

    def __init__(self):
        seed = int(os.environ.get("VFORWARD_FUZZ_SEED", "1"))
        print(f"VFORWARD_FUZZ_SEED={seed}")
        super().__init__(seed)

    def often(self, percent):
        return self.random() * 100 < percent

    def number(self, bits):
        """At an edge, near one, or anything."""
        kind = self.randrange(4)
        found = self.choice(EDGES) if kind < 3 else self.getrandbits(bits)
        if kind == 2:
            found += self.randrange(-20, 20)
        return found & ((1 << bits) - 1)

    def spoiled(self, payload):
        """Bytes with a few changed, cut off or added."""
        found = bytearray(payload)
        kind = self.randrange(4)
        if kind == 0:
            return bytes(found[: self.randrange(len(found) + 1)])
        if kind == 1:
            return bytes(found) + self.randbytes(self.randrange(600))
        size = self.choice([1, 2, 4, 8])
        if len(found) >= size:
            at = self.randrange(0, len(found) - size + 1, size)
            found[at : at + size] = self.number(8 * size).to_bytes(size, "little")
        return bytes(found)


class Palette:
    """Open descriptors of every kind, by name. Who is sent one may do anything with it."""

    def __init__(self, directory):
        self.fds = {
            "event": os.eventfd(0, os.EFD_NONBLOCK),
            "blocking": os.eventfd(2**32 - 1),
            "memory": memfd(MEMORY, SEAL_SHRINK),
            "unsealed": memfd(MEMORY),
            "unwritable": memfd(MEMORY, SEAL_SHRINK | SEAL_WRITE),
            "short": memfd(5000, SEAL_SHRINK),
            "empty": memfd(0, SEAL_SHRINK),
            "sparse": memfd(1 << 44, SEAL_SHRINK),
            "shrinking": memfd(MEMORY),
            "epoll": epoll_fd(),
            "directory": os.open(directory, os.O_RDONLY),
            "null": os.open("/dev/null", os.O_RDWR),
            "file": os.open(Path(directory) / "file", os.O_RDWR | os.O_CREAT),
        }
        os.truncate(self.fds["file"], MEMORY)
        self.fds["pipe"], self.fds["pipe2"] = os.pipe()
        self.fds["read-only"] = self._again("memory", os.O_RDONLY)
        self.fds["path"] = self._again("event", os.O_PATH)
        self.fds["memory-path"] = self._again("memory", os.O_PATH)
        sockets = socket.socketpair()
        self.fds["socket"], self.fds["socket2"] = (one.detach() for one in sockets)
        self.kinds = list(self.fds)

    def _again(self, kind, how):
        return os.open(f"/proc/self/fd/{self.fds[kind]}", how)

    def shrink(self):
        """Take back memory; grow lets others have some again, of zeros."""
        os.truncate(self.fds["shrinking"], 0)

    def grow(self):
        os.truncate(self.fds["shrinking"], MEMORY)

    def close(self):
        for fd in self.fds.values():
            os.close(fd)


def memfd(size, seals=0):
    fd = os.memfd_create("fuzz", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def epoll_fd():
    """A descriptor of the kind that lives on after its object."""
    made = select.epoll()
    fd = os.dup(made.fileno())
    made.close()
    return fd


def open_fds():
    """The descriptors of this process, and what each is of.

    Compare with <=: garbage of earlier tests may be collected, and closed, at any time.
    """
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing's own
            found.add((fd.name, str(fd.readlink())))
    return found


def kinds_open():
    """Those of them that a port could have left open."""
    return {
        (fd, what) for fd, what in open_fds() if what.startswith(("socket", "anon_inode", "/memfd"))
    }


def mapped(name="memfd:fuzz"):
    """How many mappings of files with this in their name it has."""
    return Path("/proc/self/maps").read_text().count(name)


def watched(epoll):
    """How many descriptors an epoll descriptor watches."""
    return Path(f"/proc/self/fdinfo/{epoll}").read_text().count("tfd:")


def cut(draw, data):
    """Bytes in the pieces in which they are sent: mostly one."""
    if draw.often(85) or len(data) < 2:
        return [data]
    at = sorted(draw.randrange(1, len(data)) for _ in range(draw.randrange(1, 4)))
    return [part for part in map(bytes, split(data, at)) if part]


def split(data, at):
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


@contextlib.contextmanager
def palette(directory):
    made = Palette(directory)
    try:
        yield made
    finally:
        made.close()
