# SPDX-License-Identifier: Apache-2.0
"""Captures in pieces, whole again; and their words."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.control import show_capture
from vforward.control.capture_progress import Progress
from vforward.errors import VforwardError
from vforward.io.pcap_file import read_frames, write_frames

ARP = bytes.fromhex(
    "ffffffffffff020000000001 0806 0001080006040001 020000000001 0a000001 000000000000 0a000002"
)


@given(
    st.lists(st.binary(max_size=40), max_size=8),
    st.lists(st.integers(0, 400), max_size=12),
)
def test_pieces_of_any_size(tmp_path_factory, frames, cuts):
    path = tmp_path_factory.mktemp("x") / "x.pcap"
    write_frames(path, frames, times_ns=[10**18 + i for i in range(len(frames))])
    content = path.read_bytes()
    cuts = sorted({min(cut, len(content)) for cut in cuts})
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)])]
    found = list(show_capture.records(pieces))
    assert [packet.frame for packet in found] == frames
    assert [packet.time_ns for packet in found] == [10**18 + i for i in range(len(frames))]


def pieces(tmp_path):
    write_frames(tmp_path / "in.pcap", [ARP], times_ns=[1_234_567_890_123_456_789])
    return [(tmp_path / "in.pcap").read_bytes()]


def test_lines(tmp_path, capsys):
    show_capture.packets(pieces(tmp_path), json=False)
    (line,) = capsys.readouterr().out.splitlines()
    assert re.match(
        r"\d\d:\d\d:30\.123456    42 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff .*10\.0\.0\.2", line
    )


def test_lines_of_json(tmp_path, capsys):
    show_capture.packets(pieces(tmp_path), json=True)
    row = json.loads(capsys.readouterr().out)
    assert (row["bytes"], bytes.fromhex(row["data"])) == (42, ARP)
    assert row["time"] == pytest.approx(1_234_567_890.123456)


def test_into_a_file(tmp_path):
    show_capture.copy(pieces(tmp_path), tmp_path / "out.pcap")
    assert read_frames(tmp_path / "out.pcap") == [ARP]
    with pytest.raises(VforwardError, match=r"none/out\.pcap: No such file"):
        show_capture.copy(pieces(tmp_path), tmp_path / "none" / "out.pcap")


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress("lan", "", packets=1), "1 packet captured"),
        (
            Progress("lan", "", packets=1234, unwanted=5),
            "1,234 packets captured; 5 not of the filter",
        ),
        (Progress("lan", "", missed=7), "0 packets captured; 7 missed: they came faster"),
    ],
)
def test_a_summary(progress, text):
    assert show_capture.summary(progress).startswith(text)
