# SPDX-License-Identifier: Apache-2.0
"""A table of sessions in dictionaries: who is found, who times out, who has to go, who is refused.

RFC 4787 sections 4.3 and 6 (a packet of either direction keeps a session), RFC 5382 REQ-5 and RFC 5508
REQ-2 (never before its timeout). When the table is full what has had no answer goes first: of these
whoever was seen the longest ago, and within one second whoever was seen first in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

KINDS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
ORDER = ("tcp", "udp", "icmp", "other")
TIMEOUTS = {
    ("tcp", False): 240, ("udp", False): 300, ("udp", True): 300, ("icmp", False): 60,
    ("icmp", True): 60, ("other", False): 300, ("other", True): 300,
}  # fmt: skip


@dataclass(eq=False)
class Session:
    """One session: the endpoints of both directions' packets."""

    keys: tuple
    kind: str
    seen: int
    turn: int
    limit: int = 0
    source: tuple | None = None
    replied: bool = False

    @property
    def timeout(self) -> int:
        return TIMEOUTS[self.kind, self.replied]


@dataclass
class Sessions:
    """All sessions of a table. Times are whole seconds."""

    capacity: int
    now: int = 0
    open_: list[Session] = field(default_factory=list)
    turns: int = 0

    def find(self, src, dst, protocol, zone):
        """(session, direction of the packet: 0 the initiator's, 1 the responder's), or None."""
        key = (src, dst, protocol, zone)
        for session in self.open_:
            if key in session.keys:
                return session, session.keys.index(key)
        return None

    def open(self, src, dst, reply, protocol, zone, limit=0, most=0, rule=0, per_source=0):
        """The session that a first packet begins, or why there is none."""
        keys = ((src, dst, protocol, zone), (*reply, protocol, zone))
        if src == dst or reply[0] == reply[1] or keys[0] == keys[1]:
            return "taken"
        if any(key in session.keys for key in keys for session in self.open_):
            return "taken"
        if most and limit and sum(s.limit == limit for s in self.open_) >= most:
            return "rule-limit"
        source = (src >> 16, zone, rule) if per_source else None
        if source and sum(s.source == source for s in self.open_) >= per_source:
            return "source-limit"
        if len(self.open_) == self.capacity and not self._make_room():
            return "full"
        self.turns += 1
        kind = KINDS.get(protocol, "other")
        session = Session(keys, kind, self.now, self.turns, limit if most else 0, source)
        self.open_.append(session)
        return session

    def _make_room(self) -> bool:
        waiting = [s for s in self.open_ if not s.replied]
        if not waiting:
            return False
        first = min(waiting, key=lambda s: (s.seen, ORDER.index(s.kind), s.turn))
        self.open_.remove(first)
        return True

    def packet(self, session: Session, direction: int) -> None:
        """One more packet of a session."""
        if direction == 1 and session.kind != "tcp":
            session.replied = True
        if session.seen != self.now:
            session.seen = self.now
            self.turns += 1
            session.turn = self.turns

    def at(self, now: int) -> None:
        """Let it be that second."""
        self.now = now
        self.open_ = [s for s in self.open_ if now - s.seen <= s.timeout]
