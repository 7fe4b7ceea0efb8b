# SPDX-License-Identifier: Apache-2.0
"""The catalogue of cases, one line each. A case generates rows; the last is its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks import (
    acl_cases,
    acl_path_cases,
    acl_peers,
    chain_cases,
    churn_case,
    dpdk_cases,
    fib_cases,
    fig79_cases,
    graph_cases,
    hash_peers,
    idle_cases,
    l2_cases,
    memory_cases,
    nat_cases,
    netmap_cases,
    peer_cases,
    peers_cases,
    python_case,
    rate_cases,
    reassembly_cases,
    restart_case,
    ring_cases,
    scaling_case,
    session_cases,
    soak_case,
    start_cases,
    table71_cases,
    table_cases,
    veth_cases,
    vhost_cases,
    virtio_case,
    wakeup_case,
)
from benchmarks.loads import (
    BRIDGED,
    CLASSIFIED,
    CONTROL,
    COPIED,
    GUEST,
    HEADERS,
    KEYS,
    NOTHING,
    NUMBERS,
    OPENING,
    PINGS,
    SESSIONS,
    STARTS,
    STREAM,
    TESTED,
    TRANSLATED,
    WIRES,
    WOKEN,
    WOKEN_WIRE,
    WORKERS,
    Load,
)
from benchmarks.session import Session


class Case(NamedTuple):
    """What `vforward bench` can be asked for."""

    name: str
    help: str
    rows: Callable[[Session], Iterator[dict[str, Any]]]
    load: Load = HEADERS

    def run(self, session: Session) -> Iterator[dict[str, Any]]:
        """The rows, with what they are of."""
        for row in self.rows(session):
            yield {**self.load._asdict(), **row}


CASES = {
    case.name: case
    for case in (
        Case("fig79", "scalar against vector: sizes, tables, prefetch", fig79_cases.fig79),
        Case("table71", "the book's cycles per packet, and ours", table71_cases.table71),
        Case("chain", "1 to 8 functions: nodes, processes, interfaces", chain_cases.chain, WIRES),
        Case("rates", "no-drop rates and latency by RFC 2544", rate_cases.rates, TESTED),
        Case("peers", "Linux, nftables, DPDK, Open vSwitch beside ours", peers_cases.peers, WIRES),
        Case("hash-peers", "our flow table beside DPDK's rte_hash", hash_peers.hash_peers, KEYS),
        Case("ip4-path", "the IPv4 path, 256 per vector, 16 routes", graph_cases.ip4_path),
        Case("ip4-path-512k", "the same with 512 000 /24 routes", graph_cases.ip4_path_512k),
        Case("l2-path", "the bridge's path, 256 per vector, 1 000 MACs", l2_cases.l2_path, BRIDGED),
        Case("l2-path-1m", "the same with 1 000 000 MACs at random", l2_cases.l2_path_1m, BRIDGED),
        Case("ip4-path-bgp", "the same with 1 M routes as in the Internet", fib_cases.ip4_path_bgp),
        Case("ip6-path-200k", "the IPv6 path with 200 000 such routes", fib_cases.ip6_path_200k),
        Case("dispatch", "the scheduler's own cost for a node", graph_cases.dispatch, NOTHING),
        Case("vector-sizes", "ip4-path at 1, 2, 4 ... 256, and a plot", graph_cases.vector_sizes),
        Case("python-baseline", "the same work in Python, by packet", python_case.python_baseline),
        Case(
            "start-warm", "process start to first forwarded packet", start_cases.start_warm, STARTS
        ),
        Case(
            "restart-warm", "kill -9 to first forwarded packet", restart_case.restart_warm, STARTS
        ),
        Case("start-cold", "compile everything, nothing cached", start_cases.start_cold, CONTROL),
        Case("fib4-lookup", "a route lookup, 512 000 routes", table_cases.fib4_lookup, KEYS),
        Case("fib4-churn", "insert and delete under look-ups", fib_cases.fib4_churn, CONTROL),
        Case("fib4-memory", "memory of 1 M IPv4 routes", fib_cases.fib4_memory, CONTROL),
        Case("fib4-load", "1 M IPv4 routes from a file", fib_cases.fib4_load, CONTROL),
        Case("session-1k", "what 1 000 sessions add to a path", session_cases.session_1k, SESSIONS),
        Case(
            "session-100k", "the same of 100 000, at random", session_cases.session_100k, SESSIONS
        ),
        Case("session-1m", "the same of 1 000 000, at random", session_cases.session_1m, SESSIONS),
        Case("nat44-100k", "the same of 100 000, with NAT44", session_cases.nat44_100k, SESSIONS),
        Case("session-new", "new sessions per second", session_cases.session_new, OPENING),
        Case("reassembly-pass", "what whole packets pay", reassembly_cases.reassembly_pass),
        Case("acl-1k", "what 1 000 rules add to a path", acl_path_cases.acl_1k, CLASSIFIED),
        Case("acl-10k", "the same of 10 000", acl_path_cases.acl_10k, CLASSIFIED),
        Case(
            "memory", "a random cache line, by size of what it is in", memory_cases.memory, NOTHING
        ),
        Case(
            "nat-translate",
            "new endpoints for TCP, checksums patched",
            nat_cases.nat_translate,
            TRANSLATED,
        ),
        Case(
            "bridge-peers",
            "against the Linux bridge, on veth pairs",
            peer_cases.bridge_peers,
            WIRES,
        ),
        Case("router-peers", "against Linux's IPv4 forwarding", peer_cases.router_peers, WIRES),
        Case(
            "fib-peers", "our route tables beside DPDK's, if installed", dpdk_cases.fib_peers, KEYS
        ),
        Case("acl-lookup", "the first of 10 to 100 000 rules", acl_cases.acl_lookup, KEYS),
        Case("acl-attack", "the costliest packets over random ones", acl_cases.acl_attack, KEYS),
        Case("acl-build", "time and memory of a compiled rule list", acl_cases.acl_build, CONTROL),
        Case("acl-peers", "our rule lists beside DPDK's, if installed", acl_peers.acl_peers, KEYS),
        Case(
            "netmap-pipe",
            "frames through a pipe, both ends touch",
            netmap_cases.netmap_pipe,
            COPIED,
        ),
        Case("vale", "frames copied through a VALE switch", netmap_cases.vale, COPIED),
        Case("spsc", "our ring of indices beside DPDK's, if installed", ring_cases.spsc, NUMBERS),
        Case("wakeup", "from a packet to a program that slept", wakeup_case.wakeup, WOKEN),
        Case("vhost-rx", "from a guest, against DPDK's net_vhost", vhost_cases.vhost_rx, GUEST),
        Case("vhost-tx", "to a guest, against DPDK's net_vhost", vhost_cases.vhost_tx, GUEST),
        Case("vhost-echo", "from it and back to it, MACs swapped", vhost_cases.vhost_echo, GUEST),
        Case(
            "virtio-frontend",
            "our driver beside DPDK's, on net_vhost",
            virtio_case.virtio_frontend,
            GUEST,
        ),
        Case("veth-pps", "through veth, against DPDK's net_af_packet", veth_cases.veth_pps, WIRES),
        Case("veth-pps-xdp", "the same against its net_af_xdp", veth_cases.veth_pps_xdp, WIRES),
        Case("veth-pps-bridge", "against the Linux bridge", veth_cases.veth_pps_bridge, WIRES),
        Case("veth-pps-raw", "without a ring, against one", veth_cases.veth_pps_raw, WIRES),
        Case("veth-pps-xdp-rx", "by AF_XDP, against a ring", veth_cases.veth_pps_xdp_rx, WIRES),
        Case("veth-tcp", "iperf3 through veth, against the bridge", veth_cases.veth_tcp, STREAM),
        Case("veth-tcp-off", "the same without any offload", veth_cases.veth_tcp_off, STREAM),
        Case("syscalls", "system calls for each packet, veth to veth", veth_cases.syscalls, WIRES),
        Case("veth-rtt", "round trip of a ping through veth", veth_cases.veth_rtt, PINGS),
        Case("churn-loss", "packets lost under changes of all", churn_case.churn_loss, TESTED),
        Case("soak", "what grows under traffic and changes", soak_case.soak, WIRES),
        Case("scaling", "two workers against one, graph work", scaling_case.scaling, WORKERS),
        Case("idle-cpu", "an idle daemon's processor time", idle_cases.idle_cpu, CONTROL),
        Case("memory-idle", "an idle daemon's memory", idle_cases.memory_idle, CONTROL),
        Case("wake-latency", "a frame to an idle daemon", idle_cases.wake_latency, WOKEN_WIRE),
        Case("pool", "take a buffer and put it back", table_cases.pool, NUMBERS),
    )
}
