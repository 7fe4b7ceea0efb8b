# SPDX-License-Identifier: Apache-2.0
"""How a capture stands, for those who capture and those who ask."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A capture. packets, bytes: written; unwanted: that the filter left out; missed: without room."""

    at: str
    filter: str
    running: bool = True
    packets: int = 0
    bytes: int = 0
    unwanted: int = 0
    missed: int = 0
