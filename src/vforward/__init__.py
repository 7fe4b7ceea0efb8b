# SPDX-License-Identifier: Apache-2.0
"""A user-space vector packet forwarder whose packet processing is Python, compiled by Numba.

The names below are the library. Importing the package compiles nothing and loads nothing heavy: a
name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vforward.control.assembly import Tags
    from vforward.control.bridging import BridgeSettings
    from vforward.control.client import Client
    from vforward.control.forwarder import Forwarder
    from vforward.control.plugin import Plugin, Table
    from vforward.control.rules import (
        DestinationNat,
        FirewallSettings,
        Masquerade,
        Policer,
        Rule,
        SourceNat,
        StaticNat,
    )
    from vforward.errors import (
        ApiError,
        ArenaError,
        ConfigError,
        KernelError,
        PortError,
        ShimMissing,
        VforwardError,
        WiringError,
    )
    from vforward.graph.build import Graph
    from vforward.graph.node import INFO, Kind, Labels, Node
    from vforward.graph.worker import Worker
    from vforward.io.af_packet import AfPacketPort
    from vforward.io.generator import GeneratorPort
    from vforward.io.memif import MemifPort
    from vforward.io.memory import MemoryPort
    from vforward.io.memring import MemringPort
    from vforward.io.memring_client import Attachment, Packets, attach
    from vforward.io.netmap import NetmapPort
    from vforward.io.null import NullPort
    from vforward.io.pcap import PcapPort
    from vforward.io.port import Port
    from vforward.io.tap import TapPort
    from vforward.io.vhost import VhostUserPort
    from vforward.io.virtio import VirtioPort
    from vforward.jit.kernel import inline, kernel
    from vforward.memory.arena import Arena
    from vforward.memory.pool import Pool

_ERRORS = (
    "ApiError", "ArenaError", "ConfigError", "KernelError", "PortError", "ShimMissing",
    "VforwardError", "WiringError",
)  # fmt: skip
_RULES = (
    "DestinationNat", "FirewallSettings", "Masquerade", "Policer", "Rule", "SourceNat", "StaticNat",
)  # fmt: skip
_HOME = {
    **dict.fromkeys(_ERRORS, "errors"),
    **dict.fromkeys(_RULES, "control.rules"),
    "Attachment": "io.memring_client",
    "AfPacketPort": "io.af_packet",
    "Arena": "memory.arena",
    "BridgeSettings": "control.bridging",
    "Client": "control.client",
    "Forwarder": "control.forwarder",
    "GeneratorPort": "io.generator",
    "Graph": "graph.build",
    "INFO": "graph.node",
    "Kind": "graph.node",
    "Labels": "graph.node",
    "MemifPort": "io.memif",
    "MemoryPort": "io.memory",
    "MemringPort": "io.memring",
    "Node": "graph.node",
    "NetmapPort": "io.netmap",
    "NullPort": "io.null",
    "Packets": "io.memring_client",
    "PcapPort": "io.pcap",
    "Plugin": "control.plugin",
    "Pool": "memory.pool",
    "Port": "io.port",
    "Table": "control.plugin",
    "Tags": "control.assembly",
    "TapPort": "io.tap",
    "VhostUserPort": "io.vhost",
    "VirtioPort": "io.virtio",
    "Worker": "graph.worker",
    "attach": "io.memring_client",
    "inline": "jit.kernel",
    "kernel": "jit.kernel",
}

__version__ = "0.1.0a1"
__all__ = [
    *_HOME,
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module 'vforward' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"vforward.{_HOME[name]}"), name)
