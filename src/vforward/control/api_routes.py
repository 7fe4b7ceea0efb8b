# SPDX-License-Identifier: Apache-2.0
"""Many routes in one call of the API: what a BGP speaker's feeder says.

As with an UPDATE of RFC 4271 what is withdrawn goes first. Each route is changed for itself: one that is
refused (no such next hop, no such route, no room) keeps no other from being changed. The lock on routes
is let go after CHUNK of them, so that neighbors who come and go do not wait for all.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from vforward.control.api_models import PROBLEMS_MAX, RefusedRoute, RoutesChanged, RoutesWish
from vforward.control.api_problems import problem_of
from vforward.errors import VforwardError

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder

CHUNK = 256

Change = tuple[str, Callable[[], object]]


def change_routes(forwarder: "Forwarder", wanted: RoutesWish) -> RoutesChanged:
    """Do what is wanted, as far as it can be done."""
    problems: list[RefusedRoute] = []
    deletes, refused_deletes = _do(forwarder, _deletes(forwarder, wanted), problems)
    adds, refused_adds = _do(forwarder, _adds(forwarder, wanted), problems)
    return RoutesChanged(
        deleted=deletes, added=adds, refused=refused_deletes + refused_adds, problems=problems
    )


def _deletes(forwarder: "Forwarder", wanted: RoutesWish) -> Iterator[Change]:
    for n, one in enumerate(wanted.delete):
        delete = partial(forwarder.delete_route, one.prefix, metric=one.metric, vrf=one.vrf)
        yield f"delete[{n}]", delete


def _adds(forwarder: "Forwarder", wanted: RoutesWish) -> Iterator[Change]:
    for n, route in enumerate(wanted.add):
        yield f"add[{n}]", partial(forwarder.add_route, **route.arguments())


def _do(
    forwarder: "Forwarder", changes: Iterator[Change], problems: list[RefusedRoute]
) -> tuple[int, int]:
    """Returns how many were done and how many refused."""
    done = refused = 0
    more = True
    while more:
        more = False
        with forwarder.routing.together():
            for n, (at, change) in enumerate(changes, 1):
                try:
                    change()
                    done += 1
                except (VforwardError, KeyError) as error:
                    refused += 1
                    if len(problems) < PROBLEMS_MAX:
                        problems.append(RefusedRoute(at=at, **problem_of(error)))
                if n == CHUNK:
                    more = True
                    break
    return done, refused
