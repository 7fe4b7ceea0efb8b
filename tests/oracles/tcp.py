# SPDX-License-Identifier: Apache-2.0
"""What a firewall between two hosts may let through of a TCP connection: plain integers, no tables.

RFC 9293 sections 3.3.2 and 3.10.7, RFC 5382 section 5, RFC 5961 sections 3.2 and 4.2, RFC 7323 section
2.3; van Rooij, "Real stateful TCP packet filtering in IP Filter" (2000), for the four bounds.

TABLE has every cell: state, who sends, class of segment. A cell is what is done if the segment's
numbers fit:

    a state's name    the connection goes there, and the segment's numbers are noted
    note              nothing changes but the numbers
    pass              it is let through unlooked at
    drop              it is refused, whatever its numbers
    again             the connection is over and forgotten: it is a new one's first segment

Why:  RFC 5382 REQ-2          a SYN against a SYN is a simultaneous open, not an attack
      RFC 9293 3.10.7.3       in SYN-SENT a reset counts if it acknowledges the SYN, and no data come;
                              3.5.1: an ACK from an old connection has to get through (the initiator
                              resets that), and so does that reset
      RFC 9293 3.10.7.4       in SYN-RECEIVED an acceptable ACK establishes; a FIN may carry it
      RFC 5961 4.2            a SYN in a connection is answered with an ACK: let it through
      RFC 5961 3.2            a reset counts at exactly the next sequence number
      RFC 9293 3.10.7.1       a socket that is gone resets with what was acknowledged: its FIN may not be
                              yet, nor its peer's last data. When both have ended any reset in the
                              window counts: there is little left that a forged one could hurt
      RFC 1122 4.2.2.13       in TIME-WAIT a SYN with a higher number begins a new connection; that of
                              the responder's must not get past the rules by an old session. One of
                              the initiator's with a lower number may, too (RFC 6191): the hosts know,
                              and who takes it must not be cut off by the numbers of the old one
"""

from __future__ import annotations

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
CLASSES = ("syn", "syn-new", "syn-ack", "ack", "ack-all", "fin", "fin-all", "rst", "rst-exact")
"""syn-new: beyond what its sender has sent. -all: acknowledges all that the other has sent."""

TABLE = """
                    from  syn       syn-new   syn-ack       ack          ack-all      fin           fin-all            rst   rst-exact
syn-sent            i     note      note      drop          drop         drop         drop          drop               pass  closed
syn-sent            r     syn-both  syn-both  syn-received  pass         pass         drop          drop               drop  closed
syn-both            i     pass      pass      syn-answered  drop         drop         drop          drop               note  closed
syn-both            r     pass      pass      syn-received  drop         drop         drop          drop               note  closed
syn-received        i     pass      drop      established   established  established  fin-initiator fin-initiator      note  closed
syn-received        r     pass      drop      pass          note         note         drop          drop               note  closed
syn-answered        i     pass      drop      pass          note         note         drop          drop               note  closed
syn-answered        r     pass      drop      established   established  established  fin-responder fin-responder      note  closed
picked-up           i     again     again     drop          note         note         note          note               note  closed
picked-up           r     again     again     drop          established  established  fin-responder fin-responder      note  closed
established         i     pass      pass      pass          note         note         fin-initiator fin-initiator      note  closed
established         r     pass      pass      pass          note         note         fin-responder fin-responder      note  closed
fin-initiator       i     pass      pass      pass          note         note         note          note               note  closed
fin-initiator       r     pass      pass      pass          note         note         closing       last-ack-responder note  closed
fin-responder       i     pass      pass      pass          note         note         closing       last-ack-initiator note  closed
fin-responder       r     pass      pass      pass          note         note         note          note               note  closed
closing             i     pass      pass      pass          note         last-ack-initiator note    last-ack-initiator closed closed
closing             r     pass      pass      pass          note         last-ack-responder note    last-ack-responder closed closed
last-ack-initiator  i     pass      pass      pass          note         note         note          note               closed closed
last-ack-initiator  r     pass      pass      pass          note         time-wait    note          time-wait          closed closed
last-ack-responder  i     pass      pass      pass          note         time-wait    note          time-wait          closed closed
last-ack-responder  r     pass      pass      pass          note         note         note          note               closed closed
time-wait           i     again     again     pass          note         note         note          note               note  closed
time-wait           r     drop      again     pass          note         note         note          note               note  closed
closed              i     again     again     pass          note         note         note          note               note  note
closed              r     again     again     pass          note         note         note          note               note  note
"""  # noqa: E501

_ROWS = [line.split() for line in TABLE.strip().splitlines()[1:]]
CELLS = {
    (row[0], "ir".index(row[1]), kind): cell
    for row in _ROWS
    for kind, cell in zip(CLASSES, row[2:], strict=True)
}
STATES = tuple(dict.fromkeys(row[0] for row in _ROWS))
HALF_OPEN = ("syn-sent", "syn-both", "syn-received", "syn-answered")
"""Windows are not scaled yet."""

BACK = 66_000


def kind_of(flags: int) -> str:
    """syn, syn-ack, ack, fin, rst or bad; PSH and URG tell nothing."""
    what = flags & (FIN | SYN | RST | ACK)
    return {
        SYN: "syn", SYN | ACK: "syn-ack", ACK: "ack", FIN | ACK: "fin", RST: "rst", RST | ACK: "rst",
    }.get(what, "bad")  # fmt: skip


def ahead(a: int, b: int) -> int:
    """By how much a is ahead of b, modulo 2**32: from -2**31 to 2**31 - 1."""
    return (a - b + (1 << 31)) % (1 << 32) - (1 << 31)


class Side:
    """One of the two hosts, as far as was seen."""

    def __init__(self) -> None:
        self.end = 0  # behind the highest number sent
        self.first = 0  # behind its SYN
        self.allowed = 0  # by the other
        self.window = 0  # the largest offered, in units of scale
        self.scale: int | None = None
        self.finished = False


class Connection:
    """A connection from its first segment on: side 0 has opened it."""

    def __init__(
        self, flags: int, seq: int, ack: int, window: int, payload: int, scale: int | None = None
    ) -> None:
        """Raises ValueError for what begins no connection. An ACK picks one up in its middle."""
        self.sides = (Side(), Side())
        opener, other = self.sides
        length = payload + (flags >> 1 & 1) + (flags & 1)
        kind = kind_of(flags)
        if kind == "syn":
            self.state = "syn-sent"
            self._syn(0, seq, length, window, scale)
        elif kind == "ack":
            self.state = "picked-up"
            opener.end, other.end = seq + length, ack
            for side in self.sides:
                side.scale, side.window = 14, 0xFFFF
                side.allowed = side.end + (0xFFFF << 14)
        else:
            raise ValueError(kind)

    def _syn(self, d: int, seq: int, length: int, window: int, scale: int | None) -> None:
        side = self.sides[d]
        side.end, side.first = seq + length, seq + 1
        side.allowed = side.first
        side.window = max(1, window)
        side.scale = None if scale is None else min(scale, 14)

    def _unit(self, d: int) -> int:
        return 1 << (self.sides[d].scale or 0) if self.state not in HALF_OPEN else 1

    def classify(self, d: int, flags: int, seq: int, ack: int) -> str:
        """One of CLASSES, or bad."""
        own, other = self.sides[d], self.sides[1 - d]
        kind = kind_of(flags)
        if kind == "syn":
            return "syn-new" if ahead(seq, own.end) > 0 else "syn"
        if kind in ("ack", "fin"):
            return kind + ("-all" if ahead(ack, other.end) == 0 else "")
        if kind == "rst":
            if self.state == "syn-sent" and d == 1:
                exact = bool(flags & ACK) and self._acknowledges_syn(ack)
            else:
                exact = ahead(seq, own.end) == 0 or (own.finished and ahead(seq, own.end) == -1)
            return "rst-exact" if exact else "rst"
        return kind

    def _acknowledges_syn(self, ack: int) -> bool:
        opener = self.sides[0]
        return ahead(ack, opener.first) >= 0 and ahead(opener.end, ack) >= 0

    def _fits(self, d: int, seq: int, length: int, ack: int) -> bool:
        own, other = self.sides[d], self.sides[1 - d]
        offered = other.window * self._unit(1 - d)
        if self.state in HALF_OPEN:
            lowest = other.first
        else:
            lowest = other.end - max(BACK, own.window * self._unit(d))
        return (
            ahead(own.allowed, seq + length) >= 0
            and ahead(seq, own.end - offered) >= 0
            and ahead(other.end, ack) >= 0
            and ahead(ack, lowest) >= 0
        )

    def _reset_fits(self, d: int, seq: int) -> bool:
        own, other = self.sides[d], self.sides[1 - d]
        offered = other.window * self._unit(1 - d)
        return self.state == "syn-sent" or (
            ahead(own.allowed, seq) >= 0 and ahead(seq, own.end - offered) >= 0
        )

    def segment(
        self, d: int, flags: int, seq: int, ack: int, window: int, payload: int,
        scale: int | None = None,
    ) -> str:  # fmt: skip
        """What becomes of a segment that side d sends: pass, again, outside, bad-flags, bad-state."""
        kind = self.classify(d, flags, seq, ack)
        if kind == "bad":
            return "bad-flags"
        cell = CELLS[self.state, d, kind]
        if cell in ("drop", "again", "pass"):
            return {"drop": "bad-state"}.get(cell, cell)
        length = payload + (flags >> 1 & 1) + (flags & 1)
        if kind.startswith("rst"):
            if not self._reset_fits(d, seq):
                return "outside"
        elif kind.startswith("syn") and self.state == "syn-sent":
            if d == 1 and flags & ACK and not self._acknowledges_syn(ack):
                return "outside"
            self._syn(d, seq, length, window, scale)
            if d == 1:
                self._meet()
        elif not self._fits(d, seq, length, ack):
            return "outside"
        if self.state in HALF_OPEN and cell in ("established", "fin-initiator", "fin-responder"):
            self._settle()
        if self.state in HALF_OPEN and cell == "closed":
            for side in self.sides:
                side.scale = 0
        if kind.startswith(("ack", "fin")) and self.state != "closed":
            self._note(d, seq + length, ack, window)
        if kind.startswith("fin") and self.state not in (*HALF_OPEN, "picked-up", "closed"):
            self.sides[d].finished = True
        if cell == "fin-responder":
            self.sides[1].finished = True
        if cell != "note":
            self.state = cell
        return "pass"

    def _meet(self) -> None:
        """Both SYNs were seen."""
        for d in (0, 1):
            self.sides[d].allowed = self.sides[d].first + self.sides[1 - d].window

    def _settle(self) -> None:
        """The handshake is complete: from here on windows are scaled, if both have said so."""
        scaled = all(side.scale is not None for side in self.sides)
        for side in self.sides:
            side.scale = (side.scale or 0) if scaled else 0
            side.window = max(1, -(-side.window >> side.scale))
        self.state = "established"

    def _note(self, d: int, end: int, ack: int, window: int) -> None:
        own, other = self.sides[d], self.sides[1 - d]
        if not own.finished and ahead(end, own.end) > 0:
            own.end = end
        if self.state in HALF_OPEN:
            return
        allowed = ack + max(1, window * self._unit(d))
        if ahead(allowed, other.allowed) > 0:
            other.allowed = allowed
        own.window = max(own.window, window)
