# SPDX-License-Identifier: Apache-2.0
"""The API's calls that need no more than a forwarder's arena: all that look, and clear, trace, kill."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

import vforward
from vforward.control import api_models as m
from vforward.control import graph_drawing, metrics, observe_firewall, observe_workers, packet_trace
from vforward.control.api_problems import may_answer
from vforward.control.observe import View
from vforward.control.observe_rows import ErrorRow, PortRow, Runtime, WaysRow
from vforward.control.observe_workers import WorkerRow
from vforward.control.packet_trace import TracedPacket
from vforward.control.session_list import Filter
from vforward.errors import ConfigError

Text = Annotated[str, Query(max_length=m.TEXT_MAX)]


def session_filter(
    from_: Annotated[Text, Query(alias="from")] = "",
    to: Text = "",
    port: Text = "",
    protocol: Text = "",
    state: Text = "",
    vrf: Text = "",
) -> Filter:
    """Which sessions: what all of them have in common. from, to: addresses; port: of either end."""
    return Filter(from_, to, port, protocol, state, vrf)


class Metrics(Response):
    """For the OpenAPI document."""

    media_type = "text/plain"


class Svg(Response):
    """For the OpenAPI document."""

    media_type = "image/svg+xml"


Chosen = Annotated[Filter, Depends(session_filter)]


def router(view: View, publish: Callable[[str], None]) -> APIRouter:
    """The calls. view: the newest of its line is looked at. publish: brings a document up to date."""
    routes = APIRouter(responses=may_answer(400, 409, 422, 500))
    _of_forwarder(routes, view, publish)
    _of_graph(routes, view)
    _of_tables(routes, view, publish)
    _of_metrics(routes, View(view.arena, heeds_clear=False), publish)
    _of_firewall(routes, view, publish)
    return routes


def _of_forwarder(routes: APIRouter, view: View, publish: Callable[[str], None]) -> None:
    @routes.get("/forwarder", response_model=m.About)
    def forwarder() -> Any:
        """Who this is."""
        now = view.now()
        about = {key: now.about[key] for key in ("name", "pid", "started", "config")}
        done = now.runtime()
        return {
            **about,
            "version": vforward.__version__,
            "state": done.state,
            "vector": done.vector,
            "vrfs": now.about.get("vrfs", []),
        }

    @routes.get("/runtime")
    def runtime() -> Runtime:
        """What the worker and its nodes have done since the last clear."""
        return view.now().runtime()

    @routes.get("/workers")
    def workers() -> list[WorkerRow]:
        """The workers one by one; all else is of all of them together."""
        publish("workers")
        return observe_workers.workers(view.now())

    @routes.get("/ports")
    def ports() -> list[PortRow]:
        """The ports, and what went through them since the last clear."""
        publish("drops")
        publish("peers")
        return view.now().ports()

    @routes.get("/errors")
    def errors(all: bool = False) -> list[ErrorRow]:
        """Counters of drops that are not zero; all: other counters too."""
        publish("drops")
        return [row for row in view.now().errors() if row.drop or all]

    @routes.post("/clear", status_code=204)
    def clear() -> None:
        """Let all that is shown count from zero. /metrics goes on."""
        view.now().clear()


def _of_graph(routes: APIRouter, view: View) -> None:
    @routes.get("/graph")
    def graph() -> list[WaysRow]:
        """The nodes in the order in which they run, with their ways out."""
        return view.now().graph()

    @routes.get("/graph.svg", response_class=Svg)
    def picture(all: bool = False) -> Response:
        """The same as a picture: what packets took, or all of it."""
        now = view.now()
        drawn = graph_drawing.svg(now.graph(), now.about["name"], everything=all)
        return Response(drawn, media_type=Svg.media_type)

    @routes.post("/traces")
    def trace(wish: m.TraceWish) -> list[TracedPacket]:
        """Follow the next packets node by node; answers when they are through, or with fewer in the end."""
        return packet_trace.collect(view, wish.count, wish.node, wish.timeout_s)


def _of_tables(routes: APIRouter, view: View, publish: Callable[[str], None]) -> None:
    @routes.get("/routes", response_model=m.Routes)
    def routes_in_force() -> Any:
        """The routes in force, 2000 of them at most."""
        publish("routes")
        return vars(view.now().routes())

    @routes.get("/neighbors", response_model=m.Neighbors)
    def neighbors() -> Any:
        """The neighbors, 2000 of them at most."""
        publish("neighbors")
        return vars(view.now().neighbors())

    @routes.get("/bridges", response_model=list[m.BridgeRow])
    def bridges() -> Any:
        """The bridges."""
        publish("bridges")
        return view.now().bridges()

    @routes.get("/macs", response_model=m.Macs)
    def macs() -> Any:
        """The MACs of the bridges, 2000 of them at most."""
        publish("bridges")
        return vars(view.now().macs())


def _of_metrics(routes: APIRouter, view: View, publish: Callable[[str], None]) -> None:
    @routes.get("/metrics", response_class=Metrics)
    def prometheus() -> Response:
        """All counters for Prometheus, counted since the forwarder began."""
        for part in ("drops", "routes", "neighbors", "bridges", "firewall"):
            publish(part)
        return Response(metrics.text(view.now()), media_type=metrics.CONTENT_TYPE)


def _of_firewall(routes: APIRouter, view: View, publish: Callable[[str], None]) -> None:
    @routes.get("/rules", response_model=m.Rules)
    def rules() -> Any:
        """The firewall's rules in their order, 10 000 of them at most; last what none matched."""
        publish("firewall")
        return vars(observe_firewall.rules(view.now()))

    @routes.get("/nat", response_model=list[m.NatRow])
    def nat() -> Any:
        """The rules of NAT."""
        publish("firewall")
        return observe_firewall.nat(view.now())

    @routes.get("/policers", response_model=list[m.PolicerRow])
    def policers() -> Any:
        """The policers."""
        publish("firewall")
        return observe_firewall.policers(view.now())

    @routes.get("/sessions", response_model=m.SessionsFound)
    def sessions(only: Chosen, most: Annotated[int, Query(ge=0, le=m.SESSIONS_MOST)] = 1000) -> Any:
        """The sessions of the firewall, at most so many; 0: only how many there are."""
        publish("firewall")
        found = observe_firewall.sessions(view.now())
        states = found.by_state(only)
        rows = found.rows(only, most) if most else []
        return {"count": sum(states.values()), "by_state": states, "rows": rows}

    @routes.delete("/sessions", response_model=m.Done)
    def kill(only: Chosen, all: bool = False) -> Any:
        """End sessions: those chosen, or all of them. The next packets are asked by the rules again."""
        if only == Filter() and not all:
            raise ConfigError("which sessions? Say from, to, port, ..., or all")
        return {"count": observe_firewall.kill(view.now(), only)}
