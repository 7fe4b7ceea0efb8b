# SPDX-License-Identifier: Apache-2.0
"""Many routes from a text file, a line for each: the prefix and its next hop.

    # what the provider sends
    10.1.0.0/16     192.0.2.1
    2001:db8::/32   2001:db8:ffff::1
    10.2.0.0/16

Empty lines and what follows a # do not count. A next hop may be left out where another is given for
such lines. Of several lines with one prefix the last counts. Addresses are written as inet_pton(3)
reads them (RFC 4291 section 2.2; IPv4: four decimal numbers).

A million lines take some seconds, half of them to be read. Nothing is added when a line is wrong.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.control.routes import BITS, Address, Path
from vforward.control.routing import Routing
from vforward.errors import ConfigError

Name = str | os.PathLike[str]
SHOWN = 5
"""Problems that a message tells one by one."""
EXAMPLES = {4: ("10.1.0.0/16", "192.0.2.1"), 6: ("2001:db8::/32", "2001:db8::1")}


class Table(NamedTuple):
    """The routes of one family: the i-th leads to ``hops[which[i]]`` and is in line ``lines[i]``.

    prefixes: u64[n], for IPv6 u64[n, 2] (halves), as Routing.add_many takes them.
    """

    version: int
    prefixes: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    which: NDArray[np.int64]
    hops: list[Address]
    lines: list[int]


class _Hops(dict[str, int]):
    """The number of a next hop by its text; "" is the one of lines that name none."""

    def __init__(self, family: int, via: Address | None) -> None:
        self.packed: dict[bytes, int] = {}
        self._family, self._via = family, via

    def __missing__(self, text: str) -> int:
        packed = inet_pton(self._family, text if text else str(self._via))
        self[text] = self.packed.setdefault(packed, len(self.packed))
        return self[text]


class _Family:
    """The lines of one family that were right so far."""

    def __init__(self, version: int, via: Address | None) -> None:
        self.version, self.kind = version, AF_INET if version == 4 else AF_INET6
        self.lengths = {str(n): n for n in range(BITS[version] + 1)}
        self.hops = _Hops(self.kind, via)
        self.packed: list[bytes] = []
        self.codes: list[int] = []  # next hop << 8 | length
        self.lines: list[int] = []

    def table(self) -> Table:
        """What has been read."""
        words = 1 if self.version == 4 else 2
        packed = np.frombuffer(b"".join(self.packed), ">u4" if words == 1 else ">u8")
        prefixes = packed.astype(np.uint64).reshape((-1, 2) if words == 2 else -1)
        codes = np.array(self.codes, np.int64)
        kind = IPv4Address if self.version == 4 else IPv6Address
        hops: list[Address] = [kind(hop) for hop in self.hops.packed]
        return Table(self.version, prefixes, codes & 0xFF, codes >> 8, hops, self.lines)


def read(path: Name, via: Address | None = None) -> list[Table]:
    """The routes of a file, by families. via: the next hop of lines that name none.

    Raises ConfigError that tells the file, the lines, what is wrong and what would be right.
    """
    lines = _text(path).split("\n")
    families = [_Family(version, via) for version in BITS]
    wrong = _parse(lines, families)
    tables = [family.table() for family in families if family.packed]
    for table in tables:
        at = np.flatnonzero((table.prefixes & _hosts(table)).reshape(len(table.lines), -1).any(1))
        wrong += [table.lines[i] for i in at.tolist()]
    if wrong:
        raise _refusal(
            path, [(n, *_problem(lines[n - 1], via)) for n in sorted(wrong)[:SHOWN]], wrong
        )
    return tables


def load(
    routing: Routing,
    path: Name,
    *,
    vrf: int = 0,
    via: Address | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """Add a file's routes, each in place of one of its prefix with metric 0. Returns how many lines.

    progress is called with how many are done and how many there are. Raises ConfigError, and nothing
    is added then; TableFull when some are added.
    """
    tables = read(path, via)
    total = sum(len(table.lines) for table in tables)
    for table in tables:
        check_hops(routing, path, table, vrf)
    before = 0
    progress(0, total)
    for table in tables:
        routing.add_many(
            table.prefixes,
            table.lengths,
            table.which,
            [[Path(hop)] for hop in table.hops],
            version=table.version,
            vrf=vrf,
            progress=lambda done, before=before: progress(before + done, total),  # type: ignore[misc]
        )
        before += len(table.lines)
    return total


def _text(path: Name) -> str:
    try:
        return pathlib.Path(path).read_text("utf-8-sig", "replace")
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise ConfigError(msg) from error


def _parse(lines: list[str], families: list[_Family]) -> list[int]:
    """Sort the lines into families. Returns the numbers of those that are wrong."""
    four, six = families
    wrong = []
    for number, line in enumerate(lines, 1):
        if "#" in line:
            line = line[: line.index("#")]
        words = line.split()
        if len(words) == 2:
            prefix, hop = words
        elif len(words) == 1:
            prefix, hop = words[0], ""
        else:
            if words:
                wrong.append(number)
            continue
        family = six if ":" in prefix else four
        address, _, length = prefix.partition("/")
        try:
            code = family.hops[hop] << 8 | family.lengths[length]
            packed = inet_pton(family.kind, address)
        except (KeyError, OSError, ValueError):
            wrong.append(number)
            continue
        family.packed.append(packed)
        family.codes.append(code)
        family.lines.append(number)
    return wrong


def _hosts(table: Table) -> Any:
    """The bits of each prefix that are to be 0."""
    bits = BITS[table.version]
    hosts = [(1 << bits - n) - 1 for n in range(bits + 1)]
    if bits == 32:
        return np.array(hosts, np.uint64)[table.lengths]
    return np.array([(host >> 64, host & (1 << 64) - 1) for host in hosts], np.uint64)[
        table.lengths
    ]


def _problem(line: str, via: Address | None) -> tuple[str, str]:
    """What is wrong with a line, and what is allowed."""
    words = line.partition("#")[0].split()
    if len(words) > 2:
        return f"has {len(words)} words", "a prefix and its next hop"
    prefix, hop = words[0], words[1] if len(words) == 2 else ""
    version = 6 if ":" in prefix else 4
    example, example_hop = EXAMPLES[version]
    address, slash, length = prefix.partition("/")
    if not slash:
        return f"{prefix!r} is no prefix: it has no length", f"a prefix like {example}"
    if not _is_address(address, version):
        return f"{prefix!r} is no prefix: {address!r} is no address", f"a prefix like {example}"
    bits = BITS[version]
    if length not in map(str, range(bits + 1)):
        return f"{prefix!r} has the length {length!r}", f"0 to {bits}"
    if not hop and via is None:
        return f"{prefix!r} has no next hop", "a next hop behind it; or via beside the file's name"
    if not hop and via is not None and via.version != version:
        what = f"{prefix!r} has no next hop, and via is {via}, of the other family"
        return what, f"an IPv{version} address behind it"
    if hop and not _is_address(hop, version):
        other = "an address of the other family" if _is_address(hop, 10 - version) else "no address"
        return f"next hop {hop!r} is {other}", f"an IPv{version} address like {example_hop}"
    return f"{prefix!r} has host bits set", str(ip_network(prefix, strict=False))


def _is_address(text: str, version: int) -> bool:
    try:
        inet_pton(AF_INET if version == 4 else AF_INET6, text)
    except (OSError, ValueError):
        return False
    return True


def check_hops(routing: Routing, path: Name, table: Table, vrf: int) -> None:
    """Raise ConfigError unless all next hops of a file's table can be reached."""

    def check(hops: list[Address]) -> None:
        none = table.prefixes[:0]
        ways = [[Path(hop)] for hop in hops]
        routing.add_many(none, (), (), ways, version=table.version, vrf=vrf)

    try:
        check(table.hops)
    except ConfigError as error:
        wrong = []
        first = dict(zip(reversed(table.which.tolist()), reversed(table.lines)))
        for i, hop in enumerate(table.hops):
            try:
                check([hop])
            except ConfigError:
                wrong.append((first[i], f"next hop {hop} is in no port's prefix"))
        if not wrong:  # each is possible, but not all of them
            msg = f"{path}: {error}"
            raise ConfigError(msg) from error
        allowed = "the address of a router on a connected prefix"
        shown = [(n, what, allowed) for n, what in sorted(wrong)[:SHOWN]]
        raise _refusal(path, shown, wrong) from error


def _refusal(path: Name, shown: list[tuple[int, str, str]], wrong: list[Any]) -> ConfigError:
    told = [f"{path}, line {n}: {what}; allowed: {allowed}" for n, what, allowed in shown]
    if len(wrong) > len(shown):
        told.append(f"and {len(wrong) - len(shown)} more")
    return ConfigError("\n".join(told))
