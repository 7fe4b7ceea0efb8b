# SPDX-License-Identifier: Apache-2.0
"""Rules as rows of the classifier: each alternative of a rule is a row, and all lead where the rule leads.

A list of addresses becomes the fewest prefixes, one of ports the fewest ranges. A rule for both families
has rows of both. The word "kind" of tables.policy's packets: protocol, TCP flags, DSCP, fragment bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.control import flow_words as words
from vforward.control.flow_words import Range, SetName, Span
from vforward.control.rules import SELF, Rule
from vforward.tables import egress
from vforward.tables.acl_image import ROW4, ROW6

ROWS_MAX = 100_000
"""Of a family."""
OUT_SELF = egress.SELF
"""The out port of packets to the router itself: number 0 is no interface's."""
ANY_PORTS = (Span(0, 65535),)
ANY = ((0, 0),)  # value and mask that everything matches
DSCP_MASK = 0x3F
FRAGMENT = 1


COLUMNS = (
    *("src", "src_mask", "dst", "dst_mask", "kind", "kind_mask", "place", "place_mask"),
    *("vlan", "vlan_mask", "sport_low", "sport_high", "dport_low", "dport_high", "rule"),
)
"""Fields of ROW4 and ROW6, in the order of a row of Expander."""
_Row = tuple[int, ...]


class Sets(NamedTuple):
    """The named sets, by name. None: a set that is not right by itself."""

    addresses: Mapping[str, tuple[Range, ...] | None]
    ports: Mapping[str, tuple[Span, ...] | None]


def ranges(items: tuple[Range | SetName, ...], sets: Sets, version: int) -> list[tuple[int, int]]:
    """The addresses of a family that a list names, in as few ranges as there can be."""
    found: list[Range] = []
    for item in items:
        found += [item] if isinstance(item, Range) else sets.addresses[item] or ()
    return list(words.merged((one.first, one.last) for one in found if one.version == version))


def spans(items: tuple[Span | SetName, ...], sets: Sets) -> tuple[Span, ...]:
    """The ports that a list names, in as few ranges as there can be; all of them for none."""
    found: list[Span] = []
    for item in items:
        found += [item] if isinstance(item, Span) else sets.ports[item] or ()
    return tuple(Span(*one) for one in words.merged(found)) if items else ANY_PORTS


def families(rule: Rule, sets: Sets) -> list[int]:
    """The IP versions of which a packet can match the rule."""
    return [version for version in (4, 6) if _can_match(rule, sets, version)]


def _can_match(rule: Rule, sets: Sets, version: int) -> bool:
    protocols = _protocols(rule, version)
    if rule.family not in (None, version) or (rule.protocol and not protocols):
        return False
    if rule.icmp and not any(_transport(rule, sets, version)):
        return False
    return all(not items or ranges(items, sets, version) for items in (rule.from_, rule.to))


def _protocols(rule: Rule, version: int) -> list[int]:
    """The rule's protocols, without ICMP of the other family."""
    other = words.ICMP6 if version == 4 else words.ICMP
    return [number for number in dict.fromkeys(rule.protocol) if number != other]


def _transport(rule: Rule, sets: Sets, version: int) -> Iterator[tuple[int, int, Span]]:
    """Kind's value and mask, and destination ports, for each way in which L4 can match."""
    value = mask = 0
    if rule.tcp_flags is not None:
        value, mask = rule.tcp_flags.value << 16, rule.tcp_flags.mask << 16
    if rule.dscp is not None:
        value, mask = value | rule.dscp << 8, mask | DSCP_MASK << 8
    if rule.fragments is not None:
        value, mask = value | rule.fragments * FRAGMENT, mask | FRAGMENT
    for number in _protocols(rule, version):
        ports = spans(rule.to_ports, sets)
        if rule.icmp:
            kinds = (words.icmp_span(kind, number) for kind in rule.icmp)
            ports = tuple(Span(*one) for one in words.merged(kind for kind in kinds if kind))
        for span in ports:
            yield value | number << 24, mask | 0xFF << 24, span
    if not rule.protocol:
        yield value, mask, ANY_PORTS[0]


def as_array(rows: Sequence[_Row], version: int) -> NDArray[Any]:
    """Rows of Expander as an array of ROW4 or ROW6."""
    made = np.zeros(len(rows), ROW4 if version == 4 else ROW6)
    for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=False):
        wide = version == 6 and name in COLUMNS[:4]
        made[name] = [_four(address) for address in column] if wide else column
    return made


def _four(address: int) -> list[int]:
    """The words of an IPv6 address, its beginning first."""
    return [address >> shift & 0xFFFFFFFF for shift in (96, 64, 32, 0)]


class Expander:
    """Makes rows of rules. numbers: of ports by name."""

    def __init__(self, sets: Sets, numbers: Mapping[str, int]) -> None:
        self._sets = sets
        self._numbers = {**numbers, SELF: OUT_SELF}
        self._prefixes: dict[tuple[Any, int], tuple[tuple[int, int], ...]] = {}

    def count(self, rule: Rule, version: int) -> int:
        """How many rows of a family a rule has."""
        if version not in families(rule, self._sets):
            return 0
        return math.prod(len(ways) for ways in self._ways(rule, version, lambda name: len(name)))

    def rows(self, rule: Rule, version: int, number: int) -> Iterator[_Row]:
        """The rows of a family that a rule has; they lead to that number."""
        if version not in families(rule, self._sets):
            return
        vlan = (rule.vlan or 0, 0xFFFF if rule.vlan else 0)
        ways = self._ways(rule, version, self._numbers.__getitem__)
        for source, destination, kind, from_ports, into, out in product(*ways):
            kind_value, kind_mask, to_ports = kind
            place = (into[0] << 16 | out[0], into[1] << 16 | out[1])
            l4 = (*vlan, *from_ports, *to_ports)
            yield (*source, *destination, kind_value, kind_mask, *place, *l4, number)

    def _ways(self, rule: Rule, version: int, number: Any) -> tuple[Any, ...]:
        def places(names: tuple[str, ...]) -> Any:
            return [(number(name), 0xFFFF) for name in dict.fromkeys(names)] or ANY

        return (
            self._addresses(rule.from_, version),
            self._addresses(rule.to, version),
            list(_transport(rule, self._sets, version)),
            spans(rule.from_ports, self._sets),
            places(rule.in_),
            places(rule.out),
        )

    def _addresses(self, items: tuple[Any, ...], version: int) -> tuple[tuple[int, int], ...]:
        if not items:
            return ANY
        key = (items, version)
        if key not in self._prefixes:
            bits = words.BITS[version]
            self._prefixes[key] = tuple(
                prefix
                for first, last in ranges(items, self._sets, version)
                for prefix in words.prefixes(first, last, bits)
            )
        return self._prefixes[key]
