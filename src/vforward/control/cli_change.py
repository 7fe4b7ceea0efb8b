# SPDX-License-Identifier: Apache-2.0
"""Commands that change a running forwarder: add and delete routes, neighbors and rules."""

from __future__ import annotations

import json as jsonlib
import sys
from typing import Annotated, Any

import typer

from vforward.control.cli_app import Json, Name, app, connect, guarded
from vforward.errors import ConfigError

adding = typer.Typer(no_args_is_help=True, help="Add to a running forwarder.")
deleting = typer.Typer(no_args_is_help=True, help="Delete from a running forwarder.")
app.add_typer(adding, name="add")
app.add_typer(deleting, name="delete")

VRF = Annotated[str, typer.Option(help="The VRF.")]
PREFIX = Annotated[str, typer.Argument(help='A prefix: "10.9.0.0/16", "2001:db8::/32".')]
ADDRESS = Annotated[str, typer.Argument(help="The neighbor's address.")]
PORT = Annotated[str, typer.Argument(help="The port that it is at.")]
Texts = list[str] | None


def _words(text: str) -> Any:
    return typer.Option(help=text)


@adding.command("route")
@guarded
def add_route(
    prefix: PREFIX,
    name: Name = "",
    via: Annotated[
        Texts, typer.Option(help="A next hop; several share the flows: HOST*WEIGHT.")
    ] = None,
    port: Annotated[str, typer.Option(help="The port, where the next hop does not say.")] = "",
    kind: Annotated[
        str, typer.Option("--type", help="blackhole, unreachable, prohibit or local.")
    ] = "",
    metric: Annotated[int, typer.Option(help="The lowest counts.")] = 0,
    vrf: VRF = "default",
    json: Json = False,
) -> None:
    """Add a route, in place of one of the same prefix, metric and VRF."""
    hops = [_hop(text) for text in via or ()]
    route: dict[str, Any] = {"metric": metric, "vrf": vrf, "type": kind or None}
    if len(hops) > 1 or any(weight is not None for _, weight in hops):
        route["paths"] = [
            {"via": hop, **({"port": port} if port else {}), "weight": weight or 1}
            for hop, weight in hops
        ]
    else:
        route |= {"via": hops[0][0] if hops else None, "port": port or None}
    connect(name).add_route(prefix, **route)
    _say("added", f"route {prefix}", json)


@deleting.command("route")
@guarded
def delete_route(
    prefix: PREFIX,
    name: Name = "",
    metric: Annotated[
        int | None, typer.Option(help="Its metric; without, the lowest that there is.")
    ] = None,
    vrf: VRF = "default",
    json: Json = False,
) -> None:
    """Delete a configured route."""
    connect(name).delete_route(prefix, metric=metric, vrf=vrf)
    _say("deleted", f"route {prefix}", json)


@adding.command("neighbor")
@guarded
def add_neighbor(
    address: ADDRESS,
    mac: Annotated[str, typer.Argument(help="Its MAC address.")],
    port: PORT,
    name: Name = "",
    json: Json = False,
) -> None:
    """Tell a neighbor's MAC, which is then never asked for."""
    connect(name).add_neighbor(address, mac, port)
    _say("added", f"neighbor {address}", json)


@deleting.command("neighbor")
@guarded
def delete_neighbor(address: ADDRESS, port: PORT, name: Name = "", json: Json = False) -> None:
    """Forget a neighbor, told or learned."""
    connect(name).delete_neighbor(address, port)
    _say("deleted", f"neighbor {address}", json)


@adding.command("rule")
@guarded
def add_rule(
    action: Annotated[str, typer.Argument(help="permit, deny or reject.")],
    name: Name = "",
    before: Annotated[str, _words("The rule before which it stands: a name or a number.")] = "",
    called: Annotated[str, _words("Its name.")] = "",
    from_: Annotated[Texts, typer.Option("--from", help="Sources.")] = None,
    to: Annotated[Texts, _words("Destinations.")] = None,
    protocol: Annotated[Texts, _words("Protocols.")] = None,
    from_ports: Annotated[Texts, _words("Source ports.")] = None,
    to_ports: Annotated[Texts, _words("Destination ports.")] = None,
    icmp: Annotated[Texts, _words("Types of ICMP.")] = None,
    in_: Annotated[Texts, typer.Option("--in", help="Ports that packets come in by.")] = None,
    out: Annotated[Texts, _words('Ports that they leave by, or "self".')] = None,
    family: Annotated[int | None, _words("4 or 6.")] = None,
    dscp: Annotated[str, _words("A DSCP that packets have.")] = "",
    mark: Annotated[str, _words("A DSCP to set.")] = "",
    police: Annotated[str, _words("A policer.")] = "",
    stateless: Annotated[bool, typer.Option("--stateless", help="Begin no session.")] = False,
    json: Json = False,
) -> None:
    """Add a rule of the firewall; options may be repeated, and mean what the keys of a rule mean."""
    many = {"from": from_, "to": to, "protocol": protocol, "icmp": icmp, "in": in_, "out": out}
    many |= {"from_ports": from_ports, "to_ports": to_ports}
    rule: dict[str, Any] = {"action": action, "stateful": not stateless}
    rule |= {key: [_number(text) for text in texts] for key, texts in many.items() if texts}
    one = {"name": called, "police": police}
    rule |= {key: text for key, text in one.items() if text}
    rule |= {key: _number(text) for key, text in {"dscp": dscp, "mark": mark}.items() if text}
    if family is not None:
        rule["family"] = family
    number = connect(name).add_rule(rule, before)
    _say("added", f"rule {number}", json)


@deleting.command("rule")
@guarded
def delete_rule(
    which: Annotated[str, typer.Argument(help="Its name, or its number in `show rules`.")],
    name: Name = "",
    json: Json = False,
) -> None:
    """Delete a rule of the firewall; sessions that it began go on."""
    connect(name).delete_rule(which)
    _say("deleted", f"rule {which}", json)


def _hop(text: str) -> tuple[str, int | None]:
    """A next hop, and its weight if it says one."""
    hop, star, weight = text.partition("*")
    if star and not (weight.isascii() and weight.isdigit()):
        raise ConfigError(f"--via {text}: say HOST, or HOST*WEIGHT")
    return hop, int(weight) if star else None


def _number(text: str) -> str | int:
    return int(text) if text.isascii() and text.isdigit() else text


def _say(done: str, what: str, json: bool) -> None:
    sys.stdout.write((jsonlib.dumps({done: what}) if json else f"{what} {done}") + "\n")
