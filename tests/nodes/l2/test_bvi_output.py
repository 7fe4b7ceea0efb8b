"""bvi-output: the BVI that a frame leaves by is the port that it comes in by."""

from nodes.network import run_both
from vforward.graph.node import Kind
from vforward.nodes.l2.bvi_output import NODE


def test_frames_enter_the_bridge():
    def prepare(record, i):
        record["rx_port"], record["tx_port"] = 1, 7 + i % 2

    frames = [bytes([i]) * 60 for i in range(5)]
    result = run_both(NODE, frames, meta=prepare)
    assert NODE.kind is Kind.QUEUE
    assert result.edges == ["next"] * 5
    assert result.frames == frames
    assert result.meta["rx_port"].tolist() == [7, 8, 7, 8, 7]
