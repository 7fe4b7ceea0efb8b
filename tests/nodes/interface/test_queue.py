"""queue: all packets go on, as they are, a round later."""

from nodes.network import run_both
from vforward.graph.node import Kind
from vforward.nodes.interface.queue import NODE


def test_passes_everything_on():
    frames = [bytes([i]) * i for i in range(100)] + [bytes(5000)]
    result = run_both(NODE, frames)
    assert result.out == {"next": frames}


def test_closes_cycles():
    assert NODE.kind is Kind.QUEUE
