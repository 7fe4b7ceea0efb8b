"""The pcap port, its kernels by themselves and in a graph, at the corners of the format."""

import itertools
import os
import resource
import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import checksum as oracle
from vforward.errors import PortError, ShimMissing
from vforward.io import shim
from vforward.io.memory import MemoryPort, Offload
from vforward.io.null import NullPort
from vforward.io.pcap import STAGING, PcapPort, read_frames, write_frames
from vforward.layout import BUF_ROOM, CSUM_PARTIAL
from vforward.memory.arena import Arena
from vforward.testing import heap_pool, run_node
from wire import Wire

SIZES = [0, 1, 59, 60, BUF_ROOM - 1, BUF_ROOM, BUF_ROOM + 1, 2 * BUF_ROOM, 9014, 65549]
FRAMES = [bytes((i + n) & 255 for i in range(n)) for n in SIZES]
VARIANTS = list(itertools.product(("ns", "us"), ("little", "big")))


@pytest.fixture
def arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    with Arena.create("pcap") as made:
        yield made


def read_by_port(path, pool=None, vector=256):
    """The frames of a file as the receive kernel gives them, and its counters."""
    port = PcapPort(read=path)
    pool = pool or heap_pool(1024)
    port.open(5, pool)
    node, tables = port.rx()
    frames, counters = [], dict.fromkeys(node.counter_labels, 0)
    while True:
        result = run_node(node, tables=tables, pool=pool, vector=vector)
        counters = {k: n + result.counters[k] for k, n in counters.items()}
        if not result.edges:
            break
        assert set(result.edges) == {"next"}
        assert set(result.meta["rx_port"].tolist()) == {5}
        frames += result.frames
        pool.put(result.rows)
    port.close()
    assert pool.free == pool.size
    pool.check()
    return frames, counters


@pytest.mark.parametrize("vector", [1, 3, 256])
@pytest.mark.parametrize(("resolution", "byteorder"), VARIANTS)
def test_every_variant_is_read(tmp_path, resolution, byteorder, vector):
    path = tmp_path / "in.pcap"
    write_frames(path, FRAMES, resolution=resolution, byteorder=byteorder)
    frames, counters = read_by_port(path, vector=vector)
    assert frames == FRAMES
    assert counters == {"bytes": sum(SIZES), "no-buffer": 0, "cut-off": 0, "too-long": 0}


def test_an_empty_capture(tmp_path):
    write_frames(tmp_path / "in.pcap", [])
    assert read_by_port(tmp_path / "in.pcap") == (
        [],
        {"bytes": 0, "no-buffer": 0, "cut-off": 0, "too-long": 0},
    )


@pytest.mark.parametrize("cut", [1, 4, 5, 8, 9, 19, 20])
def test_a_last_record_that_is_cut_off_ends_it(tmp_path, cut):
    path = tmp_path / "in.pcap"
    write_frames(path, [b"abc", b"defg"])
    path.write_bytes(path.read_bytes()[:-cut])
    frames, counters = read_by_port(path)
    assert frames == [b"abc"]
    assert counters["cut-off"] == (cut < 20)


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("size", [4, 5, 65550, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF])
def test_a_length_beyond_the_file_ends_it(tmp_path, size, byteorder):
    path = tmp_path / "in.pcap"
    write_frames(path, [b"abc", b"def"], byteorder=byteorder)
    content = bytearray(path.read_bytes())
    content[51:55] = size.to_bytes(4, byteorder)
    path.write_bytes(content)
    frames, counters = read_by_port(path)
    assert (frames, counters["cut-off"]) == ([b"abc"], 1)


def test_records_too_long_are_skipped(tmp_path):
    path = tmp_path / "in.pcap"
    write_frames(path, [b"a", bytes(65550), b"b", bytes(300_000)])
    frames, counters = read_by_port(path, vector=1)
    assert (frames, counters["too-long"], counters["bytes"]) == ([b"a", b"b"], 2, 2)


def test_a_frame_waits_until_buffers_are_free(tmp_path):
    path, pool = tmp_path / "in.pcap", heap_pool(40)
    frames = [b"x" * 65549, b"y" * 65549, b"z"]
    write_frames(path, frames)
    got, counters = read_by_port(path, pool)
    assert got == frames
    assert counters["no-buffer"] == 1
    assert counters["bytes"] == sum(map(len, frames))


@settings(max_examples=200, deadline=None)
@given(junk=st.lists(st.sampled_from([0, 1, 4, 0xFF]) | st.integers(0, 255), max_size=120))
def test_any_content_is_read_in_bounds_and_as_the_plain_reader_does(tmp_path_factory, junk):
    path = tmp_path_factory.getbasetemp() / "junk.pcap"
    write_frames(path, [b"abc"])
    path.write_bytes(path.read_bytes() + bytes(junk))
    frames, _ = read_by_port(path)
    assert frames == read_frames(path)


@pytest.mark.parametrize("vector", [1, 7, 256])
@pytest.mark.parametrize("unit", ["ns", "us"])
def test_a_copy_by_graph_is_the_same_at_every_vector_size(tmp_path, arena, vector, unit):
    frames = FRAMES * 9
    write_frames(tmp_path / "in.pcap", frames, byteorder="big")
    source = PcapPort(read=tmp_path / "in.pcap")
    target = PcapPort(write=tmp_path / "out.pcap", resolution=unit, mac=b"\2\0\0\0\0\x09")
    before = time.time_ns() // 1000 * 1000
    wire = Wire(arena, source, target, buffers=4096)
    assert (source.mac, target.mac) == (b"\x02vf\0\0\0", b"\2\0\0\0\0\x09")
    wire.run(vector)
    after = time.time_ns()
    assert wire.counts("tx1") == {"bytes": 9 * sum(SIZES), "write-failed": 0}
    assert wire.counts("rx0")["bytes"] == 9 * sum(SIZES)
    wire.close()
    wire.close()
    out = tmp_path / "out.pcap"
    assert read_frames(out) == frames
    stamps = [s * 10**9 + f * (1 if unit == "ns" else 1000) for s, f, _, _ in records(out)]
    assert before <= min(stamps) <= max(stamps) <= after
    assert stamps == sorted(stamps)
    assert all(here == wire for _, _, here, wire in records(out))


def records(path):
    content, at, found = path.read_bytes(), 24, []
    while at < len(content):
        found.append(struct.unpack_from("<IIII", content, at))
        at += 16 + found[-1][2]
    return found


def writer(path, **options):
    port = PcapPort(write=path, **options)
    port.open(0, None)
    return (port, *port.tx())


def test_more_than_the_staging_array_holds(tmp_path):
    port, node, tables = writer(tmp_path / "out.pcap")
    frames = [bytes([i]) * 65549 for i in range(20)]
    assert sum(map(len, frames)) > 2 * STAGING
    result = run_node(node, frames, tables=tables)
    assert set(result.edges) == {"held"}
    assert result.held == []
    port.close()
    assert read_frames(tmp_path / "out.pcap") == frames


def test_partial_checksums_are_complete_in_the_file(tmp_path):
    port, node, tables = writer(tmp_path / "out.pcap")
    frames = [bytes(60), bytes(range(251)) * 20]

    def partial(record, i):
        record["flags"] |= CSUM_PARTIAL
        record["csum_start"], record["csum_off"] = record["off"] + 34, 6

    run_node(node, frames, tables=tables, meta=partial)
    port.close()
    for frame, got in zip(frames, read_frames(tmp_path / "out.pcap"), strict=True):
        want = oracle.internet(frame[34:]).to_bytes(2, "big")
        assert got == frame[:40] + want + frame[42:]


def test_a_program_captures_what_it_sends(tmp_path, arena):
    a, b = MemoryPort(), PcapPort(write=tmp_path / "out.pcap")
    wire = Wire(arena, a, b)
    a.send([bytes(100)], Offload(csum_start=34, csum_off=6))
    wire.run()
    wire.close()
    assert read_frames(tmp_path / "out.pcap") == [bytes(40) + b"\xff\xff" + bytes(58)]


def test_after_a_write_error_packets_are_dropped_and_the_file_stays_whole(tmp_path):
    port, node, tables = writer(tmp_path / "out.pcap")
    frames = [bytes([i]) * 1000 for i in range(6)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2500, hard))
    try:
        result = run_node(node, frames, tables=tables, vector=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.edges == ["held"] * 2 + ["drop"] * 4
    assert result.counters == {"bytes": 2000, "write-failed": 4}
    assert {result.reason(i) for i in range(2, 6)} == {"write-failed"}
    assert result.frames == [None, None, *frames[2:]]
    again = run_node(node, frames, tables=tables)
    assert again.counters == {"bytes": 0, "write-failed": 6}
    assert port.peer() == f"{tmp_path / 'out.pcap'}: File too large; nothing more is written"
    port.close()
    assert read_frames(tmp_path / "out.pcap") == frames[:2]
    assert (tmp_path / "out.pcap").stat().st_size == 24 + 2 * 1016


def test_what_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "bad.pcap").write_bytes(b"nonsense" * 5)
    (tmp_path / "good.pcap").write_bytes(b"")
    write_frames(tmp_path / "good.pcap", [])
    os.mkfifo(tmp_path / "pipe")
    for options, message in [
        ({"read": tmp_path / "none.pcap"}, "none.pcap: cannot be read: No such file"),
        ({"read": tmp_path}, "cannot be read: Is a directory"),
        ({"read": tmp_path / "bad.pcap"}, "bad.pcap: not a pcap file"),
        ({"read": tmp_path / "pipe"}, "pipe: "),  # and nobody waits for who may write to it
        ({"write": tmp_path / "no" / "x.pcap"}, "x.pcap: cannot be written: No such file"),
        ({"write": "/dev/full"}, "/dev/full: cannot be written: No space"),
        ({"read": tmp_path / "good.pcap", "write": tmp_path / "good.pcap"}, "read and written"),
    ]:
        port = PcapPort(**options)
        with pytest.raises(PortError, match=message):
            port.open(0, None)
        port.close()
        port.close()
    assert read_frames(tmp_path / "good.pcap") == []


def test_writing_needs_the_shim_and_reading_does_not(tmp_path, monkeypatch):
    def missing():
        raise ShimMissing

    write_frames(tmp_path / "x.pcap", [b"abc"])
    monkeypatch.setattr(shim, "_module", missing)
    with pytest.raises(ShimMissing):
        writer(tmp_path / "x.pcap")
    assert read_by_port(tmp_path / "x.pcap")[0] == [b"abc"]


def test_without_a_file_to_read_nothing_comes_and_without_one_to_write_all_is_swallowed(tmp_path):
    port, _, _ = writer(tmp_path / "x.pcap")
    assert port.rx() is None
    port.close()
    reader = PcapPort(read=tmp_path / "x.pcap")
    reader.open(0, None)
    assert reader.tx() == NullPort().tx()
    reader.close()


def test_frames_beyond_the_longest_are_cut_in_the_file(tmp_path):
    port, node, tables = writer(tmp_path / "x.pcap")
    pool = heap_pool(300)
    rows = pool.take(180)
    pool.meta["next"][rows[:-1]] = rows[1:]
    pool.meta["flags"][rows[:-1]] = 2
    pool.meta["end"][rows] = pool.meta["off"][rows] + BUF_ROOM
    edges, count = np.zeros(1, np.uint8), np.zeros(2, np.uint64)
    node.kernel(pool.data, pool.meta, rows[:1].copy(), edges, count, pool.caches[0],
                tables["staging"], tables["writer"])  # fmt: skip
    port.close()
    assert [r[2:] for r in records(tmp_path / "x.pcap")] == [(262144, 180 * BUF_ROOM)]
    assert (tmp_path / "x.pcap").stat().st_size == 24 + 16 + 262144
    pool.check()
