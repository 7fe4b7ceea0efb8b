"""ip4-local against the oracle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.network import NUMBER, drops, ports, run_both
from oracles import checksum, icmp4, ip4
from strategies import Ip4Spec, ip
from vforward.layout import CSUM_PARTIAL, HEADROOM
from vforward.nodes.ip4.local import NODE


def wanted(packet, host=False):
    """(edge, reason or None, ICMP type << 8 | code or None)."""
    if host and not icmp4.is_ping(packet):
        return "punt", None, None
    if ip4.is_fragment(packet):
        return "drop", "fragment", None
    if ip4.protocol(packet) == ip4.ICMP:
        reason = icmp4.receive(packet)
        return ("drop", reason, None) if reason else ("icmp-echo", None, None)
    if ip4.protocol(packet) == ip4.TCP:
        return "drop", "no-listener", None
    return "error", None, 3 << 8 | (3 if ip4.protocol(packet) == ip4.UDP else 2)


def compare(packets, l3=14):
    """Give the packets to the node, from a port without a host and from one that has one."""
    without, with_host = (compare_at(packets, l3, host) for host in (False, True))
    assert set(with_host.edges) <= {"icmp-echo", "punt", "drop"}
    return without


def compare_at(packets, l3, host):
    known = ports().copy()
    known["host"] = 9  # of all ports but those of these packets
    known["host"][NUMBER["lan"]] = 9 * host
    frames = [b"\x5a" * l3 + packet for packet in packets]
    result = run_both(NODE, frames, l3=l3, rx_port=NUMBER["lan"], tables={"ports": known})
    assert result.frames == frames
    for i, packet in enumerate(packets):
        edge, reason, what = wanted(packet, host)
        assert result.edges[i] == edge, packet.hex()
        assert reason is None or result.reason(i) == reason
        assert what is None or result.meta[i]["scratch"] == what
    assert result.counted == drops(result)
    return result


def icmp(message, **fields):
    return Ip4Spec(message, 1, ip("10.0.0.9"), ip("10.0.0.1"), **fields).build()


def echo(body, check=None, **fields):
    """A packet with an echo request, right unless its checksum is given."""
    message = b"\x08\x00\x00\x00\x12\x34\x00\x01" + body
    check = checksum.internet(message) if check is None else check
    return icmp(message[:2] + check.to_bytes(2, "big") + message[4:], **fields)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(strategies.valid_ip4_packets(), min_size=1, max_size=12), st.sampled_from((14, 15, 18))
)
def test_against_the_oracle(packets, l3):
    compare(packets, l3)


@settings(max_examples=100, deadline=None)
@given(st.lists(strategies.icmp_messages(), min_size=1, max_size=12))
def test_icmp_messages(messages):
    compare([icmp(message) for message in messages])


@pytest.mark.parametrize("options", [b"", b"\x01" * 40])
def test_every_length_of_message(options):
    whole = echo(b"\xff\x7f" * 5)[20:]
    compare([icmp(whole[:n], options=options) for n in range(len(whole) + 1)])


def test_pings_to_a_group_are_the_hosts():
    packet = echo(b"who is there")
    groups = [ip(a) for a in ("223.255.255.255", "224.0.0.1", "239.0.0.1", "255.255.255.255")]
    packets = [ip4.with_checksum(packet[:16] + a.to_bytes(4, "big") + packet[20:]) for a in groups]
    assert compare_at(packets, 14, host=True).edges == ["icmp-echo"] + ["punt"] * 3


def test_what_is_punted_is_left_as_it_is():
    """Its checksum too: the host's kernel completes it, or does not look."""

    def prepare(record, i):
        record["flags"] |= CSUM_PARTIAL
        record["csum_start"], record["csum_off"] = HEADROOM + 20, 6

    known = ports().copy()
    known["host"] = 9
    packet = Ip4Spec(bytes(8), 17, dst=ip("10.0.0.1")).build()
    result = run_both(NODE, [packet], meta=prepare, tables={"ports": known})
    assert (result.edges, result.frames, result.counted) == (["punt"], [packet], {})
    assert result.meta[0]["flags"] & CSUM_PARTIAL


def test_every_protocol():
    compare([Ip4Spec(bytes(8), proto, dst=ip("10.0.0.1")).build() for proto in range(256)])


def test_every_type_and_some_codes():
    def message(kind, code):
        check = checksum.internet(bytes([kind, code]) + bytes(6))
        return bytes([kind, code]) + check.to_bytes(2, "big") + bytes(4)

    compare([icmp(message(kind, code)) for kind in range(256) for code in (0, 1, 8, 255)])


@pytest.mark.parametrize("l3", [14, 15])
@pytest.mark.parametrize("size", [1931, 1932, 1933, 1934, 3905, 3906, 3907, 9000, 65507])
def test_checksums_of_chains(l3, size):
    body = bytes(i * 7 & 255 for i in range(size))
    good = echo(body)
    compare([good, good[:-1] + bytes([good[-1] ^ 1]), good[:1990] + b"\x99" + good[1991:]], l3)


@pytest.mark.parametrize("size", [0, 1, 100, 1973, 5001])
def test_a_partial_checksum_is_completed(size):
    body = bytes(i * 5 & 255 for i in range(size))

    def prepare(record, i):
        record["flags"] |= CSUM_PARTIAL
        record["csum_start"], record["csum_off"] = HEADROOM + 24, 2

    packet = echo(body, check=0, options=b"\x01" * 4)
    result = run_both(NODE, [packet], meta=prepare)
    assert result.edges == ["icmp-echo"]
    assert not result.meta[0]["flags"] & CSUM_PARTIAL
    assert icmp4.receive(result.frames[0]) is None
    want = echo(body, options=b"\x01" * 4)
    assert result.frames[0][:26] + result.frames[0][28:] == want[:26] + want[28:]


@pytest.mark.parametrize(("start", "off"), [(0, 0), (0, 26), (20, 2), (24, 3), (26, 0), (2000, 2)])
def test_a_partial_checksum_elsewhere_is_not_ours_to_complete(start, off):
    def prepare(record, i):
        record["flags"] |= CSUM_PARTIAL
        record["csum_start"], record["csum_off"] = HEADROOM + start, off

    packets = [echo(b"data", options=b"\x01" * 4), echo(b"data", check=0, options=b"\x01" * 4)]
    result = run_both(NODE, packets, meta=prepare)
    assert result.frames == packets
    assert result.edges == ["icmp-echo", "drop"]
    assert result.reason(1) == "icmp-bad-checksum"
