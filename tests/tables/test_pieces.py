"""Ranges of what has been seen, against a set of units."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vforward.tables import pieces
from vforward.tables.reassembly import DATAGRAM

TOP = pieces.UNITS_MAX
places = st.one_of(st.integers(0, 40), st.sampled_from((TOP - 3, TOP - 1)))
cuts = st.tuples(places, st.integers(1, 3), st.sampled_from((True, True, True, False)))


def runs(units):
    return sum(u - 1 not in units for u in units)


def says(units, total, start, end, more):
    """What fits says of a piece, from the set of units that were seen."""
    mine = set(range(start, end))
    if mine <= units:
        return pieces.COPY
    if mine & units:
        return pieces.OVERLAPS
    if total is not None and (end > total or not more):
        return pieces.BEYOND
    if not more and max(units, default=0) >= end:
        return pieces.BEYOND
    return pieces.TOO_MANY if runs(units | mine) > pieces.RANGES_MAX else pieces.FITS


@settings(deadline=None, max_examples=300)
@given(st.lists(cuts, max_size=60))
def test_against_a_set(given_cuts):
    table = np.zeros(1, DATAGRAM)
    units, total = set(), None
    for start, n, more in given_cuts:
        end = min(start + n, TOP)
        found = int(pieces.fits(table[0], start, end, more))
        assert found == says(units, total, start, end, more)
        if found == pieces.FITS:
            pieces.add(table[0], start, end, more)
            units |= set(range(start, end))
            total = total if more else end
        assert table[0]["n_ranges"] == runs(units)
        assert pieces.is_whole(table[0]) == (total is not None and units == set(range(total)))


def test_gaps():
    """Every second unit, as often as may be; then the gaps are filled."""
    table = np.zeros(1, DATAGRAM)
    for k in range(pieces.RANGES_MAX):
        assert pieces.fits(table[0], 2 * k, 2 * k + 1, True) == pieces.FITS
        pieces.add(table[0], 2 * k, 2 * k + 1, True)
    last = 2 * pieces.RANGES_MAX
    assert pieces.fits(table[0], last, last + 1, True) == pieces.TOO_MANY
    assert pieces.fits(table[0], last - 1, last, False) == pieces.FITS
    for k in range(pieces.RANGES_MAX):
        assert not pieces.is_whole(table[0])
        pieces.add(table[0], 2 * k + 1, 2 * k + 2, k < pieces.RANGES_MAX - 1)
    assert pieces.is_whole(table[0])


def test_the_longest_datagram():
    table = np.zeros(1, DATAGRAM)
    pieces.add(table[0], 0, TOP - 1, True)
    assert pieces.fits(table[0], TOP - 1, TOP, False) == pieces.FITS
    pieces.add(table[0], TOP - 1, TOP, False)
    assert pieces.is_whole(table[0])
