# SPDX-License-Identifier: Apache-2.0
"""What is wrong with rules, policers and NAT between their own keys, and with the world around them.

The same checks for a file (config_checks_firewall) and for a program (firewall).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from vforward.control import flow_words as words
from vforward.control.flow_words import Range, SetName
from vforward.control.rule_rows import ROWS_MAX, Expander, Sets, families
from vforward.control.rules import (
    PERMIT,
    SELF,
    DestinationNat,
    Masquerade,
    Nat,
    Policer,
    Rule,
    SourceNat,
    StaticNat,
    key_of,
)
from vforward.control.wording import KeyPath, Problem, listed, nearest

POLICERS_MAX = 1023
POOLS_MAX = 63
DAY_S = 24 * 3600
"""A burst is no more than its rate makes in it: whatever the clock, tables.policer has room for both then,
so what is right here can be put in force."""
PoolKey = tuple[int, int, int, int]
_ICMPS = (words.ICMP, words.ICMP6)
_HAVE_PORTS = {words.PROTOCOLS[name] for name in words.WITH_PORTS}
_PORTS_SAY = f"without it, or with protocol {', '.join(words.WITH_PORTS)} only"


@dataclass(frozen=True)
class World:
    """What rules name. port: complains about a port that is none to be named.

    connected: the IPv4 prefixes of ports, by port; own: the ports' own IPv4 addresses.
    """

    sets: Sets
    policers: Iterable[str]
    port: Callable[[KeyPath, str], Iterator[Problem]]
    connected: Mapping[str, list[IPv4Network]]
    own: set[IPv4Address]


def check_rules(rules: Mapping[int, Rule], world: World) -> Iterator[Problem]:
    """Find what is wrong with rules, by their place in the list."""
    names: dict[str, int] = {}
    expander = Expander(world.sets, {})
    count = {4: 0, 6: 0}
    for i, rule in rules.items():
        if rule.name and names.setdefault(rule.name, i) != i:
            what = f"is the name of rules[{names[rule.name]}] already"
            yield Problem(("rules", i, "name"), what, "a name that no other rule has, or none")
        wrong = [problem.under("rules", i) for problem in _rule(rule, world)]
        yield from wrong
        if wrong or not _known(rule, world):
            continue
        for version in count:
            before = count[version]
            count[version] += expander.count(rule, version)
            if before <= ROWS_MAX < count[version]:
                what = f"brings the rules to {count[version]} rows of IPv{version}"
                allowed = (
                    f"at most {ROWS_MAX}: a row for each pair of addresses, of ports, and so on"
                )
                yield Problem(("rules", i), what, allowed)


def _known(rule: Rule, world: World) -> bool:
    """Whether all sets that the rule names are right by themselves."""
    addresses = (*rule.from_, *rule.to)
    ports = (*rule.from_ports, *rule.to_ports)
    return all(
        world.sets.addresses.get(name) is not None for name in addresses if _is_set(name)
    ) and all(world.sets.ports.get(name) is not None for name in ports if _is_set(name))


def _is_set(item: object) -> bool:
    return isinstance(item, SetName)


def _rule(rule: Rule, world: World) -> Iterator[Problem]:
    wrong = [*_sets(rule, world), *_protocol(rule)]
    yield from wrong
    yield from _ports(rule, world)
    yield from _outcome(rule, world)
    if not wrong and _known(rule, world):
        yield from _families(rule, world.sets)


def _sets(rule: Rule, world: World) -> Iterator[Problem]:
    kinds = (
        (("from_", "to"), world.sets.addresses, "address_sets"),
        (("from_ports", "to_ports"), world.sets.ports, "port_sets"),
    )
    for names, known, section in kinds:
        for name in names:
            for i, item in enumerate(getattr(rule, name)):
                if _is_set(item) and item not in known:
                    near = nearest(f"@{str.__str__(item)}", [f"@{one}" for one in known])
                    what = f"names a set that does not exist{near}"
                    allowed = listed(f"@{one}" for one in known)
                    none = f"none, since there is nothing in [{section}]"
                    yield Problem((key_of(name), i), what, allowed or none)


def _ports(rule: Rule, world: World) -> Iterator[Problem]:
    for name in ("in_", "out"):
        for i, port in enumerate(getattr(rule, name)):
            if name == "in_" or port != SELF:
                yield from world.port((key_of(name), i), port)


def _protocol(rule: Rule) -> Iterator[Problem]:
    protocols = set(rule.protocol)
    for key in ("from_ports", "to_ports"):
        if getattr(rule, key) and not (protocols and protocols <= _HAVE_PORTS):
            what = "is for protocols that have ports" + ("" if protocols else ", and none is given")
            yield Problem((key,), what, _PORTS_SAY)
    if rule.tcp_flags is not None and protocols != {words.TCP}:
        yield Problem(("tcp_flags",), "is for TCP", "without it, or with protocol tcp only")
    if rule.icmp and not (protocols and protocols <= set(_ICMPS)):
        yield Problem(("icmp",), "is for ICMP", "without it, or with protocol icmp or icmp6 only")
        return
    for i, kind in enumerate(rule.icmp):
        if not any(words.icmp_span(kind, number) for number in protocols):
            names = words.ICMP_TYPES if words.ICMP in protocols else words.ICMP6_TYPES
            yield Problem(("icmp", i), "is not a type of this protocol", listed(names))


def _outcome(rule: Rule, world: World) -> Iterator[Problem]:
    given = {
        "mark": rule.mark is not None,
        "police": bool(rule.police),
        "stateful": not rule.stateful,
        "sessions": bool(rule.sessions),
        "per_source": bool(rule.per_source),
    }
    for key, is_given in given.items():
        if is_given and rule.action != PERMIT:
            yield Problem((key,), "is for rules that permit", f"no {key} here")
        elif is_given and key in ("sessions", "per_source") and not rule.stateful:
            yield Problem((key,), "is for rules that are stateful", f"no {key} here")
    if rule.police and rule.police not in world.policers:
        what = f"names a policer that does not exist{nearest(rule.police, world.policers)}"
        yield Problem(("police",), what, listed(world.policers) or "none, since there is none")


def _families(rule: Rule, sets: Sets) -> Iterator[Problem]:
    """An address that can never match is wrong; a set may have addresses of both families."""
    versions = families(rule, sets)
    for name in ("from_", "to"):
        for i, item in enumerate(getattr(rule, name)):
            if isinstance(item, Range) and item.version not in versions:
                other = ("from" if name == "to" else "to") + ", protocol and family"
                what = f"is IPv{item.version}, and {other} are for others"
                if versions:
                    what = f"is IPv{item.version}, and the rule is for IPv{versions[0]}"
                yield Problem((key_of(name), i), what, "addresses of one family")
                return
    if not versions:
        yield Problem((), "can match no packet", "addresses, protocol and family that go together")


def check_policers(policers: Mapping[str, Policer]) -> Iterator[Problem]:
    """Find what is wrong with policers."""
    for n, (name, policer) in enumerate(policers.items()):
        if n == POLICERS_MAX:
            what = f"is policer number {n + 1}"
            yield Problem(("policers", name), what, f"at most {POLICERS_MAX}")
        yield from (problem.under("policers", name) for problem in _policer(policer))


def _policer(policer: Policer) -> Iterator[Problem]:
    two_rate = policer.peak_rate is not None
    if two_rate and policer.peak_rate < policer.rate:
        yield Problem(("peak_rate",), "is below rate", f"{policer.rate} or more")
    if two_rate and policer.excess_burst is not None:
        yield Problem(("excess_burst",), "is for single-rate policers", "no excess_burst here")
    if two_rate != (policer.peak_burst is not None):
        yield Problem(("peak_burst",), "goes with peak_rate", "both of them or neither")
    if not two_rate and policer.excess_burst is None and policer.yellow != "pass":
        what = "is for policers of three colours"
        yield Problem(("yellow",), what, "without it, or with excess_burst")
    rates = {"burst": "rate", "excess_burst": "rate", "peak_burst": "peak_rate"}
    for key, of in rates.items():
        burst, rate = getattr(policer, key), getattr(policer, of)
        if burst is not None and rate is not None and burst > rate * DAY_S // 8:
            what = f"is more bytes than {of} makes in a day"
            yield Problem((key,), what, f"at most {rate * DAY_S // 8}, or a higher {of}")


def check_nat(nat: Mapping[int, Nat], world: World) -> Iterator[Problem]:
    """Find what is wrong with NAT, by its place in the list."""
    names: dict[str, int] = {}
    pools: dict[Any, int] = {}
    expander = Expander(world.sets, {})
    count = 0
    for i, one in nat.items():
        if one.name and names.setdefault(one.name, i) != i:
            what = f"is the name of nat[{names[one.name]}] already"
            yield Problem(("nat", i, "name"), what, "a name that no other one has, or none")
        if isinstance(one, Masquerade | SourceNat):
            pools.setdefault(pool_of(one), i)
            if len(pools) == POOLS_MAX + 1 and pools[pool_of(one)] == i:
                allowed = f"at most {POOLS_MAX} pools and ranges of ports that differ"
                yield Problem(("nat", i), f"has pool number {len(pools)}", allowed)
        wrong = [problem.under("nat", i) for problem in _nat(one, world)]
        yield from wrong
        if not wrong:
            matches = [match for _, match in matches_of(one)]
            before, count = (
                count,
                count + sum(expander.count(match, 4) for match in matches if _known(match, world)),
            )
            if before <= ROWS_MAX < count:
                yield Problem(("nat", i), f"brings NAT to {count} rows", f"at most {ROWS_MAX}")


def pool_of(one: Masquerade | SourceNat) -> PoolKey:
    """First and last address (0: the out port's) and port that its sources get."""
    addresses = (one.pool.first, one.pool.last) if isinstance(one, SourceNat) else (0, 0)
    return (*addresses, one.ports.first, one.ports.last)


def matches_of(one: Nat) -> Iterator[tuple[str, Rule]]:
    """What it applies to: "source" or "destination", and the packets as a rule that permits them."""
    match = Rule(action=PERMIT, family=4)
    if isinstance(one, DestinationNat):
        yield (
            "destination",
            replace(
                match,
                from_=one.from_,
                to=(one.to,),
                protocol=one.protocol,
                to_ports=() if one.to_ports is None else (one.to_ports,),
                in_=one.in_,
            ),
        )
    elif isinstance(one, StaticNat):
        yield "source", replace(match, from_=(one.inside,), out=one.port)
        yield "destination", replace(match, to=(one.outside,))
    else:
        out = (one.out,) if isinstance(one, Masquerade) else one.out
        yield "source", replace(match, from_=one.from_, to=one.to, protocol=one.protocol, out=out)


def _nat(one: Nat, world: World) -> Iterator[Problem]:
    for _, match in matches_of(one):
        wrong = [*_sets(match, world), *_ports(match, world), *_protocol(match)]
        for problem in wrong:
            key, *at = problem.path
            if key == "out" and not isinstance(one, SourceNat):
                key, at = ("port", at) if isinstance(one, StaticNat) else ("out", [])
            path = (key,) if key in ("to_ports", "from_ports") else (key, *at)
            yield Problem(path, problem.what, problem.allowed)
        if not wrong and _known(match, world):
            yield from _only_ip4(match, world.sets)
    for key in ("out", "port"):
        if SELF in words.many(getattr(one, key, ()), str):
            yield Problem((key,), "is the router itself", "the names of ports under [ports]")
    if isinstance(one, SourceNat):
        yield from _reachable(("pool",), one.pool, world)
    elif isinstance(one, DestinationNat):
        yield from _destination(one)
        yield from _reachable(("to",), one.to, world)
    elif isinstance(one, StaticNat):
        yield from _static(one)
        yield from _reachable(("outside",), one.outside, world)


def _only_ip4(match: Rule, sets: Sets) -> Iterator[Problem]:
    for name in ("from_", "to"):
        for i, item in enumerate(getattr(match, name)):
            if isinstance(item, Range) and item.version == 6:
                yield Problem((key_of(name), i), "is IPv6, and NAT is for IPv4", "IPv4 addresses")
                return
    if not families(match, sets):
        yield Problem((), "can match no packet", "IPv4 addresses, and no icmp6")


def _destination(one: DestinationNat) -> Iterator[Problem]:
    if one.new_port is None:
        return
    if one.to_ports is None:
        yield Problem(("new_port",), "needs to_ports beside it", "both, or no new_port")
    elif one.new_port + one.to_ports.last - one.to_ports.first > 65535:
        n = one.to_ports.last - one.to_ports.first + 1
        yield Problem(("new_port",), f"is the first of {n} ports", f"at most {65536 - n}")


def _static(one: StaticNat) -> Iterator[Problem]:
    if one.inside.last - one.inside.first != one.outside.last - one.outside.first:
        what = f"is not as many addresses as inside, {one.inside}"
        yield Problem(("outside",), what, "a prefix of the same length")
    elif one.inside.first <= one.outside.last and one.outside.first <= one.inside.last:
        yield Problem(("outside",), "overlaps with inside", "other addresses than inside")


def _reachable(path: KeyPath, addresses: Range, world: World) -> Iterator[Problem]:
    """On a port's link nobody answers ARP for an address that is not the port's."""
    for port, networks in world.connected.items():
        for network in networks:
            first = max(addresses.first, int(network.network_address))
            last = min(addresses.last, int(network.broadcast_address))
            if last < first or network.prefixlen == 32:
                continue
            own = sum(first <= int(address) <= last for address in world.own)
            if own < last - first + 1:
                what = f'lies in {network} of port "{port}", where not all of it is an own address'
                allowed = f'addresses beyond that prefix, or own ones: add them to port "{port}"'
                yield Problem(path, what, allowed)
                return
