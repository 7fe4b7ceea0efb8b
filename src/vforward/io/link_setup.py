# SPDX-License-Identifier: Apache-2.0
"""link_setup: a Linux interface that a port uses, set up as the port needs it, and back afterwards.

Sources: rtnetlink(7), netdevice(7).
Limits: a process that is killed puts nothing back.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import replace
from typing import Any

from vforward.io.rtnetlink import Link, RtNetlink


class LinkSetup:
    """The interface of that name, in the network namespace in which this is made. Raises OSError."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._netlink = RtNetlink()
        self._changed: dict[str, tuple[Any, Any]] = {}  # before, after
        try:
            self.link: Link = self._netlink.link(name)
        except BaseException:
            self.close()
            raise

    def set_up(self, mac: bytes | None, mtu: int) -> None:
        """Set it up, with this MTU and, if given, this MAC. Any thread.

        Raises OSError, whose text says what to do.
        """
        # In this order, since many take a MAC only while they are down.
        wanted: dict[str, Any] = {"mac": mac or self.link.mac, "mtu": mtu, "up": True}
        for what, value in wanted.items():
            before = getattr(self.link, what)
            if before == value:
                continue
            try:
                self._netlink.set_link(self.link.index, **{what: value})
            except OSError as error:
                raise OSError(self._advice(what, value, error)) from error
            self._changed[what] = (before, value)
        self.link = replace(self.link, **wanted)

    def again(self) -> None:
        """Look it up anew: it may be another one, of which nothing was changed. Raises OSError."""
        now = self._netlink.link(self._name)
        if now.index != self.link.index:
            self._changed = {}
        self.link = now

    def close(self) -> None:
        """Put back what was changed here, and nobody has changed since. Harmless when repeated."""
        changed, self._changed = self._changed, {}
        if changed:
            with contextlib.suppress(OSError):  # it was deleted, or is elsewhere now
                self._put_back(changed)
        self._netlink.close()

    def _put_back(self, changed: dict[str, tuple[Any, Any]]) -> None:
        now = self._netlink.link(self._name)
        if now.index != self.link.index:
            return
        for what, (before, after) in reversed(changed.items()):
            if getattr(now, what) == after:
                self._netlink.set_link(now.index, **{what: before})

    def _advice(self, what: str, value: Any, error: OSError) -> str:
        if error.errno == errno.EPERM:
            return (
                "to set it up needs CAP_NET_ADMIN: run as root or under unshare -Urn, or do it by "
                "hand and leave out set_up"
            )
        if what == "mac":
            down = f"ip link set dev {self._name} down"
            busy = f"takes a new MAC only while it is down; run: {down}"
            return busy if error.errno == errno.EBUSY else f"refuses the MAC: {error.strerror}"
        if what == "mtu":
            return f"refuses an MTU of {value} ({error.strerror}); ip -d link shows its maxmtu"
        return f"cannot be set up: {error.strerror}"
