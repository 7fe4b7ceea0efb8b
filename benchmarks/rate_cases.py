# SPDX-License-Identifier: Apache-2.0
"""rates: what a router forwards between two veth pairs without losing a packet, and how long that takes.

    rates-SIZE-no-drop      packets per second: the highest rate at which nothing is lost
    rates-SIZE-half-percent the highest at which at most 0.5 % are
    rates-SIZE-latency-N    microseconds at N % of the no-drop rate: p50, p99 (the value), p99.9
    rates                   the no-drop rate of 64 bytes

By the method of RFC 2544 (26.1, 26.2), but for the time of a trial: there it is 60 s, here a part of
a second, so that there can be many: each rate is the median of RUNS searches, and the trial's length
stands in the row. `vforward run` forwards, its worker on the last CPU; benchmarks.rate_tester tests.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks import rate_nodes, veth_lab
from benchmarks.harness import LEAST, Measured, missing, repeat, row, whole
from benchmarks.peer_cases import ROUTER
from benchmarks.peer_lab import LAN, LAN_MAC, WAN, lab
from benchmarks.rate_search import Trial, search
from benchmarks.rate_tester import Tester, between
from benchmarks.session import Session
from benchmarks.veth_cases import ROUTED, SPIN, THERE, impossible
from vforward.layout import VECTOR_MAX

CASE = "rates"
FCS = 4
SIZES = (64, 128, 256, 512, 1024, 1280, 1518)
IMIX = (64, 64, 64, 594, 64, 594, 64, 64, 594, 64, 594, 1518)
"""7 to 4 to 1, the usual mix, as it is sent."""
TOLERATED = {"no-drop": 0.0, "half-percent": 0.005}
LOADS = (10, 50, 90)
RUNS = LEAST
SHARE = 100
"""A trial takes this part of a case's time: 0.2 s."""
MORE_THAN_ANY = 1e7
LIMITED = 0.95


def rates(session: Session) -> Iterator[dict[str, Any]]:
    """Rows of all sizes; the last row: 64 bytes."""
    if why := impossible(flood=False, program="", package=""):
        yield missing(CASE, "packets/s", session.gauge, why)
        return
    mixes: dict[str, Sequence[int]] = {str(size): (size,) for size in SIZES} | {"IMIX": IMIX}
    lengths = sorted({size - FCS for mix in mixes.values() for size in mix})
    frames = rate_nodes.templates(lengths, LAN_MAC, veth_lab.NEAR_MAC, "10.8.0.1", "10.9.0.1")
    first: dict[str, Any] = {}
    with lab() as where:
        where.hosts(("10.1.0.2", LAN), ("10.2.0.2", WAN))
        with where.ours(SPIN + ROUTER), between(where.h1, where.h2, frames) as test:
            where.probe(THERE, ROUTED, [])
            for name, mix in mixes.items():
                pattern = [lengths.index(size - FCS) for size in mix]
                for made in _size(session, test, name, pattern):
                    first = first or made
                    yield made
    yield {**first, "case": CASE}


def _size(
    session: Session, test: Tester, name: str, pattern: Sequence[int]
) -> Iterator[dict[str, Any]]:
    seconds = session.limit_s / SHARE

    def trial(rate: float) -> Trial:
        return checked(test.trial(pattern, rate, seconds))

    highest = trial(MORE_THAN_ANY).offered
    more = {"vector": VECTOR_MAX, "packets": 0, "touched": 0, "bytes": name, "trial_s": seconds}
    no_drop = 0.0
    for label, tolerated in TOLERATED.items():
        case = f"{CASE}-{name}-{label}"
        found = _repeat(session, case, lambda t=tolerated: [search(trial, highest, t)])
        no_drop = no_drop if tolerated else found.value
        limited = "; limited by the sender" if found.value >= LIMITED * highest else ""
        yield row(
            case, found, "packets/s", **more, offered=round(highest),
            note=f"{test.says()}; vforward run as a router, 16 routes{limited}",
        )  # fmt: skip
    for load in LOADS:
        case = f"{CASE}-{name}-latency-{load}"
        if no_drop:
            yield _latency(session, case, lambda load=load: trial(no_drop * load / 100), more)
        else:
            yield missing(case, "us", session.gauge, "no rate without loss")


def checked(trial: Trial) -> Trial:
    """Raises AssertionError where packets came that should not have come so."""
    if trial.duplicated or trial.corrupted:
        msg = f"of {trial.sent} packets came {trial.received}, {trial.duplicated} more than once, "
        raise AssertionError(msg + f"{trial.corrupted} corrupted")
    return trial


def _latency(
    session: Session, case: str, trial: Callable[[], Trial], more: dict[str, Any]
) -> dict[str, Any]:
    parts: dict[float, list[float]] = {50: [], 99: [], 99.9: []}
    trials: list[Trial] = []

    def run() -> list[float]:
        found = trial()
        trials.append(found)
        for part, figures in parts.items():
            figures.append(veth_lab.percentile(found.waits or [math.inf], part))
        return parts[99][-1:]

    found = _repeat(session, case, run)
    each = {f"p{part:g}": whole(f, session.gauge, disturbed=False) for part, f in parts.items()}
    return row(
        case, found, "us", **more, offered=round(statistics.median(t.offered for t in trials)),
        sent=sum(t.sent for t in trials), lost=sum(t.lost for t in trials),
        overrun=sum(t.overrun for t in trials), reordered=sum(t.reordered for t in trials),
        percentiles={name: round(one.value, 1) for name, one in each.items()},
        spreads={name: round(one.spread, 4) for name, one in each.items()},
    )  # fmt: skip


def _repeat(session: Session, case: str, run: Callable[[], list[float]]) -> Measured:
    return repeat(run, session.gauge, RUNS, lambda done: session.progress(case, done, RUNS))
