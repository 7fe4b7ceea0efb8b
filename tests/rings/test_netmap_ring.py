"""A ring as Python programs see it: what is theirs, what they move, what they may not name."""

import numpy as np
import pytest

from vforward.rings.netmap_layout import format_end, geometry
from vforward.rings.netmap_ring import Ring


@pytest.fixture
def ring():
    where = geometry(((5, 5),), 10)
    memory = np.zeros(where.size, np.uint8)
    format_end(memory, where, 0, "t")
    return Ring(memory, where.ends[0].tx, 5)


@pytest.mark.parametrize(
    ("head", "tail", "owned"), [(0, 4, [0, 1, 2, 3]), (3, 3, []), (4, 2, [4, 0, 1]), (2, 3, [2])]
)
def test_the_users_slots(ring, head, tail, owned):
    ring.move(head=head)
    ring.words["tail"] = tail
    assert ring.owned() == owned
    assert ring.space() == len(owned)


def test_moves(ring):
    ring.advance(3)
    assert (ring.head, ring.cur, ring.tail) == (3, 3, 4)
    ring.advance(4)
    assert (ring.head, ring.cur) == (2, 2)
    ring.move(cur=1)
    assert (ring.head, ring.cur) == (2, 1)


def test_slots_are_the_memory(ring):
    ring.slots["len"][4] = 77
    assert ring.words["num_slots"] == 5
    assert ring.num_slots == 5
    assert ring.slots[4]["len"] == 77
    with pytest.raises(AttributeError):
        _ = ring.no_such_field
