# SPDX-License-Identifier: Apache-2.0
"""What scapy and dpkt take to read a frame: for who comes from there. They parse, and forward nothing.

Of each frame the MACs, the EtherType, TTL, addresses and UDP ports are asked for: what forwarding a
packet needs to know.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

Fields = tuple[int, str, str, int, int]
"""EtherType, source and destination address, TTL, destination port."""


def scapy() -> Callable[[bytes], Fields]:
    """A function that reads a frame by scapy. Raises ImportError."""
    inet, layer2 = (importlib.import_module(f"scapy.layers.{name}") for name in ("inet", "l2"))

    def read(frame: bytes) -> Fields:
        parsed = layer2.Ether(frame)
        ip = parsed[inet.IP]
        return parsed.type, ip.src, ip.dst, ip.ttl, ip[inet.UDP].dport

    return read


def dpkt() -> Callable[[bytes], Fields]:
    """The same by dpkt."""
    ethernet, utils = (importlib.import_module(f"dpkt.{name}") for name in ("ethernet", "utils"))

    def read(frame: bytes) -> Fields:
        parsed = ethernet.Ethernet(frame)
        ip = parsed.data
        source, target = utils.inet_to_str(ip.src), utils.inet_to_str(ip.dst)
        return parsed.type, source, target, ip.ttl, ip.data.dport

    return read


PARSERS: dict[str, Callable[[], Callable[[bytes], Fields]]] = {"scapy": scapy, "dpkt": dpkt}
