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


KNOWN: tuple[Difference, ...] = ()


def faults(scenario: Scenario, linux: Run, ours: Run) -> list[str]:
    """What nobody has explained, for people to read."""
    mine = [known for known in KNOWN if fullmatch(known.scenarios, scenario.name)]
    names = Names(scenario.public), Names(scenario.public)
    used: set[Difference] = set()
    told = []
    for step, theirs, own in zip(scenario.steps, linux, ours, strict=True):
        outs = described(theirs[1], names[0]), described(own[1], names[1])
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
