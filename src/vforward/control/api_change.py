# SPDX-License-Identifier: Apache-2.0
"""The API's calls that change a running forwarder. A table of the configuration's file is told as there."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from pydantic import Field

from vforward.control import api_models as m
from vforward.control.api_problems import may_answer
from vforward.control.api_routes import change_routes
from vforward.control.config_firewall import Nat, Policer, Rule, as_object
from vforward.control.config_routes import Neighbor, Route
from vforward.control.config_types import DEFAULT_VRF, Host, Prefix
from vforward.control.difference import Key

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder

Text = Annotated[str, Query(max_length=m.TEXT_MAX)]
Named = Annotated[str, Path(max_length=m.TEXT_MAX)]
Note = Callable[..., None]
"""Told the parts of the configuration that were changed at run time (control.difference)."""
Metric = Annotated[int | None, Query(ge=0, le=2**32 - 1)]
NOTHING = 204


def router(forwarder: "Forwarder") -> APIRouter:
    """The calls."""
    routes = APIRouter(responses=may_answer(400, 404, 409, 422, 500))

    def note(*keys: Key) -> None:
        if forwarder.reload is not None:
            forwarder.reload.touch(*keys)

    _of_routes(routes, forwarder, note)
    _of_neighbors(routes, forwarder, note)
    _of_rules(routes, forwarder, note)
    _of_nat(routes, forwarder, note)
    return routes


def _of_routes(routes: APIRouter, forwarder: "Forwarder", note: Note) -> None:
    @routes.post("/routes", status_code=NOTHING)
    def add_route(route: Route) -> None:
        """Add a route, in place of one of the same prefix, metric and VRF."""
        forwarder.add_route(**route.arguments())
        note(("routes", route.vrf, str(route.prefix), str(route.metric)))

    @routes.delete("/routes", status_code=NOTHING)
    def delete_route(prefix: Prefix, metric: Metric = None, vrf: Text = DEFAULT_VRF) -> None:
        """Delete a configured route; without a metric the one with the lowest."""
        gone = forwarder.delete_route(prefix, metric=metric, vrf=vrf)
        note(("routes", vrf, str(prefix), str(gone)))

    @routes.patch("/routes")
    def change_many(wanted: m.RoutesWish) -> m.RoutesChanged:
        """Delete and then add many routes, each for itself. What is refused is told, and the rest done."""
        done = change_routes(forwarder, wanted)
        note(*(("routes", d.vrf, str(d.prefix), str(d.metric or 0)) for d in wanted.delete))
        note(*(("routes", r.vrf, str(r.prefix), str(r.metric)) for r in wanted.add))
        return done


def _of_neighbors(routes: APIRouter, forwarder: "Forwarder", note: Note) -> None:
    @routes.post("/neighbors", status_code=NOTHING)
    def add_neighbor(neighbor: Neighbor) -> None:
        """Tell a neighbor's MAC, which is then never asked for."""
        forwarder.add_neighbor(neighbor.address, neighbor.mac.packed, neighbor.port)
        note(("neighbors", neighbor.port, str(neighbor.address)))

    @routes.delete("/neighbors", status_code=NOTHING)
    def delete_neighbor(address: Host, port: Text) -> None:
        """Forget a neighbor, told or learned: who is there is asked for anew."""
        forwarder.delete_neighbor(address, port)
        note(("neighbors", port, str(address)))


def _of_rules(routes: APIRouter, forwarder: "Forwarder", note: Note) -> None:
    @routes.put("/rules", status_code=NOTHING)
    def set_rules(wanted: m.RulesWish) -> None:
        """Replace all rules at once; sets of addresses and ports too, if they are given."""
        forwarder.set_rules(
            map(as_object, wanted.rules),
            address_sets=wanted.address_sets,
            port_sets=wanted.port_sets,
        )
        note(("rules",))
        note(*(("address_sets", name) for name in wanted.address_sets or ()))
        note(*(("port_sets", name) for name in wanted.port_sets or ()))

    @routes.post("/rules", response_model=m.Place)
    def add_rule(rule: Rule, before: Text = "") -> Any:
        """Add a rule before another one (its name or number), or as the last. Answers with its number."""
        number = forwarder.add_rule(as_object(rule), before)
        note(("rules",))
        return {"number": number}

    @routes.delete("/rules/{which}", status_code=NOTHING)
    def delete_rule(which: Named) -> None:
        """Delete a rule, by its name or number. Sessions that it began go on."""
        forwarder.delete_rule(which)
        note(("rules",))


def _of_nat(routes: APIRouter, forwarder: "Forwarder", note: Note) -> None:
    @routes.put("/nat", status_code=NOTHING)
    def set_nat(
        nat: Annotated[
            list[Annotated[Nat, Field(discriminator="type")]], Body(max_length=m.RULES_MAX)
        ],
    ) -> None:
        """Replace all rules of NAT at once."""
        forwarder.set_nat(map(as_object, nat))
        note(("nat",))

    @routes.put("/policers/{name}", status_code=NOTHING)
    def set_policer(name: Named, policer: Annotated[Policer, Field(discriminator="type")]) -> None:
        """Have a policer of that name, which rules may name, or set it anew."""
        forwarder.add_policer(name, as_object(policer))
        note(("policers", name))

    @routes.delete("/policers/{name}", status_code=NOTHING)
    def delete_policer(name: Named) -> None:
        """Delete a policer that no rule names."""
        forwarder.delete_policer(name)
        note(("policers", name))
