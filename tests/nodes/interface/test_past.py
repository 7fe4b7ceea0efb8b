"""arc-past: on along the arc."""

from hypothesis import given, settings
from hypothesis import strategies as st

from vforward.graph.arcs import END
from vforward.nodes.interface.past import NODE
from vforward.testing.run_node import run_node


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.sets(st.integers(0, 61)), min_size=1, max_size=8))
def test_each_packet_takes_the_next_of_its_features(features):
    def mask(record, i):
        record["features"] = sum(1 << bit for bit in features[i]) | END

    result = run_node(NODE, [b"a" * 60] * len(features), meta=mask)
    assert result.edges == [f"arc-{min(f)}" if f else "arc-end" for f in features]
    assert result.frames == [b"a" * 60] * len(features)
    for record, left in zip(result.meta, features, strict=True):
        rest = sorted(left)[1:]
        assert int(record["features"]) == (sum(1 << bit for bit in rest) | END if left else 0)
