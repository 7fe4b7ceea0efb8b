"""The table of addresses against lists of (ip, prefix length)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import lpm
from strategies import addresses as any_ip
from vforward.tables import TableFull
from vforward.tables import addresses as table

ours = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 65535]),
        any_ip().filter(bool),
        st.sampled_from([0, 1, 8, 16, 24, 30, 31, 32]),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(
    ours=ours, gone=st.lists(st.integers(0, 5)), port=st.sampled_from([1, 2, 65535]), ip=any_ip()
)
def test_standing_is_what_a_list_says(ours, gone, port, ip):
    made = np.zeros(8, table.ADDRESS)
    model = {}
    for number, own, length in ours:
        table.add(made, number, own, length)
        model[number, own] = length
    for i in gone:
        key = ours[i][:2] if i < len(ours) else (7, 7)
        assert table.delete(made, *key) == (model.pop(key, None) is not None)
    for asked in [ip, *(own for _, own, _ in ours), *(own ^ 1 for _, own, _ in ours)]:
        of_port = {own: n for (number, own), n in model.items() if number == port}
        covered = any(lpm.covers(own, n, asked) for own, n in of_port.items())
        expected = table.ON_LINK if covered else table.ELSEWHERE
        expected = table.OURS if asked in of_port else expected
        assert table.standing(made, port, asked) == expected
        assert dict(table.of_port(made, port)) == {o: lpm.mask(n) for o, n in of_port.items()}


def test_a_full_table_says_so_and_a_known_address_still_changes():
    made = np.zeros(2, table.ADDRESS)
    table.add(made, 1, 5, 24)
    table.add(made, 1, 6, 24)
    with pytest.raises(TableFull):
        table.add(made, 1, 7, 24)
    table.add(made, 1, 6, 32)
    assert dict(table.of_port(made, 1)) == {5: 0xFFFFFF00, 6: 0xFFFFFFFF}
