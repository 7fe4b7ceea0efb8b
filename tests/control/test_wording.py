# SPDX-License-Identifier: Apache-2.0
"""How messages write values and keys."""

import pytest

from vforward.control.wording import MISSING, Problem, dotted, listed, nearest, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (MISSING, "nothing"),
        ({}, "a table"),
        ([1, 2], "a list of 2"),
        (True, "true"),
        (7, "7"),
        (1 << 300, "a number of 301 bits"),
        ('a"b', '"a\\"b"'),
        ("x" * 61, '"' + "x" * 60 + '..."'),
    ],
)
def test_shown(value, text):
    assert shown(value) == text


def test_listed_names_a_dozen():
    assert listed("ab") == '"a", "b"'
    assert listed(map(str, range(13))).endswith('"11", ...')


def test_nearest():
    assert nearest("prot", ["port", "rule"]) == '; did you mean "port"?'
    assert nearest("zzz", ["port"]) == ""


def test_dotted():
    assert dotted(("rules", 0, "from", 1)) == "rules[0].from[1]"
    assert dotted(("ports", "lan.7")) == 'ports."lan.7"'


def test_a_problem_of_a_part_is_one_of_the_whole():
    assert Problem(("from",), "is", "not").under("rules", 3).path == ("rules", 3, "from")
