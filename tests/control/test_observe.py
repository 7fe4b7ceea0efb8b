"""What `vforward show` reads, on an arena with known numbers."""

import subprocess
import sys

import pytest

import fake_forwarder as fake
from vforward.control import observe
from vforward.control.observe_rows import EdgeRow, ErrorRow, Listing, Moved
from vforward.errors import ArenaError
from vforward.graph import control as c
from vforward.memory.arena import Arena


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


@pytest.fixture
def arena():
    with fake.arena() as made:
        yield made


@pytest.fixture
def view(arena):
    with observe.attach("fake") as attached:
        yield attached


def test_the_only_forwarder_needs_no_name(arena):
    with observe.attach() as view:
        assert view.about["name"] == "fake"


def test_says_that_none_is_running(tmp_path):
    with pytest.raises(ArenaError, match=r"no forwarder is running \(looked in .*runtime\); start"):
        observe.attach()


def test_a_document_is_read_when_it_was_written_anew(arena, view, monkeypatch):
    arena.write_document("routes", {"count": 1, "routes": [{"prefix": "10.0.0.0/8"}]})
    reads = []
    read = Arena.read_document
    monkeypatch.setattr(
        Arena, "read_document", lambda self, name: reads.append(name) or read(self, name)
    )
    assert view.routes().count == view.routes().count == 1
    assert reads == ["routes"]
    arena.write_document("routes", {"count": 0, "routes": []})
    assert view.routes() == Listing(0, [])
    assert reads == ["routes"] * 2
    (arena.path / "routes.json").unlink()
    with pytest.raises(ArenaError, match="forwarder 'fake' has no document 'routes': No such file"):
        view.routes()


def test_says_that_it_may_not_look(arena):
    """Where others may write nothing is believed, and that one runs is not denied."""
    place = arena.path.parent
    place.chmod(0o755)
    try:
        with pytest.raises(ArenaError, match=r"must be a directory of uid .* with mode 0700"):
            observe.attach()
    finally:
        place.chmod(0o700)


def test_says_that_the_named_one_is_not_running(arena):
    with pytest.raises(ArenaError, match="no forwarder named 'other' is running"):
        observe.attach("other")


def test_several_want_a_choice(arena):
    with (
        fake.arena("second"),
        pytest.raises(ArenaError, match=r"several forwarders are running: fake, second; .*-n NAME"),
    ):
        observe.attach()


def test_says_that_one_is_still_starting():
    with Arena.create("young"), pytest.raises(ArenaError, match="'young' is still starting"):
        observe.attach()


def test_runtime(view):
    what = view.runtime()
    assert (what.name, what.state, what.vector, what.sleeps, what.rounds) == (
        "fake",
        "running",
        256,
        7,
        40,
    )
    assert what.seconds == 2.0
    assert (what.packets, what.packets_per_second) == (100, 50.0)
    assert what.clocks_per_packet == 40.0
    assert what.load == 4000 / (2 * fake.HZ)
    first = what.nodes[fake.INPUT]
    assert (first.calls, first.packets, first.clocks_per_packet) == (4, 100, 10.0)
    assert (first.packets_per_call, first.share) == (25.0, 0.25)
    assert (first.empty_polls, first.clocks_per_empty_poll) == (50, 100.0)
    assert sum(node.share for node in what.nodes) == pytest.approx(1)


def test_a_forwarder_without_packets_divides_by_nothing(arena, view):
    for name in ("stats", "control"):
        arena.open(name)[:] = 0
    what = view.runtime()
    assert (what.packets_per_second, what.clocks_per_packet, what.load) == (0, 0, 0)


def test_packets_that_the_router_lets_in_again_are_not_counted_twice(arena):
    about = arena.read_document("forwarder")
    about["nodes"][fake.OUT]["kind"] = "input"
    arena.write_document("forwarder", about)
    with observe.attach() as view:
        assert view.runtime().packets == 100


def test_ports(view):
    lan, seven = view.ports()
    assert (lan.name, lan.addresses, lan.parent, lan.vlan) == ("lan", ["10.0.1.1/24"], "", 0)
    assert lan.rx == Moved(100, 6400, 11)
    assert lan.tx == Moved(87, 5568, 3)
    assert (seven.parent, seven.vlan, seven.rx, seven.tx) == ("lan", 7, None, None)
    assert (lan.touched, seven.touched) == ("", "")
    assert (lan.other_end, seven.other_end) == ("nobody there", "")


def test_ports_tell_what_they_write_of_their_packets(view):
    view.about["ports"][0]["touched"] = "all 60 bytes"
    assert [port.touched for port in view.ports()] == ["all 60 bytes", ""]


def test_errors_drops_first(view):
    assert view.errors() == [
        ErrorRow("ethernet-input", "truncated", 4, True, "too short"),
        ErrorRow("ethernet-input", "not-for-us", 6, True, "another station's"),
        ErrorRow("lan-tx", "ring-full", 3, True, "no room"),
        ErrorRow("lan-tx", "queue-full", 3, True, observe.QUEUE_FULL),
        ErrorRow("lan", "kernel-ring-full", 11, True, observe.OUTSIDE),
        ErrorRow("lan-rx", "bytes", 6400, False, "bytes received"),
        ErrorRow("lan-tx", "bytes", 5568, False, "bytes sent"),
    ]


def test_graph(view):
    rows = view.graph()
    assert [row.name for row in rows] == ["lan-rx", "ethernet-input", "drop", "lan-tx"]
    assert rows[1].edges == [EdgeRow("output", "lan-tx", 90), EdgeRow("drop", "drop", 10)]
    assert (rows[1].packets, rows[1].ended) == (100, 0)
    assert (rows[2].packets, rows[2].ended) == (13, 13)


def test_routes_are_as_published(view):
    assert view.routes() == Listing(1, fake.ROUTES)


def test_long_tables_say_how_much_is_left_out(view):
    view.arena.write_document("routes", {"count": 1_001_001, "routes": fake.ROUTES})
    assert view.routes() == Listing(1_001_001, fake.ROUTES)
    assert view.macs() == Listing(3, fake.BRIDGES["macs"])
    assert view.bridges() == fake.BRIDGES["bridges"]
    view.arena.write_document("neighbors", {"count": 16_001, "neighbors": fake.NEIGHBORS})
    found = view.neighbors()
    assert (found.count, len(found.rows)) == (16_001, 1)


def test_neighbors_have_an_age(arena, view, monkeypatch):
    monkeypatch.setattr(observe.time, "monotonic", lambda: 1002.5)
    known = {key: fake.NEIGHBORS[0][key] for key in ("port", "address", "mac", "state")}
    assert view.neighbors().rows == [{**known, "age": 2.5}]
    static = {**known, "state": "static", "since": 0}
    arena.write_document("neighbors", {"count": 1, "neighbors": [static]})
    assert view.neighbors().rows == [{**known, "state": "static", "age": None}]


def test_clear_counts_from_zero_and_leaves_the_workers_words_alone(arena, view):
    before = {name: arena.open(name).copy() for name in fake.SHAPES}
    view.runtime()  # the read-only mappings are there already
    view.clear()
    assert all((arena.open(name) == before[name]).all() for name in fake.SHAPES)
    assert view.errors() == []
    assert view.ports()[0].rx == Moved(0, 0, 0)
    what = view.runtime()
    assert (what.packets, what.sleeps, what.rounds, what.seconds) == (0, 0, 0, 0)
    fake.work(arena)
    arena.open("control")[c.NOW] += fake.HZ
    with observe.attach("fake") as another:
        what = another.runtime()
    assert (what.packets, what.seconds, what.packets_per_second) == (100, 1.0, 100.0)
    assert what.nodes[fake.INPUT].clocks_per_packet == 10.0


def test_refuses_segments_that_do_not_fit_the_documents(arena):
    about = arena.read_document("forwarder")
    arena.write_document("forwarder", {**about, "nodes": about["nodes"][:2]})
    with (
        observe.attach("fake") as view,
        pytest.raises(ArenaError, match="4 rows of stats for 2 nodes"),
    ):
        view.runtime()


def test_loads_no_compiler():
    code = (
        "import sys, vforward.control.cli, vforward.control.show, vforward.control.packet_trace;"
        "sys.exit('numba' in sys.modules or 'pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
