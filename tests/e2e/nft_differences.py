# SPDX-License-Identifier: Apache-2.0
"""What Linux and vforward do differently, each with its reason. One that no longer occurs is a fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from re import fullmatch

from e2e.nft_frames import Names, described, differing
from e2e.nft_steps import Out, Scenario, verdict

Run = list[tuple[Sequence[bytes], Sequence[Out]]]


@dataclass(frozen=True)
class Difference:
    """scenarios, steps: what it is seen in, as regular expressions; it has to be in each such scenario.

    fields: of packets, which differ. linux, ours: what becomes of them, in one word, if that differs.
    """

    why: str
    scenarios: str
    steps: str = ".*"
    fields: tuple[str, ...] = ()
    linux: str = ""
    ours: str = ""

    def explains(self, label: str, found: set[str], linux: str, ours: str) -> set[str]:
        """Which of the fields that differ in a step it explains."""
        if not fullmatch(self.steps, label):
            return set()
        if self.linux:
            return found if (self.linux, self.ours) == (linux, ours) else set()
        return found & set(self.fields)


OLD = "far behind are only duplicates that were long on their way; Linux has them acknowledged anew"
BEYOND = "RFC 9293 3.8.6 lets nobody send beyond his window; Linux bears with those who do"
BARE_RESET = (
    "a reset in SYN-SENT counts if it acknowledges the SYN: RFC 9293 3.10.7.3; Linux ends all"
)

KNOWN = (
    Difference(BARE_RESET, "tcp[46]", "a reset .* acknowledges nothing: 2 .*", (), "pass", "drop"),
    Difference(BARE_RESET, "tcp[46]", "a reset .* acknowledges nothing: [34] .*", (), "drop", "pass"),
    Difference(OLD, "tcp[46]", "data out of the window: [89] .*", (), "pass", "drop"),
    Difference(OLD, "tcp[46]", "an acknowledgment that is very old: 6 .*", (), "pass", "drop"),
    Difference(BEYOND, "tcp[46]", "data to the window's end, and beyond: [56] .*", (), "pass", "drop"),
    Difference(
        "who gets a SYN in a connection challenges it: RFC 5961 4; Linux trusts the initiator's only",
        "tcp[46]", "SYN in a session, from the responder: 6 .*", (), "drop", "pass",
    ),
    Difference(
        "the same of SYN and ACK; Linux trusts the responder's only",
        "tcp[46]", "SYN and ACK in a session: 7 .*", (), "drop", "pass",
    ),
    Difference(
        "transport checksums are their receiver's to check; only ICMP errors are looked into",
        "(tcp|flows)[46]", "a wrong checksum: [15] .*|udp: with a wrong one", (), "drop", "pass",
    ),
    Difference(
        "flags that cannot be are refused before the rules: nobody is told",
        "flows[46]", "refused: tcp, SYN and FIN", (), "reset", "drop",
    ),
    Difference(
        "less than 64 bits of the packet quoted: RFC 792 wants them; Linux has the ports",
        "flows[46]", "errors: seven bytes", (), "pass", "drop",
    ),
    Difference(
        "a redirect is of one link: RFC 1812 5.2.7.2; the rules decide, and have none for it",
        "flows4", "other icmp: redirect", (), "pass", "drop",
    ),
    Difference(
        "the rules come before the route: of what they deny nobody is told that its time ran out",
        "flows[46]", "the router: time of what is denied", (), "answer", "drop",
    ),
    Difference(
        "quoted is the packet as it came: RFC 792; Linux has taken off the hop already",
        "(flows|matrix)[46].*", fields=("quoted ttl",),
    ),
    Difference(
        "ICMP of the router has identification 0, or a ping's; Linux counts. Few are ever cut",
        "flows4|nat|matrix4.*", fields=("ident",),
    ),
    Difference(
        "errors are CS6: RFC 2474 4.2.2; Linux adds the packet's TOS bits: RFC 1812 4.3.2.4, obsolete",
        "matrix4.*", fields=("tos",),
    ),
    Difference(
        "new identifiers are from the pool's ports, 1024 and more, and only those are kept",
        "nat", "masquerade: a small identifier", ("echo ident",),
    ),
    Difference(
        "of ICMP queries only echoes have sessions; what would leave untranslated is dropped",
        "nat", "masquerade: timestamp", (), "answer", "drop",
    ),
    Difference(
        "who gets no port is told so: RFC 5508 REQ-8",
        "nat", "pool: flow 300[45]|masquerade: gre of another host", (), "drop", "refuse",
    ),
    Difference(
        "a first piece without its TCP header hides what it is: RFC 1858; Linux puts it together",
        "fragments4", "fragments: a port in the second piece", (), "other", "drop",
    ),
    Difference(
        "Linux puts datagrams together, and sends on none that is not whole",
        "fragments[46]", "fragments: overlapping", (), "drop", "answer",
    ),
    Difference(
        "Linux puts datagrams together and cuts them anew",
        "fragments6", "fragments: (in order|of the answer|the last one first|one of them twice)",
        ("ident",),
    ),
    Difference(
        "replies of two sessions would look alike: Linux changes a source that no rule translates",
        "nat", "forwards: past the NAT, the same ports", (), "answer", "drop",
    ),
)  # fmt: skip
"""Whoever is right is named first; where both may do so, vforward."""


def faults(scenario: Scenario, linux: Run, ours: Run) -> list[str]:
    """What nobody has explained, for people to read."""
    mine = [known for known in KNOWN if fullmatch(known.scenarios, scenario.name)]
    names = Names(scenario.public), Names(scenario.public)
    used: set[Difference] = set()
    told = []
    for step, theirs, own in zip(scenario.steps, linux, ours, strict=True):
        outs = described(*theirs, names[0]), described(*own, names[1])
        found = differing(*outs)
        words = verdict(*theirs), verdict(*own)
        explained = {known: known.explains(step.label, found, *words) for known in mine}
        used |= {known for known, what in explained.items() if what}
        if found - set().union(*explained.values()):
            told.append(
                f"{step.label}: {', '.join(sorted(found))}: Linux {words[0]}, vforward {words[1]}"
            )
            told += [
                f"    {who}: {out}" for who, out in zip(("Linux", "vforward"), outs, strict=True)
            ]
    told += [f"no longer so: {known.why}" for known in mine if known not in used]
    return told
