# SPDX-License-Identifier: Apache-2.0
"""What nodes know of a port: ``PORT[n_ports]``, and which tag leads to which sub-interface.

Written by the control plane. A record is one cache line.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.layout import ArrayOf

ROUTED, CROSS_CONNECTED = 1, 2
NO_MAC = 1 << 63
"""In ``filter``: no frame's destination equals it."""
VIDS = 4096

PORT = np.dtype(
    [
        ("filter", np.uint64),  # destination MAC that is ours, as a 48-bit number, or NO_MAC
        ("mac", np.uint64),  # the port's MAC, as a 48-bit number
        ("mode", np.uint8),  # 0: down, ROUTED, CROSS_CONNECTED
        ("pad", np.uint8),
        ("peer", np.uint16),  # the other port of a cross connect
        ("output", np.uint16),  # interface-output's edge for what leaves here
        ("vlan", np.uint16),  # tag that frames carry, 0: none
        ("parent", np.uint16),  # the port that a sub-interface lies on; its own number otherwise
        ("mtu", np.uint16),  # longest IP packet
        ("address", np.uint32),  # first IPv4 address, host order, 0: none
        ("spare", np.uint64, 4),
    ]
)
assert PORT.itemsize == 64

Ports = Annotated[NDArray[Any], ArrayOf(PORT)]
Vlans = Annotated[NDArray[np.uint16], ArrayOf(np.uint16)]
"""``u16[n_ports * VIDS]``: port and VLAN id -> sub-interface, 0: none. Port 0 is never one."""
