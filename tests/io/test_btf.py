"""btf: functions are found by their numbers, in bytes made here and in the running kernel's."""

import struct

import pytest

from vforward.io import btf

NAMES = b"\0int\0call\0called\0pair\0a\0b\0"


def name(text):
    return NAMES.index(b"\0" + text.encode() + b"\0") + 1


def types(*each):
    made = b""
    for text, kind, vlen, behind in each:
        made += struct.pack("=III", name(text) if text else 0, kind << 24 | vlen, 0) + bytes(behind)
    head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(made), len(made), len(NAMES))
    return head + made + NAMES


ALL = types(
    ("int", 1, 0, 4),
    ("", 2, 0, 0),
    ("", 3, 0, 12),
    ("pair", 4, 2, 24),
    ("pair", 5, 1, 12),
    ("call", 6, 3, 24),
    ("", 13, 2, 16),
    ("called", 12, 1, 0),
    ("a", 14, 0, 4),
    ("b", 15, 2, 24),
    ("a", 16, 0, 0),
    ("a", 17, 0, 4),
    ("a", 19, 2, 24),
    ("call", 12, 0, 0),
)


def test_every_kind_is_walked_over():
    assert btf.find(ALL, "called") == 8
    assert btf.find(ALL, "call") == 14  # and not the enumeration of that name


@pytest.mark.parametrize("text", ["no-such", "int", "calle", "alled"])
def test_what_is_no_function_is_not_found(text):
    assert btf.find(ALL, text) == 0


@pytest.mark.parametrize("wrong", [b"", bytes(24), ALL[:2] + b"\2" + ALL[3:], ALL[1::-1] + ALL[2:]])
def test_what_is_no_btf_is_an_error(wrong):
    with pytest.raises((ValueError, struct.error)):
        btf.find(wrong, "call")


def test_in_the_running_kernel():
    if not btf.KERNEL.exists():
        pytest.skip("this kernel has no BTF")
    first, second = (btf.function_id(name) for name in ("netif_rx", "netif_receive_skb"))
    assert 0 < first != second > 0
    assert btf.function_id("there_is_no_such_function") == 0


def test_a_kernel_that_says_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(btf, "KERNEL", tmp_path / "none")
    assert btf.function_id("some_function") == 0
    (tmp_path / "none").write_bytes(b"something else, long enough to be a header")
    assert btf.function_id("another_function") == 0
