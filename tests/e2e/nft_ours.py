# SPDX-License-Identifier: Apache-2.0
"""Who is judged: a forwarder with the same routes, configured by TOML, its ports in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from e2e import nft_steps as place
from e2e.nft_steps import Out, Scenario, Seen
from vforward.control import config
from vforward.control.forwarder import Forwarder
from vforward.control.run import from_config
from vforward.graph.worker import clock_hz
from vforward.io.memory import MemoryPort
from vforward.tables import rate_limit

PATIENT = "[firewall.timeouts]\ntcp_closed = 3600"
"""Everything else has minutes."""


class Ours:
    """The forwarder. Use `our_router`."""

    def __init__(self, forwarder: Forwarder) -> None:
        self.forwarder = forwarder
        self.ports = {
            one.name: one.port for one in forwarder.interfaces if isinstance(one.port, MemoryPort)
        }

    def run(self, scenario: Scenario) -> list[tuple[Sequence[bytes], Sequence[Out]]]:
        """For each step the packets that went in and those that came out."""
        seen: Seen = {}
        done: list[tuple[Sequence[bytes], Sequence[Out]]] = []
        for step in scenario.steps:
            made = [(port, p if isinstance(p, bytes) else p(seen)) for port, p in step.sent]
            for port, packet in made:
                assert self.ports[port].send([place.frame(port, packet)]) == 1
                self.forwarder.run_until_idle()
            out = [
                (name, place.unframed(name, frame))
                for name in place.PORTS
                for frame in self.ports[name].received()
            ]
            seen[step.label] = out
            done.append(([packet for _, packet in made], out))
        return done


@contextlib.contextmanager
def our_router(toml: str) -> Iterator[Ours]:
    """A forwarder with a firewall."""
    wanted = config.parse("\n".join([*_place(), toml, PATIENT]), "nftables.toml")
    with from_config(wanted) as forwarder:
        rate_limit.prepare(forwarder.icmp_limits, int(clock_hz()), rate=0, each_rate=0)
        forwarder.build()
        yield Ours(forwarder)


def _place() -> Iterator[str]:
    for name in place.PORTS:
        addresses = [f"{place.ROUTER[name]}/24", f"{place.ROUTER6[name]}/64"]
        yield f'[ports.{name}]\ntype = "memory"\naddress = {addresses}'
        yield f'mac = "{place.ROUTER_MAC[name]}"\nmtu = {place.MTU[name]}'
        for gateway in (place.GATEWAY[name], place.GATEWAY6[name]):
            yield f'[[neighbors]]\naddress = "{gateway}"\nport = "{name}"'
            yield f'mac = "{place.GATEWAY_MAC[name]}"'
    for prefix, name in place.ROUTES:
        via = (place.GATEWAY6 if ":" in prefix else place.GATEWAY)[name]
        yield f'[[routes]]\nprefix = "{prefix}"\nvia = "{via}"'
