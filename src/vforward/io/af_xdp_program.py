# SPDX-License-Identifier: Apache-2.0
"""af_xdp_program: the XDP program of a port (csrc/vf_bpf.c), on its interface while this is open.

Sources: bpf(2), af_xdp.rst, xdp-rx-metadata.rst. The program is on the interface by a link, which is a
descriptor: the kernel takes it off when the process ends, however that comes. Frames go to the socket of
the queue that they came in by, and where there is none up to Linux.

Natively the driver runs it. A driver that cannot, or will not, is passed by: Linux runs it later, in SKB
mode, which is slower. VLAN tags that lie beside the frame (hardware and veth take them off) are lost to
an AF_XDP socket; natively, from Linux 6.8 on, the program asks for them and puts them back.
"""

from __future__ import annotations

import contextlib
import errno
import os

from vforward.io import shim
from vforward.io.btf import function_id

TAG_FUNCTION = "bpf_xdp_metadata_rx_vlan_tag"
NEEDED = "Linux 5.9 has all that is needed"

ADVICE = {
    errno.EPERM: "an XDP program needs CAP_NET_ADMIN and CAP_BPF: run as root, and not under unshare -U; "
    'or use mode = "auto"',
    errno.ENOSYS: f"this kernel has no bpf(2) (CONFIG_BPF_SYSCALL); {NEEDED}",
    errno.EINVAL: f"this kernel is too old; {NEEDED}",
    errno.EBUSY: "another XDP program is on the interface; ip link set dev {} xdp off takes it off",
}
ADVICE[errno.EEXIST] = ADVICE[errno.EBUSY]
REASONS = {
    errno.EOPNOTSUPP: "its driver has none",
    errno.ENOSPC: "veth: the other end sends by more queues than this one has; ethtool -L {} rx N",
    errno.ERANGE: "veth: the MTU of the other end is too long",
}
"""Why a driver refuses."""
FINAL = (errno.EBUSY, errno.EEXIST, errno.ENODEV, errno.EPERM)
"""Errors after which SKB mode would not do either."""


class XdpProgram:
    """The program for an interface and so many of its queues, not yet on it.

    native: whether the driver runs it; why: if not, what it says. tags: whether tags are put back.
    """

    def __init__(self, interface: str, index: int, queues: int) -> None:
        self._interface, self._index = interface, index
        self.native, self.tags, self.why = True, False, ""
        self._fds: list[int] = []
        try:
            self._map = self._kept(shim.lib.vf_xsk_map(queues), "an XSKMAP")
        except BaseException:
            self.close()
            raise

    def add(self, queue: int, socket: int) -> None:
        """What comes in by a queue is that socket's, a bound one. Raises OSError."""
        shim.check(shim.lib.vf_xsk_map_set(self._map, queue, socket), "a place in the XSKMAP")

    def attach(self) -> None:
        """Put it on the interface. Raises OSError, whose text says what to do."""
        if not self._attach_with_tags():
            program = self._load()
            try:
                self._link(program, native=True)
            except OSError as error:
                if error.errno in FINAL:
                    raise
                number = error.errno or 0
                self.why = REASONS.get(number, os.strerror(number)).format(self._interface)
                self._link(program, native=False)
                self.native = False

    def close(self) -> None:
        """Take it off. Harmless when repeated."""
        fds, self._fds = self._fds, []
        for fd in reversed(fds):
            os.close(fd)

    def _attach_with_tags(self) -> bool:
        function = function_id(TAG_FUNCTION)
        if not function:
            return False
        with contextlib.suppress(OSError):
            made = shim.lib.vf_xdp_program_tags(self._map, self._index, function)
            program = self._kept(made, "an XDP program")
            try:
                self._link(program, native=True)
                self.tags = True
            finally:
                if not self.tags:
                    self._fds.remove(program)
                    os.close(program)
        return self.tags

    def _load(self) -> int:
        """The program without tags, for frames in pieces too where the kernel knows such."""
        made = shim.lib.vf_xdp_program(self._map, 1)
        if made == -errno.EINVAL:
            made = shim.lib.vf_xdp_program(self._map, 0)
        return self._kept(made, "an XDP program")

    def _link(self, program: int, *, native: bool) -> None:
        made = shim.lib.vf_xdp_attach(program, self._index, int(native))
        self._kept(made, "to attach it", attaching=True)

    def _kept(self, made: int, what: str, *, attaching: bool = False) -> int:
        """A new descriptor, to be closed with the others."""
        if made < 0:
            text = f"{what}: {os.strerror(-made)}; {NEEDED}"
            if not (attaching and made == -errno.EINVAL):  # may be anything
                text = ADVICE.get(-made, text)
            raise OSError(-made, text.format(self._interface))
        self._fds.append(made)
        return made
