# SPDX-License-Identifier: Apache-2.0
"""What nodes know of a port: ``PORT[n_ports]``, and which tags lead to which sub-interface.

Written by the control plane. A record is one cache line. "Port" is a port or a sub-interface here.

A frame's tags are found by two arrays:

    vlans       u16[n_ports * VIDS]   port and outer VLAN id -> sub-interface; or STACKED | block,
                                      where sub-interfaces with two tags lie; 0: none
    inner_vlans u16[n_blocks * VIDS]  block and inner VLAN id -> sub-interface; inner 0: the one of
                                      frames with no other inner tag; 0: none

Sub-interfaces of one port and outer VLAN id have one outer tag protocol (``tpid``): a frame with
another is in no VLAN of the port. IEEE 802.1Q-2018 section 9.6 (tags), 5.5 (two of them).
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.layout import ArrayOf

ROUTED, CROSS_CONNECTED, BRIDGED, HOST, BVI = 1, 2, 3, 4, 5
"""Modes. HOST: a TAP port by which the host stands at port ``peer``. BVI: a bridge domain's own."""

NO_MAC = 1 << 63
"""In ``filter``: no frame's destination equals it."""
VIDS = 4096
STACKED = 0x8000
STACKED_MAX = 256
"""Blocks of inner_vlans, block 0 (never used) included."""

URPF_LOOSE, URPF_STRICT = 1, 2

TAGGED = 1
"""In ``flags``: sub-interfaces lie on this port, so a tagged frame has to be looked at."""

PORT = np.dtype(
    [
        ("filter", np.uint64),  # destination MAC that is ours, as a 48-bit number, or NO_MAC
        ("mac", np.uint64),  # the port's MAC, as a 48-bit number
        ("mode", np.uint8),  # 0: down
        ("tags", np.uint8),  # how many tags its frames carry: 0, 1, 2
        ("peer", np.uint16),  # the other port of a cross connect; of HOST the port it stands for
        ("output", np.uint16),  # interface-output's edge for what leaves here
        ("vlan", np.uint16),  # VLAN id of the outer tag, 0: none
        ("parent", np.uint16),  # the port that a sub-interface lies on; its own number otherwise
        ("mtu", np.uint16),  # longest IP packet
        ("address", np.uint32),  # first IPv4 address, host order, 0: none
        ("vrf", np.uint16),
        ("host", np.uint16),  # the HOST port that stands for it, 0: none
        ("inner", np.uint16),  # VLAN id of the inner tag, 0: none
        ("tpid", np.uint16),  # EtherType of the outer tag, 0: none
        ("spare", np.uint16),
        ("urpf", np.uint8),
        ("flags", np.uint8),
        # Of a BRIDGED or CROSS_CONNECTED port: tags taken off a frame that comes in, then put on;
        # and the same for one that goes out. A tag is EtherType << 16 | VLAN id, the outer first.
        ("in_pop", np.uint8),
        ("in_push", np.uint8),
        ("out_pop", np.uint8),
        ("out_push", np.uint8),
        ("in_tags", np.uint32, 2),
        ("out_tags", np.uint32, 2),
    ]
)
assert PORT.itemsize == 64

Ports = Annotated[NDArray[Any], ArrayOf(PORT)]
Vlans = Annotated[NDArray[np.uint16], ArrayOf(np.uint16)]
