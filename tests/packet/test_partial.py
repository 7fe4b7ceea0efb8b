"""partial: each protocol's own checksum is believed, and no place in front of it or beside it.

Whole packets: tests/nodes/ip4/test_input.py and tests/nodes/ip6/test_input.py.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import partial
from vforward.jit.kernel import i64, kernel
from vforward.layout import CSUM_PARTIAL, META
from vforward.packet.partial import is_harmful, is_partial_at

L4 = 172


@kernel
def call(meta, protocol, piece, field):
    harmful = is_harmful(meta, i64(0), i64(L4), protocol, piece)
    return harmful, is_partial_at(meta, i64(0), i64(L4), field)


def asked(start, off, protocol=17, *, piece=False, flags=CSUM_PARTIAL, field=6):
    meta = np.zeros(1, META)
    meta["csum_start"], meta["csum_off"], meta["flags"] = start, off, flags
    harmful, own = call(meta, protocol, piece, field)
    assert meta["flags"] == flags
    return bool(harmful), bool(own)


def test_without_a_flag_the_fields_mean_nothing():
    assert asked(0, 0, flags=0) == (False, False)
    assert asked(L4, 6, flags=0) == (False, False)


@given(
    st.integers(0, 255),
    st.one_of(st.integers(L4 - 24, L4 + 24), st.integers(0, 0xFFFF)),
    st.one_of(st.integers(0, 20), st.integers(0, 0xFFFF)),
    st.booleans(),
)
def test_everywhere(protocol, start, off, piece):
    icmp = 58 if protocol == 58 else 1
    own = (start, off) == partial.own(L4, protocol, icmp)
    behind = start + off >= L4 + 8 and protocol != 6
    good = start + off >= L4 if piece else own or behind
    assert asked(start, off, protocol, piece=piece)[0] == (not good)


@pytest.mark.parametrize("start", [L4 - 1, L4, L4 + 1])
@pytest.mark.parametrize("off", [5, 6, 7])
def test_its_own(start, off):
    assert asked(start, off)[1] == ((start, off) == (L4, 6))
