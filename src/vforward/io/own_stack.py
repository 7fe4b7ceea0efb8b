# SPDX-License-Identifier: Apache-2.0
"""own_stack: Linux's own IP stack at an interface that is a port's, and how it is kept out.

Where programs of the host use the router's addresses (io.tap), Linux has these addresses, and takes
one for its own on whatever interface a packet comes in: RFC 1122 section 3.3.4.2, the weak model. It
would answer ARP a second time, and get what the port receives besides by the TAP.

Sources: Linux ip-sysctl.rst.
Limits: what net.ipv4.conf.all says counts where it is more: with rp_filter = 2 there IPv4 packets
are still taken twice. An interface loses its own IPv6 addresses when IPv6 is switched off.
"""

from __future__ import annotations

import contextlib
import os

SETTINGS = {
    "ipv4/conf/{}/arp_ignore": b"8",  # ARP is answered for no address
    "ipv4/conf/{}/rp_filter": b"1",  # nothing is taken: the way to its source is by a TAP
    "ipv6/conf/{}/disable_ipv6": b"1",
}


class OwnStack:
    """The stack at an interface of the network namespace in which this is made."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._settings: dict[int, bytes] = {}  # by descriptor, which stays that namespace's
        self._before: dict[int, bytes] = {}
        for name, value in SETTINGS.items():
            with contextlib.suppress(OSError):  # without IPv6, or where it may not be changed
                path = f"/proc/sys/net/{name.format(interface)}"
                self._settings[os.open(path, os.O_RDWR | os.O_CLOEXEC)] = value

    def mute(self) -> None:
        """Keep it out. What cannot be changed stays; any thread, in any namespace."""
        for descriptor, value in self._settings.items():
            with contextlib.suppress(OSError):
                before = os.pread(descriptor, 16, 0)
                os.pwrite(descriptor, value, 0)
                self._before.setdefault(descriptor, before)

    def again(self) -> OwnStack:
        """That of an interface of the same name, which was made anew: kept out if this one was."""
        made = OwnStack(self._interface)
        if self._before:
            made.mute()
        self.close()
        return made

    def close(self) -> None:
        """Let it be as it was before. Harmless when repeated."""
        for descriptor, before in self._before.items():
            with contextlib.suppress(OSError):  # the interface was deleted
                os.pwrite(descriptor, before, 0)
        for descriptor in self._settings:
            os.close(descriptor)
        self._before, self._settings = {}, {}
