"""bvi-input against what ethernet-input's oracle says of a port without sub-interfaces."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.l2 import switch
from nodes.network import run_both
from oracles import ethernet
from vforward.layout import HEADROOM, LINK_BROADCAST
from vforward.nodes.l2.bvi_input import NODE

EDGES = {ethernet.IP4: "ip4", ethernet.ARP: "arp", 0x86DD: "ip6"}
TAGS = (ethernet.VLAN, ethernet.QINQ)


def wanted(frame: bytes) -> tuple[str, str, int]:
    """The edge, the reason, and where the network header begins."""
    header = 14
    kind = int.from_bytes(frame[12:14], "big")
    if kind in TAGS and len(frame) >= 18 and int.from_bytes(frame[14:16], "big") & 0xFFF == 0:
        kind, header = int.from_bytes(frame[16:18], "big"), 18
    if len(frame) < 14:
        return "drop", "truncated", header
    if not ethernet.is_multicast(frame) and frame[:6] != switch.BVI_MAC:
        return "drop", "not-for-us", header
    return EDGES.get(kind, "drop"), "" if kind in EDGES else "unknown-ethertype", header


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(switch.frames(), st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_against_the_oracle(given_frames):
    frames = []
    for frame, ours, priority in given_frames:
        frame = switch.BVI_MAC[: len(frame)] + frame[6:] if ours else frame
        if priority and len(frame) >= 16:
            frame = frame[:14] + bytes([frame[14] & 0xF0, 0]) + frame[16:]
        frames.append(frame)
    result = run_both(
        NODE, frames, rx_port=7, tables={"ports": switch.ports(switch.PORTS)}, compare=("flags",)
    )
    for i, frame in enumerate(frames):
        edge, reason, header = wanted(frame)
        assert (result.edges[i], result.frames[i]) == (edge, frame)
        if reason:
            assert result.reason(i) == reason
        else:
            assert result.meta[i]["l3"] == HEADROOM + header
            group = bool(result.meta[i]["flags"] & LINK_BROADCAST)
            assert group == ethernet.is_multicast(frame)
    assert sum(result.counters.values()) == result.edges.count("drop")
