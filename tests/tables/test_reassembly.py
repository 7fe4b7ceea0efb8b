"""The table of datagrams against a dict; nodes/reassembly/test_pieces holds what becomes of packets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.network import Heap
from vforward.layout import META, NIL
from vforward.tables import reassembly as table
from vforward.tables.reassembly import Reassembly
from vforward.tables.reassembly_check import check

PLAIN = np.zeros(4096, META)
SIZE = 8


def key(n):
    """Names that differ in one part each."""
    parts = [7, 7, 7, 7, int(table.word_of(0, 17, 7))]
    parts[n % 5] += n
    return tuple(np.uint64(part) for part in parts)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from(("begin", "begin", "forget", "hold", "release")),
                  st.integers(0, 15)), max_size=80
    )
)  # fmt: skip
def test_against_a_dict(steps):
    made = Reassembly(Heap(), 1, SIZE, 12).ip4
    model, row = {}, 1
    for now, (step, n) in enumerate(steps, 1):
        at = int(table.find(made, key(n)))
        assert (at != 0) == (n in model)
        if step == "begin" and n not in model and not table.is_full(made):
            assert table.begin(made, key(n), np.uint64(now)) == table.find(made, key(n))
            model[n] = []
        elif step == "forget" and model.get(n) == []:
            table.forget(made, at)
            del model[n]
        elif step == "hold" and n in model:
            room = len(model[n]) < table.QUEUE and sum(map(len, model.values())) < 12
            assert table.hold(made, PLAIN, at, row) == room
            model[n] += [row] * room
            row += 1
        elif step == "release" and n in model:
            wanted = model[n].pop(0) if model[n] else NIL
            assert table.release(made, PLAIN, at) == wanted
        check(made, PLAIN)
        assert table.is_full(made) == (len(model) == SIZE)
        first = int(table.oldest(made))
        assert first == (table.find(made, key(next(iter(model)))) if model else 0)
        assert sorted(table.held_rows(made)) == sorted(
            row for rows in model.values() for row in rows
        )


def test_time():
    made = Reassembly(Heap(), 1000, SIZE)
    for its, seconds in ((made.ip4, 30), (made.ip6, 60)):
        at = table.begin(its, key(0), np.uint64(5000))
        over = [table.is_over(its, at, np.uint64(5000 + k)) for k in
                (0, 1, 1000 * seconds - 1, 1000 * seconds, 1 << 60)]  # fmt: skip
        assert over == [False, False, False, True, True]
        assert not table.is_over(its, at, np.uint64(4000))


def test_names():
    """Every part of a name counts."""
    words = {int(table.word_of(zone, protocol, ident)) for zone in (0, 1, 63)
             for protocol in (0, 6, 255) for ident in (0, 1, 0xFFFFFFFF)}  # fmt: skip
    assert len(words) == 27
    assert 0 not in words


def test_the_hash_is_secret_and_spreads():
    """Names that count up in any part find as many buckets as random ones would."""
    first, second = (Reassembly(Heap(), 1).ip4 for _ in range(2))
    for part in range(5):
        for step in (1, 1 << 16, 1 << 32, 1 << 47):
            names = [[0, 0, 0, 0, 1 << 48] for _ in range(512)]
            for n, name in enumerate(names):
                name[part] += n * step
            names = [tuple(map(np.uint64, name)) for name in names]
            mine, others = (
                [int(table._bucket(t, name)) for name in names] for t in (first, second)
            )
            assert mine != others
            assert len(set(mine)) > 340  # of 1024: 403 on average


@pytest.mark.parametrize(("n", "items"), [(1, 2), (2, 3), (3, 5), (1000, 1025), (1024, 1025)])
def test_sizes(n, items):
    assert table.items_for(n) == items


def test_what_nodes_take():
    made = Reassembly(Heap(), 1000, SIZE)
    assert made.tables == {"reassembly4": made.ip4, "reassembly6": made.ip6}
    for n, its in enumerate((made.ip4, made.ip6)):
        at = table.begin(its, key(n), np.uint64(1))
        assert table.hold(its, PLAIN, at, 9 + n)
    assert made.held_rows() == [9, 10]
