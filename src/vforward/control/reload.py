# SPDX-License-Identifier: Apache-2.0
"""From the configuration in force to another one, while packets are forwarded. The only way one comes in.

    difference   which parts differ (control.difference): nothing is done yet
    aside        ports are opened, rules compiled, routes entered into tries aside: no packet sees it
    at rest      no packet is on its way (control.rest): what was prepared is in force, by some stores
    afterwards   what has gone is closed

An error before all of it is in force undoes everything; from then on it is logged, and undoes nothing. A
forwarder that is not built yet is brought from the empty configuration to its first one in the same way.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from vforward.control import logs, reload_routes
from vforward.control.afterwards import afterwards
from vforward.control.config import Config
from vforward.control.config_ports import Port
from vforward.control.config_types import NAME, NAME_SAYS
from vforward.control.difference import (
    NOTHING,
    Change,
    Key,
    Parts,
    Plan,
    applied,
    difference,
    needs,
    parts,
    plan,
)
from vforward.control.not_found import NotFound
from vforward.control.reload_firewall import FIREWALL, given_of, missing
from vforward.control.reload_ports import PortWork, neighbor_address, refuse_ports
from vforward.control.reload_report import Line, Report, lines_of, name_of
from vforward.control.reload_routes import RouteWork
from vforward.control.rest import Rest, at_rest
from vforward.control.route_file import Table
from vforward.control.routing_stage import Stage, staged
from vforward.control.shared_lock import SharedLock
from vforward.control.wording import listed
from vforward.errors import ConfigError, VforwardError
from vforward.graph import control as c

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
T = TypeVar("T")
Note = Callable[..., None]
"""Takes the keys of what was changed at run time."""


def _silent(_done: int, _total: int, _name: str) -> None:
    pass


class Reload:
    """The configuration that is in force in a forwarder, and the way to another. Any thread, one at a time.

    config: what the forwarder was made with; of its ports, and what goes with them, none is in force yet.
    """

    def __init__(self, forwarder: Forwarder, config: Config) -> None:
        self._forwarder = forwarder
        empty: dict[str, Any] = {"ports": {}, "bridges": {}, "firewall": None}
        empty |= dict.fromkeys(("routes", "route_files", "neighbors", "cross_connects"), ())
        self.parts: dict[Key, Any] = parts(config.model_copy(update=empty))
        self._content: dict[Key, list[Table]] = {}
        self._filed = reload_routes.FiledRoutes({})
        self._touched: dict[Key, None] = {}
        self._extra: dict[Key, Any] = {}
        """Ports that were added at run time, or (NOTHING) deleted."""
        self._lock = SharedLock()
        """Shared by changes at run time: none of them meets a configuration halfway in force."""
        forwarder.interfaces.idle = forwarder.is_unused
        forwarder.bridging.flush()  # has its code loaded: not while workers stand

    @contextmanager
    def telling(self) -> Iterator[Note]:
        """Something is changed at run time inside, and its keys are said to what this gives.

        With gone=True where it was deleted. Who says keys has the lock under which he changed them still.
        No configuration comes in force meanwhile. There is no such block in another.
        """
        with self._lock.shared():
            yield self._note

    def _note(self, *keys: Key, gone: bool = False) -> None:
        for key in keys:
            if gone and key not in self.parts and key not in self._filed:
                self._touched.pop(key, None)  # it is as the configuration says
            else:
                self._touched[key] = None

    def touch(self, *keys: Key) -> None:
        """Something was changed at run time, not by a configuration."""
        with self.telling() as note:
            note(*keys)

    def apply(
        self,
        config: Config,
        *,
        dry_run: bool = False,
        exact: bool = False,
        skip_restart: bool = False,
        progress: Progress = _silent,
    ) -> Report:
        """Bring a configuration in force, or only say what that would be.

        exact: what was changed at run time, too, becomes as the configuration says. skip_restart: leave
        what needs a restart as it is. Raises ConfigError, which names all that needs one, PortError and
        what else opening ports raises, TableFull, VforwardError; nothing has changed then.
        """
        with self._lock.alone():
            files = {file.file for file in config.route_files}
            after = parts(config, {path: reload_routes.stamp(path) for path in files})
            left = [change for change in difference(self.parts, after) if change.restart]
            if not self._forwarder.built:  # all of it is made yet
                left = []
            if left and not skip_restart and not dry_run:
                raise ConfigError(
                    "this needs a restart, and nothing was changed:\n"
                    + "\n".join(f"  {line}" for line in lines_of(left))
                )
            if skip_restart:
                after = _without(after, left, self.parts)
            changed = {change.key for change in difference(self.parts, after)}
            touched = [key for key in self._touched if key not in changed]
            firewall = self._forwarder.firewall
            running = firewall.wanted if firewall.on else None
            again = dict.fromkeys(touched if exact else missing(touched, changed, after, running))
            kept = [key for key in touched if key not in again]
            extra = {key: self._extra[key] for key in kept if key in self._extra}
            report = self._bring(
                _with(after, extra),
                [*again],
                kept=[name_of(key) for key in kept],
                left=lines_of(left) if skip_restart else [],
                dry_run=dry_run,
                progress=progress,
            )
            if not dry_run:
                self.parts, self._extra, self._touched = after, extra, dict.fromkeys(kept)
                self._forwarder.told.applied(kept, firewall)
            return report

    def add_port(self, name: str, port: Port) -> Report:
        """Add a port at run time: it stays when a configuration is applied that does not name it.

        Raises as apply, and ConfigError where it is wrong among the others.
        """
        with self._lock.alone():
            now, key = self._now, ("ports", name)
            if key in now:
                raise ConfigError(f"there is a port {name!r} already; delete it first")
            if not re.fullmatch(NAME, name):
                raise ConfigError(f"{name!r} is not a name that can be used; allowed: {NAME_SAYS}")
            refuse_ports({**now, key: port})
            return self._bring_extra(key, port)

    def delete_port(self, name: str) -> Report:
        """Delete a port at run time. Raises NotFound where there is none, ConfigError if it is needed."""
        with self._lock.alone():
            now, key = self._now, ("ports", name)
            if key not in now:
                there = listed(at[1] for at in now if at[0] == "ports") or "none"
                raise NotFound(f"no port named {name!r}; there are: {there}")
            users = [name_of(of) for of, value in now.items() if key in needs(of, value)]
            if users:
                raise ConfigError(f"port {name} is needed by: {', '.join(users[:12])}")
            return self._bring_extra(key, NOTHING)

    @property
    def _now(self) -> dict[Key, Any]:
        """What is in force, with ports that were changed at run time."""
        return _with(self.parts, self._extra)

    def _bring_extra(self, key: Key, value: Any) -> Report:
        extra = {**self._extra, key: value}
        if self.parts.get(key, NOTHING) == value:  # as the configuration says
            del extra[key]
        report = self._bring(_with(self.parts, extra), [])
        self._extra = extra
        self._touched.pop(key, None)
        if key in extra:
            self._touched[key] = None
        return report

    def _bring(
        self,
        after: dict[Key, Any],
        again: list[Key],
        *,
        kept: Sequence[str] = (),
        left: Sequence[Line] = (),
        dry_run: bool = False,
        progress: Progress = _silent,
    ) -> Report:
        """Bring parts in force."""
        before = self._now
        changes = difference(before, after)
        planned = plan(before, after)
        content = reload_routes.read(after, before, self._content)
        routes = reload_routes.work(before, after, planned, self._content, content, again)
        report = Report(
            lines_of(
                [*changes, *(Change(key, "as it is now", after.get(key, NOTHING)) for key in again)]
            ),
            routes.counts(),
            [*kept],
            [*left],
        )
        if dry_run or not (changes or again):
            return report
        rest = _Change(self._forwarder, before, after, planned, routes, again).run(progress)
        self._content, self._filed = content, reload_routes.FiledRoutes(content)
        if any(change.key[0] == "log" for change in changes):
            with afterwards("setting up the log"):
                logs.set_up(after["log", "format"], after["log", "level"])
        return replace(
            report,
            applied=True,
            stood_ms=round(rest.inputs_s * 1e3, 3),
            workers_stood_ms=round(rest.workers_s * 1e3, 3),
        )


def _with(parts_: Parts, extra: Parts) -> dict[Key, Any]:
    """Parts, with others in place of theirs."""
    found = {**parts_, **extra}
    return {key: value for key, value in found.items() if value is not NOTHING}


def _without(after: Parts, left: Iterable[Change], before: Parts) -> dict[Key, Any]:
    """The parts without these changes: without the firewall's, where that would be switched on or off."""
    undone = [Change(change.key, change.after, change.before) for change in left]
    made = applied(after, undone)
    if any(change.key == ("firewall", "default") for change in left):
        made = {key: value for key, value in made.items() if key[0] not in FIREWALL}
        made |= {key: value for key, value in before.items() if key[0] in FIREWALL}
    return made


class _Change:
    """One change of the configuration in force."""

    def __init__(
        self,
        forwarder: Forwarder,
        before: Parts,
        after: Parts,
        planned: Plan,
        routes: RouteWork,
        again: list[Key],
    ) -> None:
        self._forwarder = forwarder
        self._before, self._after, self._plan = before, after, planned
        self._routes, self._again = routes, again
        self._ports = PortWork(forwarder, before, after, planned)
        self._in_force = False

    def run(self, progress: Progress) -> Rest:
        """See the module."""
        forwarder = self._forwarder
        with ExitStack() as undo:
            undo.callback(self._publish_numbers)  # first, so it comes last: ports are back by then
            self._ports.open(undo)
            with ExitStack() as locked:
                taking = (
                    None  # first: what is published at its end is asked for under others' locks
                )
                if forwarder.built and self._ports.needs_graph:
                    taking = self._hold(locked, forwarder.next_graph(), "giving back the old graph")
                else:
                    locked.enter_context(forwarder.moving)
                given = self._firewall()
                firewall = None
                if given:
                    changing = forwarder.firewall.changing(**given)
                    firewall = self._hold(locked, changing, "giving back what old rules had")
                locked.enter_context(forwarder.neighbors.lock)
                stage = self._hold(locked, staged(forwarder.routing), "giving back old routes")
                self._ports.connect(stage)
                self._do_routes(stage, progress)
                back_to = forwarder.neighbors.restorer() if self._moves_neighbors else None
                if back_to is not None:
                    stage.keep_neighbors()
                rest = self._hold(locked, at_rest(forwarder), "letting packets in again")
                with ExitStack() as back:
                    stage.stand()
                    back.callback(stage.undo)
                    if back_to is not None:
                        back.callback(back_to)
                    self._ports.switch(back)
                    self._neighbors()
                    self._ports.switch_features(back)
                    if taking is not None:
                        self._ports.number(back)
                    if firewall is not None:
                        back.callback(firewall.take_back)
                        firewall.put_in_force()
                    stage.put_in_force()
                    if taking is not None:
                        taking.take_place()  # the last: it cannot be undone
                    back.pop_all()
                    undo.pop_all()
                    self._in_force = True
                with afterwards("setting up workers"):
                    self._set()
        self._ports.finish()
        with afterwards("publishing ports"):
            forwarder.publish_ports()
        return rest

    def _hold(self, locked: ExitStack, part: AbstractContextManager[T], end: str) -> T:
        """Enter a part, until ``locked`` ends. end: what is done then; the change stands if that fails."""
        locked.enter_context(afterwards(end, lambda: self._in_force))
        return locked.enter_context(part)

    def _publish_numbers(self) -> None:
        """Nothing has changed: numbers are those of before, ports that were hidden among them."""
        try:
            self._forwarder.firewall.publish_numbers()
        except VforwardError as error:  # who asked for the change hears why it was not made
            log.error("numbers in use are not written down: %s", error)  # noqa: TRY400

    def _do_routes(self, stage: Stage, progress: Progress) -> None:
        if not self._routes and not self._again:
            return
        forwarder = self._forwarder
        ports = self._ports.numbers()
        for key in self._again:
            if key[0] == "routes" and key not in self._after:
                prefix, metric, vrf = reload_routes.parsed(key)
                stage.delete(prefix, metric, forwarder.interfaces.vrfs[vrf])
        self._routes.do(stage, forwarder.routing, forwarder.interfaces.vrfs, ports, progress)

    @property
    def _moves_neighbors(self) -> bool:
        """Whether neighbors may be others afterwards."""
        keys = [*self._plan.gone, *self._plan.changed, *self._plan.come, *self._again]
        return any(key[0] in ("ports", "neighbors") for key in keys)

    def _neighbors(self) -> None:
        """Neighbors whose ports stay."""
        names = self._forwarder.interfaces.by_name
        keys = [*self._plan.gone, *self._plan.changed, *self._plan.come, *self._again]
        for key in dict.fromkeys(key for key in keys if key[0] == "neighbors"):
            if key[1] not in names:
                continue
            number, ip = names[key[1]].number, neighbor_address(key)
            self._tell(number, ip, self._after.get(key))

    def _tell(self, number: int, ip: int, neighbor: Any) -> None:
        neighbors = self._forwarder.neighbors
        if neighbor is None:
            neighbors.delete(number, ip)
        else:
            neighbors.add_static(number, ip, neighbor.mac.packed)

    def _firewall(self) -> dict[str, Any]:
        """What of the firewall is changed, as Firewall.changing takes it."""
        keys = [*self._plan.gone, *self._plan.changed, *self._plan.come, *self._again]
        firewall = self._forwarder.firewall
        running = firewall.wanted if firewall.on else None
        given = given_of(keys, self._after, running)
        if self._ports.renumbered and running is not None and not given:
            given["rules"] = running.rules  # they name ports by their numbers
        return given

    def _set(self) -> None:
        """What is a word of the workers'."""
        for key in self._plan.changed:
            if key == ("forwarder", "vector"):
                self._forwarder.vector = self._after[key]
                for worker in self._forwarder.workers or ():
                    worker.plan.control[c.VECTOR] = self._after[key]
            elif key == ("forwarder", "profile"):
                self._forwarder.profile = self._after[key]
            elif key == ("forwarder", "idle"):
                self._forwarder.set_idle(self._after[key])
