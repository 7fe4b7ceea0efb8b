# SPDX-License-Identifier: Apache-2.0
"""Sessions as an operator asks for them, of records written as tables.session says."""

import threading
import time
from ipaddress import ip_address

import numpy as np
import pytest

from tables.session_world import World, endpoint
from vforward.control import session_list
from vforward.control.session_list import Filter, Names, SessionList, end_sessions
from vforward.errors import ArenaError, ConfigError
from vforward.rings.spsc import Ring
from vforward.tables import session as t

NAMES = Names({1: "lan", 2: "wan"}, {0: "default", 3: "red"}, {5: "web"})
NOW = 100_000


def key4(src, dst, protocol, zone):
    """k0 and k1 of packets from src to dst."""
    (source, sport), (destination, dport) = (
        (int(ip_address(address)), int(port))
        for address, port in (end.split(":") for end in (src, dst))
    )
    ports = sport << 16 | dport
    return zone << 56 | protocol << 48 | ports, source << 32 | destination


def words6(address):
    number = int(ip_address(address))
    return number >> 64, number & (1 << 64) - 1


class Table:
    """A table with records as the worker would write them."""

    def __init__(self, capacity=63):
        self.array = np.zeros(t.words_for(capacity), np.uint64)
        t.prepare(self.array, capacity, bytes(48))
        self.array[t.NOW] = NOW
        self.parts = t.arrays(self.array)
        self.list = SessionList([self.array], NAMES)

    def _new(self, **fields):
        number = int(self.array[t.UNUSED])
        self.array[t.UNUSED] += 1
        cold = self.parts.cold[number]
        cold["generation"], cold["created"], cold["hits"] = 2 * number + 1, NOW - 60, 5
        cold["in_port"], cold["out_port"] = 1, 2
        for name, value in fields.items():
            self.parts.hot[number][name] = value
        self.parts.hot[number]["seen"] = NOW - 3 & 0xFFFF
        return number

    def four(self, src, dst, protocol=6, state=t.ESTABLISHED, zone=0, reply=None):
        k0, k1 = key4(src, dst, protocol, zone)
        k2, k3 = key4(*(reply or (dst, src)), protocol, zone)
        rest = {"flags": t.NAT if reply else 0, "protocol": protocol, "zone": zone, "state": state}
        return self._new(k0=k0, k1=k1, k2=k2, k3=k3, **rest)

    def six(self, src, sport, dst, dport, protocol=17, state=t.REPLIED):
        ends = (*words6(src), *words6(dst))
        return self._new(
            **dict(zip(("k0", "k1", "k2", "k3"), ends, strict=True)),
            ports=sport << 16 | dport,
            flags=t.SIX,
            protocol=protocol,
            state=state,
        )

    def close(self, number):
        self.parts.hot[number]["state"] = t.FREE
        self.parts.cold[number]["generation"] += 1


@pytest.fixture
def table():
    made = Table()
    made.four("10.0.0.9:4000", "10.0.0.1:80")
    made.four("10.0.0.1:4001", "10.0.0.9:443", state=t.SYN_SENT)
    made.four(
        "10.0.0.2:5000", "192.0.2.1:53", 17, t.UNREPLIED, 3, ("192.0.2.1:53", "203.0.113.1:6000")
    )
    made.six("2001:db8::9", 7000, "2001:db8::1", 53)
    made.six("2001:db8::1", 1, "2001:db8::1:0:0:9", 0, 58, t.UNREPLIED)
    return made


def pairs(table, **only):
    return [(row["from"], row["to"]) for row in table.list.rows(Filter(**only))]


ONE = ("10.0.0.9:4000", "10.0.0.1:80")
TWO = ("10.0.0.1:4001", "10.0.0.9:443")
THREE = ("10.0.0.2:5000", "192.0.2.1:53")
FOUR = ("[2001:db8::9]:7000", "[2001:db8::1]:53")
FIVE = ("[2001:db8::1]:1", "[2001:db8::1:0:0:9]:0")


def test_rows(table):
    table.close(2)
    first, translated, *_ = table.list.rows()
    assert first == {
        "protocol": "tcp", "from": ONE[0], "to": ONE[1], "nat_from": "", "nat_to": "",
        "state": "established", "age": 60, "idle": 3, "in": "lan", "out": "wan", "rule": "web",
        "vrf": "default",
    }  # fmt: skip
    assert (translated["from"], translated["to"]) == THREE
    assert (translated["nat_from"], translated["nat_to"]) == ("203.0.113.1:6000", "")
    assert (translated["vrf"], translated["protocol"], translated["state"]) == (
        "red",
        "udp",
        "unreplied",
    )


def test_destination_nat(table):
    made = Table()
    made.four("192.0.2.7:99", "203.0.113.1:80", reply=("10.0.0.5:8080", "192.0.2.7:99"))
    (row,) = made.list.rows()
    assert (row["nat_from"], row["nat_to"]) == ("", "10.0.0.5:8080")


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        ({}, [ONE, TWO, THREE, FOUR, FIVE]),
        ({"from_": "10.0.0.0/24"}, [ONE, TWO, THREE]),
        ({"from_": "10.0.0.1"}, [TWO]),
        ({"to": "10.0.0.1-10.0.0.9"}, [ONE, TWO]),
        ({"from_": "2001:db8::/64"}, [FOUR, FIVE]),
        ({"to": "2001:db8::1:0:0:0/80"}, [FIVE]),
        ({"to": "::/0"}, [FOUR, FIVE]),
        ({"port": 53}, [THREE, FOUR]),
        ({"port": "4000-4001"}, [ONE, TWO]),
        ({"port": "0"}, [FIVE]),
        ({"protocol": "tcp"}, [ONE, TWO]),
        ({"protocol": "58"}, [FIVE]),
        ({"state": "syn"}, [TWO]),
        ({"state": "unreplied"}, [THREE, FIVE]),
        ({"vrf": "red"}, [THREE]),
        ({"protocol": 17, "state": "replied"}, [FOUR]),
        ({"protocol": "tcp", "port": 53}, []),
    ],
)
def test_filters(table, only, wanted):
    assert pairs(table, **only) == wanted
    assert table.list.count(Filter(**only)) == len(wanted)
    assert len(table.list.keys(Filter(**only))[0]) == len(wanted)
    assert sum(table.list.by_state(Filter(**only)).values()) == len(wanted)


@pytest.mark.parametrize(
    ("only", "says"),
    [
        ({"from_": "10.0.0"}, "sessions: is not an address, a prefix or a range of addresses"),
        ({"to": "@x"}, "sessions: a set is not known here: give its addresses or ports"),
        ({"port": "http"}, "sessions: is not a port or a range of ports"),
        ({"protocol": "tpc"}, 'sessions: is not a protocol; did you mean "tcp"?'),
        (
            {"state": "etsablished"},
            "sessions: no state 'etsablished'; did you mean \"established\"?",
        ),
        ({"state": "free"}, "sessions: no state 'free'"),
        ({"vrf": "rde"}, "sessions: no VRF 'rde'; did you mean \"red\"?; there are: "),
    ],
)
def test_what_is_no_filter(table, only, says):
    with pytest.raises(ConfigError) as caught:
        table.list.count(Filter(**only))
    assert str(caught.value).startswith(says)


def test_most(table):
    assert len(table.list.rows(most=3)) == 3
    assert len(table.list.rows(most=0)) == 0


def test_more_than_one_chunk(table, monkeypatch):
    monkeypatch.setattr(session_list, "CHUNK", 2)
    assert pairs(table) == [ONE, TWO, THREE, FOUR, FIVE]
    assert len(table.list.rows(most=3)) == 3


def test_by_state(table):
    assert table.list.by_state() == {"established": 1, "syn-sent": 1, "unreplied": 2, "replied": 1}


def test_what_has_ended_is_not_listed(table):
    table.close(1)
    table.parts.cold[2]["generation"] += 1
    assert pairs(table) == [THREE, FOUR, FIVE]
    assert table.list.keys()[0].tolist() == [7 << 32 | 3, 9 << 32 | 4, 11 << 32 | 5]


def test_an_empty_table():
    assert Table().list.rows() == []
    assert Table(1).list.keys()[0].size == 0


def test_idle_goes_over_the_end_of_sixteen_bits(table):
    table.parts.hot[1]["seen"] = NOW - 60_000 & 0xFFFF
    assert table.list.rows()[0]["idle"] == 60_000


def ring(tmp_path):
    path = tmp_path / "kills"
    path.touch()
    return Ring.make(2, np.uint64), path


def test_sessions_are_ended_by_their_names(tmp_path):
    made, path = ring(tmp_path)
    assert end_sessions(made.array, path, np.array([7, 8], np.uint64)) == 2
    assert made.pop(9).tolist() == [7, 8]


def test_more_than_the_ring_holds_wait_for_the_worker(tmp_path):
    made, path = ring(tmp_path)
    got = []

    def worker():
        while len(got) < 9:
            got.extend(made.pop(1).tolist())
            time.sleep(0)

    thread = threading.Thread(target=worker)
    thread.start()
    assert end_sessions(made.array, path, np.arange(9, dtype=np.uint64)) == 9
    thread.join()
    assert got == list(range(9))


def test_a_worker_that_takes_none(tmp_path, monkeypatch):
    monkeypatch.setattr(session_list, "PATIENCE_S", 0.0)
    made, path = ring(tmp_path)
    with pytest.raises(ArenaError, match="the worker ends no sessions: 2 of 3 were told"):
        end_sessions(made.array, path, np.arange(3, dtype=np.uint64))


def test_sessions_as_a_worker_opens_them():
    world = World()
    client, server, public = (endpoint(n << 24, port) for n, port in ((10, 7), (9, 53), (11, 99)))
    world.open(client, server)
    world.open(client + 1, server, reply=(server, public))
    world.open(client + 2, public, reply=(server, client + 2))
    world.open6(1 << 64, 7, 2, 53)
    rows = SessionList([world.array]).rows()
    assert [(row["from"], row["to"], row["nat_from"], row["nat_to"]) for row in rows] == [
        ("10.0.0.0:7", "9.0.0.0:53", "", ""),
        ("10.0.0.0:8", "9.0.0.0:53", "11.0.0.0:99", ""),
        ("10.0.0.0:9", "11.0.0.0:99", "", "9.0.0.0:53"),
        ("[0:0:0:1::]:7", "[::2]:53", "", ""),
    ]
    world.close(2)
    assert SessionList([world.array]).count() == 3
