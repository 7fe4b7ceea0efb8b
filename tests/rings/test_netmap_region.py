"""Regions: sealed, shared, with every buffer in one place."""

import mmap
import os

import pytest

from vforward.errors import PortError
from vforward.rings.netmap_layout import slots_at
from vforward.rings.netmap_region import Region, map_shared


@pytest.fixture
def region():
    made = Region("t", ((4, 4),), 10)
    yield made
    made.close()


@pytest.mark.parametrize("size", [0, 4096, 1 << 30])
def test_its_size_is_for_good(region, size):
    with pytest.raises(PermissionError):
        os.ftruncate(region.descriptor, size)


def test_others_see_what_is_written(region):
    other = map_shared(region.descriptor, region.where.size)
    region.memory[5000] = 77
    assert other[5000] == 77


def test_buffers_are_given_once(region):
    region.give(region.where.ends[0].tx, 4)
    region.give(region.where.ends[0].rx, 4)
    given = [
        *slots_at(region.memory, region.where.ends[0].tx, 4)["buf_idx"].tolist(),
        *slots_at(region.memory, region.where.ends[0].rx, 4)["buf_idx"].tolist(),
        *region.free,
    ]
    assert sorted(given) == list(range(2, 12))


def test_what_does_not_fit_is_an_error(monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(PortError, match="No space left"):
        Region("t", ((4, 4),), 10)


def test_closing_keeps_nothing(region):
    descriptor = region.descriptor
    region.close()
    region.close()
    with pytest.raises(OSError, match="Bad file"):
        mmap.mmap(descriptor, 4096)
