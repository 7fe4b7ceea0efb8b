"""Flow hashes: what they cover, what they do not, and that they spread."""

import numpy as np
import pytest

from vforward.jit.kernel import kernel
from vforward.packet.flow_hash import frame_hash, hash4, hash6

WIDTH = 2112


@kernel
def all4(data, l3, end, out):
    for i in range(out.size):
        out[i] = hash4(data, i, l3, end)


@kernel
def all6(data, l3, end, out):
    for i in range(out.size):
        out[i] = hash6(data, i, l3, end)


def hashes(function, packets, cut=0):
    data = np.zeros((len(packets), WIDTH), np.uint8)
    for row, packet in zip(data, packets, strict=True):
        row[64 : 64 + len(packet)] = np.frombuffer(packet, np.uint8)
    out = np.zeros(len(packets), np.int64)
    function(data, 64, 64 + len(packets[0]) - cut, out)
    assert ((out >= 0) & (out < 1 << 32)).all()
    return out.tolist()


def ip4(src=0x0A000001, dst=0x0A000002, proto=17, ports=(1000, 53), fragment=0, options=b"", tos=0):
    head = bytes([0x45 + len(options) // 4, tos]) + bytes(4) + fragment.to_bytes(2, "big")
    head += bytes([64, proto, 0, 0]) + src.to_bytes(4, "big") + dst.to_bytes(4, "big") + options
    return head + b"".join(port.to_bytes(2, "big") for port in ports) + bytes(8)


def ip6(src=1 << 125, dst=2, label=5, proto=6, ports=(1000, 53), tos=0):
    head = (6 << 28 | tos << 20 | label).to_bytes(4, "big") + bytes([0, 12, proto, 64])
    head += src.to_bytes(16, "big") + dst.to_bytes(16, "big")
    return head + b"".join(port.to_bytes(2, "big") for port in ports) + bytes(8)


def test_packets_of_one_flow_have_one_hash():
    a, b = hashes(all4, [ip4(), ip4(tos=7)])
    assert a == b
    a, b = hashes(all6, [ip6(), ip6(tos=7)])
    assert a == b


@pytest.mark.parametrize("proto", [6, 17, 33, 132, 136])
def test_all_fields_count(proto):
    other = ip4(src=1), ip4(dst=1), ip4(ports=(1, 53)), ip4(ports=(1000, 1)), ip4(proto=47)
    found = hashes(all4, [ip4(proto=proto), *other])
    assert len(set(found)) == len(found)
    found = hashes(
        all6,
        [
            *(ip6(proto=proto), ip6(src=1), ip6(src=1 << 64), ip6(dst=1), ip6(dst=1 << 64 | 2)),
            *(ip6(label=1), ip6(proto=47), ip6(ports=(1, 53)), ip6(ports=(1000, 1))),
        ],
    )
    assert len(set(found)) == len(found)


def test_ports_do_not_count_where_there_are_none():
    for proto in (1, 47, 50):
        assert len(set(hashes(all4, [ip4(proto=proto), ip4(proto=proto, ports=(7, 8))]))) == 1
    for proto in (44, 50, 58):
        assert len(set(hashes(all6, [ip6(proto=proto), ip6(proto=proto, ports=(7, 8))]))) == 1


def test_fragments_of_one_datagram_go_together():
    """The first has ports, the others have not (RFC 791 section 3.2)."""
    parts = [
        ip4(fragment=0x2000),
        ip4(fragment=0x2010, ports=(7, 8)),
        ip4(fragment=0x20, ports=(9, 9)),
    ]
    assert len(set(hashes(all4, parts))) == 1
    assert hashes(all4, [ip4(fragment=0x4000)]) == hashes(
        all4, [ip4()]
    )  # "do not fragment" is none


def test_ports_stand_behind_options_and_not_behind_the_end():
    options = b"\x01" * 8
    a, b = hashes(all4, [ip4(options=options), ip4(options=options, ports=(7, 8))])
    assert a != b
    assert len(set(hashes(all4, [ip4(), ip4(ports=(7, 8))], cut=9))) == 1
    assert len(set(hashes(all6, [ip6(), ip6(ports=(7, 8))], cut=9))) == 1


@pytest.mark.parametrize("shift", [0, 8, 16, 24])
def test_any_bits_spread_evenly(shift):
    """Flows that differ in one low field only: chi-square over 64 buckets, 63 degrees of freedom."""
    n, buckets = 8192, 64
    sets = [
        (all4, [ip4(ports=(i, 80)) for i in range(n)]),
        (all4, [ip4(src=0x0A000000 + i) for i in range(n)]),
        (all4, [ip4(dst=i << 19) for i in range(n)]),
        (all6, [ip6(dst=i << 64) for i in range(n)]),
        (all6, [ip6(label=i) for i in range(n)]),
        (all6, [ip6(ports=(80, i)) for i in range(n)]),
    ]
    for function, packets in sets:
        found = np.array(hashes(function, packets)) >> shift & buckets - 1
        counts = np.bincount(found, minlength=buckets)
        assert ((counts - n / buckets) ** 2 / (n / buckets)).sum() < 130  # of 1 in 10**6


@kernel
def all_frames(data, l3, end, out):
    for i in range(out.size):
        out[i] = frame_hash(data, i, l3, end)


HERE, THERE = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"


def frame(packet=b"", kind=0x0800, tags=b"", macs=HERE + THERE):
    return macs + tags + kind.to_bytes(2, "big") + packet


def back(make, src, dst, ports, **more):
    """A packet and the one that answers it."""
    return make(src=src, dst=dst, ports=ports, **more), make(
        src=dst, dst=src, ports=ports[::-1], **more
    )


TAG, OUTER = b"\x81\0\0\x07", b"\x88\xa8\0\x09"


@pytest.mark.parametrize("tags", [b"", TAG, OUTER + TAG])
def test_a_frame_and_the_one_that_answers_it_are_of_one_flow(tags):
    for proto in (1, 6, 17):
        a, b = back(ip4, 0x0A000001, 0x0A000002, (1000, 53), proto=proto)
        pair = [frame(a, tags=tags), frame(b, tags=tags, macs=THERE + HERE)]
        assert len(set(hashes(all_frames, pair))) == 1
        a, b = back(ip6, 1 << 125, 1 << 125 | 2, (1000, 53), proto=proto)
        pair = [frame(a, 0x86DD, tags), frame(b, 0x86DD, tags, THERE + HERE)]
        assert len(set(hashes(all_frames, pair))) == 1
    labels = [frame(ip6(label=label), 0x86DD) for label in (1, 2)]
    assert len(set(hashes(all_frames, labels))) == 1
    assert (
        len(
            set(
                hashes(
                    all_frames,
                    [frame(bytes(40), 0x0806, macs=m) for m in (HERE + THERE, THERE + HERE)],
                )
            )
        )
        == 1
    )


@pytest.mark.parametrize("tags", [b"", OUTER + TAG])
def test_all_that_makes_a_flow_of_frames_counts(tags):
    packets = [
        ip4(),
        ip4(src=1),
        ip4(dst=1),
        ip4(ports=(1, 53)),
        ip4(ports=(1000, 1)),
        ip4(proto=47),
    ]
    packets.append(ip4(src=0x0A000002, dst=0x0A000001))  # the ports go with the addresses
    found = hashes(all_frames, [frame(packet, tags=tags) for packet in packets])
    assert len(set(found)) == len(found)
    packets = [ip6(), ip6(src=1), ip6(src=1 << 64), ip6(dst=1), ip6(dst=1 << 64 | 2)]
    packets += [ip6(proto=47), ip6(ports=(1, 53)), ip6(ports=(1000, 1)), ip6(src=2, dst=1 << 125)]
    found = hashes(all_frames, [frame(packet, 0x86DD, tags) for packet in packets])
    assert len(set(found)) == len(found)
    others = [
        frame(bytes(40), kind, macs=macs)
        for kind in (0x0806, 0x1234, 100)
        for macs in (HERE + THERE, HERE + HERE, b"\xff" * 6 + HERE)
    ]
    found = hashes(all_frames, others)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("cut", range(60))
def test_frames_that_end_anywhere(cut):
    """What is behind the end does not count; a piece of a header is none."""
    for kind, made in ((0x0800, ip4), (0x86DD, ip6)):
        whole = frame(made(), kind, OUTER + TAG)[:60]
        other = whole[: 60 - cut] + bytes(0x55 for _ in range(cut))
        assert len(set(hashes(all_frames, [whole, other], cut=cut))) == 1


def test_flows_of_frames_spread_evenly():
    n, buckets = 8192, 64
    for packets in (
        [frame(ip4(ports=(i, 80))) for i in range(n)],
        [frame(ip4(src=0x0A000000 + i)) for i in range(n)],
        [frame(ip6(dst=i << 64), 0x86DD) for i in range(n)],
        [frame(bytes(40), 0x0806, macs=HERE + i.to_bytes(6, "big")) for i in range(n)],
    ):
        found = np.array(hashes(all_frames, packets)) & buckets - 1
        counts = np.bincount(found, minlength=buckets)
        assert ((counts - n / buckets) ** 2 / (n / buckets)).sum() < 130  # of 1 in 10**6
