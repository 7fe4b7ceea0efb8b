# SPDX-License-Identifier: Apache-2.0
"""What bridges had learned, in a new table: by the names of bridges and ports, as old as it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.network import Heap
from tables.test_mac import _learn
from vforward.tables import bridge, mac, mac_restore
from vforward.tables.mac_restore import EXPIRED, FULL, GONE, RESTORED

SIZE = mac.ENTRIES_MIN


class Bridges:
    """A table and its domains; ports 1 to 9 are members of the domain that relay says."""

    def __init__(self, members, now=0):
        shared = bridge.make_tables(Heap(), 16)
        self.domains, self.relay = shared["domains"], shared["relay"]
        self.macs = mac.MacTable(Heap(), self.domains, SIZE)
        self.domains[0]["now"] = now
        for port, domain in members.items():
            self.relay[port] = bridge.relay_word(port, domain)
            self.domains[domain]["flags"], self.domains[domain]["limit"] = bridge.LEARN, 10_000

    def learn(self, domain, address, port):
        _learn(self.macs.table, self.domains, domain, address, port)


def identity(n):
    return np.arange(n, dtype=np.int64)


def restore(old, new, names=None, numbers=None, down=0):
    names = identity(256) if names is None else names
    numbers = identity(mac.PORTS_MAX) if numbers is None else numbers
    was = int(old.domains[0]["now"])
    found = mac_restore.restore(
        old.macs.table, new.macs.table, new.domains, new.relay, names, numbers, was, down
    )
    new.macs.check()
    return {end: int(n) for end, n in enumerate(found) if n}


MEMBERS = {1: 1, 2: 1, 3: 2}


@settings(max_examples=50)
@given(
    st.dictionaries(st.tuples(st.sampled_from([1, 2]), st.integers(1, 2**46)), st.integers(0, 20))
)
def test_all_are_there_with_their_age(stations):
    old = Bridges(MEMBERS, now=0)
    for tick in range(21):
        for (domain, address), heard in stations.items():
            if heard == tick:
                old.learn(domain, address, 3 if domain == 2 else 1)
        if tick < 20:
            old.macs.tick()
    wanted = old.macs.entries()
    new = Bridges(MEMBERS, now=30)
    assert restore(old, new).get(RESTORED, 0) == len(wanted)
    assert new.macs.entries() == wanted


def test_by_names():
    old, new = Bridges({1: 1, 2: 2}), Bridges({5: 7, 6: 8})
    old.learn(1, 0x020000000001, 1)
    old.learn(2, 0x020000000002, 2)
    names, numbers = np.zeros(256, np.int64), np.zeros(mac.PORTS_MAX, np.int64)
    names[1], numbers[1] = 7, 5
    assert restore(old, new, names, numbers) == {RESTORED: 1, GONE: 1}
    assert [e[:3] for e in new.macs.entries()] == [(7, 0x020000000001, 5)]


def test_what_is_too_old_static_or_elsewhere_is_left_out():
    old = Bridges(MEMBERS)
    old.learn(1, 10, 1)
    old.learn(2, 11, 3)
    old.macs.add_static(1, 12, 1)
    assert restore(old, Bridges(MEMBERS), down=mac.PER_AGE) == {RESTORED: 2}
    assert restore(old, Bridges(MEMBERS), down=mac.PER_AGE + 1) == {EXPIRED: 2}
    assert restore(old, Bridges(MEMBERS), down=10**9) == {EXPIRED: 2}
    assert restore(old, Bridges({1: 2, 3: 2})) == {
        RESTORED: 1,
        GONE: 1,
    }  # the port is in another one
    silent = Bridges(MEMBERS)
    silent.domains[1]["flags"] = 0
    assert restore(old, silent) == {RESTORED: 1, GONE: 1}
    full = Bridges(MEMBERS)
    full.domains[1]["limit"] = 0
    assert restore(old, full) == {RESTORED: 1, FULL: 1}
    known = Bridges(MEMBERS)
    known.macs.add_static(1, 10, 2)
    assert restore(old, known) == {RESTORED: 1, GONE: 1}
    assert known.macs.lookup(1, 10) == 2


@pytest.mark.parametrize("size", [0, 8, SIZE - 1, SIZE + 8, 1 << 22])
def test_what_is_no_table_is_refused(size):
    new = Bridges(MEMBERS)
    empty = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="no table"):
        mac_restore.restore(
            np.zeros(size, np.uint64), new.macs.table, new.domains, new.relay, empty, empty, 0, 0
        )


@settings(max_examples=200)
@given(st.integers(0, 2**32))
def test_any_words_make_a_table_that_makes_sense(seed):
    """A word is somebody's, wherever it lies: nearly all are too old, or of what there is not."""
    rng = np.random.default_rng(seed)
    old, new = Bridges(MEMBERS), Bridges(MEMBERS)
    for n in range(50):
        old.learn(1, 1000 + n, 1)
    places = rng.integers(0, SIZE, 300)
    old.macs.table[places] = rng.integers(
        0, 2**64, 300, dtype=np.uint64, endpoint=False
    ) & ~np.uint64(1)
    found = restore(old, new)
    assert found.get(EXPIRED, 0) + found.get(GONE, 0) > 200
    assert sum(found.values()) == np.count_nonzero(old.macs.table)
    for entry in new.macs.entries():
        assert (entry.domain, entry.port) in {(1, 1), (1, 2), (2, 3)}
