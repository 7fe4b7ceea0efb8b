"""check finds what is wrong."""

import numpy as np
import pytest

from tables.session_world import World, endpoint
from vforward.tables import session as t

SERVER = endpoint(0xC0000201, 80)


@pytest.fixture
def world():
    made = World(7)
    made.put(bytes(8))
    for n in range(4):
        made.open(endpoint(0x0A000001, n), SERVER, grant=t.Grant(3, 0, 9, 8, 7, 0))
    made.close(2)
    made.sessions.check()
    return made


def forget_an_entry(parts):
    parts.entries[np.flatnonzero(parts.entries)[0]] = 0


def miscount(parts):
    parts.head[t.OPEN] += np.uint64(1)


def miscount_embryonic(parts):
    parts.head[t.EMBRYONIC] += np.uint64(1)


def cut_the_list(parts):
    parts.cold["prev"][4] = 1


def lose_a_record(parts):
    parts.head[t.FREE_FIRST] = 0


def miscount_a_limit(parts):
    parts.limits[9] += np.uint32(1)


def miscount_a_source(parts):
    parts.sources[np.flatnonzero(parts.sources)[0]] += np.uint64(1)


def change_a_key(parts):
    parts.hot["k1"][1] ^= np.uint64(1)


def wrong_generation(parts):
    parts.cold["generation"][1] += np.uint32(1)


@pytest.mark.parametrize(
    "harm",
    [
        forget_an_entry, miscount, miscount_embryonic, cut_the_list, lose_a_record,
        miscount_a_limit, miscount_a_source, change_a_key, wrong_generation,
    ],
)  # fmt: skip
def test_check(world, harm):
    harm(world.sessions.parts)
    with pytest.raises(AssertionError):
        world.sessions.check()
