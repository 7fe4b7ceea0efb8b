# SPDX-License-Identifier: Apache-2.0
"""Many routes in one call of the API: what a BGP speaker's feeder says.

As with an UPDATE of RFC 4271 what is withdrawn goes first. Each route is changed for itself: one that is
refused (no such next hop, no such route, no room) keeps no other from being changed. The lock on routes
is let go after CHUNK of them, so that neighbors who come and go do not wait for all; so is the one that
keeps a configuration from coming in force.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from vforward.control.api_models import PROBLEMS_MAX, RefusedRoute, RoutesChanged, RoutesWish
from vforward.control.api_problems import problem_of
from vforward.control.config_routes import Route
from vforward.control.config_types import AnyNetwork
from vforward.control.difference import Key
from vforward.control.reload import Note
from vforward.errors import VforwardError

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder

CHUNK = 256

Telling = Callable[[], AbstractContextManager[Note]]
"""In its block something is changed, and its keys are said to what it gives (Reload.telling)."""
Change = tuple[str, Callable[[], Key]]
"""Where it is in what was asked for, and what does it: gives the key of what has changed."""


def add_route(forwarder: "Forwarder", route: Route) -> Key:
    """Add a route. Returns its key. Raises ConfigError, TableFull, VforwardError."""
    forwarder.add_route(**route.arguments())
    return "routes", route.vrf, str(route.prefix), str(route.metric)


def delete_route(forwarder: "Forwarder", prefix: AnyNetwork, metric: int | None, vrf: str) -> Key:
    """Delete a route; without a metric the one with the lowest. Returns its key. Raises NotFound."""
    found = forwarder.delete_route(prefix, metric=metric, vrf=vrf)
    return "routes", vrf, str(prefix), str(found)


def change_routes(forwarder: "Forwarder", wanted: RoutesWish, telling: Telling) -> RoutesChanged:
    """Do what is wanted, as far as it can be done."""
    problems: list[RefusedRoute] = []
    do = partial(_do, forwarder, problems, telling)
    deletes, refused_deletes = do(_deletes(forwarder, wanted), gone=True)
    adds, refused_adds = do(_adds(forwarder, wanted), gone=False)
    return RoutesChanged(
        deleted=deletes, added=adds, refused=refused_deletes + refused_adds, problems=problems
    )


def _deletes(forwarder: "Forwarder", wanted: RoutesWish) -> Iterator[Change]:
    for n, one in enumerate(wanted.delete):
        yield f"delete[{n}]", partial(delete_route, forwarder, one.prefix, one.metric, one.vrf)


def _adds(forwarder: "Forwarder", wanted: RoutesWish) -> Iterator[Change]:
    for n, route in enumerate(wanted.add):
        yield f"add[{n}]", partial(add_route, forwarder, route)


def _do(
    forwarder: "Forwarder",
    problems: list[RefusedRoute],
    telling: Telling,
    changes: Iterator[Change],
    *,
    gone: bool,
) -> tuple[int, int]:
    """Returns how many were done and how many refused."""
    done = refused = 0
    more = True
    while more:
        more = False
        with telling() as note, forwarder.routing.together():
            for n, (at, change) in enumerate(changes, 1):
                try:
                    note(change(), gone=gone)
                    done += 1
                except VforwardError as error:
                    refused += 1
                    if len(problems) < PROBLEMS_MAX:
                        problems.append(RefusedRoute(at=at, **problem_of(error)))
                if n == CHUNK:
                    more = True
                    break
    return done, refused
