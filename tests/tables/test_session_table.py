"""The control plane's side: settings, statistics, kills, ends of many sessions at once."""

import pytest

from tables.session_world import World, endpoint
from vforward.tables import session as t
from vforward.tables.session_table import Sessions, ends

A, B, OUT = endpoint(0x0A000001, 1), endpoint(0xC0000201, 2), endpoint(0xC6336401, 3)
V6 = 0x20010DB8 << 96 | 1, 0x20010DB8 << 96 | 2


@pytest.mark.parametrize(
    ("asked", "given"), [(1, 1), (2, 3), (1000, 1023), (1023, 1023), (1024, 2047)]
)
def test_capacity_is_rounded_up(asked, given):
    assert World(asked).sessions.capacity == given


def test_settings():
    sessions = World().sessions
    sessions.set_timeout("udp", 30)
    assert int(sessions.array[t.TIMEOUTS + t.KINDS.index("udp")]) == 30
    for wrong in (0, t.TIMEOUT_MAX + 1):
        with pytest.raises(ValueError, match="timeout udp"):
            sessions.set_timeout("udp", wrong)
    with pytest.raises(ValueError, match="no timeout"):
        sessions.set_timeout("upd", 1)


def test_statistics():
    world = World(3)
    world.put(bytes(8))
    for n in range(5):
        world.open(A + n, B)
    assert world.sessions.statistics() == {
        "capacity": 3, "open": 3, "embryonic": 3, "opened": 5, "expired": 0, "evicted": 2,
        "killed": 0, "reopened": 0, "refused": 0,
    }  # fmt: skip
    assert world.sessions.numbers().size == 3


def test_kills_name_the_generation():
    world = World()
    world.put(bytes(8))
    number = world.open(A, B)
    assert world.sessions.kill([number, number + 1]) == 1
    words = world.sessions._kills.pop(9)
    assert words.tolist() == [1 << 32 | number]


def test_ends_of_all_kinds():
    world = World()
    world.put(bytes(8))
    plain, nat = world.open(A, B), world.open(A + 1, B, reply=(B, OUT))
    six = world.open6(V6[0], 11, V6[1], 12)
    hot = world.hot[[plain, nat, six]]
    low = (1 << 64) - 1

    def read(end):
        return [(int(h) << 64 | int(lo), int(p)) for h, lo, p in zip(*end, strict=True)]

    def plainly(*ends_):
        return [(e >> 16, e & 0xFFFF) for e in ends_]

    initiator, responder = ends(hot)
    assert read(initiator) == [*plainly(A, A + 1), (V6[0], 11)]
    assert read(responder) == [*plainly(B, B), (V6[1], 12)]
    initiator, responder = ends(hot, reply=True)
    assert read(initiator) == [*plainly(A, OUT), (V6[0], 11)]
    assert read(responder) == [*plainly(B, B), (V6[1], 12)]
    assert V6[0] & low == 1


def test_clear_keeps_settings():
    world = World(3)
    world.put(bytes(8))
    world.sessions.set_timeout("udp", 30)
    world.sessions.set_loose(True)
    world.sessions.set_clock(1e9)
    world.open(A, B)
    world.sessions.clear()
    world.sessions.check()
    assert world.find(A, B) is None
    assert int(world.array[t.TIMEOUTS + t.KINDS.index("udp")]) == 30
    assert int(world.array[t.SETTINGS_LOOSE]) == 1
    assert world.open(A, B) > 0
    assert isinstance(world.sessions, Sessions)
