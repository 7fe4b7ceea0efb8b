# SPDX-License-Identifier: Apache-2.0
"""Segments with checked headers, and documents beside them."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.errors import ArenaError
from vforward.layout import LAYOUT_VERSION, META
from vforward.memory import arena as module
from vforward.memory.arena import DTYPE_ROOM, HEADER, PAGE, Arena
from vforward.memory.place import MAGIC


def header(path):
    return np.memmap(path, HEADER, "r+", shape=1)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [(7, np.uint64), ((3, 5), np.uint8), (4, META), (0, np.uint32), ((2, 2, 2, 2), "S3")],
)
def test_what_is_made_can_be_opened(owner, shape, dtype):
    made = owner.make("table", shape, dtype)
    assert not made.view(np.uint8).any() if made.size and made.ndim == 1 else True
    seen = Arena.attach("a").open("table")
    assert (seen.shape, seen.dtype) == (made.shape, made.dtype)
    if dtype is np.uint64:
        made[3] = 99
        assert seen[3] == 99


def test_the_array_begins_on_a_page_and_the_header_says_all(owner, place):
    made = owner.make("table", (3, 5), np.uint16)
    assert made.ctypes.data % PAGE == 0
    record = header(place / "a" / "table")[0]
    assert record["magic"] == MAGIC
    assert (record["layout"], record["dimensions"], record["size"]) == (LAYOUT_VERSION, 2, 30)
    assert record["shape"].tolist() == [3, 5, 0, 0]
    assert record["owner"] == os.getpid()
    assert record["generation"] == owner.generation


def test_readers_cannot_write(owner):
    owner.make("table", 4, np.uint8)
    reader = Arena.attach("a")
    seen = reader.open("table")
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        seen.flags.writeable = True
    writable = reader.open("table", writable=True)
    writable[0] = 1
    assert seen[0] == 1
    assert reader.open("table") is writable


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("magic", b"vforwarx", "not a vforward segment"),
        ("layout", LAYOUT_VERSION + 1, f"layout {LAYOUT_VERSION + 1}, this program"),
        ("size", 31, "header says"),
        ("size", 2**63, "header says"),
        ("dimensions", 5, "header says"),
        ("dimensions", 1, "header says"),
        ("shape", [3, 6, 0, 0], "header says"),
        ("shape", [2**63, 2**63, 0, 0], "header says"),
    ],
)
def test_a_wrong_header_is_refused(owner, place, field, value, text):
    owner.make("table", (3, 5), np.uint16)
    header(place / "a" / "table")[field] = value
    with pytest.raises(ArenaError, match=rf"'table' of arena 'a': .*{text}"):
        Arena.attach("a").open("table")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"'O'",
        b"[('a', 'O')]",
        b"'nonsense'",
        b"__import__('os')",
        b"((((",
        b"\xff\xfe",
        b"7",
        b"(" * 3000,
        b"[('a',)]",
        b"[(1, 2, 3, 4, 5)]",
        b"'<u8'",
    ],
)
def test_a_wrong_type_is_refused(owner, place, text):
    owner.make("table", (3, 5), np.uint16)
    raw = np.memmap(place / "a" / "table", np.uint8, "r+")
    raw[HEADER.itemsize : PAGE] = 0
    raw[HEADER.itemsize : HEADER.itemsize + len(text)] = list(text)
    with pytest.raises(ArenaError, match="segment 'table'"):
        Arena.attach("a").open("table")


@given(raw=st.binary(max_size=300))
def test_no_header_crashes(raw, tmp_path_factory):
    memory = bytearray(PAGE + 64)
    memory[: len(raw)] = raw
    for magic in (b"", MAGIC + LAYOUT_VERSION.to_bytes(4, "little")):
        memory[: len(magic)] = magic
        try:
            kind, shape, _ = module.checked(memory, "segment")
        except ArenaError:
            continue
        assert kind.itemsize * int(np.prod(shape)) <= 64


@pytest.mark.parametrize("length", [0, 1, PAGE - 1, PAGE, PAGE + 29])
def test_a_truncated_file_is_refused(owner, place, length):
    owner.make("table", (3, 5), np.uint16)
    os.truncate(place / "a" / "table", length)
    with pytest.raises(ArenaError, match=r"too short|header says"):
        Arena.attach("a").open("table")


def test_what_is_missing_is_an_error_of_ours(owner, place):
    with pytest.raises(ArenaError, match="'table' of arena 'a': No such file"):
        Arena.attach("a").open("table")
    with pytest.raises(ArenaError, match="no forwarder named 'b'"):
        Arena.attach("b")


def test_a_segment_is_made_once_and_types_have_a_limit(owner):
    owner.make("table", 1, np.uint8)
    with pytest.raises(ArenaError, match="'table'"):
        owner.make("table", 1, np.uint8)
    with pytest.raises(ArenaError, match="'lock'"):
        owner.make("lock", 1, np.uint8)
    with pytest.raises(ArenaError):
        owner.make("wide", 1, [(f"field{k}", np.uint8) for k in range(DTYPE_ROOM // 10)])
    with pytest.raises(ArenaError):
        owner.make("deep", (1, 1, 1, 1, 1), np.uint8)


def test_arrays_outlive_the_arena(owner):
    array = owner.make("table", 4, np.uint8)
    array[:] = 5
    owner.close()
    assert array.sum() == 20


def test_documents(owner):
    content = {"nodes": ["a", "b"], "n": 3}
    owner.write_document("wiring", content)
    assert Arena.attach("a").read_document("wiring") == content
    owner.write_document("wiring", [])
    assert Arena.attach("a").read_document("wiring") == []
    with ThreadPoolExecutor(2) as two:
        list(two.map(lambda n: owner.write_document("wiring", [n] * 1000), range(200)))
    assert Arena.attach("a").read_document("wiring") in [[n] * 1000 for n in range(200)]
    with pytest.raises(ArenaError, match="'none'"):
        owner.read_document("none")
    (owner.path / "torn.json").write_text('{"a"')
    with pytest.raises(ArenaError, match="'torn'"):
        owner.read_document("torn")
