# SPDX-License-Identifier: Apache-2.0
"""The same packets of IPv4 and of IPv6, between hosts whose names are one letter."""

from __future__ import annotations

from dataclasses import dataclass

from vforward.testing import packets as pk


@dataclass(frozen=True)
class Family:
    """The same packets of IPv4 and of IPv6."""

    six: bool

    def host(self, name: str, n: int = 7) -> str:
        """The address of a host: "a" at lan, "b" at wan, "c" at dmz, "m" behind wan; or an address."""
        nets = {"a": 1, "b": 2, "c": 3, "m": 9}
        if name not in nets:
            return name
        return f"2001:db8:{nets[name]}::{n:x}" if self.six else f"10.{nets[name]}.0.{n}"

    def ip(self, src: str, dst: str, protocol: int, l4: bytes, *, df: bool = False) -> bytes:
        """An IP packet between hosts. df: it may not be cut, which of IPv6 none may."""
        ends = self.host(src), self.host(dst)
        return pk.ip6(*ends, protocol, l4) if self.six else pk.ip4(*ends, protocol, l4, flags_df=df)

    def udp(
        self, src: str, dst: str, sport: int, dport: int, data: bytes = b"hello",
        *, df: bool = False, **more,
    ) -> bytes:  # fmt: skip
        """A datagram between hosts."""
        made = pk.udp(self.host(src), self.host(dst), sport, dport, data, **more)
        return self.ip(src, dst, pk.PROTO_UDP, made, df=df)

    def tcp(self, src: str, dst: str, sport: int, dport: int, data: bytes = b"", **more) -> bytes:
        """A segment between hosts."""
        made = pk.tcp(self.host(src), self.host(dst), sport, dport, data, **more)
        return self.ip(src, dst, pk.PROTO_TCP, made)

    def echo(self, src: str, dst: str, ident: int, *, reply: bool = False, seq: int = 1) -> bytes:
        """An echo request or reply."""
        if not self.six:
            return self.ip(src, dst, 1, pk.icmp_echo(ident, seq, b"data", reply=reply))
        ends = self.host(src), self.host(dst)
        return self.ip(src, dst, 58, pk.icmp6_echo(*ends, ident, seq, b"data", reply=reply))

    def last_hop(self, packet: bytes) -> bytes:
        """A packet that may go no further than to the router."""
        if self.six:
            return packet[:7] + b"\x01" + packet[8:]
        return pk.ip4(packet[12:16], packet[16:20], packet[9], packet[20:], ttl=1)

    def error(
        self, src: str, dst: str, kind: str, quote: bytes, *, bad: bool = False, more: int = 0
    ) -> bytes:
        """An ICMP error about what it quotes. bad: its checksum is wrong. more: the second word."""
        kind_of, code = ERRORS[kind][self.six]
        return self.icmp(src, dst, kind_of, code, more.to_bytes(4, "big") + quote, bad=bad)

    def icmp(
        self, src: str, dst: str, kind: int, code: int, body: bytes, *, bad: bool = False
    ) -> bytes:
        """Any ICMP message; body follows the checksum."""
        wrong = 0x1234 if bad else None
        if self.six:
            ends = self.host(src), self.host(dst)
            return self.ip(src, dst, 58, pk.icmp6(*ends, kind, code, body, checksum=wrong))
        head = bytes([kind, code])
        total = pk.checksum(head + b"\0\0" + body) if wrong is None else wrong
        return self.ip(src, dst, 1, head + total.to_bytes(2, "big") + body)

    def pieces(self, packet: bytes, *cuts: int, ident: int = 77) -> list[bytes]:
        """A packet in fragments, which begin at these bytes of its payload."""
        head = 40 if self.six else 20
        content = packet[head:]
        made = []
        for first, end in zip((0, *cuts), (*cuts, len(content)), strict=True):
            made.append(self.piece(packet, first, end, more=end < len(content), ident=ident))
        return made

    def piece(self, packet: bytes, first: int, end: int, *, more: bool, ident: int = 77) -> bytes:
        """The fragment of a packet with the bytes from first to end of its payload."""
        if self.six:
            content = packet[40:][first:end]
            word = first | more
            head = bytes([packet[6], 0]) + word.to_bytes(2, "big") + ident.to_bytes(4, "big")
            return pk.ip6(packet[8:24], packet[24:40], 44, head + content)
        return pk.ip4(
            packet[12:16], packet[16:20], packet[9], packet[20:][first:end],
            ident=ident, flags_mf=more, frag_off=first,
        )  # fmt: skip


ERRORS = {
    "unreachable": ((3, 1), (1, 0)),
    "no port": ((3, 3), (1, 4)),
    "too big": ((3, 4), (2, 0)),
    "time": ((11, 0), (3, 0)),
    "parameter": ((12, 0), (4, 0)),
}
"""Type and code: RFC 792, RFC 4443."""
