# SPDX-License-Identifier: Apache-2.0
"""Expressions that choose packets of a capture: "tcp port 443 and not src net 10.0.0.0/8".

    expression   one "and" another, one "or" another, "not" one, ( one ); "and" binds closer than "or"
    one          [src|dst] host ADDRESS       [src|dst] net PREFIX
                 [tcp|udp] [src|dst] port N   or N-M
                 ip, ip6, arp, tcp, udp, icmp, icmp6, proto N
                 vlan, vlan N                 any of its tags
                 less N, greater N            bytes of the frame, N included

A text is compiled to a function over the heads of many packets at once (NumPy). Addresses of ARP count as
hosts. Behind IPv6 extension headers the first four are looked through (RFC 8200 section 4); a fragment that
is not the first has no ports.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.control import flow_words as words
from vforward.control.wording import nearest
from vforward.errors import ConfigError

HEAD = 192
"""Bytes of a packet that an expression may look at."""
TEXT_MAX = 1000
DEEPEST = 50
IP4, ARP, IP6 = 0x0800, 0x0806, 0x86DD
TAGS = (0x8100, 0x88A8)
ICMP, TCP, UDP, ICMP6, FRAGMENT = 1, 6, 17, 58, 44
EXTENSIONS = (0, 43, FRAGMENT, 60)
Mask = NDArray[np.bool_]
Test = Callable[["Heads"], Mask]


class _End(NamedTuple):
    """Addresses of one end: IPv4 in low, without a family nothing."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]


class _Link(NamedTuple):
    """EtherType behind up to two tags; which have a tag, and its VLAN id; where the next header begins."""

    kind: NDArray[np.int64]
    tags: list[tuple[Mask, NDArray[np.int64]]]
    l3: NDArray[np.int64]


class _Network(NamedTuple):
    """What the network header says. later: fragments that are not the first."""

    four: Mask
    six: Mask
    arp: Mask
    proto: NDArray[np.int64]
    later: Mask
    l4: NDArray[np.int64]


class Heads:
    """The heads of n frames, u8[n, HEAD] (zeros behind their ends), and how long the frames are.

    What is asked for is found out when it is first asked for.
    """

    def __init__(self, data: NDArray[np.uint8], lengths: NDArray[Any]) -> None:
        self.lengths = lengths.astype(np.int64)
        self._data, self._rows = data, np.arange(len(data))
        self._limit = np.minimum(self.lengths, HEAD)

    @cached_property
    def link(self) -> _Link:
        """See _Link."""
        at = np.full(len(self._data), 12)
        kind, tags = self._u16(at), []
        for _ in range(2):
            tagged = np.isin(kind, TAGS) & self._has(at, 6)
            tags.append((tagged, self._u16(at + 2) & 0xFFF))
            at = np.where(tagged, at + 4, at)
            kind = np.where(tagged, self._u16(at), kind)
        return _Link(kind, tags, at + 2)

    @cached_property
    def network(self) -> _Network:
        """See _Network."""
        kind, _, l3 = self.link
        first = self._u8(l3)
        version, words = first >> 4, first & 15
        four = (kind == IP4) & (version == 4) & (words >= 5) & self._has(l3, 20)
        six = (kind == IP6) & (version == 6) & self._has(l3, 40)
        arp = (kind == ARP) & self._has(l3, 28)
        proto = np.where(four, self._u8(l3 + 9), np.where(six, self._u8(l3 + 6), -1))
        l4 = np.where(four, l3 + 4 * words, l3 + 40)
        later = four & (self._u16(l3 + 6) & 0x1FFF != 0)
        for _ in range(4):
            more = six & ~later & np.isin(proto, EXTENSIONS) & self._has(l4, 8)
            if not more.any():
                break
            piece = more & (proto == FRAGMENT)
            later |= piece & (self._u16(l4 + 2) >> 3 != 0)
            size = np.where(piece, 8, 8 * (self._u8(l4 + 1) + 1))
            proto = np.where(more, self._u8(l4), proto)
            l4 = np.where(more, l4 + size, l4)
        return _Network(four, six, arp, proto, later, l4)

    @cached_property
    def ports(self) -> list[NDArray[np.int64]]:
        """Source and destination, -1 where there are none."""
        network = self.network
        have = np.isin(network.proto, (TCP, UDP)) & ~network.later & self._has(network.l4, 4)
        return [np.where(have, self._u16(network.l4 + k), -1) for k in (0, 2)]

    @cached_property
    def ends(self) -> list[_End]:
        """Source and destination."""
        return [self._end(four, six, arp) for four, six, arp in ((12, 8, 14), (16, 24, 24))]

    def _end(self, four: int, six: int, arp: int) -> _End:
        network, l3 = self.network, self.link.l3
        at = l3 + np.where(network.arp, arp, four)
        low4 = self._u16(at).astype(np.uint64) << np.uint64(16) | self._u16(at + 2).astype(
            np.uint64
        )
        if not network.six.any():
            return _End(np.zeros_like(low4), low4)
        high, low = self._u64(l3 + six), self._u64(l3 + six + 8)
        return _End(np.where(network.six, high, 0), np.where(network.six, low, low4))

    def _has(self, at: NDArray[np.int64], n: int) -> Mask:
        return np.asarray(at + n <= self._limit)

    def _u8(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._data[self._rows, np.minimum(at, HEAD - 1)].astype(np.int64)

    def _u16(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._u8(at) << 8 | self._u8(at + 1)

    def _u64(self, at: NDArray[np.int64]) -> NDArray[np.uint64]:
        value = np.zeros(len(self._data), np.uint64)
        for k in range(8):
            value = value << np.uint64(8) | self._u8(at + k).astype(np.uint64)
        return value


def compiled(text: str) -> Test:
    """The function that says which packets an expression means. Raises ConfigError."""
    if len(text) > TEXT_MAX:
        raise ConfigError(f"filter: {len(text)} characters; at most {TEXT_MAX}")
    parser = _Parser(re.findall(r"[()]|[^\s()]+", text))
    if not parser.left:
        return lambda heads: np.ones(len(heads.lengths), np.bool_)
    test = parser.either(0)
    if parser.left:
        raise _wrong(f"{parser.left[0]!r} stands where and, or or the end could")
    return test


def _wrong(what: str) -> ConfigError:
    return ConfigError(f"filter: {what}; see docs/cli.md for what can be said")


class _Parser:
    """Recursive descent over the words that are left."""

    def __init__(self, left: list[str]) -> None:
        self.left = left

    def either(self, depth: int) -> Test:
        """One, or another."""
        if depth > DEEPEST:
            raise _wrong(f"more than {DEEPEST} parentheses or nots, one in another")
        test = self._both(depth)
        while self._next("or"):
            test = _or(test, self._both(depth))
        return test

    def _both(self, depth: int) -> Test:
        test = self._one(depth)
        while self._next("and"):
            test = _and(test, self._one(depth))
        return test

    def _one(self, depth: int) -> Test:
        if self._next("not"):
            if depth > DEEPEST:
                raise _wrong(f"more than {DEEPEST} parentheses or nots, one in another")
            return _not(self._one(depth + 1))
        if self._next("("):
            test = self.either(depth + 1)
            if not self._next(")"):
                raise _wrong("a ( has no )")
            return test
        return self._primitive()

    def _primitive(self) -> Test:
        word = self._word("one of host, net, port, tcp, ...")
        if word in ("tcp", "udp"):
            test = _proto(TCP if word == "tcp" else UDP)
            if self.left and self.left[0] in ("src", "dst", "port"):
                return _and(test, self._ended(self._word(""), ("port",)))
            return test
        if word in _SIMPLE:
            return _SIMPLE[word]
        if word == "proto":
            return _proto(self._parsed(lambda text: words.protocol(_number(text)), "a protocol"))
        if word == "vlan":
            known = self.left and self.left[0].isascii() and self.left[0].isdigit()
            return _vlan(int(self._word("")[:9]) if known else None)
        if word in ("less", "greater"):
            n = self._parsed(_whole, "a number of bytes")
            return (lambda h: h.lengths <= n) if word == "less" else (lambda h: h.lengths >= n)
        return self._ended(word, ("host", "net", "port"))

    def _ended(self, word: str, kinds: tuple[str, ...]) -> Test:
        """A primitive of one end, or of either."""
        ends = {"src": (0,), "dst": (1,)}.get(word, (0, 1))
        kind = self._word(" or ".join(kinds)) if len(ends) == 1 else word
        if kind not in kinds:
            known = _WORDS if word == kind else kinds
            raise _wrong(f"{kind!r} is no word of it here{nearest(kind, known)}")
        if kind == "port":
            first, last = self._parsed(_span, "a port, or two with a - between them")
            return _any(ends, lambda h, k: (h.ports[k] >= first) & (h.ports[k] <= last))
        parse = ip_address if kind == "host" else ip_network
        network = ip_network(self._parsed(parse, "an address" if kind == "host" else "a prefix"))
        return _any(ends, lambda h, k: _within(h, h.ends[k], network))

    def _next(self, word: str) -> bool:
        if self.left and self.left[0] == word:
            del self.left[0]
            return True
        return False

    def _word(self, wanted: str) -> str:
        if not self.left:
            raise _wrong(f"it ends where {wanted} should stand")
        return self.left.pop(0)

    def _parsed(self, parse: Callable[[str], Any], wanted: str) -> Any:
        word = self._word(wanted)
        try:
            return parse(word)
        except ValueError:
            raise _wrong(f"{word!r} is not {wanted}") from None


def _within(heads: Heads, end: _End, network: Any) -> Mask:
    bits = network.max_prefixlen
    first, last = int(network.network_address), int(network.broadcast_address)
    network_of = heads.network
    family = network_of.six if bits == 128 else network_of.four | network_of.arp
    (low_high, low), (high_high, high) = (
        (np.uint64(n >> 64), np.uint64(n & (1 << 64) - 1)) for n in (first, last)
    )
    above = (end.high > low_high) | ((end.high == low_high) & (end.low >= low))
    below = (end.high < high_high) | ((end.high == high_high) & (end.low <= high))
    return family & above & below


def _any(ends: tuple[int, ...], test: Callable[[Heads, int], Mask]) -> Test:
    if len(ends) == 1:
        return lambda heads: test(heads, ends[0])
    return lambda heads: test(heads, 0) | test(heads, 1)


def _and(one: Test, other: Test) -> Test:
    return lambda heads: one(heads) & other(heads)


def _or(one: Test, other: Test) -> Test:
    return lambda heads: one(heads) | other(heads)


def _not(one: Test) -> Test:
    return lambda heads: ~one(heads)


def _proto(number: int) -> Test:
    return lambda heads: heads.network.proto == number


def _vlan(number: int | None) -> Test:
    def test(heads: Heads) -> Mask:
        found = np.zeros(len(heads.lengths), np.bool_)
        for tagged, vid in heads.link.tags:
            found |= tagged & ((vid == number) if number is not None else True)
        return found

    return test


_SIMPLE: dict[str, Test] = {
    "ip": lambda heads: heads.network.four,
    "ip6": lambda heads: heads.network.six,
    "arp": lambda heads: heads.network.arp,
    "icmp": lambda heads: heads.network.four & (heads.network.proto == ICMP),
    "icmp6": lambda heads: heads.network.six & (heads.network.proto == ICMP6),
}
_WORDS = (
    *_SIMPLE,
    *("host", "net", "port", "src", "dst", "tcp", "udp", "proto", "vlan", "less", "greater"),
)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise ValueError(text)
    return int(text)


def _number(text: str) -> str | int:
    return _whole(text) if text.isascii() and text.isdigit() else text


def _span(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    span = _whole(first), _whole(last) if dash else _whole(first)
    if not span[0] <= span[1] <= 65535:
        raise ValueError(text)
    return span
