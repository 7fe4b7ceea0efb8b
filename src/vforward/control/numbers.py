# SPDX-License-Identifier: Apache-2.0
"""Which number has what: the document "numbers", by which the next process understands tables of this one.

Sessions, MACs and counters name ports, VRFs, bridges, rules and policers by numbers, which are others when
the configuration has changed. The document is written before anything of the numbers in it is used.

    ports, vrfs, bridges, policers   number by name
    rules        by text_of a rule, of NAT too: its place in rule_hits, its limit (0: none)
    treatments   [number, DSCP, policer's name] of each
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import ArenaError

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder

NAME = "numbers"
MOST = 1 << 20
"""Of each kind: what says more is damaged."""


@dataclass(frozen=True)
class Numbers:
    """The document, checked."""

    ports: Mapping[str, int]
    vrfs: Mapping[str, int]
    bridges: Mapping[str, int]
    policers: Mapping[str, int]
    rules: Mapping[str, tuple[int, int]]
    treatments: tuple[tuple[int, int, str], ...]


def document(forwarder: Forwarder, firewall: Mapping[str, Any]) -> dict[str, Any]:
    """The document. firewall: what Firewall.numbers says."""
    interfaces = forwarder.interfaces
    return {
        "ports": {interface.name: interface.number for interface in interfaces},
        "vrfs": dict(interfaces.vrfs),
        "bridges": dict(forwarder.bridge_numbers),
        **firewall,
    }


def parsed(given: Any) -> Numbers:
    """The document as read. Raises ArenaError for what is none."""
    try:
        rules = given["rules"].items()
        return Numbers(
            _named(given["ports"]),
            _named(given["vrfs"]),
            _named(given["bridges"]),
            _named(given["policers"]),
            {str(key): (_number(hits), _number(limit)) for key, (hits, limit) in rules},
            tuple((_number(n), _number(dscp), str(one)) for n, dscp, one in given["treatments"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ArenaError(f"document {NAME!r} of the last process: {error!r}") from None


def translation(
    old: Mapping[str, int], new: Mapping[str, int], size: int, nowhere: int = -1
) -> NDArray[np.int64]:
    """By old number the new one of the same name, nowhere where there is none: i64[size]."""
    made = np.full(size, nowhere, np.int64)
    for name, number in old.items():
        if number < size and name in new:
            made[number] = new[name]
    return made


def text_of(key: Hashable) -> str:
    """A text for what rule_policy.keys_of says of a rule: in each process the same."""
    assert isinstance(key, tuple)
    first, second = key
    if isinstance(first, type):
        return f"{first.__name__} {second}"
    digest = hashlib.blake2b(repr(first).encode(), digest_size=12).hexdigest()
    return f"{type(first).__name__} {digest} {second}"


def _named(given: Any) -> dict[str, int]:
    return {str(name): _number(number) for name, number in given.items()}


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST:
        raise ValueError(value)
    return value
