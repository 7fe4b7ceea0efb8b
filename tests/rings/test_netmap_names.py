"""Port names: what is one, what its modifiers ask for, what is refused and why."""

import pytest

from vforward.errors import PortError
from vforward.rings.netmap_names import Kind, Name, Wanted, parse, parse_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("netmap:x{1", Name(Kind.PIPE, "x{1", "{")),
        ("netmap:x}1", Name(Kind.PIPE, "x{1", "}")),
        ("netmap:{a_2", Name(Kind.PIPE, "{a_2", "{")),
        ("vale0:a", Name(Kind.VALE, "0", "a")),
        ("vale:p", Name(Kind.VALE, "", "p")),
        ("netmap:vale1:b", Name(Kind.VALE, "1", "b")),
        ("netmap:x{1-0/xRT", Name(Kind.PIPE, "x{1", "{")),
    ],
)
def test_names(text, name):
    assert parse(text).name == name
    assert parse_name(str(name)) == name


def test_ends():
    assert [parse_name(name).end for name in ("x{1", "x}1")] == [0, 1]


@pytest.mark.parametrize(
    ("text", "tx", "rx"),
    [
        ("vale0:a@conf:slots=64", 64, 64),
        ("vale0:a@conf:tx-slots=8,rx-slots=16", 8, 16),
        ("netmap:x{1/x@conf:slots=4,rx-slots=5", 4, 5),
    ],
)
def test_slots(text, tx, rx):
    assert parse(text) == Wanted(parse(text).name, tx, rx)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x{1", "must begin"),
        ("netmap:eth0", "kernel module"),
        ("netmap:", "neither"),
        ("vale0", "neither"),
        ("vale0:a:b", "neither"),
        ("vale-0:a", "no modifier"),
        ("netmap:x{", "neither"),
        ("netmap:x{1}2", "neither"),
        ("netmap:x{\N{DIGIT ONE}\N{ARABIC-INDIC DIGIT TWO}", "neither"),
        ("netmap:x{1^", "one ring pair"),
        ("netmap:x{1*", "one ring pair"),
        ("netmap:x{1-1", "one ring pair"),
        ("netmap:x{1/z", "only x, R and T"),
        ("netmap:x{1/", "no modifier"),
        ("netmap:x{1@3", "memory of its own"),
        ("netmap:x{1@conf:rings=2", "known is"),
        ("netmap:x{1@conf:slots=", "known is"),
        ("netmap:x{1@conf:slots=-1", "known is"),
        ("vale0:" + "a" * 70, "at most 63"),
    ],
)
def test_refused(text, why):
    with pytest.raises(PortError, match=why):
        parse(text)
