"""The pcap format in plain Python, against scapy and at its edges."""

import itertools

import pytest
from scapy.utils import RawPcapReader, RawPcapWriter

from vforward.errors import PortError
from vforward.io.pcap_file import MAGIC_PCAPNG, read_frames, write_frames

FRAMES = [b"", b"\x00", bytes(range(60)), b"a" * 65535]  # scapy reads no more
VARIANTS = list(itertools.product(("ns", "us"), ("little", "big")))


@pytest.mark.parametrize(("resolution", "byteorder"), VARIANTS)
def test_scapy_reads_what_is_written(tmp_path, resolution, byteorder):
    path, times = tmp_path / "x.pcap", [1_700_000_000_123_456_789 + i for i in range(4)]
    write_frames(path, FRAMES, resolution=resolution, byteorder=byteorder, times_ns=times)
    assert read_frames(path) == FRAMES
    with RawPcapReader(str(path)) as reader:
        got = list(reader)
        assert reader.endian == {"little": "<", "big": ">"}[byteorder]
        assert reader.nano == (resolution == "ns")
    assert [frame for frame, _ in got] == FRAMES
    stamps = [meta.sec * 10**9 + meta.usec * (1 if resolution == "ns" else 1000) for _, meta in got]
    assert stamps == (times if resolution == "ns" else [t // 1000 * 1000 for t in times])


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_what_scapy_writes_is_read(tmp_path, nano, endianness):
    path = tmp_path / "x.pcap"
    with RawPcapWriter(str(path), linktype=1, nano=nano, endianness=endianness) as writer:
        for frame in FRAMES[1:]:
            writer.write(frame)
    assert read_frames(path) == FRAMES[1:]


def test_a_cut_record_is_left_out(tmp_path):
    path = tmp_path / "x.pcap"
    write_frames(path, [b"abc", b"defg"])
    whole = path.read_bytes()
    for cut in range(1, 21):
        path.write_bytes(whole[:-cut])
        assert read_frames(path) == [b"abc"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes, shorter"),
        (bytes(23), "23 bytes, shorter"),
        (bytes(24), "begins with 00000000"),
        (MAGIC_PCAPNG.to_bytes(4, "little") + bytes(20), "editcap"),
        (bytes.fromhex("d4c3b2a1") + bytes(16) + b"\x71\0\0\0", "link type 113;"),
        (bytes.fromhex("a1b23c4d") + bytes(16) + b"\0\0\0\x65", "link type 101;"),
        (None, "No such file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / "x.pcap"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PortError, match=message) as caught:
        read_frames(path)
    assert str(path) in str(caught.value)
