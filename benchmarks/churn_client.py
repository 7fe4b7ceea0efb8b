# SPDX-License-Identifier: Apache-2.0
"""A program that keeps a forwarder's control plane busy through its API, and tells how fast that went.

    command(...)      its command line
    standard output   one JSON object when it is through: see churn

One thread changes routes, one reads all statistics READS_S times a second, one replaces the rules once,
when half of the routes are through. It is NICE nicer than who starts it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peer_lab import NEXT_HOP
from vforward.control.client import Client
from vforward.control.demo_world import end_with_parent

PROGRAM = (
    "import sys; sys.path[:0] = [sys.argv[1]]; from benchmarks.churn_client import main; main()"
)
NICE = 5
"""How much nicer than the tester, which spins on the same CPU and keeps most of it."""
READS_S = 10
OTHER_HOP = "10.2.0.10"
"""A second way for the test's own packets: both lead to h2."""
TARGET = "10.9.0.1"
"""Where the test's packets go: routes to it change too."""
OVER_TARGET = ("10.9.0.1/32", "10.9.0.0/30", "10.9.0.0/27", "10.9.0.0/25", "10.8.0.0/15")
SINGLES = 200
"""Changes that are made one by one before, to know what a call takes."""
BATCH = 500
BEFORE, AFTER = "172.17", "172.16"
"""Where the rules' sources are: of those that are in force, and of those that take their place."""
NETS = 20_000
"""Networks 20.0.0.0/24 and on that come and go."""


def command(name: str, changes: int, n_rules: int, cpu: int) -> list[str]:
    """Change so many routes of the forwarder of that name, and replace its rules by so many.

    It is on that CPU, and nicer, from its first instruction: where a Python starts a worker stands.
    """
    where = ["taskset", "-c", str(cpu), "nice", "-n", str(NICE)]
    checkout = str(Path(__file__).resolve().parents[1])
    return [*where, sys.executable, "-c", PROGRAM, checkout, name, str(changes), str(n_rules)]


def main() -> None:
    """The program."""
    end_with_parent()
    _, _, name, changes, n_rules = sys.argv
    sys.stdout.write(json.dumps(churn(Client(name), int(changes), int(n_rules))) + "\n")


def churn(client: Client, changes: int, n_rules: int) -> dict[str, Any]:
    """Do all of it. Returns seconds, rates, the longest call of each kind, and how much was done."""
    singles_s = _singles(client)
    half, done = threading.Event(), threading.Event()
    reads: list[float] = []
    replaced, before = list[float](), list[int]()
    failures: list[str] = []
    others = [
        _thread(lambda: _read(client, done, reads), failures),
        _thread(lambda: _replace(client, half, n_rules, replaced, before), failures),
    ]
    start, batches = time.monotonic(), list[float]()
    changed = SINGLES
    try:
        for n in range(1 << 30):
            if changed >= changes:
                break
            begin = time.monotonic()
            changed += _change(client, n)
            batches.append(time.monotonic() - begin)
            if changed >= changes // 2:
                half.set()
    finally:
        seconds = time.monotonic() - start
        half.set()
        done.set()
        for other in others:
            other.join()
    if failures:
        raise RuntimeError(failures[0])
    return {
        "changes": changed,
        "seconds": seconds,
        "changes_s": (changed - SINGLES) / seconds,
        "single_calls_s": SINGLES / singles_s,
        "slowest_batch_s": max(batches),
        "reads": len(reads),
        "reads_s": len(reads) / seconds,
        "slowest_read_s": max(reads, default=0.0),
        "rules_s": replaced[0],
        "rules_before": before[0],
    }


def _thread(what: Callable[[], None], failures: list[str]) -> threading.Thread:
    def guarded() -> None:
        try:
            what()
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")

    made = threading.Thread(target=guarded)
    made.start()
    return made


def _singles(client: Client) -> float:
    """Seconds of SINGLES changes, a call for each."""
    start = time.monotonic()
    for n in range(SINGLES // 2):
        client.add_route(_net(n), via=NEXT_HOP)
        client.delete_route(_net(n))
    return time.monotonic() - start


def _change(client: Client, n: int) -> int:
    """The n-th batch: half of it deletes what is there since the last one. Returns how many changes."""
    each = BATCH // 2
    via = (NEXT_HOP, OTHER_HOP)[n & 1]
    add = [{"prefix": _net(n * each + k), "via": via} for k in range(each)]
    delete = [{"prefix": _net((n - 1) * each + k)} for k in range(each)] if n else []
    add += [{"prefix": prefix, "via": via} for prefix in OVER_TARGET[n % 2 :: 2]]
    if n > 1:
        delete += [{"prefix": prefix} for prefix in OVER_TARGET[n % 2 :: 2]]
    said = client.change_routes(add, delete)
    if said["refused"]:
        raise RuntimeError(said["problems"][0]["detail"])
    return int(said["added"]) + int(said["deleted"])


def _net(n: int) -> str:
    n %= NETS
    return f"20.{n >> 8}.{n & 255}.0/24"


def _read(client: Client, done: threading.Event, took: list[float]) -> None:
    """Read all statistics, READS_S times a second as far as there is time."""
    due = time.monotonic()
    while not done.wait(max(0.0, due - time.monotonic())):
        begin = time.monotonic()
        client.metrics()
        took.append(time.monotonic() - begin)
        due = max(due + 1 / READS_S, time.monotonic() - 1.0)


def rules(n: int, net: str) -> list[dict[str, Any]]:
    """n rules that match nothing of the test, and one that permits it. net: of their sources, "172.16"."""
    wanted: list[dict[str, Any]] = [
        {"action": "deny", "protocol": "tcp", "from": f"{net}.{k >> 8}.{k & 255}", "to_ports": 80}
        for k in range(n)
    ]
    return [*wanted, {"action": "permit", "to": TARGET}]


def _replace(
    client: Client, half: threading.Event, n: int, took: list[float], before: list[int]
) -> None:
    """Replace all rules. before: gets how many there were."""
    half.wait()
    before.append(client.rules().count)
    begin = time.monotonic()
    client.set_rules(rules(n, AFTER))
    took.append(time.monotonic() - begin)
