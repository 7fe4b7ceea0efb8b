# SPDX-License-Identifier: Apache-2.0
"""Longest prefix match by trying every route: RFC 1812 section 5.2.4.3, RFC 4632 section 5.1."""

from typing import Generic, TypeVar

V = TypeVar("V")


def mask(length: int, bits: int = 32) -> int:
    """Return the network mask of a prefix length."""
    return ((1 << length) - 1) << (bits - length)


def covers(prefix: int, length: int, address: int, bits: int = 32) -> bool:
    """Tell whether address lies in prefix/length; host bits of prefix do not matter."""
    return (prefix ^ address) & mask(length, bits) == 0


class Table(Generic[V]):
    """A list of (prefix, length, value), at most one for each prefix and length."""

    def __init__(self, bits: int = 32) -> None:
        self.bits = bits
        self.routes: list[tuple[int, int, V]] = []

    def add(self, prefix: int, length: int, value: V) -> None:
        """Add a route, in place of the one with the same prefix if there is one."""
        prefix &= mask(length, self.bits)
        self.delete(prefix, length)
        self.routes.append((prefix, length, value))

    def delete(self, prefix: int, length: int) -> bool:
        """Delete a route; tell whether it was there."""
        prefix &= mask(length, self.bits)
        kept = [r for r in self.routes if (r[0], r[1]) != (prefix, length)]
        found = len(kept) < len(self.routes)
        self.routes = kept
        return found

    def lookup(self, address: int) -> V | None:
        """Return the value of the longest prefix that covers address, or None."""
        best: V | None = None
        best_length = -1
        for prefix, length, value in self.routes:
            if length > best_length and covers(prefix, length, address, self.bits):
                best, best_length = value, length
        return best
