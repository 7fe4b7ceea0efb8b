# SPDX-License-Identifier: Apache-2.0
"""Memory of a driver: parts where VIRTIO wants them, apart from each other; sealed; gone at the end."""

import mmap
import os

import pytest

from vforward.io.virtio_memory import GUEST, DriverMemory, parts
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver
from vforward.rings.net_features import HEADER_BYTES


@pytest.mark.parametrize("size", [1, 2, 64, 1024, 32768])
def test_parts_lie_one_behind_the_other(size):
    at = parts(4096, size)
    lengths = [vq.part_bytes(part, size, vq.EVENT_IDX) for part in (vq.DESC, vq.AVAIL, vq.USED)]
    for start, length, following in zip(at, [*lengths, size * driver.STRIDE], at[1:], strict=False):
        assert start + length <= following
    assert at.desc % 16 == at.end % 64 == 0
    assert (at.buffers + HEADER_BYTES) % 64 == driver.STRIDE % 64 == 0  # frames begin cache lines
    assert at.avail % 2 == at.used % 4 == 0
    assert (at.avail + 4) % 64 == (at.used + 4) % 64 == 0  # the rings begin cache lines


def test_both_sides_see_it_and_neither_can_shrink_it():
    memory = DriverMemory(2, 64)
    region = memory.region
    assert (region.guest, region.user, region.offset) == (GUEST, GUEST, 0)
    assert os.fstat(memory.fd).st_size == region.size
    queue = driver.new(64)
    memory.begin(1, queue, receives=True)
    assert int(queue[driver.WHERE]) == GUEST + memory.parts[1].buffers
    with mmap.mmap(memory.fd, region.size) as theirs:
        at = memory.parts[1]
        assert int.from_bytes(theirs[at.desc : at.desc + 8], "little") == GUEST + at.buffers
        assert int.from_bytes(theirs[at.avail + 2 : at.avail + 4], "little") == 64
        assert not any(theirs[: at.desc])
    with pytest.raises(PermissionError):
        os.truncate(memory.fd, 4096)
    fd = memory.fd
    memory.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
