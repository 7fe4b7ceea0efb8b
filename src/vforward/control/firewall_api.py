# SPDX-License-Identifier: Apache-2.0
"""What a program says to a forwarder's firewall, and asks of it. A part of Assembly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vforward.control.firewall import Firewall
from vforward.control.not_found import NotFound
from vforward.control.rule_policy import Wanted
from vforward.control.rules import FirewallSettings, Nat, Policer, Rule
from vforward.control.session_list import Filter
from vforward.control.wording import listed


class FirewallApi:
    """Methods of a Forwarder. All of them may be called while it runs."""

    firewall: Firewall

    def set_firewall(self, settings: FirewallSettings) -> None:
        """Have a firewall: before build. After it, change ``default``, ``loose``, ``per_source`` and
        ``timeouts``. Raises ConfigError.
        """
        self.firewall.set(settings)

    def set_rules(
        self,
        rules: Iterable[Rule],
        *,
        address_sets: Mapping[str, Any] | None = None,
        port_sets: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace all rules, by one store: each packet meets the old ones or the new ones.

        address_sets, port_sets: replace those too; not given, they stay. Sessions that exist go on, see
        kill_sessions. Raises ConfigError, which names all problems, TableFull; then nothing changes.
        """
        self.firewall.change(rules=rules, address_sets=address_sets, port_sets=port_sets)

    def add_rule(self, rule: Rule, before: str | int = "") -> int:
        """Add a rule before another one, which is named or numbered from 0, or as the last.

        Returns its number. As set_rules, and NotFound when there is no such rule.
        """
        at = 0

        def edit(wanted: Wanted) -> list[Rule]:
            nonlocal at
            rules = list(wanted.rules)
            at = len(rules) if before == "" else _find(rules, before)
            return [*rules[:at], rule, *rules[at:]]

        self.firewall.edit("rules", edit)
        return at

    def delete_rule(self, which: str | int) -> None:
        """Delete a rule, by its name or its number from 0. Raises NotFound when there is none."""

        def edit(wanted: Wanted) -> list[Rule]:
            rules = list(wanted.rules)
            del rules[_find(rules, which)]
            return rules

        self.firewall.edit("rules", edit)

    def set_nat(self, nat: Iterable[Nat]) -> None:
        """Replace all NAT, as set_rules does. Raises ConfigError, TableFull."""
        self.firewall.change(nat=nat)

    def add_policer(self, name: str, policer: Policer) -> None:
        """Have a policer of that name, which rules may name, or set it anew. Raises ConfigError."""
        self.firewall.edit("policers", lambda wanted: {**wanted.policers, name: policer})

    def delete_policer(self, name: str) -> None:
        """Delete a policer. Raises NotFound when there is none, ConfigError when a rule names it."""

        def edit(wanted: Wanted) -> dict[str, Policer]:
            if name not in wanted.policers:
                raise NotFound(f"no policer {name}; there are: {listed(wanted.policers) or 'none'}")
            return {key: one for key, one in wanted.policers.items() if key != name}

        self.firewall.edit("policers", edit)

    def sessions(self, most: int | None = None, **only: Any) -> list[dict[str, Any]]:
        """The sessions, at most so many. only: see session_list.Filter. Raises ConfigError.

        Each has protocol, from, to, nat_from, nat_to, state, age, idle, in, out, rule, vrf.
        """
        return self.firewall.sessions().rows(Filter(**only), most)

    def count_sessions(self, **only: Any) -> int:
        """How many sessions there are. only: see session_list.Filter. Raises ConfigError."""
        return self.firewall.sessions().count(Filter(**only))

    def kill_sessions(self, **only: Any) -> int:
        """Have the worker end sessions, in its next rounds. Returns how many. Raises ConfigError."""
        return self.firewall.kill(Filter(**only))


def _find(rules: Sequence[Rule], which: str | int) -> int:
    """The number of a rule, by its name or its number."""
    names = [rule.name for rule in rules]
    if which and which in names:
        return names.index(str(which))
    text = str(which)
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) < len(rules):
        return int(text)
    raise NotFound(f"no rule {which!r}; rules have names, or numbers from 0 to {len(rules) - 1}")
