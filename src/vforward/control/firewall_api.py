# SPDX-License-Identifier: Apache-2.0
"""What a program says to a forwarder's firewall, and asks of it. A part of Assembly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vforward.control.firewall import Firewall
from vforward.control.rules import FirewallSettings, Nat, Policer, Rule
from vforward.control.session_list import Filter


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

    def set_nat(self, nat: Iterable[Nat]) -> None:
        """Replace all NAT, as set_rules does. Raises ConfigError, TableFull."""
        self.firewall.change(nat=nat)

    def add_policer(self, name: str, policer: Policer) -> None:
        """Have a policer of that name, which rules may name, or set it anew. Raises ConfigError."""
        self.firewall.change(policers={**self.firewall.wanted.policers, name: policer})

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
