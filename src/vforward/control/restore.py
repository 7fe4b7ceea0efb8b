# SPDX-License-Identifier: Apache-2.0
"""Go on from what the last process of this name left: it was killed, and this one is as configured.

This process makes its own tables, as always, and takes over what is worth it: what was told at run time,
neighbors, MACs, sessions (so NAT), counters. Each part is checked and taken by itself: one that is damaged,
or of another layout, is left out, and the log names it. Only when all is done is what was left removed, so
a process that is killed in between changes nothing.

    after build: told -> neighbors -> MACs -> sessions -> counters -> Arena.taken_over -> workers start

It may be what was left that kills it, or that there is no memory for both: so starts that end without a
word meanwhile are counted, and the one after STARTS_MAX of them forgets it. See Arena.makes_way, too.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vforward.control import numbers, publish, restore_counters, told
from vforward.control.layout_hash import layout_hash
from vforward.control.numbers import Numbers, translation
from vforward.control.restore_sessions import restore_sessions
from vforward.errors import ArenaError, ConfigError, VforwardError
from vforward.graph import control as c
from vforward.graph.worker import read_clock
from vforward.memory.arena import Arena
from vforward.memory.previous import Previous
from vforward.tables.adjacency import ADJACENCY, REWRITE_MAX, Way
from vforward.tables.bridge import DOMAIN, DOMAINS
from vforward.tables.mac import PORTS_MAX

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder
    from vforward.control.publish import Publisher

log = logging.getLogger(__name__)

NEVER, CRASH, ALWAYS = KEEPS = ("never", "crash", "always")
"""After what end of the last one of its name a forwarder goes on from what that has left."""

_OF_WORKERS = "control|stats|taken|counts|rule-hits|nat_pools"
_FILES = re.compile(
    rf"session(s|-kills)-\d+|mac|domains|adjacencies|{told.FILE}|(drops|policers)(-cleared)?"
    rf"|({_OF_WORKERS})(-\d+)?(\.\d+)?(-cleared)?|(forwarder|numbers|cleared)\.json"
)
STARTS_MAX = 3
"""Starts that may be killed while they take over."""
_STARTS = "starts.json"
"""How many were. It lies with what was left, and goes with that."""
HEADERS = (14, 18, 22)
"""Bytes of a header with no tag, with one, with two."""


def KEPT(name: str) -> bool:  # noqa: N802
    """Whether a file of an arena is of use to the next process."""
    return _FILES.fullmatch(name) is not None


@contextlib.contextmanager
def open_arena(name: str, keep: str, *, fresh: bool) -> Iterator[Arena]:
    """The arena of a forwarder that keeps what it knows: see Forwarder. Raises ConfigError, ArenaError."""
    if keep not in KEEPS:
        msg = f"keep is {keep!r}; allowed: {', '.join(KEEPS)}"
        raise ConfigError(msg)
    kept = None if keep == NEVER else KEPT
    with Arena.create(name, keep=kept, layout_hash=layout_hash()) as arena:
        too_often = _count_start(arena, 1) > STARTS_MAX
        if too_often and not fresh:
            log.error(
                "%d starts of %s have ended without a word while they took over what the last process "
                "knew: it is forgotten, as with --fresh",
                STARTS_MAX,
                name,
            )
        if fresh or too_often:
            arena.taken_over()
            arena.tidy()
        try:
            yield arena
        finally:  # in order: it was not that which ended it
            _count_start(arena, -1)


def _count_start(arena: Arena, more: int) -> int:
    """Count a start that takes over, or take it back. Returns how many there were, this one among them."""
    if arena.previous is None:
        return 0
    file, before = arena.previous / _STARTS, 0
    with contextlib.suppress(OSError, ValueError):
        before = int(file.read_text())
    with contextlib.suppress(OSError):  # no room to count is room to be made, see Arena.makes_way
        file.write_text(str(before + more))
    return before + more


def go_on(forwarder: Forwarder, publisher: Publisher, keep: str) -> bool:
    """Go on from what the last process left, publish, and keep what is known from now on.

    The graph is built, and no worker runs. Returns whether it is kept. Raises ArenaError, VforwardError.
    """
    if keep != NEVER:
        _take_over(forwarder, publisher.drops_before)
    publisher.begin()
    if keep != NEVER:
        keep_up(forwarder)
    if forwarder.reload is not None:
        forwarder.reload.touch(*forwarder.told.keys(forwarder.reload.parts))
    forwarder.arena.stays = keep == ALWAYS
    return keep != NEVER


def _take_over(forwarder: Forwarder, drops_before: NDArray[np.uint64]) -> None:
    """As take_over. What it raises counts as if it had ended the process: else each start would end so."""
    arena = forwarder.arena
    arena.makes_way = False  # what is left is being read
    try:
        take_over(forwarder, drops_before)
    except BaseException:
        _count_start(arena, 1)
        log.error(  # noqa: TRY400 it is raised
            "what the last process knew cannot be taken over; vforward run --fresh begins without it, as "
            "does the start after %d that have ended so",
            STARTS_MAX,
        )
        raise
    finally:
        arena.makes_way = True


def take_over(forwarder: Forwarder, drops_before: NDArray[np.uint64]) -> None:
    """Take over what there is. The graph is built, and no worker runs. Raises ArenaError, VforwardError.

    drops_before: where what ports had dropped goes, see Publisher.
    """
    arena = forwarder.arena
    if arena.previous is None:
        return
    previous = Previous(arena.previous, arena.layout_hash)
    down_s, said = _down_s(previous, forwarder.hz), list[str]()
    known: Numbers | None = None
    with _part("what was told at run time"):
        if previous.has(told.FILE):
            entries, damaged = told.read((previous.path / told.FILE).read_bytes())
            done, _ = forwarder.told.repeat(entries, forwarder)  # it logs what cannot be any more
            said.append(f"{done} things told")
            if damaged:
                log.warning("of what was told at run time %d lines are damaged", damaged)
    with _part("numbers"):
        known = numbers.parsed(previous.document(numbers.NAME))
    if known is not None:
        ports = _ports(known, forwarder)
        with _part("neighbors"):
            said.append(f"{_neighbors(previous, ports, forwarder)} neighbors")
        with _part("MACs"):
            said.append(f"{_macs(previous, known, ports, forwarder, down_s)} MACs")
        with _part("sessions"):
            said.append(restore_sessions(previous, known, ports, forwarder, down_s))
        _counters(previous, known, forwarder, drops_before)
    log.info("went on from the last process, %.1f s later: %s", down_s, ", ".join(said))


def keep_up(forwarder: Forwarder) -> None:
    """From now on what this process knows and is told is what the next one goes on from. After take_over.

    Raises ArenaError, VforwardError.
    """
    arena, firewall = forwarder.arena, forwarder.firewall

    def note(wanted: Any = None) -> None:
        arena.write_document(numbers.NAME, numbers.document(forwarder, firewall.numbers(wanted)))

    note()
    firewall.before_publish = note
    forwarder.told.begin(arena.path)
    arena.taken_over()


@contextlib.contextmanager
def _part(what: str) -> Iterator[None]:
    """What a part of it raises is said, and the others go on: all of it may be damaged in any way."""
    try:
        yield
    except (
        VforwardError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        log.warning("%s of the last process are lost: %s", what, error)


def _down_s(previous: Previous, hz: int) -> float:
    """Seconds since a worker of the last process ran; 0 if that cannot be known."""
    last = 0
    for worker in range(c.WORKERS_MAX):
        with contextlib.suppress(ArenaError, IndexError):
            control = previous.open(c.segment("control", worker), np.uint64)
            last = max(last, int(control[c.NOW]), int(control[c.STARTED]))
    now = read_clock()
    return (now - last) / hz if 0 < last < now else 0.0


def _ports(known: Numbers, forwarder: Forwarder) -> NDArray[np.int64]:
    """Ports by old number: i64[65536]; 0, none, stays 0, and what is no more is -1."""
    here = {interface.name: interface.number for interface in forwarder.interfaces}
    ports = translation(known.ports, here, 1 << 16)
    ports[0] = 0
    return ports


def _neighbors(previous: Previous, ports: NDArray[np.int64], forwarder: Forwarder) -> int:
    """Restore the neighbors that adjacencies lead to. Returns how many."""
    table = previous.open("adjacencies", ADJACENCY)
    told_way = np.isin(table["edge"], (Way.REWRITE, Way.NOTIFY)) & table["next_hop"].any(axis=1)
    rows = table[told_way & np.isin(table["rewrite_len"], HEADERS)]
    done = 0
    with forwarder.routing.together():
        for row in rows:
            port, first = int(ports[row["tx_port"]]), REWRITE_MAX - int(row["rewrite_len"])
            mac = row["rewrite"].tobytes()[first : first + 6]
            high, low = (int(half) for half in row["next_hop"])
            if port > 0 and not mac[0] & 1 and any(mac):
                done += forwarder.neighbors.restore(port, high << 64 | low, mac)
    return done


def _macs(
    previous: Previous,
    known: Numbers,
    ports: NDArray[np.int64],
    forwarder: Forwarder,
    down_s: float,
) -> int:
    """Restore what bridges had learned. Returns how many MACs."""
    names = translation(known.bridges, forwarder.bridge_numbers, DOMAINS, 0)
    domains = previous.open("domains", DOMAIN)
    macs = previous.open("mac", np.uint64)
    of_ports = np.maximum(ports[:PORTS_MAX], 0)
    done, damaged = forwarder.bridging.restore(macs, domains, names, of_ports, down_s)
    if damaged:
        log.warning("MACs: %d damaged entries are left out", damaged)
    return done


def _counters(
    previous: Previous, known: Numbers, forwarder: Forwarder, drops_before: NDArray[np.uint64]
) -> None:
    here = forwarder.firewall.numbers()
    rules, policers = here["rules"], here["policers"]
    hits = translation(
        {key: place for key, (place, _) in known.rules.items()},
        {key: place for key, (place, _) in rules.items()},
        numbers.MOST,
    )
    hits[0] = 0  # the default's
    with _part("counters"):
        about = previous.document("forwarder")
        places = restore_counters.nodes(about["nodes"], publish.nodes(forwarder.graph))
        restore_counters.add_nodes(previous, forwarder, places, int(about.get("generation", 0)))
        restore_counters.add_drops(previous, forwarder, about["ports"], drops_before)
    with _part("counters of workers"):
        restore_counters.add_workers(previous, forwarder)
    with _part("counters of rules"):
        restore_counters.add_hits(previous, forwarder, hits)
        restore_counters.add_pools(previous, forwarder)
        numbers_of = translation(known.policers, policers, 1 << 16, 0)
        restore_counters.add_policers(previous, forwarder, numbers_of)
