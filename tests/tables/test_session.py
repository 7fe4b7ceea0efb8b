"""The layout: what a session costs, where things lie; keys and hash."""

import numpy as np
import pytest

from vforward.jit.kernel import kernel
from vforward.tables import session as t

SEED = bytes(range(48))


def made(capacity):
    array = np.zeros(t.words_for(capacity), np.uint64)
    t.prepare(array, capacity, SEED)
    return array


@pytest.mark.parametrize("capacity", [2**16 - 1, 2**20 - 1])
def test_a_session_costs_128_bytes_at_most(capacity):
    assert t.words_for(capacity) * 8 / capacity <= 128


@kernel
def _sizes(sessions):
    s = t.shard(sessions)
    s.hot[1].k3 = np.uint64(33)
    s.cold[1].hits = 44
    s.entries[5] = 55
    s.sources[0] = np.uint64(66)
    s.limits[t.LIMITS_MAX - 1] = 77
    same = s.words[8 + 3] == np.uint64(33)
    return s.hot.size, s.words.size, s.cold.size, s.entries.size, s.sources.size, same


@pytest.mark.parametrize("capacity", [1, 2, 1000, 1023])
def test_kernels_and_python_see_the_same_parts(capacity):
    array = made(capacity)
    parts = t.arrays(array)
    *sizes, same = _sizes(array)
    assert same
    assert sizes == [
        part.size for part in (parts.hot, parts.words, parts.cold, parts.entries, parts.sources)
    ]
    assert parts.hot[1]["k3"] == 33
    assert parts.cold[1]["hits"] == 44
    assert (parts.entries[5], parts.sources[0], parts.limits[-1]) == (55, 66, 77)
    ends = [part.ctypes.data + part.nbytes for part in parts]
    assert max(ends) <= array.ctypes.data + array.nbytes


def test_no_packet_has_the_key_of_record_0():
    parts = t.arrays(made(3))
    assert parts.hot[0]["k0"] == parts.hot[0]["k2"] == 0xFFFFFFFFFFFFFFFF


@pytest.mark.parametrize("capacity", [0, -1, 1 << 24])
def test_sizes_that_cannot_be(capacity):
    with pytest.raises(ValueError, match="sessions"):
        t.words_for(capacity)


@kernel
def _key(src, dst, protocol, zone):
    k0, k1 = t.key4(src, dst, protocol, zone)
    return k0, k1, t.source4(k0, k1), t.destination4(k0, k1)


def test_keys():
    src, dst = 0xFFFFFFFF << 16 | 0xFFFF, 0x01020304 << 16 | 5
    k0, k1, *ends = _key(src, dst, 255, 63)
    assert (int(k0), int(k1)) == (63 << 56 | 255 << 48 | 0xFFFF0005, 0xFFFFFFFF01020304)
    assert ends == [src, dst]


@kernel
def _spread(sessions, counts, n):
    s = t.shard(sessions)
    for k in range(n):
        mixed = t.hash4(
            s, np.uint64(6 << 48 | k), np.uint64(0x0A000001 << 32 | 0x0A000000 + k % 251)
        )
        counts[mixed >> np.uint64(54)] += 1


def test_keys_in_a_row_spread_evenly():
    counts = np.zeros(1024, np.int64)
    _spread(made(1000), counts, 1 << 17)
    assert counts.min() > 60
    assert counts.max() < 200


def test_timeouts_are_those_of_the_rfcs():
    words = made(3)[t.TIMEOUTS : t.TIMEOUTS + len(t.KINDS)]
    found = dict(zip(t.KINDS, words.tolist(), strict=True))
    assert found["tcp-established"] >= 2 * 3600 + 4 * 60  # RFC 5382 REQ-5
    assert min(found["tcp-opening"], found["tcp-closing"]) >= 240
    assert found["udp"] >= 300  # RFC 4787 REQ-5
    assert found["icmp"] >= 60  # RFC 5508 REQ-2
