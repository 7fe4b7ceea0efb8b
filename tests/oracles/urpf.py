# SPDX-License-Identifier: Apache-2.0
"""Reverse path forwarding: RFC 3704 sections 2.2 (strict) and 2.4 (loose)."""

from dataclasses import dataclass

from .lpm import Table, covers


@dataclass(frozen=True)
class Route:
    """kind: via (out of any of ports), local, blackhole, unreachable."""

    kind: str
    ports: tuple[int, ...] = ()


def refusal(mode: str, port: int, source: int, routes: Table[Route]) -> str | None:
    """Return why a packet from this source may not come in by this port, or None.

    mode: "", "loose" or "strict". Without an own address yet (RFC 2131 section 4.1, RFC 4291
    section 2.5.2) or, in IPv6, with a link-local one (section 2.5.6) nobody can be asked.
    """
    if not mode or source == 0 or (routes.bits == 128 and covers(0xFE80 << 112, 10, source, 128)):
        return None
    route = routes.lookup(source)
    if route is None or route.kind != "via":
        return mode
    return mode if mode == "strict" and port not in route.ports else None
