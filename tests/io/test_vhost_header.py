# SPDX-License-Identifier: Apache-2.0
"""What a driver's features are to the header's code. (Headers themselves: test_vhost_*, test_virtio_*.)"""

import pytest

from vforward.io import vhost_header as header

TCPV4, TCPV6, ECN = 1, 4, 0x80
"""gso_type, section 5.1.6."""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (header.CSUM, header.GUEST_CSUM),
        (header.HOST_TSO4, header.GUEST_TSO4),
        (header.HOST_TSO6, header.GUEST_TSO6),
        (header.HOST_ECN, header.GUEST_ECN),
    ],
)
def test_directions_are_exchanged(one, other):
    rest = 1 << 35 | 1 << 32 | 1 << 29 | 1 << 15
    assert header.mirrored(rest | one) == rest | other
    assert header.mirrored(rest | other) == rest | one
    assert header.mirrored(rest | one | other) == rest | one | other
    assert header.mirrored(rest) == rest


@pytest.mark.parametrize(
    ("features", "types"),
    [
        (0, 0),
        (header.GUEST_TSO4 | header.GUEST_TSO6 | header.GUEST_ECN, 0),
        (header.GUEST_CSUM, 0),
        (header.GUEST_CSUM | header.GUEST_TSO4, 1 << TCPV4),
        (header.GUEST_CSUM | header.GUEST_TSO6 | header.GUEST_ECN, 1 << TCPV6 | ECN),
        (header.CSUM | header.HOST_TSO4, 0),
    ],
)
def test_super_frames_that_the_other_side_takes(features, types):
    assert header.taken_whole(features) == types
