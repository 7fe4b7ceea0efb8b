# SPDX-License-Identifier: Apache-2.0
"""What of the firewall is others when a configuration takes another's place.

Policers and sets are one part each, by name: those that were changed at run time stay beside those that the
configuration changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from vforward.control.config_firewall import Firewall as FirewallModel
from vforward.control.config_firewall import as_object, as_settings
from vforward.control.difference import Key, Parts
from vforward.control.rule_policy import Wanted
from vforward.control.told_firewall import LISTS, NAMED

FIREWALL = ("firewall", *LISTS, *NAMED)
"""The sections of a configuration."""


def given_of(keys: Iterable[Key], after: Parts, running: Wanted | None) -> dict[str, Any]:
    """What of the firewall these keys change, as Firewall.changing takes it. running: None: it is off."""
    keys = [key for key in keys if key[0] in FIREWALL]
    touched = {key[0] for key in keys}
    given: dict[str, Any] = {}
    if "firewall" in touched:
        fields = {key[1]: value for key, value in after.items() if key[0] == "firewall"}
        given["settings"] = as_settings(FirewallModel.model_construct(**fields))
    for section in LISTS:
        if section in touched:
            given[section] = [as_object(one) for one in after.get((section,), ())]
    for section in NAMED:
        if section not in touched:
            continue
        made = dict(running.named(section)) if running is not None else {}
        for key in keys:
            if key[0] == section and key not in after:
                made.pop(key[1], None)
            elif key[0] == section:
                made[key[1]] = after[key] if section != "policers" else as_object(after[key])
        given[section] = made
    return given


def missing(
    touched: Iterable[Key], changed: Collection[Key], after: Parts, running: Wanted | None
) -> list[Key]:
    """Of what was changed at run time the policers and sets that were deleted, and have to be there again.

    That is so when rules come in force by the configuration: they may name them.
    """
    if running is None or not (("rules",) in changed or ("nat",) in changed):
        return []
    named = [key for key in touched if key[0] in NAMED and key in after]
    return [key for key in named if key[1] not in running.named(key[0])]
