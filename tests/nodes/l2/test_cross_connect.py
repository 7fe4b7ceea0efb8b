"""l2-cross-connect against the oracle."""

from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.network import NAME, NUMBER, run_both
from vforward.nodes.l2.cross_connect import NODE


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(("x0", "x1")), strategies.frames()), min_size=1, max_size=8)
)
def test_against_the_oracle(arrivals):
    arrivals = [(name, frame) for name, frame in arrivals if len(frame) >= 14]

    def prepare(record, i):
        record["rx_port"] = NUMBER[arrivals[i][0]]

    result = run_both(NODE, [frame for _, frame in arrivals], meta=prepare)
    router = strategies.router()
    for i, (name, frame) in enumerate(arrivals):
        want = router.receive(name, frame)
        assert result.edges[i] == "output"
        assert (NAME[int(result.meta[i]["tx_port"])], result.frames[i]) == (want.port, want.frame)


def test_chains():
    result = run_both(NODE, [bytes(9000)], rx_port=NUMBER["x1"])
    assert result.meta[0]["tx_port"] == NUMBER["x0"]
