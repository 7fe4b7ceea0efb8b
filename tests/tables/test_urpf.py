"""What lets a packet in, adjacency by adjacency; the nodes' tests hold it against the oracle."""

import numpy as np
import pytest

from vforward.tables.adjacency import ADJACENCY, Way
from vforward.tables.ports import URPF_LOOSE, URPF_STRICT
from vforward.tables.urpf import passes


@pytest.mark.parametrize(
    ("way", "loose", "strict"),
    [
        (Way.REWRITE, True, True),
        (Way.RESOLVE, True, True),
        (Way.NOTIFY, True, True),
        (Way.LOCAL, False, False),
        (Way.DROP, False, False),
        (Way.ERROR, False, False),
    ],
)
def test_every_way(way, loose, strict):
    adjacencies, buckets = np.zeros(2, ADJACENCY), np.zeros(1, np.uint32)
    adjacencies[1]["edge"], adjacencies[1]["tx_port"] = way, 3
    assert passes(adjacencies, buckets, 1, URPF_LOOSE, 3) == loose
    assert passes(adjacencies, buckets, 1, URPF_LOOSE, 4) == loose
    assert passes(adjacencies, buckets, 1, URPF_STRICT, 3) == strict
    assert not passes(adjacencies, buckets, 1, URPF_STRICT, 4)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_only_the_buckets_of_its_own_count(size):
    adjacencies, buckets = np.zeros(20, ADJACENCY), np.zeros(20, np.uint32)
    adjacencies["edge"], adjacencies["tx_port"] = Way.REWRITE, range(20)
    adjacencies[0]["edge"] = Way.MULTIPATH
    adjacencies[0]["first"], adjacencies[0]["mask"] = 3, size - 1
    buckets[:] = range(20)
    allowed = [p for p in range(1, 20) if passes(adjacencies, buckets, 0, URPF_STRICT, p)]
    assert allowed == list(range(3, 3 + size))
    assert passes(adjacencies, buckets, 0, URPF_LOOSE, 19)
