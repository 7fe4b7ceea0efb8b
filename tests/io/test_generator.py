"""The generator: right frames, every flow in its turn, whole at every size."""

import itertools

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from oracles import checksum as oracle
from vforward.errors import PortError
from vforward.io.generator import GeneratorPort
from vforward.io.null import NULL_TX, NullPort
from vforward.layout import BUF_ROOM
from vforward.memory.arena import Arena
from vforward.testing import heap_pool, packets, run_node
from wire import Wire


def opened(pool=None, **options):
    port = GeneratorPort(**options)
    port.open(4, pool)
    return port


def take(port, n, vector=256, pool=None):
    """The next n or fewer frames, and how many calls had no buffer."""
    pool = pool or heap_pool(2048)
    node, tables = port.rx()
    frames, short = [], 0
    while len(frames) < n:
        polled = min(vector, n - len(frames))
        result = run_node(node, tables=tables, pool=pool, vector=polled)
        assert set(result.edges) <= {"next"}
        assert set(result.meta["rx_port"].tolist()) <= {4}
        assert result.counters["bytes"] == sum(map(len, result.frames))
        short += result.counters["no-buffer"]
        frames += result.frames
        pool.put(result.rows)
        if not result.edges:
            break
    assert pool.free == pool.size
    pool.check()
    return frames, short


def expected(i, size, mac=b"\x02vf\0\0\4", src="10.0.1.2", dst="10.0.2.2"):
    source, target = ((int.from_bytes(packets.ip4_bytes(a), "big") ^ i) for a in (src, dst))
    payload = bytes(k & 255 for k in range(size - 42))
    datagram = packets.udp(source, target, 1024 + i % 32768, 1024 + i // 32768, payload)
    return packets.eth(mac, "00:00:5e:00:53:01", 0x0800, packets.ip4(source, target, 17, datagram))


SIZES = [60, 61, 63, 64, 65, 127, 1514, BUF_ROOM - 1, BUF_ROOM, BUF_ROOM + 1, 8999, 9000]


@pytest.mark.parametrize("size", SIZES)
def test_whole_frames_are_right(size):
    frames, _ = take(opened(size=size, flows=5), 12, vector=7)
    assert frames == [expected(k % 5, size) for k in range(12)]


@pytest.mark.parametrize("flows", [1, 2, 255, 256, 257])
def test_flows_take_turns_across_vectors(flows):
    frames, _ = take(opened(flows=flows), 600, vector=100)
    assert frames == [expected(k % flows, 60) for k in range(600)]


def test_the_last_flows_of_a_million():
    port = opened(flows=1 << 20, src="10.255.255.254", dst="255.255.255.254")
    flows = [0, 1, 32767, 32768, 65535, 65536, (1 << 20) - 2, (1 << 20) - 1]
    for i in flows:
        port._words[1] = i
        (frame,), _ = take(port, 1)
        assert frame == expected(i, 60, src="10.255.255.254", dst="255.255.255.254")


def test_a_udp_checksum_of_zero_is_sent_as_ffff():
    checksum = int.from_bytes(expected(0, 60)[40:42], "big")
    low = oracle.ones_sum((0x0202).to_bytes(2, "big") + checksum.to_bytes(2, "big"))
    dst = f"10.0.{low >> 8}.{low & 255}"  # what makes the sum all ones
    (frame,), _ = take(opened(dst=dst), 1)
    assert frame[40:42] == b"\xff\xff"
    assert frame == expected(0, 60, dst=dst)


def test_scapy_agrees_on_the_checksums():
    for frame in take(opened(size=1001, flows=64), 64)[0]:
        packet = Ether(frame)
        packet[IP].chksum = packet[UDP].chksum = None
        assert bytes(packet.__class__(bytes(packet))) == frame


@pytest.mark.parametrize("size", [60, 64, 65, 1514, BUF_ROOM, BUF_ROOM + 1, 9000])
def test_headers_only(size):
    port = opened(size=size, touch="headers", flows=3)
    pool = heap_pool(1024)
    frames, _ = take(port, 6, pool=pool)
    for k, frame in enumerate(frames):
        want = expected(k % 3, size)
        if size > 64:
            assert oracle.verifies(frame[14:34])
            assert frame[64:] == bytes([0xA5]) * (size - 64)
            want = want[:40] + bytes(2) + want[42:64] + frame[64:]
        assert frame == want


def test_touched_says_what_is_written():
    assert opened(size=60, touch="headers").touched == "all 60 bytes of each packet are written"
    assert opened(size=1514).touched == "all 1514 bytes of each packet are written"
    assert opened(size=1514, touch="headers").touched.startswith("the first 64 of 1514 bytes")


@pytest.mark.parametrize(("count", "vector"), [*itertools.product([1, 256, 257], [1, 256])])
def test_count_ends_it(count, vector):
    frames, _ = take(opened(count=count, flows=3), 1000, vector)
    assert frames == [expected(k % 3, 60) for k in range(count)]


def test_a_short_pool_makes_fewer_and_none_is_left_out():
    port, pool = opened(size=9000, flows=9), heap_pool(12)
    node, tables = port.rx()
    for start in (0, 2):
        result = run_node(node, tables=tables, pool=pool)
        assert result.frames == [expected(i, 9000) for i in (start, start + 1)]
        assert result.counters == {"bytes": 18000, "no-buffer": 1}
        pool.put(result.rows)
    pool.check()


def test_addresses():
    port = opened(dst_mac=b"\2\0\0\0\0\7", mac=b"\2\0\0\0\0\1", src="192.0.2.9", dst="198.51.100.7")
    assert port.mac == b"\2\0\0\0\0\1"
    want = expected(0, 60, b"\2\0\0\0\0\7", "192.0.2.9", "198.51.100.7")
    assert take(port, 1)[0] == [want]


@pytest.mark.parametrize(
    "wrong", [{"size": 59}, {"size": 9001}, {"flows": 0}, {"flows": (1 << 20) + 1}, {"count": 0}]
)
def test_what_is_out_of_range_is_refused(wrong):
    with pytest.raises(PortError, match=f"generator port: {next(iter(wrong))}"):
        GeneratorPort(**wrong)


def test_what_is_sent_to_it_is_swallowed():
    assert opened().tx() == (NULL_TX, {})


@pytest.mark.parametrize("vector", [1, 64, 256])
def test_in_a_graph(tmp_path, monkeypatch, vector):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    with Arena.create("generator") as arena:
        wire = Wire(arena, GeneratorPort(count=1000, size=3000), NullPort())
        wire.run(vector)
        assert wire.counts("rx0") == {"bytes": 3_000_000, "no-buffer": 0}
        assert wire.counts("tx1") == {"bytes": 3_000_000}
        wire.close()
