"""A pipe at the server: two ends, one owner each, buffers that are neither lost nor doubled."""

import pytest

from vforward.errors import PortError
from vforward.rings.netmap_layout import extra_list
from vforward.rings.netmap_names import parse_name
from vforward.rings.netmap_pair import SPARE, Pair

MASTER, SLAVE = parse_name("x{1"), parse_name("x}1")


@pytest.fixture
def pair():
    made = Pair(MASTER, 8, 4, 3)
    yield made
    if made.region.descriptor >= 0:
        made.close()


def everything(pair):
    """Where each buffer is: in the slots of a tx ring, in a list of extra ones, or free."""
    where, memory = pair.region.where, pair.region.memory
    from vforward.rings.netmap_pipe import owned_slots

    found = list(pair.region.free)
    for end in (0, 1):
        for slots, numbers in owned_slots(memory, where, end):
            found += [int(slots["buf_idx"][i]) for i in numbers]
        if pair.open[end]:
            found += extra_list(memory, where, end)
    return sorted(found)


@pytest.mark.parametrize(("name", "tx", "rx"), [(MASTER, 8, 4), (SLAVE, 4, 8)])
def test_the_first_end_says_how_many_slots(name, tx, rx):
    pair = Pair(name, 8, 4, 0)
    assert pair.region.where.slots[name.end] == (8, 4)
    reply, _ = pair.take(SLAVE if name is MASTER else MASTER, 0)
    assert (reply.tx_slots, reply.rx_slots) == (4, 8)
    pair.close()


def test_rings_cross_over(pair):
    one, _ = pair.take(MASTER, 0)
    two, _ = pair.take(SLAVE, 0)
    assert (one.tx_peer, one.rx_peer) == (two.rx, two.tx)
    assert (two.tx_peer, two.rx_peer) == (one.rx, one.tx)
    assert (one.tx_link, one.rx_link) == (two.rx_link, two.tx_link)
    assert one.mem_id == two.mem_id


def test_an_end_has_one_owner(pair):
    pair.take(MASTER, 0)
    with pytest.raises(PortError, match="in use"):
        pair.take(MASTER, 0)
    pair.take(SLAVE, 0)


def test_every_buffer_is_somewhere(pair):
    all_of_them = list(range(2, 2 + 8 + 4 + SPARE + 3))
    assert everything(pair) == all_of_them
    pair.take(MASTER, 5)
    pair.take(SLAVE, 10_000)  # as many as there are
    assert everything(pair) == all_of_them
    assert pair.region.free == []
    assert not pair.release(SLAVE.end)
    assert everything(pair) == all_of_them
    assert pair.release(MASTER.end)


def test_an_end_that_cannot_be_repaired_is_refused(pair):
    pair.take(MASTER, 0)
    pair.take(SLAVE, SPARE + 3)
    from vforward.rings.netmap_layout import slots_at

    slots_at(pair.region.memory, pair.region.where.ends[0].tx, 8)["buf_idx"] = 0
    assert not pair.release(MASTER.end)
    with pytest.raises(PortError, match="damage"):
        pair.take(MASTER, 0)
