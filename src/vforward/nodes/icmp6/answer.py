# SPDX-License-Identifier: Apache-2.0
"""How an answer goes back on the link that its packet came from.

What goes to a link-local address cannot be routed: it leaves by the same port, to the same MAC.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.be import load64, store16, store32, store64
from vforward.jit.kernel import i64, kernel, u64
from vforward.packet import ethernet as eth


@kernel
def sender_mac(data: Any, meta: Any, row: Any) -> Any:
    """The MAC that a packet came from (u64); its link-layer header is still there."""
    return load64(data, row, i64(meta[row].off) + eth.SRC) >> u64(16)


@kernel
def put_link_header(data: Any, meta: Any, row: Any, ports: Any, mac: Any) -> None:
    """Put a link-layer header in front of l3, to that MAC, tagged as the frames of rx_port are."""
    port = ports[meta[row].rx_port]
    l3 = i64(meta[row].l3)
    off = l3 - eth.HEADER - eth.TAG * i64(port.tags)
    if port.tags >= 1:
        store32(data, row, off + eth.TYPE, i64(port.tpid) << 16 | i64(port.vlan))
    if port.tags >= 2:
        store32(data, row, off + eth.TYPE + eth.TAG, eth.VLAN << 16 | i64(port.inner))
    store16(data, row, l3 - 2, eth.IP6)
    store64(data, row, off + eth.DST, (mac << u64(16)) | (port.mac >> u64(32)))
    store32(data, row, off + eth.SRC + 2, i64(port.mac & u64(0xFFFFFFFF)))
    meta[row].off = off
    meta[row].tx_port = meta[row].rx_port
