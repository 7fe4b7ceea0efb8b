"""Plug-ins of a running forwarder: loaded, replaced, unloaded under traffic; bad ones change nothing."""

import gc
import weakref

import numpy as np
import pytest

import plugin_files
from offered import LATE, RATE, Offered
from vforward import ConfigError, KernelError, VforwardError, WiringError
from vforward.control import observe
from vforward.control.plugins import _outcome, _place
from vforward.control.rules import Rule
from vforward.errors import ArenaError
from vforward.graph.arcs import Arc, spread
from vforward.testing import packets as pk
from worker_worlds import LAN, UDP, WAN, World, mix

SWAPS, HELD_SWAPS = 50, 10


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


@pytest.fixture(params=[1, 2])
def world(request):
    with World(request.param) as made:
        yield made


@pytest.fixture
def probe(tmp_path):
    return tmp_path / "probe.py"


def udp4(n):
    payload = [pk.udp(f"{LAN}9", f"{WAN}9", 2000, 53, i.to_bytes(4, "big")) for i in range(n)]
    return [pk.ip4(f"{LAN}9", f"{WAN}9", UDP, one) for one in payload]


def seen(world, name="probe"):
    return world.router.plugins._loaded[name].tables[0]["seen"]


def test_loaded_replaced_unloaded(world, probe):
    world.router.start()
    plugins = world.router.plugins
    change = plugins.load(plugin_files.write(probe))
    assert (change.name, change.kept, change.begun) == ("probe", [], ["seen"])
    assert 0 < change.stood_s < 5
    out = world.exchange(world.lan, udp4(10))
    assert len(out[1]) == 10
    assert int(seen(world)[0]) == world.node("probe") == 10
    row = plugins.rows()[0]
    assert (row.name, row.place, row.arc, row.tables) == (
        "probe",
        str(probe),
        "ip4-input",
        ["seen"],
    )

    refusing = (
        "edge[i] = Edge.DROP; count[Count.REFUSED] += u64(1); meta[row].reason = Count.REFUSED"
    )
    change = plugins.replace("probe", plugin_files.write(probe, refusing))
    assert (change.kept, change.begun) == (["seen"], [])
    assert world.exchange(world.lan, udp4(5))[1] == []
    assert int(seen(world)[0]) == 15
    assert world.node("probe") == 15
    assert world.drops() == {("probe", "refused"): 5}

    change = plugins.replace("probe", plugin_files.write(probe, shape=8))
    assert (change.kept, change.begun) == ([], ["seen"])
    assert len(world.exchange(world.lan, udp4(3))[1]) == 3
    assert int(seen(world)[0]) == 3
    plugins.unload("probe")
    assert plugins.rows() == []
    assert len(world.exchange(world.lan, udp4(3))[1]) == 3
    assert "probe" not in world.router.graph.members
    world.sent -= 5  # what it has dropped went with its counters


BAD = {
    "an array": ("seen[0] = np.zeros(3)[0]", {}, "zeros: this makes an array"),
    "beyond its table": ("seen[4 + i] = u64(1)", {}, "reads or writes beyond an array"),
    "a wrong edge": ("edge[i] = 9", {}, "edge 9 is none of the node's"),
    "raise": (
        "if seen[0] > u64(9): raise ValueError",
        {},
        "raise and assert: cannot be in a kernel",
    ),
    "no end": ("while seen[0]: seen[1] += u64(1)", {}, "its kernel does not return"),
    "a crash": (
        "view(i64(16), 1, np.uint64)[0] = u64(1)",
        {"before": "from vforward.jit.intrinsics import view"},
        "it ended its process by SIGSEGV",
    ),
    "no syntax": ("edge[i] = = 1", {}, "line [0-9]+: invalid syntax"),
    "its own check": (
        "pass",
        {
            "after": "def check(trial):\n    assert trial([]) is None, 'not so'",
            "options": "check=check",
        },
        "its self-check failed: not so",
    ),
    "what it fills": (
        "pass",
        {
            "before": "def fill(tables):\n    tables['seen'][:] = tables['more'][:] = 1",
            "options": "fill=fill",
            "tables": ", more: U64",
            "more": ', "more": Table(4, np.uint64)',
        },
        r"fill, of what begins anew \(seen\): line [0-9]+: KeyError: 'more'",
    ),
    "an arc": ("pass", {"arc": "ip5-input"}, "no arc 'ip5-input'"),
    "a port": ("pass", {"options": "ports=('nowhere',)"}, "no port named 'nowhere'"),
    "a feature": ("pass", {"options": "after='nothing'"}, "no feature 'nothing' on arc ip4-input"),
    "a name": ("pass", {"name": "drop"}, "node drop: already in the graph"),
}


def test_bad_ones_are_refused_and_the_old_one_goes_on(tmp_path, probe):
    with World(1) as world:
        world.router.start()
        plugins = world.router.plugins
        plugins.load(plugin_files.write(probe))
        world.exchange(world.lan, udp4(4))
        graph = world.router.graph
        for what, (body, options, words) in BAD.items():
            bad = plugin_files.write(tmp_path / "bad.py", body, **options)
            with pytest.raises((KernelError, WiringError, ConfigError), match=words):
                plugins.load(bad) if "name" in options else plugins.replace("probe", bad)
            assert world.router.graph is graph, what
        assert len(world.exchange(world.lan, udp4(4))[1]) == 4
        assert int(seen(world)[0]) == 8
        with pytest.raises(VforwardError, match="probe is loaded already"):
            plugins.load(str(probe))
        with pytest.raises(ConfigError, match=r"plug-in probe: .* is other: load that"):
            plugins.replace("probe", plugin_files.write(tmp_path / "o.py", name="other"))
        for call in (plugins.unload, plugins.replace):
            with pytest.raises(
                KeyError, match=r"no plug-in .*other.* is loaded; there are: .*probe"
            ):
                call("other")


PARTS = 3
"""Of the table "mine" of each worker: all packets, those of the one version, those of the other."""


def version(path, k):
    """A plug-in that counts packets for itself: in mine[0], and in mine[k]."""
    more = f', "mine": Table({PARTS}, np.uint64, each=True)'
    body = f"mine[0] += u64(1); mine[{k}] += u64(1)"
    return plugin_files.write(path, body, tables=", mine: U64", more=more)


def mine(world):
    tables = world.router.plugins._loaded["probe"].tables
    return [sum(int(one["mine"][k]) for one in tables) for k in range(PARTS)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("workers", "most"), [(1, 4000), (2, 2000)], ids=["one", "two"])
def test_fifty_swaps_at_100_000_packets_per_second(tmp_path, workers, most):
    """None is lost, doubled or overtaken, counters are exact, and the plug-in's state is kept.

    The packets are numbered, so a loss is seen whenever it is. That there are some to lose at each swap is
    asserted: up to each swap, and over all of them, as many were offered as the rate makes, and some during
    each that counts. At the last ones no worker goes on before packets wait, which meet the new version.
    A machine too busy for the rate skips the test in the end: that nothing is lost is asserted there, too.
    """
    permit = Rule(action="permit")  # with two workers half of the flows are handed to the other one
    with World(workers, firewall=True, rules=[permit], buffers=65536) as world:
        router = world.router
        router.start()
        files = [version(tmp_path / f"v{k}.py", k) for k in (1, 2)]
        router.plugins.load(files[0])
        lan, wan = world.lan, world.wan
        offered = Offered(router.pool, lan, wan, world.mac(1).hex(":"), f"{LAN}9", f"{WAN}9", most)
        stood, during, waited = [], [], []

        def waiting():
            handed = router._hand_off.waiting() if router._hand_off else 0
            return lan._inbox.used_slots() + handed

        def wait_for_packets():
            world.wait(lambda: waiting() >= LATE)
            waited.append(waiting())

        def swap(standing=None):
            k = 2 - len(stood) % 2
            _, before = offered.caught_up()
            counted = mine(world)[k]
            with pytest.MonkeyPatch.context() as patched:
                if standing:
                    exchange = router.workers.exchange
                    patched.setattr(router.workers, "exchange", lambda o, _: exchange(o, standing))
                change = router.plugins.replace("probe", files[k - 1])
            during.append(offered.sent - before)
            stood.append(change.stood_s)
            assert (change.kept, change.begun) == (["mine", "seen"], [])
            world.wait(lambda: mine(world)[k] > counted)

        with offered:
            world.wait(lambda: offered.got > LATE)
            start, first = offered.caught_up()
            while sum(n > 0 for n in during) < SWAPS and len(during) < 2 * SWAPS:
                swap()
            end, last = offered.caught_up()
            for _ in range(HELD_SWAPS):
                swap(wait_for_packets)
        world.settle()
        n, seconds = last - first, (end - start) / 1e9
        said = f"{n} packets in {seconds:.2f} s: {n / seconds:.0f} per second"
        print(said, f"during a swap {min(during)} to {max(during)}", sep="; ")
        print(f"stood: median {np.median(stood) * 1e6:.0f} us, most {max(stood) * 1e6:.0f} us")
        assert offered.forgone or n >= seconds * RATE - 2 * LATE, said
        assert sum(n > 0 for n in during[:-HELD_SWAPS]) == SWAPS, (during, said)
        assert len(waited) == HELD_SWAPS
        assert offered.wrong() == "", said
        assert world.drops() == {}
        all_of_it, *of_each = mine(world)
        assert all_of_it == sum(of_each) == offered.sent
        assert min(of_each) > 0
        assert world.node("lan-rx") == world.node("probe") == offered.sent
        if workers == 2:
            assert all(world.node("probe", worker) for worker in range(2))
        with observe.attach(router.name) as view:
            rows = {row.name: row for row in view.ports()}
            assert rows["lan"].rx.packets == rows["wan"].tx.packets == offered.sent
            assert [row for row in view.errors() if row.drop] == []
        world.sent = world.received = offered.sent
    if offered.forgone:
        pytest.skip(f"none was lost, but the machine is too busy for {RATE} per second: {said}")


def test_its_ports_and_its_place(probe, tmp_path):
    with World(1) as world:
        plugins = world.router.plugins
        plugins.load(plugin_files.write(probe, options="ports=('wan',), before='urpf'"))
        second = plugin_files.write(tmp_path / "second.py", name="second", options="after='probe'")
        plugins.load(second)
        arc = world.router.graph.arcs["ip4-input"]
        order = [name for name in arc.features if name in ("probe", "second", "ip4-urpf")]
        assert order == ["probe", "second", "ip4-urpf"]
        world.exchange(world.lan, udp4(4))
        assert (world.node("probe"), world.node("second")) == (0, 4)
        plugins.replace(
            "probe", plugin_files.write(probe, options="ports=('lan',), after='session'")
        )
        arc = world.router.graph.arcs["ip4-input"]
        assert arc.bits["probe"] > arc.bits["ip4-session"]
        world.exchange(world.lan, udp4(4))
        assert (world.node("probe"), world.node("second")) == (4, 8)
        assert [n for n in world.router.graph.members if n.startswith("ip4-input-past-")]
        world.router.replace_graph()  # as a reload does
        assert {"probe", "second"} <= set(world.router.graph.members)
        world.exchange(world.lan, udp4(4))
        assert (world.node("probe"), world.node("second")) == (8, 12)


def test_packets_that_waited_pass_where_a_plug_in_was(probe):
    """Its bit stays a bit that leads on."""
    with World(1) as world:
        plugins = world.router.plugins
        plugins.load(plugin_files.write(probe))
        bit = world.router.graph.arcs["ip4-input"].bits["probe"]
        plugins.unload("probe")
        arc = world.router.graph.arcs["ip4-input"]
        name = f"ip4-input-past-{bit}"
        assert arc.bits[name] == bit
        arc.enable(name, 1)  # as if they had it still
        assert len(world.exchange(world.lan, udp4(4))[1]) == 4
        assert world.node(name) == 4
        arc.disable(name, 1)
        plugins.load(plugin_files.write(probe))
        assert len(world.exchange(world.lan, udp4(4))[1]) == 4


def test_each_worker_has_its_own(probe):
    with World(2) as world:
        more = ', "mine": Table(2, np.uint64, each=True)'
        body = "mine[0] += u64(1)"
        world.router.plugins.load(plugin_files.write(probe, body, tables=", mine: U64", more=more))
        packets = mix(5, flows=20, per_flow=20)
        out = world.exchange(world.lan, packets)
        assert len(out[1]) == len(packets)
        tables = world.router.plugins._loaded["probe"].tables
        assert tables[0]["seen"] is tables[1]["seen"]
        assert tables[0]["mine"] is not tables[1]["mine"]
        assert sum(int(t["mine"][0]) for t in tables) == len(packets)


def test_what_fill_raises_in_the_forwarder_changes_nothing(probe):
    """It was tried with others there and with none; what it does here may be something else."""
    fill = "import sys\ndef fill(tables):\n    if 'pytest' in sys.modules:\n        "
    with World(1) as world:
        plugins = world.router.plugins
        plugins.load(plugin_files.write(probe))
        for raises, words in (("1 / 0", "ZeroDivisionError"), ("sys.exit(3)", "SystemExit: 3")):
            bad = plugin_files.write(probe, shape=8, before=fill + raises, options="fill=fill")
            with pytest.raises(
                KernelError, match=rf"plug-in probe: fill, of what begins anew \(seen\): .*{words}"
            ):
                plugins.replace("probe", bad)
        assert len(world.exchange(world.lan, udp4(4))[1]) == 4
        assert seen(world).tolist() == [4, 0, 0, 0]


def test_what_is_replaced_or_unloaded_is_let_go(probe):
    with World(1) as world:
        plugins = world.router.plugins

        def large():
            return weakref.ref(plugins._loaded["probe"].source.module.LARGE)

        plugins.load(plugin_files.write(probe, before=plugin_files.LARGE))
        held = [large()]
        later = plugin_files.write(probe, "seen[1] = u64(0)", before=plugin_files.LARGE)
        plugins.replace("probe", later)
        held.append(large())
        gc.collect()
        assert [one() is None for one in held] == [True, False]
        plugins.replace("probe")  # the same once more
        assert len(world.exchange(world.lan, udp4(4))[1]) == 4
        world.router.replace_graph()
        assert len(world.exchange(world.lan, udp4(4))[1]) == 4
        assert int(seen(world)[0]) == 8
        held.append(large())
        plugins.unload("probe")
        gc.collect()
        assert [one() for one in held] == [None] * 3
        assert len(world.exchange(world.lan, udp4(4))[1]) == 4


def test_it_is_tried_once(probe, monkeypatch):
    with World(1) as world:
        plugins, asked = world.router.plugins, []
        ask = plugins.helper.ask
        monkeypatch.setattr(plugins.helper, "ask", lambda *a, **k: asked.append(1) or ask(*a, **k))
        plugins.load(plugin_files.write(probe))
        plugins.unload("probe")
        plugins.load(str(probe))
        assert len(asked) == 2
        plugins.replace("probe", plugin_files.write(probe, "seen[1] = u64(0)"))
        assert len(asked) == 4


def test_what_was_changed_while_it_was_tried_is_not_loaded(probe, monkeypatch):
    with World(1) as world:
        plugins = world.router.plugins
        ask = plugins.helper.ask

        def saved_meanwhile(*args, **kwargs):
            answer = ask(*args, **kwargs)
            plugin_files.write(probe, "seen[1] = u64(0)")
            return answer

        plugin_files.write(probe)
        with monkeypatch.context() as patched:
            patched.setattr(plugins.helper, "ask", saved_meanwhile)
            with pytest.raises(KernelError, match="changed while it was tried"):
                plugins.load(str(probe))
        assert plugins.rows() == []
        assert not plugins._good


def test_trying_one_holds_up_no_other_change(probe, monkeypatch):
    held = []
    with World(1) as world:
        plugins, changing = world.router.plugins, world.router.changing

        def asked(*_args, **_kwargs):
            held.append(changing._is_owned())
            raise VforwardError("enough")

        monkeypatch.setattr(plugins.helper, "ask", asked)
        with pytest.raises(VforwardError, match="enough"):
            plugins.load(plugin_files.write(probe))
        monkeypatch.setitem(plugins._loaded, "probe", None)
        with pytest.raises(VforwardError, match="enough"):
            plugins.replace("probe", str(probe))
    assert held == [False, False]


def test_where_there_is_no_room_to_publish_it_it_is_loaded_all_the_same(probe, monkeypatch):
    def no_room(name, _content):
        raise ArenaError(f"document {name!r}: no room")

    with World(1) as world:
        plugins = world.router.plugins
        with monkeypatch.context() as patched:
            patched.setattr(world.router.arena, "write_document", no_room)
            plugins.load(plugin_files.write(probe))
        assert [row.name for row in plugins.rows()] == ["probe"]
        assert len(world.exchange(world.lan, udp4(10))[1]) == 10
        assert world.node("probe") == 10
        with monkeypatch.context() as patched:
            patched.setattr(world.router.arena, "write_document", no_room)
            plugins.unload("probe")
        assert plugins.rows() == []


def test_what_the_process_says_that_ends():
    said = '{"stage": "trying"}\n'
    assert _outcome({"status": 0, "out": said + '{"error": ""}\n', "err": ""}) == ""
    assert _outcome({"status": None, "out": said, "err": ""}).startswith("trying the plug-in took")
    assert "SIGABRT" in _outcome({"status": -6, "out": said, "err": ""})
    assert "status 1: no memory" in _outcome({"status": 1, "out": "", "err": "no memory\n"})


class Named:
    """A plug-in, as far as its place goes."""

    def __init__(self, after="", before=""):
        self.after, self.before, self.arc = after, before, "ip4-input"
        self.node = type("Node", (), {"name": "p"})


def test_places_on_an_arc():
    arc = Arc(
        "ip4-input", (), {f"ip4-{n}": b for n, b in spread(["a", "b", "c"]).items()}, "end", None
    )
    bits = arc.bits
    assert bits["ip4-a"] < _place(Named(after="a"), arc, None) < bits["ip4-b"]
    assert bits["ip4-a"] < _place(Named(before="ip4-b"), arc, None) < bits["ip4-b"]
    assert _place(Named(before="a"), arc, None) < bits["ip4-a"]
    assert _place(Named(), arc, None) > bits["ip4-c"]
    assert bits["ip4-a"] < _place(Named("a", "c"), arc, None) < bits["ip4-c"]
    with pytest.raises(ConfigError, match="no place after c and before a on arc ip4-input"):
        _place(Named("c", "a"), arc, None)
    full = Arc("ip4-input", (), {"ip4-a": 0, "ip4-b": 1}, "end", None)
    with pytest.raises(ConfigError, match="there is no place after a"):
        _place(Named("a", "b"), full, None)
