# SPDX-License-Identifier: Apache-2.0
"""Port names as netmap has them: ``netmap:x{1``, ``netmap:x}1``, ``vale0:a``, with their modifiers.

    netmap:NAME{ID   netmap:NAME}ID     the two ends of the pipe ID of NAME: master, slave
    valeSWITCH:PORT                     a port of a switch; both are made when they are first named
        -0               only ring pair 0 (there is no other)
        /x /R /T         exclusive (all ports are); only receive, only transmit rings
        @conf:KEY=N,...  slots, tx-slots, rx-slots

NAME, ID, SWITCH and PORT: letters, digits and _; SWITCH and NAME may be empty. Interfaces of the host
(``netmap:eth0``), host rings (^ *), monitors (/z /t /r), other memory (@3, @extmem:) are netmap's with its
kernel module, and are refused here.

Sources: netmap(4), vale(4), libnetmap.h (port names).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from vforward.errors import PortError

_PIPE = re.compile(r"(?P<base>\w*)(?P<role>[{}])(?P<id>\w+)", re.ASCII)
_VALE = re.compile(r"vale(?P<switch>\w*):(?P<port>\w+)", re.ASCII)
_REST = re.compile(
    r"(?P<name>[^-*^/@]*)(?P<rings>-\d+|[*^])?(?:/(?P<flags>\w+))?(?:@(?P<memory>.*))?"
)
_KEYS = ("slots", "tx-slots", "rx-slots")
LENGTH_MOST = 63


class Kind(Enum):
    """What a name names. The values stand in the server's answers."""

    PIPE = 1
    VALE = 2


@dataclass(frozen=True)
class Name:
    """A port's name, without its modifiers."""

    kind: Kind
    group: str
    """A pipe's NAME{ID, or the switch."""
    member: str
    """"{" or "}", or the port."""

    @property
    def end(self) -> int:
        """Of a pipe: 0 the master, 1 the slave."""
        return int(self.member == "}")

    def __str__(self) -> str:
        """As programs write it, without the prefix netmap:."""
        if self.kind is Kind.VALE:
            return f"vale{self.group}:{self.member}"
        return self.group.replace("{", self.member)


@dataclass(frozen=True)
class Wanted:
    """A name with what its modifiers ask for; 0 slots: as many as usual."""

    name: Name
    tx_slots: int = 0
    rx_slots: int = 0


def parse_name(text: str) -> Name:
    """A name without prefix and modifiers, as programs put it into nr_name. Raises PortError."""
    if len(text) > LENGTH_MOST:
        raise PortError(f"netmap port {text[:20]!r}...: {len(text)} bytes; at most {LENGTH_MOST}")
    if found := _VALE.fullmatch(text):
        return Name(Kind.VALE, found["switch"], found["port"])
    if found := _PIPE.fullmatch(text):
        return Name(Kind.PIPE, f"{found['base']}{{{found['id']}", found["role"])
    raise PortError(
        f"netmap port {text!r}: neither an end of a pipe (x{{1, x}}1) nor a port of a VALE switch "
        "(vale0:a); interfaces of the host need netmap's kernel module"
    )


def parse(text: str) -> Wanted:
    """A whole name, as for nm_open and nmport_open. Raises PortError."""
    bare = text.removeprefix("netmap:")
    if bare == text and not text.startswith("vale"):
        raise PortError(f'netmap port {text!r}: must begin with "netmap:" or "vale"')
    found = _REST.fullmatch(bare)
    if not found:
        raise PortError(f"netmap port {text!r}: what follows its name is no modifier")
    name = parse_name(found["name"])
    if found["rings"] not in (None, "-0"):
        raise PortError(f"netmap port {text!r}: {found['rings']}: there is one ring pair, number 0")
    if strange := set(found["flags"] or "") - set("xRT"):
        raise PortError(f"netmap port {text!r}: /{min(strange)}: only x, R and T are known")
    slots = _slots(text, found["memory"] or "")
    both = slots.get("slots", 0)
    return Wanted(name, slots.get("tx-slots", both), slots.get("rx-slots", both))


def _slots(text: str, memory: str) -> dict[str, int]:
    if not memory:
        return {}
    option, _, pairs = memory.partition(":")
    if option != "conf":
        raise PortError(f"netmap port {text!r}: @{memory}: every port has memory of its own")
    found = {}
    for pair in pairs.split(","):
        key, _, value = pair.partition("=")
        if key not in _KEYS or not (value.isascii() and value.isdigit()):
            raise PortError(f"netmap port {text!r}: {pair!r}: known is N in {'=N, '.join(_KEYS)}=N")
        found[key] = int(value)
    return found
