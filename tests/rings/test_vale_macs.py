"""The MAC table of a VALE switch: known, moved, aged, forgotten, pushed out."""

import numpy as np
import pytest

from vforward.rings.vale_macs import (
    BUCKETS,
    PER_AGE,
    WAYS,
    age_out,
    forget,
    heard,
    lookup,
    make_macs,
)


@pytest.fixture
def macs():
    return make_macs()


@pytest.mark.parametrize("mac", [1, 0xFEFFFFFFFFFF, 0x020000000001])
@pytest.mark.parametrize("port", [0, 1, 253])
def test_a_station_is_found_where_it_was_heard_last(macs, mac, port):
    assert lookup(macs, mac) == -1
    heard(macs, mac, 7, 3)
    heard(macs, mac, port, 3)
    assert lookup(macs, mac) == port
    assert np.count_nonzero(macs) == 1


def test_no_address_is_not_learned(macs):
    heard(macs, 0, 5, 0)
    assert lookup(macs, 0) == -1
    assert not macs.any()


@pytest.mark.parametrize("start", [0, 250])
def test_the_silent_are_forgotten(macs, start):
    heard(macs, 10, 1, start)
    heard(macs, 20, 1, start)
    for later in range(1, PER_AGE + 1):
        assert age_out(macs, (start + later) % 256) == 0
        heard(macs, 20, 1, (start + later) % 256)
    assert age_out(macs, (start + PER_AGE + 1) % 256) == 1
    assert (lookup(macs, 10), lookup(macs, 20)) == (-1, 1)


def test_a_ports_stations_are_forgotten(macs):
    for mac in range(1, 200):
        heard(macs, mac, mac % 3, 0)
    forget(macs, 1)
    assert [lookup(macs, mac) for mac in range(1, 200)] == [
        -1 if mac % 3 == 1 else mac % 3 for mac in range(1, 200)
    ]


def test_a_full_bucket_loses_the_one_that_was_silent_longest(macs):
    multiplier = 0x9E3779B97F4A7C15
    same = [mac for mac in range(1, 200_000) if (mac * multiplier % 2**64) >> 52 == 5][: WAYS + 1]
    assert len(same) == WAYS + 1
    assert BUCKETS == 2**12
    for age, mac in enumerate(same[:WAYS]):
        heard(macs, mac, 1, 20 - age)
    heard(macs, same[WAYS], 2, 21)
    assert [lookup(macs, mac) for mac in same] == [*[1] * (WAYS - 1), -1, 2]
