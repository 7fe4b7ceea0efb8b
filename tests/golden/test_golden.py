# SPDX-License-Identifier: Apache-2.0
"""Every golden file, packet by packet and a vector at a time; and the harness, on files that are wrong."""

from pathlib import Path

import pytest

from golden.harness import check, files, read

HERE = Path(__file__).parent
FILES = files(HERE)


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


@pytest.mark.parametrize("vector", [256, 1])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden(file, vector):
    golden = read(file.read_text(), file.name)
    assert golden.steps
    check(golden, vector)


def test_files_of_features_to_come_can_be_read():
    pending = files(HERE / "pending")
    assert all(read(file.read_text(), file.name).steps for file in pending)


RIGHT = (HERE / "cross-connect.golden").read_text()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("right  PACKET", "right  PACKET / b'x'", "+"),
        ("right  PACKET", "left  PACKET", "port left sent 1 packets, wanted 2"),
        ("=== counters", "=== counters\nethernet-input not-for-us 1", "not-for-us went up by 0"),
        ("=== counters", "=== counters\nethernet-input no-such 1", "no counter"),
        ("left   PACKET", "middle PACKET", "no memory port 'middle'"),
        ("right  PACKET", "nowhere PACKET", "no memory port nowhere"),
        ("right  PACKET", "right|left  [PACKET / b'x', PACKET]", "at none of right, left"),
        ("right  PACKET", "right|left  [[PACKET, PACKET], PACKET]", "at none of right, left"),
    ],
)
def test_what_comes_out_otherwise_is_told(old, new, told):
    assert RIGHT.count(old) >= 1
    golden = read(RIGHT.replace(old, new, 1), "a.golden")
    with pytest.raises(AssertionError) as raised:
        check(golden, 256)
    assert told in str(raised.value)


def test_one_of_several_ports_may_be_it():
    for ways in ("right|left  [PACKET, PACKET]", "routed|right  [b'no', [PACKET]]"):
        check(read(RIGHT.replace("right  PACKET", ways, 1), "a.golden"), 256)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a:1: says nothing"),
        ("t\n=== inputs\n", "a:2: no part 'inputs'"),
        ("t\n=== names\nA = 1\n\n=== input\nlan B\n", "a:6: NameError"),
        ("t\n=== counters\nnode counter many\n", "a:3: want NODE COUNTER n"),
    ],
)
def test_what_cannot_be_read_is_told(text, told):
    with pytest.raises(ValueError, match=told):
        read(text, "a")


def test_steps_are_told_apart():
    parts = ["input\np H('00')", "output\np H('01')", "counters\nn c 1", "input\n p\n  H('02')"]
    golden = read("t\n=== " + "\n=== ".join([*parts, "output", "input", "input"]), "a")
    assert [(step.given, step.wanted, step.counters) for step in golden.steps] == [
        ([("p", b"\0")], {"p": [b"\1"]}, {("n", "c"): 1}),
        ([("p", b"\2")], {}, {}),
        ([], {}, {}),
        ([], {}, {}),
    ]
