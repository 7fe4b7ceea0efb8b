# SPDX-License-Identifier: Apache-2.0
"""The judge: a namespace whose Linux routes and filters, with packet sockets around it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence

from e2e import nft_steps as place
from e2e.nft_steps import Out, Scenario, Seen
from vforward.io import linux
from vforward.testing import packets as pk
from vforward.testing.namespaces import Namespace, namespaces, offloads, veth

IGNORE_OUTGOING = 23
ETH_P_ALL = 3

SETTINGS = """
net.ipv4.ip_forward=1
net.ipv6.conf.all.forwarding=1
net.ipv4.conf.all.rp_filter=0
net.ipv4.conf.default.rp_filter=0
net.ipv4.conf.all.send_redirects=0
net.ipv4.conf.default.send_redirects=0
net.ipv6.conf.default.accept_dad=0
net.ipv6.conf.default.addr_gen_mode=1
net.ipv4.icmp_ratemask=0
net.ipv4.icmp_msgs_burst=1000000
net.ipv4.icmp_msgs_per_sec=1000000
net.ipv6.icmp.ratelimit=0
net.ipv6.auto_flowlabels=0
net.netfilter.nf_conntrack_tcp_loose=0
net.netfilter.nf_conntrack_tcp_timeout_syn_sent=3600
net.netfilter.nf_conntrack_tcp_timeout_syn_recv=3600
net.netfilter.nf_conntrack_tcp_timeout_last_ack=3600
net.netfilter.nf_conntrack_tcp_timeout_time_wait=3600
net.netfilter.nf_conntrack_tcp_timeout_close=3600
net.netfilter.nf_conntrack_udp_timeout=3600
net.netfilter.nf_conntrack_icmp_timeout=3600
net.netfilter.nf_conntrack_icmpv6_timeout=3600
"""
"""A router that says nothing of its own accord, but an ICMP error for each reason to; and has patience
with a test on a busy machine."""
LONG = 60  # seconds: of what ends at once, unless something is wrong

QUIET = """
table ip6 quiet {
    chain output {
        type filter hook output priority 0; policy accept;
        icmpv6 type { mld-listener-report, mld2-listener-report } drop
    }
}
"""


class Linux:
    """The router and the sockets. Use `linux_router`."""

    def __init__(self, router: Namespace, outside: Namespace) -> None:
        self.router = router
        self.sockets = {name: _socket(outside, name) for name in place.PORTS}

    def close(self) -> None:
        """Close the sockets."""
        for one in self.sockets.values():
            one.close()

    def run(self, scenario: Scenario) -> list[tuple[Sequence[bytes], Sequence[Out]]]:
        """For each step the packets that went in and those that came out."""
        seen: Seen = {}
        done: list[tuple[Sequence[bytes], Sequence[Out]]] = []
        with _one_cpu():
            for step in scenario.steps:
                made = [(port, p if isinstance(p, bytes) else p(seen)) for port, p in step.sent]
                out = self._exchange(made)
                seen[step.label] = out
                done.append(([packet for _, packet in made], out))
        return done

    def _exchange(self, sent: Sequence[tuple[str, bytes]]) -> list[Out]:
        """Send, and take what comes until the router answers a question asked after it.

        All queues on the way are this CPU's own, first in first out: nothing is still under way then.
        """
        for port, packet in sent:
            self.sockets[port].send(place.frame(port, packet))
        gateway = place.GATEWAY["lan"], place.GATEWAY_MAC["lan"]
        question = pk.arp_request(gateway[1], gateway[0], place.ROUTER["lan"])
        self.sockets["lan"].send(pk.eth(pk.BROADCAST, gateway[1], pk.ETH_ARP, question))
        out: list[Out] = []
        answered = False
        deadline = time.monotonic() + LONG
        while not answered:
            ready, _, _ = select.select(list(self.sockets.values()), [], [], LONG)
            assert ready or time.monotonic() < deadline, "the router does not answer"
            for name in place.PORTS:  # all of them: nothing comes behind the answer
                for content in _waiting(self.sockets[name]):
                    if content[12:14] == b"\x08\x06":
                        answered = True
                    else:
                        out.append((name, place.unframed(name, content)))
        return out


def _waiting(one: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(BlockingIOError):
        while True:
            yield one.recv(1 << 16)


@contextlib.contextmanager
def linux_router(ruleset: str) -> Iterator[Linux]:
    """A router with a ruleset."""
    with namespaces("outside", "router") as (outside, router):
        router.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")
        router.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=0", *SETTINGS.split())
        for name in place.PORTS:
            veth(outside, name, router, name)
        offloads(router, *place.PORTS, on=False)
        router.run("sh", "-ec", "\n".join(f"ip {command}" for command in _commands()))
        router.run("nft", QUIET + ruleset)
        made = Linux(router, outside)
        with contextlib.closing(made):
            yield made


def _commands() -> Iterator[str]:
    for name in place.PORTS:
        yield f"link set dev {name} address {place.ROUTER_MAC[name]}"
        yield f"link set dev {name} mtu {place.MTU[name]}"
        yield f"address add {place.ROUTER[name]}/24 dev {name}"
        yield f"address add {place.ROUTER6[name]}/64 dev {name} nodad"
        for gateway in (place.GATEWAY[name], place.GATEWAY6[name]):
            yield f"neighbor add {gateway} lladdr {place.GATEWAY_MAC[name]} dev {name}"
    for prefix, name in place.ROUTES:
        yield f"route add {prefix} via {(place.GATEWAY6 if ':' in prefix else place.GATEWAY)[name]}"


def _socket(where: Namespace, interface: str) -> socket.socket:
    with where.inside():
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        made.bind((interface, ETH_P_ALL))
    made.setsockopt(linux.SOL_PACKET, IGNORE_OUTGOING, 1)
    made.setblocking(False)
    return made


@contextlib.contextmanager
def _one_cpu() -> Iterator[None]:
    """The calling thread stays on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
