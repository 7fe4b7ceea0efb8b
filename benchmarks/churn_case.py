# SPDX-License-Identifier: Apache-2.0
"""churn-loss: packets that a router and firewall loses while all around them changes.

    churn-loss-no-drop  packets per second: the highest rate at which nothing is lost, by RFC 2544 26.1
    churn-loss-before   packets lost in a stretch of trials at 90 % of that, nothing changing
    churn-loss          the same while benchmarks.churn_client changes CHANGES routes, reads all statistics
                        ten times a second and replaces all rules, RULES and one, by as many others

A stretch that was not sent at 98 % of that, or in which statistics were read less often, is not what
the case is of: it is repeated once, where there is time, and then has no figure (`missing` says why,
`lost` what was lost all the same).

The tester (benchmarks.rate_tester) finds what is lost by sequence number. Trial follows trial until the
client is through; between two of them it waits for what is under way, nothing else.

Where there are two CPUs the worker has the last; tester, client and the daemon's other threads share the
first, the last two NICE nicer than the tester. When the tester does not run it does not send: what it is
late with is left out (bench-source), so a tester that had to wait lowers the rate, which stands in the row,
and loses nothing. What its own receiving ring had no room for is counted apart and is none of the loss.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import churn_client, rate_nodes, veth_lab
from benchmarks.churn_client import NICE, OTHER_HOP, READS_S
from benchmarks.harness import LEAST, missing, repeat, row, whole
from benchmarks.peer_cases import ROUTER
from benchmarks.peer_lab import LAN, LAN_MAC, NEXT_MAC, WAN, Lab, lab
from benchmarks.rate_cases import FCS, MORE_THAN_ANY, checked
from benchmarks.rate_search import Trial, search
from benchmarks.rate_tester import Tester, between
from benchmarks.session import Session
from benchmarks.veth_cases import ROUTED, SPIN, THERE, impossible
from vforward.control.client import Client
from vforward.control.demo_world import Failed
from vforward.layout import VECTOR_MAX

CASE = "churn-loss"
NAME = "peer"
"""Of the forwarder: its configuration's file is peer.toml."""
SIZE = 64
SHARE = 0.9
CHANGES = int(os.environ.get("VFORWARD_CHURN", "100000"))
RULES = 3000
SEARCHES = LEAST
TRIAL_S = 1.0
"""A packet's number has room in a trial of up to 2 M packets."""
CASE_S = 840.0
"""Of the whole case, at most: a client that is not through by then is ended, and the case with it."""
SPARE = 1.5
"""There is time for another stretch if there is for so many of the last one's length."""
SENT, READ = 0.98, 0.95
"""Parts of the rate and of READS_S that are enough."""
CONFIG = f"""
[firewall]
default = "permit"

[[neighbors]]
address = "{OTHER_HOP}"
mac = "{NEXT_MAC.hex(":")}"
port = "wan"
"""


@dataclass
class Stretch:
    """What became of trials that followed each other."""

    trials: list[Trial] = field(default_factory=list)
    seconds: float = 0.0

    def sum(self, what: str) -> int:
        """Of all trials."""
        return sum(int(getattr(each, what)) for each in self.trials)

    @property
    def offered(self) -> float:
        """Packets per second, the mean of the trials."""
        return sum(each.offered for each in self.trials) / len(self.trials)


def churn_loss(session: Session) -> Iterator[dict[str, Any]]:
    """Rows: the rate, then losses at rest and under changes."""
    end = time.monotonic() + CASE_S
    if why := impossible(flood=False, program="", package=""):
        yield missing(CASE, "packets", session.gauge, why)
        return
    frames = rate_nodes.templates(
        [SIZE - FCS], LAN_MAC, veth_lab.NEAR_MAC, "10.8.0.1", churn_client.TARGET
    )
    with lab() as where:
        where.hosts(("10.1.0.2", LAN), ("10.2.0.2", WAN))
        with (
            where.ours(SPIN + ROUTER + CONFIG) as pid,
            between(where.h1, where.h2, frames) as test,
            own_runtime(where),
        ):
            _set_rules()
            where.probe(THERE, ROUTED, [])
            others = aside(pid, test.cpus[0], where.forwarder_cpu)
            yield from _rows(session, where, test, others, end)


def _rows(
    session: Session, where: Lab, test: Tester, others: int, end: float
) -> Iterator[dict[str, Any]]:
    more = {"vector": VECTOR_MAX, "packets": 0, "touched": 0, "bytes": SIZE}

    def trial(rate: float) -> Trial:
        return checked(test.trial([0], rate, session.limit_s / 40))

    highest = trial(MORE_THAN_ANY).offered
    found = repeat(
        lambda: [search(trial, highest, 0.0)],
        session.gauge,
        SEARCHES,
        lambda done: session.progress(f"{CASE}-no-drop", done, SEARCHES),
    )
    pinned = (
        f"worker on CPU {where.forwarder_cpu}; {test.says()}; client and {others} other threads of "
        f"the daemon on CPU {test.cpus[0]}, nicer by {NICE}"
    )
    yield row(f"{CASE}-no-drop", found, "packets/s", **more, offered=round(highest), note=pinned)
    if not found.value:
        yield missing(CASE, "packets", session.gauge, "no rate without loss")
        return
    rate = SHARE * found.value
    rest, _ = once_more(lambda: (_stretch(test, rate, lambda n: n < LEAST), {}), rate, end)
    yield _row(session, f"{CASE}-before", rest, rate, more, "nothing changes")
    session.progress(CASE, 0, 1)
    churned, said = once_more(lambda: _under_changes(where, test, rate, end), rate, end)
    session.progress(CASE, 1, 1)
    figures = {key: round(value, 3) for key, value in said.items()}
    what = (
        f"{said['changes']} route changes in {said['seconds']:.0f} s (PATCH /routes: "
        f"{said['changes_s']:.0f}/s; a call for each: {said['single_calls_s']:.0f}/s), "
        f"{said['reads_s']:.1f} reads of all statistics/s, {said['rules_before']} rules replaced by "
        f"as many others in {said['rules_s']:.1f} s; {pinned}"
    )
    yield _row(session, CASE, churned, rate, more, what, **figures)


def short_of(stretch: Stretch, rate: float, said: dict[str, Any]) -> list[str]:
    """What a stretch was not that the case says it is; nothing if it was all of it."""
    found = []
    if stretch.offered < SENT * rate:
        found.append(
            f"OFFERED LESS: {stretch.offered:.0f} packets/s of {rate:.0f}, the tester had to wait"
        )
    if said.get("reads_s", READS_S) < READ * READS_S:
        found.append(f"READ LESS: {said['reads_s']:.1f} of {READS_S} times a second")
    return found


def once_more(
    make: Callable[[], tuple[Stretch, dict[str, Any]]], rate: float, end: float
) -> tuple[Stretch, dict[str, Any]]:
    """A stretch and what is said of it; if it falls short, another one, where there is time for it."""
    made = make()
    if short_of(made[0], rate, made[1]) and time.monotonic() + SPARE * made[0].seconds < end:
        made = make()
    return made


def _row(
    session: Session, case: str, stretch: Stretch, rate: float, more: dict[str, Any], note: str,
    **figures: Any,
) -> dict[str, Any]:  # fmt: skip
    """The row of a stretch: its value is what was lost of all it sent; none where it falls short."""
    found = whole([stretch.sum("lost")], session.gauge, disturbed=False)
    made = row(
        case, found, "packets", **more, sent=stretch.sum("sent"), lost=stretch.sum("lost"),
        offered=round(stretch.offered), wanted=round(rate), trials=len(stretch.trials),
        overrun=stretch.sum("overrun"), reordered=stretch.sum("reordered"),
        seconds_sent=round(stretch.seconds, 1), note=note, **figures,
    )  # fmt: skip
    made["packets"] = stretch.sum("sent")
    if why := short_of(stretch, rate, figures):
        return {**made, "value": None, "missing": f"no figure: {'; '.join(why)}"}
    return made


def _stretch(test: Tester, rate: float, goes_on: Callable[[int], bool]) -> Stretch:
    """Trials at a rate while goes_on(how many there were)."""
    made = Stretch()
    start = time.monotonic()
    while goes_on(len(made.trials)):
        made.trials.append(checked(test.trial([0], rate, TRIAL_S)))
    made.seconds = time.monotonic() - start
    return made


def _under_changes(
    where: Lab, test: Tester, rate: float, end: float
) -> tuple[Stretch, dict[str, Any]]:
    """Trials while the client is at work, and what it says. end: of its time."""
    _set_rules()  # a stretch before this one may have replaced them
    command = churn_client.command(NAME, CHANGES, RULES, test.cpus[0])
    log = where.directory / "churn"
    with log.open("wb") as errors:
        client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            made = _stretch(
                test, rate, lambda n: n == 0 or (client.poll() is None and time.monotonic() < end)
            )
        finally:
            client.kill() if client.poll() is None else None
            said, _ = client.communicate()
    if client.returncode:
        msg = f"the client failed: {log.read_text(errors='replace')[-500:].strip() or 'too slow'}"
        raise Failed(msg)
    figures = json.loads(said)
    if figures["rules_before"] != RULES + 1:
        msg = f"{figures['rules_before']} rules were replaced, not {RULES + 1}"
        raise Failed(msg)
    return made, figures


def _set_rules() -> None:
    """Have the rules that the client will replace."""
    Client(NAME).set_rules(churn_client.rules(RULES, churn_client.BEFORE))


def aside(pid: int, cpu: int, worker_cpu: int) -> int:
    """Put all threads of a daemon but the worker on a CPU, NICE nicer than this process. Returns how
    many there are.
    """
    nice, moved = os.getpriority(os.PRIO_PROCESS, 0) + NICE, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            number = int(task.name)
            if os.sched_getaffinity(number) == {worker_cpu}:
                continue
            os.sched_setaffinity(number, {cpu})
            os.setpriority(os.PRIO_PROCESS, number, nice)
            moved += 1
    return moved


@contextlib.contextmanager
def own_runtime(where: Lab) -> Iterator[None]:
    """The lab's forwarder is found by this process and its children."""
    before = os.environ.get("VFORWARD_RUNTIME_DIR")
    os.environ["VFORWARD_RUNTIME_DIR"] = str(where.directory / "run")
    try:
        yield
    finally:
        os.environ.pop("VFORWARD_RUNTIME_DIR")
        if before is not None:
            os.environ["VFORWARD_RUNTIME_DIR"] = before
