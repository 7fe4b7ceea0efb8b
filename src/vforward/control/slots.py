# SPDX-License-Identifier: Apache-2.0
"""Numbers of records that things keep while others come and go around them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

from vforward.errors import ConfigError

K = TypeVar("K", bound=Hashable)


class Slots:
    """Numbers 1 to n - 1 for things by their keys. One that becomes free rests until the next change.

    what: for the message when there are too many. idle: whether a free number may be used anew already.
    Used is the one that has rested longest, or else one that never was used, so that what is kept of
    numbers, and what they stand for in memory, does not grow with each change; where both are wanting,
    one that became free just now, or even one that is not idle.
    """

    def __init__(self, n: int, what: str, idle: Callable[[int], bool] = lambda _: True) -> None:
        self._n, self._what, self._idle = n, what, idle
        self._numbers: dict[Hashable, int] = {}
        self._fresh = 1
        self._freed: dict[int, None] = {}  # in the order in which they became free

    def __getitem__(self, key: Hashable) -> int:
        return self._numbers[key]

    def items(self) -> Iterable[tuple[Hashable, int]]:
        """The things and their numbers."""
        return self._numbers.items()

    def keep(self, keys: Iterable[Hashable]) -> list[int]:
        """Have a number for each of the keys, and for no other. Returns those that are new.

        Raises ConfigError when there are too many; then nothing has changed.
        """
        wanted = dict.fromkeys(keys)
        if len(wanted) > self._n - 1:
            raise ConfigError(f"{len(wanted)} {self._what}: there can be {self._n - 1}")
        new = [key for key in wanted if key not in self._numbers]
        gone = [key for key in self._numbers if key not in wanted]
        rested = iter([*self._freed])
        for key in gone:
            self._freed[self._numbers.pop(key)] = None
        for key in new:
            self._numbers[key] = self._next(rested)
        return [self._numbers[key] for key in new]

    def restorer(self) -> Callable[[], None]:
        """What brings all numbers back as they are now."""
        numbers, fresh, freed = dict(self._numbers), self._fresh, dict(self._freed)

        def restore() -> None:
            self._numbers, self._fresh, self._freed = numbers, fresh, freed

        return restore

    def _next(self, rested: Iterator[int]) -> int:
        """rested: what is left of the numbers that were free before this change."""
        number = next(filter(self._idle, rested), 0)
        if not number and self._fresh < self._n:
            self._fresh += 1
            return self._fresh - 1
        number = number or next(filter(self._idle, self._freed), next(iter(self._freed)))
        del self._freed[number]
        return number


def keyed(things: Iterable[K]) -> list[tuple[K, int]]:
    """Each thing with how many like it came before: a key of its own for equal ones, too."""
    seen: dict[K, int] = {}
    keys = []
    for thing in things:
        seen[thing] = seen.get(thing, -1) + 1
        keys.append((thing, seen[thing]))
    return keys
