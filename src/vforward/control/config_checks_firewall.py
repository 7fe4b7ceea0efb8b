# SPDX-License-Identifier: Apache-2.0
"""The firewall: where it is on, and that its rules, policers and NAT go together. See rule_checks."""

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network

from vforward.control.config_draft import Draft, not_routed
from vforward.control.config_errors import Problem
from vforward.control.config_firewall import as_object
from vforward.control.rule_checks import World, check_nat, check_policers, check_rules
from vforward.control.rule_rows import Sets


def check_firewall(draft: Draft) -> Iterator[Problem]:
    """Find what is wrong with the firewall."""
    yield from _needed(draft)
    if draft.firewall is not None:
        seen: set[str] = set()
        for i, name in enumerate(draft.firewall.ports):
            path = ("firewall", "ports", i)
            yield from not_routed(draft, path, name)
            if name in seen:
                yield Problem(path, "is there already", "each port once")
            seen.add(name)
    world = _world(draft)
    yield from check_policers({name: as_object(one) for name, one in draft.policers.items()})
    yield from check_rules({i: as_object(rule) for i, rule in draft.rules.items()}, world)
    yield from check_nat({i: as_object(one) for i, one in draft.nat.items()}, world)


def _needed(draft: Draft) -> Iterator[Problem]:
    if draft.firewall is not None or not draft.whole("firewall"):
        return
    for key in ("rules", "nat"):
        if getattr(draft, key):
            what = f"is missing, and there is [[{key}]]"
            yield Problem(("firewall",), what, 'a table [firewall], with default = "deny" say')
            return


def _world(draft: Draft) -> World:
    connected: dict[str, list[IPv4Network]] = {}
    own = set()
    for one in draft.owned:
        if isinstance(one.address, IPv4Interface):
            connected.setdefault(one.port, []).append(one.address.network)
            own.add(one.address.ip)
    return World(
        sets=Sets(draft.address_sets, draft.port_sets),
        policers=draft.declared_policers,
        port=lambda path, name: not_routed(draft, path, name),
        connected=connected,
        own=own,
    )
