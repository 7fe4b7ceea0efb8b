# SPDX-License-Identifier: Apache-2.0
"""Features of a virtio-net device that are known here, and its header's length. VIRTIO 1.2, 5.1.3, 5.1.6.

By the first ones a driver leaves work to its device (HOST_...), by the others it takes such frames of it
(GUEST_...).
"""

CSUM, HOST_TSO4, HOST_TSO6, HOST_ECN = (1 << bit for bit in (0, 11, 12, 13))
GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_ECN = (1 << bit for bit in (1, 7, 8, 9))
OFFLOADS = (
    CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN | GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN
)

MRG_RXBUF = 1 << 15
"""A frame to the driver may lie in several buffers."""
MQ = 1 << 22
"""There are several pairs of queues."""
HEADER_BYTES, HEADER_LEGACY = 12, 10
"""Of the header before a frame: with VERSION_1 or MRG_RXBUF, and with neither."""
