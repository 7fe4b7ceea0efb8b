"""Another configuration under load: each packet meets one of both, none is lost; errors change nothing."""

import json
import os
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

import reload_world as w
from vforward.control import config, observe
from vforward.control import rest as rest_module
from vforward.control.firewall_change import FirewallChange
from vforward.control.routing_stage import Stage
from vforward.control.rules import Policer
from vforward.control.run import from_config
from vforward.errors import ArenaError, ConfigError, PortError, VforwardError
from vforward.testing import packets as pk

EDITS = int(os.environ.get("VFORWARD_RELOADS", "200"))
SECONDS = 60


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


def wait(true, seconds=SECONDS):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.002)


@contextmanager
def router(state, directory, workers=1):
    made = w.started(state, directory, workers)
    try:
        yield made
    finally:
        made.close()


def settled(made, load):
    """Let all packets that were sent come through."""
    wait(lambda: load.lan._inbox.used_slots() == 0)
    for _ in range(4):
        assert made.workers.quiesce(SECONDS)
    wait(lambda: all(port._outbox.used_slots() == 0 for port in load.outs))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("workers", [1, 2])
def test_random_edits_under_load(tmp_path, workers):
    """Each packet meets one configuration, and no session ends that only the first one permits."""
    draw, state, epochs = w.seeded(workers), w.State(), []
    with router(state, tmp_path, workers) as made:
        with w.Load(made) as load:
            wait(lambda: len(load.seen) > 500)
            assert made.count_sessions() == w.SESSIONS
            new = replace(state, talk=w.DENY)
            for _ in range(EDITS):
                before = load.sent
                made.reload.apply(w.parsed(new, tmp_path, workers))
                epochs.append((state, load.sent))
                state, new = new, w.drawn(draw, new)
                made_anew = [w.frame(w.OTHERS, w.TALKED, 999)]
                wait(lambda frames=made_anew: load.lan.send(frames))
                wait(lambda before=before: load.sent > before + 64)
                assert made.count_sessions() == w.SESSIONS
            load.pause()
            settled(made, load)
        load.take()
        epochs.append((state, None))
        assert load.wrong == []
        assert load.others == [], "no session is begun any more"
        assert w.explain(epochs, load.sent, load.seen) == ""
        made.stop()
        made.run_until_idle()  # announcements of addresses that came last
        for _, port in made.interfaces.real():
            port.received()
        made.pool.check([])
        made.routing.fib4.check()
        made.bridging.check()
    assert load.sent > 64 * EDITS


def test_what_would_change_is_told_and_not_done(tmp_path):
    one = w.State()
    other = replace(
        one, out=("two", "none", "one", "one"), macs=(1, 9, 1), extra=frozenset({"port"})
    )
    with router(one, tmp_path) as made:
        shown = made.routing.routes()
        report = made.reload.apply(w.parsed(other, tmp_path), dry_run=True)
        told = [str(line) for line in report.lines]
        assert "+ ports.more: address 10.6.0.1/24 type memory" in told
        assert "~ routes 10.9.0.0/24: via 10.0.2.2 -> via 10.0.3.2" in told
        assert not report.applied
        assert made.routing.routes() == shown
        assert "more" not in made.interfaces.by_name
        assert made.reload.apply(w.parsed(one, tmp_path)).lines == []


def test_ports_come_and_go_and_frames_with_them(tmp_path):
    one, two = w.State(), w.State(extra=frozenset({"port", "vlan"}))
    with router(one, tmp_path) as made, w.Load(made, batch=16) as load:
        for turn in range(3):
            made.reload.apply(w.parsed(two, tmp_path))
            more = made.interfaces.find("more")
            made.add_neighbor("10.6.0.9", b"\x02\0\0\0\0\x66", "more")
            udp = pk.udp("10.6.0.9", "10.9.0.1", 5, 5, b"\xff\xff\xff\xff")
            ip = pk.ip4("10.6.0.9", "10.9.0.1", 17, udp)
            sent = len(load.others)
            more.port.send([pk.eth(more.port.mac, "02:00:00:00:00:66", 0x0800, ip)])
            wait(lambda sent=sent: len(load.others) > sent)
            assert made.interfaces.find("v7").vlan == 7
            made.reload.apply(w.parsed(one, tmp_path))
            assert "more" not in made.interfaces.by_name
            assert "more-rx" not in made.graph.members
            assert not made.interfaces.vlans.any(), turn
        load.pause()
        settled(made, load)
        load.take()
        assert w.explain([(one, None)], load.sent, load.seen) == ""
        numbers = [interface.number for interface in made.interfaces]
        assert len(numbers) == len(set(numbers))


def test_a_number_is_anothers_only_when_all_others_were(tmp_path):
    with router(w.State(), tmp_path) as made:
        made.reload.apply(w.parsed(w.State(extra=frozenset({"vlan"})), tmp_path))
        first = made.interfaces.find("v7").number
        made.reload.apply(w.parsed(w.State(), tmp_path))
        made.reload.apply(w.parsed(w.State(extra=frozenset({"vlan"})), tmp_path))
        assert made.interfaces.find("v7").number == first + 1


def test_what_was_changed_at_run_time_stays_or_goes(tmp_path):
    one, other = w.State(), w.State(mark=(46, 0, 0, 0))
    extra = ("routes", "default", "30.0.0.0/8", "0")
    with router(one, tmp_path) as made:
        made.add_route("30.0.0.0/8", via="10.0.2.2")
        made.add_policer("mine", Policer(rate="1M", burst=1500))
        made.reload.touch(extra, ("policers", "mine"))

        def there():
            routes = {route.prefix for route in made.routing.routes()}
            return "30.0.0.0/8" in routes, "mine" in made.firewall.wanted.policers

        report = made.reload.apply(w.parsed(other, tmp_path))
        assert sorted(report.kept) == ["policers.mine", "routes 30.0.0.0/8"]
        assert there() == (True, True)
        report = made.reload.apply(w.parsed(other, tmp_path), exact=True)
        assert report.kept == []
        assert there() == (False, False)
        assert made.reload.apply(w.parsed(other, tmp_path), exact=True).lines == []


def test_ports_at_run_time(tmp_path):
    with router(w.State(), tmp_path) as made:
        model = config.MemoryPort(type="memory", address=("10.6.0.1/24",))
        made.reload.add_port("mine", model)
        assert "mine-rx" in made.graph.members
        with pytest.raises(ConfigError, match="there is a port 'mine' already"):
            made.reload.add_port("mine", model)
        with pytest.raises(ConfigError, match=r"ports.again.address\[0\]: is an address of port"):
            made.reload.add_port("again", model)
        report = made.reload.apply(w.parsed(w.State(mark=(8, 0, 0, 0)), tmp_path))
        assert report.kept == ["ports.mine"]
        assert "mine" in made.interfaces.by_name
        with pytest.raises(ConfigError, match=r"port one is needed by: .*routes 10\.9\.0\.0/24"):
            made.reload.delete_port("one")
        with pytest.raises(KeyError):
            made.reload.delete_port("none")
        made.reload.apply(w.parsed(w.State(mark=(8, 0, 0, 0)), tmp_path), exact=True)
        assert "mine" not in made.interfaces.by_name
        assert "mine-rx" not in made.graph.members


def refused(made, tmp_path, text, error, match):
    """A configuration that is refused changes nothing that could be seen."""

    def seen():
        return (
            made.firewall.wanted,
            made.firewall._policy.bundle,
            int(made.firewall._policy.words[0]),
            made.routing.routes(),
            [dict(vars(one)) for one in sorted(made.interfaces, key=lambda i: i.number)],
            made.interfaces.ports.tobytes(),
            made.known_neighbors(),
            dict(made.reload.parts),
        )

    before = seen()
    with pytest.raises(error, match=match):
        made.reload.apply(config.parse(text, str(tmp_path / "reload.toml"), made.name))
    after = seen()
    assert all(one is other for one, other in zip(after[:2], before[:2], strict=True))
    assert after[2:] == before[2:]


def test_errors_change_nothing(tmp_path, monkeypatch):
    one = w.State()
    other = replace(
        one,
        out=("two", "one", "three", "none"),
        macs=(5, 6, 7),
        extra=frozenset({"vlan", "bridge"}),
    )
    text = w.text(other, tmp_path)
    with router(one, tmp_path) as made, w.Load(made, batch=16) as load:
        wait(lambda: len(load.seen) > 100)
        restart = text.replace("buffers = 65536", "buffers = 4096")
        refused(made, tmp_path, restart, ConfigError, "needs a restart.*\n.*forwarder.buffers")
        absent = f'{text}ports.file = {{type = "pcap", read = "absent.pcap"}}\n'
        refused(made, tmp_path, absent, PortError, "absent")
        (tmp_path / "bad.routes").write_text("40.0.0.0/8 192.0.2.1\n")
        nowhere = text.replace('{file = "more.routes"}', '{file = "bad.routes"}')
        refused(made, tmp_path, nowhere, ConfigError, "192.0.2.1 is in no port's prefix")

        def fails(_self):
            raise ConfigError("in the last moment")

        with monkeypatch.context() as patched:
            patched.setattr(FirewallChange, "put_in_force", fails)
            refused(made, tmp_path, text + SET, ConfigError, "in the last moment")
        with monkeypatch.context() as patched:  # rules are in force by then, and are taken back
            patched.setattr(Stage, "put_in_force", fails)
            refused(made, tmp_path, text + SET, ConfigError, "in the last moment")
        load.pause()
        settled(made, load)
        load.take()
        assert w.explain([(one, None)], load.sent, load.seen) == ""
        made.routing.fib4.check()
        made.reload.apply(config.parse(text, str(tmp_path / "reload.toml"), made.name))
        assert made.interfaces.find("inside").bridge == "b"


def test_a_policer_that_is_refused_in_the_last_moment(tmp_path, monkeypatch):
    one = w.State(extra=frozenset({"policer"}))
    text = w.text(one, tmp_path).replace('rate = "1M"', 'rate = "2M"')
    with router(one, tmp_path) as made, w.Load(made, batch=16) as load:
        define = made.firewall.policers.define

        def refuses(number, rate, *given, **more):
            if rate == 2_000_000:
                raise ConfigError("not this one")
            define(number, rate, *given, **more)

        with monkeypatch.context() as patched:
            patched.setattr(made.firewall.policers, "define", refuses)
            refused(made, tmp_path, text, ConfigError, "not this one")
        before = load.sent
        wait(lambda: load.sent > before + 100)
        load.pause()
        settled(made, load)
        load.take()
        assert w.explain([(one, None)], load.sent, load.seen) == ""


def test_what_could_not_be_published_is_in_force_all_the_same(tmp_path, monkeypatch, caplog):
    one, two = w.State(), w.State(extra=frozenset({"port"}), mark=(8, 0, 0, 0))
    with router(one, tmp_path) as made:
        files = {path.name for path in made.arena.path.iterdir()}
        write = made.arena.write_document

        def full(name, content):
            if name != "numbers":  # before it is in force: the change would be refused
                raise ArenaError(f"document {name!r}: no room")
            write(name, content)

        with monkeypatch.context() as patched:
            patched.setattr(made.arena, "write_document", full)
            assert made.reload.apply(w.parsed(two, tmp_path)).applied
        assert "the change is in force, but publishing the new graph failed" in caplog.text
        assert "the change is in force, but publishing ports failed" in caplog.text
        assert made.graph.generation == 1
        assert "more-rx" in made.graph.members
        there = {path.name for path in made.arena.path.iterdir()}
        assert "stats" in files - there, "what the old graph had is given back"
        assert made.reload.apply(w.parsed(two, tmp_path)).lines == []
        with w.Load(made, batch=16) as load:
            more = made.interfaces.find("more")
            made.add_neighbor("10.6.0.9", b"\x02\0\0\0\0\x66", "more")
            udp = pk.udp("10.6.0.9", "10.9.0.1", 5, 5, b"\xff\xff\xff\xff")
            ip = pk.ip4("10.6.0.9", "10.9.0.1", 17, udp)
            more.port.send([pk.eth(more.port.mac, "02:00:00:00:00:66", 0x0800, ip)])
            wait(lambda: load.others)
            load.pause()
            settled(made, load)
            load.take()
            assert w.explain([(two, None)], load.sent, load.seen) == ""

        def shown():
            try:
                with observe.attach(made.name) as view:
                    return "more" in {port["name"] for port in view.about["ports"]}
            except ArenaError:  # until then, the graph that was shown is no more
                return False

        wait(shown)  # there is room again
        made.reload.apply(w.parsed(one, tmp_path))
        assert "more" not in made.interfaces.by_name


def test_what_fails_when_all_is_in_force_is_said_and_the_rest_done(tmp_path, monkeypatch, caplog):
    one, two = w.State(), w.State(extra=frozenset({"port", "bridge"}))
    held = []

    def fails(*_):
        raise OSError("it does not close")

    with router(two, tmp_path) as made:
        port = made.interfaces.find("more").port
        closed, close, enable = [], port.close, made.plugins.enable
        monkeypatch.setattr(port, "flush", fails)
        monkeypatch.setattr(port, "close", lambda: closed.append(close()))

        def enabled():
            held.append(made.changing._is_owned())
            enable()
            raise KeyError("no such feature")

        monkeypatch.setattr(made.plugins, "enable", enabled)
        monkeypatch.setattr(made, "publish_ports", fails)
        assert made.reload.apply(w.parsed(one, tmp_path)).applied
        assert closed == [None]
        assert held == [True], "others who change plug-ins wait"
        for what in ("closing port more", "enabling plug-ins", "publishing ports"):
            assert f"the change is in force, but {what} failed" in caplog.text
        assert "b" not in made.bridge_numbers
        assert ("ports", "more") not in made.reload.parts
        assert made.reload.apply(w.parsed(one, tmp_path)).lines == []
        monkeypatch.setattr(made.plugins, "enable", enable)
        made.reload.apply(w.parsed(two, tmp_path))
        assert made.interfaces.find("more").port is not port


def test_what_only_one_port_can_have_is_given_up_before_another_has_it(tmp_path):
    text = w.text(w.State(), tmp_path)
    old = f'{text}ports.file = {{type = "pcap", write = "out.pcap"}}\n'
    with router(w.State(), tmp_path) as made:
        made.reload.apply(config.parse(old, str(tmp_path / "reload.toml"), made.name))
        other = old.replace('write = "out.pcap"', 'write = "out.pcap", mtu = 9000')
        what = "port file has to be closed before another can have write"
        refused(made, tmp_path, other, ConfigError, what)
        made.reload.apply(w.parsed(w.State(), tmp_path))
        made.reload.apply(config.parse(other, str(tmp_path / "reload.toml"), made.name))
        assert made.interfaces.find("file").port.mtu == 9000


SET = 'address_sets.late = "10.0.0.0/8"\n'


def test_what_needs_a_restart_can_be_left_as_it_is(tmp_path):
    one = w.State()
    text = w.text(w.State(mark=(46, 0, 0, 0)), tmp_path).replace(
        "buffers = 65536", "buffers = 4096"
    )
    with router(one, tmp_path) as made:
        wanted = config.parse(text, str(tmp_path / "reload.toml"), made.name)
        report = made.reload.apply(wanted, skip_restart=True)
        assert report.applied
        assert [line.what for line in report.left] == ["forwarder.buffers"]
        assert made.reload.parts["forwarder", "buffers"] == 65536
        assert [line.what for line in made.reload.apply(wanted, dry_run=True).lines] == [
            "forwarder.buffers"
        ]


SESSION = """
forwarder = {name = "session", buffers = 2048}
ports.lan = {type = "memory", address = "10.0.1.1/24"}
ports.wan = {type = "memory", address = "10.0.2.1/24"}
neighbors = [{address = "10.0.2.9", mac = "02:00:00:00:00:09", port = "wan"}]
firewall = {default = "deny", sessions = 1023}
"""


def test_no_session_is_dropped(tmp_path):
    permits = SESSION + 'rules = [{action = "permit", to = "10.0.2.0/24"}]\n'
    made = from_config(config.parse(permits, str(tmp_path / "session.toml")))
    with made:
        made.build()
        lan, wan = (made.interfaces.find(name).port for name in ("lan", "wan"))

        def passes(port):
            udp = pk.udp("10.0.1.9", "10.0.2.9", port, 53, b"x")
            ip = pk.ip4("10.0.1.9", "10.0.2.9", 17, udp)
            lan.send([pk.eth(lan.mac, "02:00:00:00:00:08", 0x0800, ip)])
            made.run_until_idle()
            return len([frame for frame in wan.received() if frame[12:14] == b"\x08\x00"])

        assert passes(1000) == 1
        other = SESSION.replace("10.0.2.1/24", "10.0.2.2/24") + "rules = []\n"
        made.reload.apply(config.parse(other, str(tmp_path / "session.toml")))
        assert passes(1000) == 1
        assert passes(1001) == 0
        assert made.count_sessions() == 1


GUEST = 'ports.guest = {type = "memory", address = "10.0.3.1/24"}\n'
OLD_RULES = 'rules = [{action = "permit", name = "old", to = "10.0.2.0/24"}]\n'
NEW_RULES = 'rules = [{action = "permit", name = "new", to = "10.0.1.0/24"}]\n'


@pytest.mark.parametrize("when", ["routes", "rest", "in force"])
def test_numbers_are_of_what_is_in_force_when_a_change_is_refused(tmp_path, monkeypatch, when):
    """By them the next process understands sessions of ports that were to go, and counters of rules."""

    def fails(_self):
        raise VforwardError("not now")

    def no_room(name, _content):
        raise ArenaError(f"document {name!r}: no room")

    (tmp_path / "bad.routes").write_text("40.0.0.0/8 192.0.2.1\n")
    file = str(tmp_path / "session.toml")
    made = from_config(config.parse(SESSION + GUEST + OLD_RULES, file))
    with made:
        made.build()

        def numbers():
            return json.loads((made.arena.path / "numbers.json").read_text())

        before, notes = numbers(), []
        assert set(before["ports"]) == {"lan", "wan", "guest"}
        note = made.firewall.before_publish

        def noted(wanted):
            note(wanted)
            notes.append(numbers())

        made.firewall.before_publish = noted
        text = SESSION + NEW_RULES
        if when == "routes":
            text += 'route_files = [{file = "bad.routes"}]\n'
        elif when == "rest":
            monkeypatch.setattr(rest_module, "_empty", fails)
        else:
            monkeypatch.setattr(Stage, "put_in_force", fails)
        with pytest.raises(VforwardError, match=r"not now|192\.0\.2\.1 is in no port's prefix"):
            made.reload.apply(config.parse(text, file))
        assert notes[0] != before, "they were written down"
        assert numbers() == before
        monkeypatch.setattr(made.arena, "write_document", no_room)
        with pytest.raises(ArenaError, match="document 'numbers': no room"):
            made.reload.apply(config.parse(text, file))
