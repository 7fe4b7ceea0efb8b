# SPDX-License-Identifier: Apache-2.0
"""Rates on the terminal."""

import pytest

from vforward.control import show, show_top
from vforward.control.top import NodeRate, PortRate, Top


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999.4, "999"),
        (999.5, "1.00k"),
        (9_994, "9.99k"),
        (9_996, "10.0k"),
        (123_456, "123.5k"),
        (999_499, "999.5k"),
        (1_490_000, "1.49M"),
        (40e9, "40.0G"),
        (5e15, "5000.0T"),
    ],
)
def test_numbers_in_short(value, text):
    assert show_top.number(value) == text


def test_the_screen(capsys):
    nodes = [NodeRate(f"n{i}", 1000.0, 12.34, 200.0, 0.5 / (i + 1)) for i in range(5)]
    ports = [PortRate("lan", 1.5e6, 1.1e9, 0, 2, 3, 4)]
    show.console().print(
        show_top.screen(Top("r", "running", 1, 1.5e6, 31, 0.5, 7, ports, nodes), 3)
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:5] == ["r:", "running,", "1.50M", "packets/s", "in,"]
    assert ["lan", "1.50M", "1.10G", "0", "2", "3", "4"] in lines
    assert ["n0", "1.00k", "12.3", "200.0", "50.0%"] in lines
    assert not [line for line in lines if line[:1] == ["n3"]]
