# SPDX-License-Identifier: Apache-2.0
"""The virtio-net header, section 5.1.6 of VIRTIO 1.2: work on a frame that is left to the other side.

Features are named as a driver has them, and given here as a device sees them. A driver gives them
mirrored: what its device leaves to it is, to the device, what a driver leaves to that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.io.af_packet_rx import vnet_header
from vforward.io.linux import (
    VIRTIO_NET_HDR,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_TCPV6,
)
from vforward.io.vhost_copy import HEADER_AT
from vforward.jit.intrinsics import address, view
from vforward.jit.kernel import i64, inline, kernel
from vforward.layout import CSUM_PARTIAL, GSO
from vforward.memory.buffer import buffer_bytes
from vforward.packet.checksum import complete
from vforward.rings.net_features import (
    CSUM,
    GUEST_CSUM,
    GUEST_ECN,
    GUEST_TSO4,
    GUEST_TSO6,
    HOST_ECN,
    HOST_TSO4,
    HOST_TSO6,
)

PAIRS = (
    (CSUM, GUEST_CSUM),
    (HOST_TSO4, GUEST_TSO4),
    (HOST_TSO6, GUEST_TSO6),
    (HOST_ECN, GUEST_ECN),
)


def mirrored(features: int) -> int:
    """The features with both directions exchanged."""
    swapped = features
    for one, other in PAIRS:
        if bool(features & one) != bool(features & other):
            swapped ^= one | other
    return swapped


def taken_whole(features: int) -> int:
    """The types of super-frames that a driver with these features takes: see Port.whole."""
    types = {
        GUEST_TSO4: 1 << VIRTIO_NET_HDR_GSO_TCPV4,
        GUEST_TSO6: 1 << VIRTIO_NET_HDR_GSO_TCPV6,
        GUEST_ECN: VIRTIO_NET_HDR_GSO_ECN,
    }
    if not features & GUEST_CSUM:
        return 0
    return sum(kind for feature, kind in types.items() if features & feature)


@inline
def _agreed(features: Any, flags: Any, kind: Any) -> bool:
    """Whether the other side may leave that to us."""
    if flags & VIRTIO_NET_HDR_F_NEEDS_CSUM == 0:
        return kind == 0  # a segment without a checksum to finish is none (section 5.1.6.2)
    needed = CSUM
    if kind & VIRTIO_NET_HDR_GSO_ECN:
        needed |= HOST_ECN
    kind &= ~VIRTIO_NET_HDR_GSO_ECN
    if kind == VIRTIO_NET_HDR_GSO_TCPV4:
        needed |= HOST_TSO4
    elif kind == VIRTIO_NET_HDR_GSO_TCPV6:
        needed |= HOST_TSO6
    elif kind:
        return False
    return features & needed == needed


@kernel
def take_over(data: Any, meta: Any, work: Any, features: Any, row: Any) -> bool:
    """Take over the header that was copied to work[HEADER_AT:]. Returns whether it is right."""
    where = address(work) + 8 * HEADER_AT
    header = view(where, 1, VIRTIO_NET_HDR)[0]
    header.flags = header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM
    if not _agreed(features, i64(header.flags), i64(header.gso_type)):
        return False
    return vnet_header(data, meta, row, where, 0)


@kernel
def leave(data: Any, meta: Any, row: Any, features: Any, header: Any) -> bool:
    """Say in the header, u8[12], what is left to the other side, or do it. Returns whether it can be."""
    record = meta[row]
    if record.flags & GSO:
        kind = i64(record.gso_type) & ~VIRTIO_NET_HDR_GSO_ECN
        needed = GUEST_CSUM
        if record.gso_type & VIRTIO_NET_HDR_GSO_ECN:
            needed |= GUEST_ECN
        if kind == VIRTIO_NET_HDR_GSO_TCPV4:
            needed |= GUEST_TSO4
        elif kind == VIRTIO_NET_HDR_GSO_TCPV6:
            needed |= GUEST_TSO6
        else:
            return False
        if features & needed != needed or not record.flags & CSUM_PARTIAL:
            return False
        fields = view(address(header), 6, np.uint16)
        header[1] = record.gso_type
        fields[1] = min(i64(record.hdr_len), buffer_bytes(meta, row))
        fields[2] = record.gso_size
    if record.flags & CSUM_PARTIAL:
        if not features & GUEST_CSUM:
            return complete(data, meta, row)
        start = i64(record.csum_start) - i64(record.off)
        if start < 0 or start + i64(record.csum_off) + 2 > buffer_bytes(meta, row):
            return False
        fields = view(address(header), 6, np.uint16)
        header[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM
        fields[3] = start
        fields[4] = record.csum_off
    return True
