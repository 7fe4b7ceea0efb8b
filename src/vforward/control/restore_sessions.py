# SPDX-License-Identifier: Apache-2.0
"""The sessions of the last process, put into the shards of this one's workers, however many they are.

Secrets stay the same where they can: so a source that comes again gets the port of NAT that it had, and
flows stay with their workers.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vforward.control.numbers import Numbers, translation
from vforward.control.session_list import KILLS, SESSIONS
from vforward.errors import ArenaError
from vforward.graph.control import WORKERS_MAX
from vforward.memory.previous import Previous
from vforward.rings.spsc import HEADER as RING_HEADER
from vforward.tables import session as t
from vforward.tables import session_restore as sr
from vforward.tables.policy import HITS_MAX
from vforward.tables.treatment import KEEP

if TYPE_CHECKING:
    from vforward.control.firewall import Firewall
    from vforward.control.forwarder import Forwarder

log = logging.getLogger(__name__)

CLOCK_MAX = 1 << 31
"""Ticks: what says more is damaged."""
LEFT_OUT = {
    sr.EXPIRED: "timed out", sr.GONE: "of a port or VRF that is no more", sr.FULL: "without room",
    sr.DAMAGED: "damaged", sr.ENDED: "ended",
}  # fmt: skip


def restore_sessions(
    previous: Previous,
    known: Numbers,
    ports: NDArray[np.int64],
    forwarder: Forwarder,
    down_s: float,
) -> str:
    """Restore what can be. Returns in words what that was; of what is damaged the log tells.

    ports: by old number, see restore. No worker runs.
    """
    firewall = forwarder.firewall
    if not firewall.on:
        return "no sessions: the firewall is off"
    old = _shards(previous)
    shards = [shard.array for shard in firewall.shards]
    down = int(down_s)
    _set_clocks(old, shards, down)
    names = sr.Names(
        ports,
        translation(known.vrfs, forwarder.interfaces.vrfs, 256),
        *_rules(known, firewall),
        _treatments(known, firewall),
        np.zeros(0, np.uint32),
    )
    outcomes = np.zeros(sr.OUTCOMES, np.uint64)
    for worker, shard in old.items():
        doomed = _doomed(previous, worker, int(shard[t.CAPACITY]))
        found = sr.restore(shard, shards, names._replace(doomed=doomed), down)
        if found[sr.DAMAGED]:
            log.warning(
                "sessions of worker %d: %d are damaged, and left out", worker, found[sr.DAMAGED]
            )
        outcomes += found
        counters = slice(t.COUNTERS, t.REFUSED + 1)
        shards[worker if worker < len(shards) else 0][counters] += shard[counters]
    sr.arrange(shards)
    rest = [f"{outcomes[end]} {what}" for end, what in LEFT_OUT.items() if outcomes[end]]
    return f"{outcomes[sr.RESTORED]} sessions" + (f" ({', '.join(rest)})" if rest else "")


def _shards(previous: Previous) -> dict[int, NDArray[np.uint64]]:
    """The old shards, by worker. One that is damaged or foreign is left out, and named in the log."""
    found = {}
    for worker in range(WORKERS_MAX):
        name = SESSIONS.format(worker)
        if not previous.has(name):
            continue
        try:
            shard = previous.open(name, np.uint64)
            why = sr.refusal(shard)
            if why:
                raise ArenaError(f"segment {name!r} of the last process: {why}")  # noqa: TRY301
        except ArenaError as error:
            log.warning("the sessions of worker %d are lost: %s", worker, error)
        else:
            found[worker] = shard
    return found


def _set_clocks(
    old: dict[int, NDArray[np.uint64]], shards: list[NDArray[np.uint64]], down: int
) -> None:
    """Let clocks and secrets of new shards, still empty, be as those of the old ones."""
    clocks = [int(shard[t.NOW]) for shard in old.values()]
    now = max([clock for clock in clocks if clock < CLOCK_MAX], default=0) + down
    homes = [shard[t.HOME_SEED : t.HOME_SEED + 2] for shard in old.values() if shard[t.WORKERS] > 1]
    for worker, shard in enumerate(shards):
        shard[t.NOW] = shard[t.SWEPT] = now
        if worker in old and old[worker][t.SEED : t.SEED + 6].all():
            shard[t.SEED : t.SEED + 6] = old[worker][t.SEED : t.SEED + 6]
        if homes and len(shards) > 1:
            shard[t.HOME_SEED : t.HOME_SEED + 2] = homes[0]


def _rules(known: Numbers, firewall: Firewall) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By old place the new one in rule_hits; by old limit the new one, 0: none."""
    old, new = known.rules, firewall.numbers()["rules"]
    hits = translation(
        {key: place for key, (place, _) in old.items()},
        {key: place for key, (place, _) in new.items()},
        HITS_MAX,
    )
    hits[0] = 0  # the default's
    limits = translation(
        {key: limit for key, (_, limit) in old.items() if limit},
        {key: limit for key, (_, limit) in new.items() if limit},
        t.LIMITS_MAX,
        0,
    )
    return hits, limits


def _treatments(known: Numbers, firewall: Firewall) -> NDArray[np.int64]:
    """By old treatment the new one, 0: none. A policer that is gone polices no more."""
    policers = firewall.numbers()["policers"]
    made = np.zeros(sr.WIDE, np.int64)
    for number, dscp, policer in known.treatments:
        there = policer if policer in policers else ""
        if number < made.size and dscp <= KEEP and (there or dscp != KEEP):
            made[number] = firewall.treatment(None if dscp == KEEP else dscp, there)
    return made


def _doomed(previous: Previous, worker: int, capacity: int) -> NDArray[np.uint32]:
    """Sessions that the worker was to end, and perhaps did not: see session_restore.Names."""
    try:
        words = previous.open(KILLS.format(worker), np.uint64)[RING_HEADER // 8 :]
    except ArenaError:
        words = np.zeros(0, np.uint64)
    words = words[words != 0]
    if not words.size:
        return np.zeros(0, np.uint32)
    doomed = np.zeros(capacity + 1, np.uint32)
    numbers = (words & np.uint64(0xFFFFFFFF)).astype(np.int64)
    fits = numbers <= capacity
    doomed[numbers[fits]] = (words[fits] >> np.uint64(32)).astype(np.uint32)
    return doomed
