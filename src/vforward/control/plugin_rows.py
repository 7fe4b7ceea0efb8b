# SPDX-License-Identifier: Apache-2.0
"""What is said of plug-ins: the rows of a list, and what came of a change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PluginRow:
    """A plug-in, as it is shown. place: its file or entry point. since: seconds since 1970."""

    name: str
    place: str
    digest: str
    arc: str
    after: str
    before: str
    ports: list[str]
    tables: list[str]
    since: float


@dataclass(frozen=True)
class PluginChange:
    """What came of a change. kept, begun: its tables whose state was kept, or began anew.

    stood_s: for how long no worker forwarded anything, seconds.
    """

    name: str
    kept: list[str]
    begun: list[str]
    stood_s: float
