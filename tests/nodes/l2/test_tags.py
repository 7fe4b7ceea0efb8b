"""Tags taken off and put on, against the oracle."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.l2 import switch
from oracles import bridge as oracle
from vforward.jit.kernel import i64, kernel
from vforward.layout import BUF_STRIDE, GSO, HEADROOM, META
from vforward.nodes.l2 import tags
from vforward.tables.ports import PORT

TAG = st.tuples(st.sampled_from([switch.C_TAG, switch.S_TAG]), st.integers(1, 4094))


@kernel
def _both(data, meta, ports):
    """come_in, then go_out if that fitted; 1 and 2 for the ones that did."""
    if not tags.come_in(data, meta, i64(0), ports[0]):
        return 0
    return 2 if tags.go_out(data, meta, i64(0), ports[0]) else 1


@kernel
def _changes(ports):
    return tags.changes_in(ports[0]), tags.changes_out(ports[0])


@settings(max_examples=200, deadline=None)
@given(
    switch.frames().filter(lambda frame: 14 <= len(frame) < 1500),
    st.tuples(st.integers(0, 2), st.lists(TAG, max_size=2)),
    st.tuples(st.integers(0, 2), st.lists(TAG, max_size=2)),
    st.booleans(),
)
def test_against_the_oracle(frame, come_in, go_out, gso):
    data, meta, ports = np.zeros((1, BUF_STRIDE), np.uint8), np.zeros(1, META), np.zeros(1, PORT)
    for way, (pop, push) in (("in", come_in), ("out", go_out)):
        ports[0][f"{way}_pop"], ports[0][f"{way}_push"] = pop, len(push)
        ports[0][f"{way}_tags"][: len(push)] = [kind << 16 | vid for kind, vid in push]
    data[0, HEADROOM : HEADROOM + len(frame)] = np.frombuffer(frame, np.uint8)
    meta[0]["off"], meta[0]["end"], meta[0]["hdr_len"] = HEADROOM, HEADROOM + len(frame), 100
    meta[0]["flags"] = GSO if gso else 0
    fitted = _both(data, meta, ports)
    want, steps = frame, 0
    for pop, push in (come_in, go_out):
        changed = oracle.retag(want, pop, tuple(push))
        if changed is None:
            break
        want, steps = changed, steps + 1
    assert fitted == steps
    off, end = int(meta[0]["off"]), int(meta[0]["end"])
    assert data[0, off:end].tobytes() == want
    assert meta[0]["hdr_len"] == (100 + len(want) - len(frame) if gso else 100)
    assert _changes(ports) == (come_in != (0, []), go_out != (0, []))
