# SPDX-License-Identifier: Apache-2.0
"""What fig79's rows come to, in words made from their figures.

The clocks of a packet in a vector of v are taken apart as ``work + call / v``: what each packet takes
whatever the vector, and what a vector takes once (the scheduler, calls, and what no other packet
is there to hide). The fit is by least squares of the relative error over all sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import Measured
from vforward.layout import VECTOR_MAX

PROMISED = VECTOR_MAX
SCALAR = ": compiled scalar loop"
Rows = Sequence[dict[str, Any]]


class Verdict(NamedTuple):
    """gains: clocks at vectors of 1 over those at 256, by level. ratios: the other comparisons."""

    gains: dict[str, Measured]
    ratios: dict[str, float]
    text: str


class Parts(NamedTuple):
    """Of a packet's clocks, those of each packet and those of each vector."""

    work: float
    call: float

    @property
    def bound(self) -> float:
        """How many times cheaper the largest vector can be than one of 1 by this."""
        return (self.work + self.call) / self.work if self.work > 0 else float("inf")


def take_apart(sizes: Sequence[int], clocks: Sequence[float]) -> Parts:
    """work and call of clocks = work + call / size."""
    y = np.array(clocks, float)
    terms = np.stack([np.ones(len(y)), 1.0 / np.array(sizes, float)], axis=1) / y[:, None]
    (work, call), *_ = np.linalg.lstsq(terms, np.ones(len(y)), rcond=None)
    return Parts(float(work), float(call))


def verdict(rows: Rows) -> Verdict:
    """Of fig79's rows."""
    curves = _curves(rows)
    single = {r["case"]: r for r in rows if r["value"] is not None}
    levels = [name for name in curves if not name.endswith("-plain")]
    gains = {level: _gain(curves[level]) for level in levels}
    ratios: dict[str, float] = {}
    lines = []
    for level in levels:
        lines += _of_level(level, curves, single, gains[level].value, ratios)
    lines += _of_python(single, curves[levels[0]][-1], ratios)
    best = max(gain.value for gain in gains.values())
    loops = [ratio for name, ratio in ratios.items() if name.endswith(SCALAR)]
    lines.insert(0, _headline(best, max(loops, default=0.0)))
    return Verdict(gains, ratios, " ".join(lines))


def _headline(best: float, loop: float) -> str:
    said = (
        f"A vector of {VECTOR_MAX} is up to {best:.1f} times cheaper per packet than a vector of 1"
    )
    said += f", and up to {loop:.1f} times than a compiled scalar loop" if loop else ""
    if max(best, loop) >= PROMISED / 2:
        return said + "."
    return (
        f"{said}; not {PROMISED} times: only what is done once for a vector is shared, and waiting for "
        "memory, not what is done for each packet."
    )


def _of_level(
    level: str, curves: dict[str, Rows], single: dict[str, Any], gain: float, ratios: dict[str, float]
) -> list[str]:  # fmt: skip
    rows = curves[level]
    first, last = rows[0]["value"], rows[-1]["value"]
    parts = take_apart([r["vector"] for r in rows], [r["value"] for r in rows])
    ratios[f"{level}: vector 1"] = round(gain, 2)
    where = "no cache" if rows[0]["fits"] == "memory" else rows[0]["fits"]
    said = (
        f"Routes that fit {where} ({rows[0]['kibibytes']} KiB): {first:.0f} clocks at 1, {last:.0f} at "
        f"{rows[-1]['vector']}, {gain:.1f} times; {parts.work:.0f} for each packet and {parts.call:.0f} "
        f"for each vector"
    )
    said += f", so {parts.bound:.0f} times would be the most" if parts.work > 0 else ""
    scalar = single.get(f"fig79-{level}-scalar")
    if scalar:
        ratios[level + SCALAR] = round(scalar["value"] / last, 2)
        said += (
            f"; a compiled loop without a scheduler takes {scalar['value']:.0f}, "
            f"{scalar['value'] / last:.1f} times the vector's"
        )
    called = single.get(f"fig79-{level}-called")
    if called:
        ratios[f"{level}: called from Python"] = round(called["value"] / last, 1)
    plain = curves.get(f"{level}-plain")
    if plain:
        ratios[f"{level}: without prefetch"] = round(plain[-1]["value"] / last, 2)
        said += f"; without prefetch {plain[-1]['value']:.0f} at {plain[-1]['vector']}"
    return [said + "."]


def _of_python(single: dict[str, Any], last: dict[str, Any], ratios: dict[str, float]) -> list[str]:
    said = []
    for name, words in (
        ("python", "the same work in plain Python takes"),
        ("scapy", "only to parse a frame takes scapy"),
        ("dpkt", "and dpkt"),
    ):
        found = single.get(f"fig79-{name}")
        if found:
            ratio = found["value"] / last["value"]
            ratios[name] = round(ratio, 1)
            said.append(f"{words} {found['value']:.0f} clocks ({ratio:.0f} times)")
    if not said:
        return []
    text = ", ".join(said)
    return [
        text[0].upper() + text[1:] + ": most of what such comparisons show is the compiler's, not the "
        "vector's."
    ]  # fmt: skip


def _curves(rows: Rows) -> dict[str, list[dict[str, Any]]]:
    """The rows of the vector graph, by level and level-plain, in the order of sizes."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in rows:
        if "prefetch" in each:
            found.setdefault(each["case"].removeprefix("fig79-"), []).append(each)
    return found


def _gain(rows: Rows) -> Measured:
    """The first row over the last, its doubts those of both."""
    first, last = rows[0], rows[-1]
    gain = first["value"] / last["value"]
    return Measured(
        gain, [gain], first["spread"] + last["spread"], min(first["runs"], last["runs"]), 0,
        disturbed=first["disturbed"] or last["disturbed"], gauge=last["gauge"],
    )  # fmt: skip
