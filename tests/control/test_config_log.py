# SPDX-License-Identifier: Apache-2.0
"""The keys of [log]."""

import pytest

from configs import BARE, message, refusal
from vforward.control import logs
from vforward.control.config import parse
from vforward.control.config_log import Log


def test_defaults_and_values():
    assert parse(BARE, "r.toml").log == Log(format="text", level="warning")
    found = parse(BARE + '[log]\nformat = "json"\nlevel = "debug"\n', "r.toml").log
    assert found == Log(format="json", level="debug")


def test_they_are_those_of_the_log():
    for field, known in (("format", logs.FORMATS), ("level", logs.LEVELS)):
        assert Log.model_fields[field].annotation.__args__ == known


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("format", '"xml"', '"text" or "json"'),
        ("level", '"WARNING"', '"debug", "info", "warning" or "error"'),
    ],
)
def test_wrong_values(key, value, allowed):
    (line,) = refusal(BARE + f"[log]\n{key} = {value}\n")
    assert line == message(f"4: log.{key}", "is not one of the choices", value, allowed)
