# SPDX-License-Identifier: Apache-2.0
"""The API's calls that change a running forwarder. A table of the configuration's file is told as there.

What is changed is noted as changed at run time, under a lock that no configuration comes in force beside
(Reload.telling): so a configuration that is applied meanwhile neither misses it nor takes it for its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from pydantic import Field

from vforward.control import api_models as m
from vforward.control import api_routes
from vforward.control.api_problems import may_answer
from vforward.control.api_routes import Telling
from vforward.control.config_firewall import Nat, Policer, Rule, as_object
from vforward.control.config_routes import Neighbor, Route
from vforward.control.config_types import DEFAULT_VRF, NAME, Host, Prefix, matching
from vforward.control.reload import Note

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder

Text = Annotated[str, Query(max_length=m.TEXT_MAX)]
Named = Annotated[str, Path(max_length=m.TEXT_MAX)]
Told = Annotated[Named, matching(NAME)]
Metric = Annotated[int | None, Query(ge=0, le=2**32 - 1)]
NOTHING = 204


def router(forwarder: "Forwarder") -> APIRouter:
    """The calls."""
    routes = APIRouter(responses=may_answer(400, 404, 409, 422, 500))

    @contextmanager
    def telling() -> Iterator[Note]:
        if forwarder.reload is None:
            yield lambda *_, **__: None
        else:
            with forwarder.reload.telling() as note:
                yield note

    _of_routes(routes, forwarder, telling)
    _of_neighbors(routes, forwarder, telling)
    _of_rules(routes, forwarder, telling)
    _of_nat(routes, forwarder, telling)
    return routes


def _of_routes(routes: APIRouter, forwarder: "Forwarder", telling: Telling) -> None:
    @routes.post("/routes", status_code=NOTHING)
    def add_route(route: Route) -> None:
        """Add a route, in place of one of the same prefix, metric and VRF."""
        with telling() as note, forwarder.routing.lock:
            note(api_routes.add_route(forwarder, route))

    @routes.delete("/routes", status_code=NOTHING)
    def delete_route(prefix: Prefix, metric: Metric = None, vrf: Text = DEFAULT_VRF) -> None:
        """Delete a configured route; without a metric the one with the lowest."""
        with telling() as note, forwarder.routing.lock:
            note(api_routes.delete_route(forwarder, prefix, metric, vrf), gone=True)

    @routes.patch("/routes")
    def change_many(wanted: m.RoutesWish) -> m.RoutesChanged:
        """Delete and then add many routes, each for itself. What is refused is told, and the rest done."""
        return api_routes.change_routes(forwarder, wanted, telling)


def _of_neighbors(routes: APIRouter, forwarder: "Forwarder", telling: Telling) -> None:
    @routes.post("/neighbors", status_code=NOTHING)
    def add_neighbor(neighbor: Neighbor) -> None:
        """Tell a neighbor's MAC, which is then never asked for."""
        with telling() as note, forwarder.neighbors.lock:
            forwarder.add_neighbor(neighbor.address, neighbor.mac.packed, neighbor.port)
            note(("neighbors", neighbor.port, str(neighbor.address)))

    @routes.delete("/neighbors", status_code=NOTHING)
    def delete_neighbor(address: Host, port: Text) -> None:
        """Forget a neighbor, told or learned: who is there is asked for anew."""
        with telling() as note, forwarder.neighbors.lock:
            forwarder.delete_neighbor(address, port)
            note(("neighbors", port, str(address)), gone=True)


def _of_rules(routes: APIRouter, forwarder: "Forwarder", telling: Telling) -> None:
    @routes.put("/rules", status_code=NOTHING)
    def set_rules(wanted: m.RulesWish) -> None:
        """Replace all rules at once; sets of addresses and ports too, if they are given."""
        given = {"address_sets": wanted.address_sets, "port_sets": wanted.port_sets}
        with telling() as note, forwarder.firewall.lock:
            before = forwarder.firewall.wanted
            forwarder.set_rules(map(as_object, wanted.rules), **given)
            note(("rules",))
            for part, sets in given.items():
                if sets is not None:
                    note(*((part, name) for name in sets))
                    note(
                        *((part, name) for name in before.named(part) if name not in sets),
                        gone=True,
                    )

    @routes.post("/rules", response_model=m.Place)
    def add_rule(rule: Rule, before: Text = "") -> Any:
        """Add a rule before another one (its name or number), or as the last. Answers with its number."""
        with telling() as note:
            number = forwarder.add_rule(as_object(rule), before)
            note(("rules",))
        return {"number": number}

    @routes.delete("/rules/{which}", status_code=NOTHING)
    def delete_rule(which: Named) -> None:
        """Delete a rule, by its name or number. Sessions that it began go on."""
        with telling() as note:
            forwarder.delete_rule(which)
            note(("rules",))


def _of_nat(routes: APIRouter, forwarder: "Forwarder", telling: Telling) -> None:
    @routes.put("/nat", status_code=NOTHING)
    def set_nat(
        nat: Annotated[
            list[Annotated[Nat, Field(discriminator="type")]], Body(max_length=m.RULES_MAX)
        ],
    ) -> None:
        """Replace all rules of NAT at once."""
        with telling() as note:
            forwarder.set_nat(map(as_object, nat))
            note(("nat",))

    @routes.put("/policers/{name}", status_code=NOTHING)
    def set_policer(name: Told, policer: Annotated[Policer, Field(discriminator="type")]) -> None:
        """Have a policer of that name, which rules may name, or set it anew."""
        with telling() as note, forwarder.firewall.lock:
            forwarder.add_policer(name, as_object(policer))
            note(("policers", name))

    @routes.delete("/policers/{name}", status_code=NOTHING)
    def delete_policer(name: Named) -> None:
        """Delete a policer that no rule names."""
        with telling() as note, forwarder.firewall.lock:
            forwarder.delete_policer(name)
            note(("policers", name), gone=True)
