"""The null port swallows, and counts what it swallowed."""

from vforward.io.null import NullPort
from vforward.testing import run_node


def test_it_swallows_and_counts():
    frames = [b"", b"x" * 60, b"y" * 6000]
    port = NullPort(mtu=9000)
    port.open(3, None)
    assert (port.rx(), port.mac, port.mtu) == (None, b"\x02vf\0\0\3", 9000)
    node, tables = port.tx()
    result = run_node(node, frames, tables=tables)
    assert result.edges == ["held"] * 3
    assert result.held == []
    assert result.counters == {"bytes": 6060}
    result.pool.check()
    port.close()


def test_a_given_mac_is_kept():
    port = NullPort(mac=b"\2\0\0\0\0\7")
    port.open(0, None)
    assert port.mac == b"\2\0\0\0\0\7"
