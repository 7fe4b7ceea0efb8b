"""Routes from a text file: what is read, what is refused, what the table has then."""

import os

import pytest

from vforward.control import route_file
from vforward.errors import ConfigError
from vforward.memory.arena import Arena
from vforward.tables.fib import Fib4

GOOD = "10.1.0.0/16 192.0.2.1\n0.0.0.0/0 192.0.2.2\n203.0.113.9/32  192.0.2.1"


def test_routes_are_read_with_or_without_a_last_newline(tmp_path):
    path = tmp_path / "routes"
    for text in (GOOD, GOOD + "\n"):
        path.write_text(text)
        prefixes, lengths, hops = route_file.read(path)
        assert prefixes.tolist() == [0x0A010000, 0, 0xCB007109]
        assert lengths.tolist() == [16, 0, 32]
        assert hops.tolist() == [0xC0000201, 0xC0000202, 0xC0000201]
    path.write_text("")
    assert [column.size for column in route_file.read(path)] == [0, 0, 0]


@pytest.mark.parametrize(
    "line",
    [
        *["10.0.0.0/8", "10.0.0.0/33 1.2.3.4", "10.0.0.256/32 1.2.3.4", "10.0.0.1/8 1.2.3.4"],
        *["10.0.0.0 8 1.2.3.4", "# comment", "", "10.0.0.0/8 1.2.3.4 5", "10.0.0.0/8 fe80::1"],
        "10.0.0.0/8 1.2.3.400",
    ],
)
def test_the_first_wrong_line_is_named(tmp_path, line):
    path = tmp_path / "routes"
    path.write_text(f"10.1.0.0/16 192.0.2.1\n{line}\n0.0.0.0/0 1.1.1.1\n")
    with pytest.raises(ConfigError, match=r"routes, line 2: .* is not 'PREFIX/LENGTH NEXT-HOP'"):
        route_file.read(path)


def test_load(tmp_path):
    path = tmp_path / "routes"
    path.write_text(GOOD)
    asked, reclaimed = [], []

    def number(hop):
        asked.append(hop)
        return hop & 0xFF

    with Arena.create(f"file-{os.getpid()}") as arena:
        fib = Fib4(arena)
        assert route_file.load(fib, path, number, vrf=2, reclaim=lambda: reclaimed.append(1)) == 3
        assert sorted(asked) == [0xC0000201, 0xC0000202]  # once each
        assert reclaimed
        assert list(fib.items(2)) == [(0, 0, 2), (0x0A010000, 16, 1), (0xCB007109, 32, 1)]
        del fib
