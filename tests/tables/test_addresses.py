"""The table of addresses against lists of (ip, prefix length)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import addresses as any_ip
from vforward.tables import TableFull
from vforward.tables import addresses as table

both = any_ip().map(table.mapped_int) | st.integers(0, (1 << 128) - 1)
"""IPv4 and IPv6 addresses as 128 bits."""

ours = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 65535]),
        both,
        st.sampled_from([0, 1, 10, 63, 64, 65, 96, 104, 120, 126, 127, 128]),
    ),
    max_size=6,
)


def covers(own, length, ip):
    return (own ^ ip) >> 128 - length == 0


@settings(deadline=None)
@given(ours=ours, gone=st.lists(st.integers(0, 5)), port=st.sampled_from([1, 2, 65535]), ip=both)
def test_standing_is_what_a_list_says(ours, gone, port, ip):
    made = np.zeros(8, table.ADDRESS)
    model = {}
    for number, own, length in ours:
        table.add(made, number, own, length)
        model[number, own] = length
    for i in gone:
        key = ours[i][:2] if i < len(ours) else (7, 7)
        assert table.delete(made, *key) == (model.pop(key, None) is not None)
    near = [own ^ 1 << bit for _, own, _ in ours for bit in (0, 8, 63, 64, 127)]
    for asked in [ip, *(own for _, own, _ in ours), *near]:
        of_port = {own: n for (number, own), n in model.items() if number == port}
        covered = any(covers(own, n, asked) for own, n in of_port.items())
        expected = table.ON_LINK if covered else table.ELSEWHERE
        expected = table.OURS if asked in of_port else expected
        high, low = (np.uint64(half) for half in table.halves(asked))
        assert table.standing(made, port, high, low) == expected
        assert dict(table.of_port(made, port)) == of_port


def test_a_full_table_says_so_and_a_known_address_still_changes():
    made = np.zeros(2, table.ADDRESS)
    table.add(made, 1, 5, 24)
    table.add(made, 1, 6, 24)
    with pytest.raises(TableFull):
        table.add(made, 1, 7, 24)
    table.add(made, 1, 6, 32)
    assert dict(table.of_port(made, 1)) == {5: 24, 6: 32}
