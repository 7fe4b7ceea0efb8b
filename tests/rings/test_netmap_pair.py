"""A pipe at the server: two ends, one owner each, buffers that are neither lost nor doubled."""

import errno
import socket

import pytest

from fuzzing import open_fds
from rings.netmap_ends import pipe
from vforward.errors import PortError
from vforward.rings import netmap_pipe
from vforward.rings.netmap_layout import RX, TX, extra_list
from vforward.rings.netmap_names import parse_name
from vforward.rings.netmap_pair import SPARE, Pair
from vforward.rings.netmap_sync import OK, VIOLATION

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
    found = list(pair.region.free)
    for end, owned in enumerate(netmap_pipe.owned_slots(memory, where)):
        for slots, numbers in owned:
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


def test_no_descriptors_are_left_for_it(monkeypatch):
    def none():
        raise OSError(errno.EMFILE, "Too many open files")

    before = open_fds()
    monkeypatch.setattr(socket, "socketpair", none)
    with pytest.raises(OSError, match="Too many"):
        Pair(MASTER, 8, 4, 0)
    assert open_fds() <= before


@pytest.mark.parametrize("end", [0, 1])
def test_the_next_owner_is_not_woken_for_the_last_one(end):
    """Who was killed while asleep has asked for wakeups; and what was sent to wake it nobody has read."""
    pair, *ends = pipe(8, 8)
    mine, peer = ends[end], ends[1 - end]
    mine.tx["head"] = mine.tx["cur"] = 1
    netmap_pipe.pipe_txsync(mine.krings)
    netmap_pipe.pipe_rxsync(peer.krings)
    for which in (TX, RX):
        netmap_pipe.pipe_waits(mine.krings, which, 1)
    pair.bells[1 - end].send(b"w" * 9)
    pair.release(end)
    for ring in (peer.tx, peer.rx):
        ring["head"] = ring["cur"] = 1
    assert netmap_pipe.pipe_txsync(peer.krings) == OK
    assert netmap_pipe.pipe_rxsync(peer.krings) == OK
    pair.take((MASTER, SLAVE)[end], 0)
    with pytest.raises(BlockingIOError):
        pair.bells[end].recv(1, socket.MSG_DONTWAIT)
    pair.close()


def sends(two):
    two.tx["head"] = two.tx["cur"] = 3
    assert not netmap_pipe.pipe_txsync(two.krings) & VIOLATION


def returns(two):
    two.rx["head"] = two.rx["cur"] = 2
    assert not netmap_pipe.pipe_rxsync(two.krings) & VIOLATION


@pytest.fixture
def halfway(monkeypatch):
    """A pipe on its way, 8 slots to its second end and 4 back, and what that does in a repair's midst."""
    pair, one, two = pipe(8)
    one.tx["head"] = one.tx["cur"] = 3
    netmap_pipe.pipe_txsync(one.krings)
    netmap_pipe.pipe_rxsync(two.krings)
    owned_slots = netmap_pipe.owned_slots

    def release(act):
        def at_the_same_time(*where):
            found = owned_slots(*where)
            act(two)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(netmap_pipe, "owned_slots", at_the_same_time)
            assert not pair.release(0)

    yield pair, one, two, release
    pair.close()


@pytest.mark.parametrize("act", [sends, returns])
def test_what_a_living_end_gives_away_during_the_repair_is_no_damage(halfway, act):
    pair, one, two, release = halfway
    before, free = everything(pair), list(pair.region.free)
    sent, returned = two.tx_slots["buf_idx"].tolist(), two.rx_slots["buf_idx"].tolist()
    release(act)
    assert pair.region.free == free
    assert everything(pair) == before
    if act is sends:
        assert one.rx_slots["buf_idx"][:3].tolist() == sent[:3]
    else:
        assert one.tx_slots["buf_idx"][:2].tolist() == returned[:2]


@pytest.mark.parametrize(("act", "ring"), [(sends, "tx_slots"), (returns, "rx_slots")])
def test_a_buffer_of_the_living_ends_is_damage_wherever_that_gives_it(halfway, act, ring):
    pair, one, two, release = halfway
    before = set(everything(pair))
    (lost,) = one.tx_slots["buf_idx"][4:5].tolist()
    one.tx_slots["buf_idx"][4] = getattr(two, ring)["buf_idx"][0]
    release(act)
    assert set(everything(pair)) == before - {lost}
    assert len(everything(pair)) == len(before) - 1
