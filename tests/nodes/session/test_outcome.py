"""The reasons are numbered as the TCP machine's verdicts: a packet's counter is the right one."""

from vforward.nodes.ip4 import session as ip4_session
from vforward.nodes.ip6 import session as ip6_session
from vforward.nodes.session.outcome import Count
from vforward.tables import session_tcp


def test_reasons_are_verdicts():
    for name in ("OUTSIDE", "BAD_FLAGS", "BAD_STATE", "SHORT"):
        assert Count[name] == getattr(session_tcp, name)
    assert session_tcp.PASS == Count.REOPENED, "0 is no reason to drop"
    assert not Count.REOPENED.drop


def test_both_families_have_the_same():
    assert ip4_session.NODE.counter_labels == ip6_session.NODE.counter_labels
    assert ip4_session.NODE.edge_labels == ip6_session.NODE.edge_labels
