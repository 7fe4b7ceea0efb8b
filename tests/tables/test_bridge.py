"""Members of bridge domains against a list, and the words that say who may send to whom."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.network import Heap
from vforward.jit.kernel import kernel
from vforward.tables import TableFull, bridge


def make() -> dict[str, Any]:
    heap: Any = Heap()
    return bridge.make_tables(heap, 16)


@kernel
def _refuses(rx, tx):
    return bridge.refuses(rx, tx)


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 255]), st.sampled_from([0, 1, 255])),
    st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 255]), st.sampled_from([0, 1, 255])),
    st.booleans(),
)
def test_who_sends_to_whom(rx, tx, bvi):
    words = [
        np.uint32(bridge.relay_word(port, domain, group, bvi=its))
        for (port, domain, group), its in ((rx, bvi), (tx, False))
    ]
    same_group = rx[2] == tx[2] != 0
    wanted = rx[1] != tx[1] or same_group or (rx[0] == tx[0] and rx[2] == tx[2] == 0)
    assert _refuses(*words) == wanted
    assert _refuses(words[0], np.uint32(bridge.relay_word(12, rx[1], bvi=True))), "another way"
    assert _refuses(words[0], np.uint32(0)), "a port of no domain"
    assert [bridge.domain_of(int(word)) for word in words] == [rx[1], tx[1]]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=30))
def test_members(changes):
    tables = make()
    domains, members = tables["domains"], tables["members"]
    ours: set[int] = set()
    for add, port in changes:
        if add and port not in ours:
            bridge.add_member(domains, members, 3, port)
            ours.add(port)
        elif not add and port in ours:
            bridge.delete_member(domains, members, 3, port)
            ours.remove(port)
        elif not add:
            with pytest.raises(KeyError):
                bridge.delete_member(domains, members, 3, port)
        found = list(bridge.members_of(domains, members, 3))
        assert sorted(found) == sorted(ours)
        assert int(domains[3]["n"]) <= 6
    assert not members[: 3 * bridge.MEMBERS_MAX].any()
    assert not members[4 * bridge.MEMBERS_MAX :].any()


def test_a_list_is_full():
    tables = make()
    domains, members = tables["domains"], tables["members"]
    for port in range(1, bridge.MEMBERS_MAX + 1):
        bridge.add_member(domains, members, 255, port)
    with pytest.raises(TableFull, match="members"):
        bridge.add_member(domains, members, 255, 9)
    assert len(list(bridge.members_of(domains, members, 255))) == bridge.MEMBERS_MAX


def test_the_count_is_the_first_word():
    assert bridge.DOMAIN.fields is not None
    assert bridge.DOMAIN.fields["count"][1] == 0
