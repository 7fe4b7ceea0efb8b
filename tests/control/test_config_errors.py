# SPDX-License-Identifier: Apache-2.0
"""Lines and key paths of error messages."""

import tomllib
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from vforward.control.config_errors import (
    KeyPath,
    Problem,
    config_error,
    dotted,
    listed,
    locate,
    model_problems,
    nearest,
)

TEXT = '''\
top = 1
[a]  # comment
x = 1
"q.r" . y = """
z = 2
"""
z = 3
[ 'b c'.d ]
[[t]]
k = [
  1,
]
[t.sub]
u = {v = 1}
[[t]]
k = 2
[[t.n]]
m = 1
[[t.n]]
m = 2
'''


def test_every_key_is_found_on_its_line() -> None:
    found: dict[KeyPath, int] = {
        ("top",): 1, ("a",): 2, ("a", "x"): 3, ("a", "q.r"): 4, ("a", "q.r", "y"): 4,
        ("a", "z"): 7, ("b c",): 8, ("b c", "d"): 8, ("t",): 9, ("t", 0): 9, ("t", 0, "k"): 10,
        ("t", 0, "sub"): 13, ("t", 0, "sub", "u"): 14, ("t", 1): 15, ("t", 1, "k"): 16,
        ("t", 1, "n"): 17, ("t", 1, "n", 0): 17, ("t", 1, "n", 0, "m"): 18, ("t", 1, "n", 1): 19,
        ("t", 1, "n", 1, "m"): 20,
    }  # fmt: skip
    tomllib.loads(TEXT)
    assert locate(TEXT) == found


@given(st.text() | st.text("[]\"'=.#\\\n ab"))
def test_any_text_can_be_searched(text: str) -> None:
    lines = locate(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


def test_key_paths_are_written_as_in_toml() -> None:
    assert dotted(("routes", 0, "via")) == "routes[0].via"
    assert dotted(("ports", "lan0.7", "mtu")) == 'ports."lan0.7".mtu'
    assert dotted(("a\nb",)) == r'"a\nb"'


def test_suggestions_and_lists() -> None:
    assert nearest("adress", ["address", "mtu"]) == '; did you mean "address"?'
    assert nearest("xyz", ["address", "mtu"]) == ""
    assert listed(["a", "b"]) == '"a", "b"'
    assert listed(str(n) for n in range(20)).endswith('"11", ...')


class Inner(BaseModel):
    number: Annotated[int, Field(description="a number")]


class Outer(BaseModel):
    inners: Annotated[tuple[Inner, ...], Field(description="a list of tables")]


def test_what_is_allowed_is_said_of_the_innermost_field() -> None:
    def allowed(value: object) -> list[Problem]:
        with pytest.raises(ValidationError) as caught:
            Outer.model_validate(value)
        return list(model_problems(Outer, ("at",), caught.value))

    number = ("at", "inners", 1, "number")
    good = {"number": 1}
    assert allowed({"inners": [good, {}]}) == [Problem(number, "is missing", "a number")]
    assert [found.allowed for found in allowed({"inners": [1]})] == ["a list of tables"]
    assert [found.allowed for found in allowed({})] == ["a list of tables"]
    assert [found.allowed for found in allowed(1)] == ["a table"]


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (("a", 0, "port"), "r.toml:1: a[0]: is odd (got 1)"),
        (("a", 1, "port"), "r.toml:1: a[1].port: is odd (got 2)"),
        (("a", 1, "group"), "r.toml:1: a[1].group: is odd (got nothing)"),
        (("a", 7), "r.toml:1: a[7]: is odd (got nothing)"),
        (("b", 0), 'r.toml:2: b: is odd (got "x")'),
        (("c",), "r.toml: c: is odd (got nothing)"),
    ],
)
def test_a_path_ends_at_what_has_no_parts(path: KeyPath, where: str) -> None:
    text = 'a = [1, {port = 2}]\nb = "x"\n'
    error = config_error("r.toml", text, tomllib.loads(text), [Problem(path, "is odd", "none")])
    assert str(error) == f"{where}; allowed: none"
